"""The tables that the measuring tools print, row by row."""

from collections.abc import Iterable

Cell = str | int | float | None


def print_row(cells: Iterable[Cell]) -> None:
    """Print one row. None is a value that isn't known."""
    for cell in cells:
        text = "-" if cell is None else f"{cell:.1f}" if isinstance(cell, float) else str(cell)
        print(text.rjust(11), end="")
    print(flush=True)
