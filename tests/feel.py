"""Measure what a player notices of the page, near and far: `python tests/feel.py --help`.

The real page plays in a real browser, through a relay that makes the server a far one. It is
measured by what it draws: each frame, where the squares are. Figures are medians of several tries.
"""

import argparse
import itertools
import random
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

from conftest import PROBE, ROOT, Player, Server, launch_browser
from links import Link, Relay
from playwright.sync_api import Page, sync_playwright

LINKS = {
    "0": Link(),
    "25": Link(0.025),
    "75": Link(0.075),
    "150": Link(0.150),
    "jitter": Link(0.025, jitter=0.030),
    "stalls": Link(0.025, stall=0.200),
    "narrow": Link(0.025),
}
NARROW = 300  # milliseconds from one state that gets through the narrow link to the next
COLUMNS = (
    ("link", 7),
    ("key ms", 8),  # from key down to the first frame that shows your own square moved
    ("worst", 6),
    ("slides px", 10),  # from where your own square is on key up to its farthest
    ("back px", 8),  # and from there back to where it rests
    ("worst", 6),
    ("own sd", 8),  # of the displacements in each frame while walking steadily; 5 is the step
    ("most", 6),  # and the largest of them
    ("others sd", 10),
    ("most", 6),
    ("pointer px", 11),  # from the pointer to the middle of your own square that has stopped there
    ("worst", 6),
)
FRAME = 1000 / 60  # milliseconds; on a display of another rate, displacements are as for this one
WALL = 100  # pixels from a wall within which nobody is said to walk steadily
ACROSS = 2.7  # seconds that a walk from wall to wall takes, and a little more


class Frame(NamedTuple):
    """What was drawn, in pixels of the world; times in milliseconds as of the page's start."""

    due: float
    drawn: float
    x: float
    y: float
    other_x: float


class Trial:
    """A page on a link, in a game with one more player, who is near."""

    def __init__(self, page: Page, server: Server, link: Link, gap: int) -> None:
        self.page = page
        # What it takes until all that was done is seen, in milliseconds.
        self.settle = 400 + 1000 * (2 * (link.delay + link.jitter) + link.stall) + 4 * gap
        self.relay = Relay(server.port, link)
        self.other: Player = server.join()
        page.add_init_script(path=PROBE)
        page.goto(f"{(ROOT / 'client.html').as_uri()}?server={self.relay.url}")
        page.wait_for_function("() => messages.length > 5")
        welcome = page.evaluate("messages[0][1]")
        players = page.evaluate("lastState.players")
        self.color = players[str(welcome["id"])][2]
        self.other_color = players[self.other.id][2]
        page.evaluate("(gap) => { window.gap = gap; }", gap)
        page.evaluate(
            """() => {
                window.keys = []; // when each went down and up
                for (const type of ["keydown", "keyup"]) {
                    addEventListener(type, ({ timeStamp }) => keys.push(timeStamp), true);
                }
            }"""
        )
        page.wait_for_timeout(self.settle)
        page.evaluate("frames.splice(0, frames.length - 1), 0")

    def close(self) -> None:
        self.other.connection.close()
        self.page.close()
        self.relay.stop()

    def frames(self) -> list[Frame]:
        """Return the frames since the last one that was returned, with that."""
        frames = self.page.evaluate("[...frames.splice(0, frames.length - 1), frames[0]]")
        return [
            Frame(due, drawn[self.color][2], *drawn[self.color][:2], drawn[self.other_color][0])
            for due, drawn in frames
        ]

    def last_key(self) -> float:
        """Return when a key went down or up last, in milliseconds as of the page's start."""
        return float(self.page.evaluate("keys.at(-1)"))

    def place(self) -> tuple[float, float]:
        """Return where our own square is drawn."""
        x, y, _ = self.page.evaluate("(color) => frames.at(-1)[1][color]", self.color)
        return float(x), float(y)

    def key(self) -> tuple[float, float, float]:
        """Walk for a while; return milliseconds to the first pixel, pixels slid on, and back."""
        key, direction = ("ArrowRight", 1) if self.place()[0] < 385 else ("ArrowLeft", -1)
        self.page.wait_for_timeout(random.uniform(0, 100))
        self.frames()
        self.page.keyboard.down(key)
        down = self.last_key()
        self.page.wait_for_timeout(random.uniform(500, 900))
        self.page.keyboard.up(key)
        up = self.last_key()
        self.page.wait_for_timeout(self.settle)
        frames = self.frames()
        first = next(frame.drawn for frame in frames if abs(frame.x - frames[0].x) >= 1)
        after = [direction * frame.x for frame in frames if frame.drawn >= up]
        return first - down, max(after) - after[0], max(after) - after[-1]

    def walk(self, key: str, direction: int) -> tuple[list[float], list[float]]:
        """Let both walk from wall to wall; return the displacements of our own and of the other."""
        self.frames()
        self.page.keyboard.down(key)
        self.other.move(direction, 0)
        self.page.wait_for_timeout(1000 * ACROSS)
        self.page.keyboard.up(key)
        self.other.move(0, 0)
        self.page.wait_for_timeout(self.settle)
        frames = self.frames()

        def displacements(x: Callable[[Frame], float]) -> list[float]:
            return [
                direction * (x(b) - x(a)) * FRAME / (b.due - a.due)
                for a, b in itertools.pairwise(frames)
                if WALL < x(a) < 770 - WALL and WALL < x(b) < 770 - WALL
            ]

        return displacements(lambda frame: frame.x), displacements(lambda frame: frame.other_x)

    def point(self) -> float:
        """Hold the mouse down somewhere until our square stops; return pixels between the two."""
        x, y = goal = random.uniform(80, 720), random.uniform(80, 520)
        left, top, width = self.page.evaluate(
            """() => {
                const box = document.querySelector("canvas").getBoundingClientRect();
                return [box.left, box.top, box.width];
            }"""
        )
        self.page.mouse.move(left + x * width / 800, top + y * width / 800)
        self.page.mouse.down()
        places = [(0.0, 0.0)]
        while places[-1] != self.place():
            places.append(self.place())
            self.page.wait_for_timeout(self.settle)
        self.page.mouse.up()
        self.page.wait_for_timeout(self.settle)
        return distance(goal, places[-1])


def distance(goal: tuple[float, float], place: tuple[float, float]) -> float:
    return float(abs(complex(*goal) - complex(*place) - (15 + 15j)))


def progress(text: str) -> None:
    """Show what goes on, on a terminal only."""
    if sys.stderr.isatty():
        print(f"\r{text:<60}\r", end="", file=sys.stderr, flush=True)


def measure(name: str, trial: Trial, tries: int) -> list[str | float]:
    """Return a row of the table."""
    # The page learns how far away the server is from the first steps, which do not count.
    trial.key()
    keys = []
    for number in range(tries):
        progress(f"{name}: key {number + 1} of {tries}")
        keys.append(trial.key())
    first, slid, back = zip(*keys, strict=True)
    walks = []
    trial.walk("ArrowLeft", -1)
    for number in range(tries):
        progress(f"{name}: walk {number + 1} of {tries}")
        walks.append(trial.walk(*(("ArrowLeft", -1) if number % 2 else ("ArrowRight", 1))))
    own, others = zip(*walks, strict=True)
    pointers = []
    for number in range(tries):
        progress(f"{name}: pointer {number + 1} of {tries}")
        pointers.append(trial.point())
    progress("")
    median = statistics.median
    return [
        name,
        median(first),
        max(first),
        median(slid),
        median(back),
        max(back),
        median(map(statistics.stdev, own)),
        median(map(max, own)),
        median(map(statistics.stdev, others)),
        median(map(max, others)),
        median(pointers),
        max(pointers),
    ]


def show(row: list[str | float]) -> None:
    """Print a row of the table."""
    cells = (value if isinstance(value, str) else f"{value:.1f}" for value in row)
    columns = zip(cells, COLUMNS, strict=True)
    print(" ".join(cell.rjust(width) for cell, (_, width) in columns), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--links",
        nargs="+",
        default=list(LINKS),
        choices=LINKS,
        help="milliseconds each way; `jitter` is 25 and up to 30 more, `stalls` 25 and nothing "
        "for 200 every 2 s, `narrow` 25 and a state each 300 (all)",
    )
    parser.add_argument("--browser", default="chromium", choices=["chromium", "firefox"])
    parser.add_argument("--tries", type=int, default=5, metavar="N", help="of each (5)")
    arguments = parser.parse_args()
    print(" ".join(name.rjust(width) for name, width in COLUMNS), flush=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = launch_browser(playwright, arguments.browser)
        server = Server(Path(folder, "log"))
        try:
            for name in arguments.links:
                page = browser.new_page(viewport={"width": 900, "height": 720})
                gap = NARROW if name == "narrow" else 0
                with closing(Trial(page, server, LINKS[name], gap)) as trial:
                    show(measure(name, trial, arguments.tries))
        finally:
            server.stop()
            browser.close()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
