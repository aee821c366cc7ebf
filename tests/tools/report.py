"""What the measuring tools print: a table on standard output, and progress on a terminal."""

import sys
from collections.abc import Sequence

Cell = str | int | float | None


def progress(text: str) -> None:
    """Show what is being done in a line that the next output overwrites. Needs a terminal."""
    if sys.stderr.isatty():
        print(f"\r{text:<60}\r", end="", file=sys.stderr, flush=True)


class Table:
    """A table whose columns have a name and a width each."""

    def __init__(self, *columns: tuple[str, int]) -> None:
        self.names, self.widths = zip(*columns, strict=True)

    def print_head(self) -> None:
        self.print_row(self.names)

    def print_row(self, cells: Sequence[Cell], note: str = "") -> None:
        """Print a row, with a note at its end. None is a value that isn't known."""
        progress("")
        texts = (
            "-" if c is None else f"{c:.1f}" if isinstance(c, float) else str(c) for c in cells
        )
        columns = zip(texts, self.widths, strict=True)
        line = " ".join(text.rjust(width) for text, width in columns)
        print(f"{line}  {note}".rstrip(), flush=True)
