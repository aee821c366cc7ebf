"""Measure how the page feels, near the server and far from it: `python -m tests.tools.feel --help`.

The real page plays in a real browser, through a relay that delays its messages. What it draws in
each frame is measured: where the squares are. The figures are medians of several tries.
"""

import argparse
import itertools
import random
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from playwright.sync_api import Browser, sync_playwright

from tests.harness.browser import launch_arguments
from tests.harness.game_server import Server, running
from tests.harness.page import PAGE, PROBE, GamePage
from tests.harness.relay import Link, Relay
from tests.tools.report import Cell, Table, progress

LINKS = {
    "0": Link(),
    "25": Link(0.025),
    "75": Link(0.075),
    "150": Link(0.150),
    "jitter": Link(0.025, jitter=0.030),
    "stalls": Link(0.025, stall=0.200),
    "narrow": Link(0.025),
}
NARROW = 300  # milliseconds between two states on the narrow link
TABLE = Table(
    ("link", 7),
    ("key ms", 8),  # from a key press to the first frame that shows your own square moved
    ("worst", 6),
    ("slides px", 10),  # how far your own square goes on after the key is released
    ("back px", 8),  # and how far back from there to where it rests
    ("worst", 6),
    ("own sd", 8),  # of the pixels in each frame while walking steadily; 5 is the average
    ("most", 6),  # and the largest of them
    ("others sd", 10),
    ("most", 6),
    ("pointer px", 11),  # from the pointer to the middle of your own square that stopped there
    ("worst", 6),
)
FRAME = 1000 / 60  # milliseconds; the pixels of frames at another rate are converted to this one
WALL = 100  # pixels from a wall within which a walk doesn't count as steady
ACROSS = 2700  # milliseconds that a walk from wall to wall takes, and a little more
TIMES = """{
    window.keys = []; // when each key went down or up
    for (const type of ["keydown", "keyup"]) {
        addEventListener(type, ({ timeStamp }) => keys.push(timeStamp), true);
    }
    window.drawnAt = {}; // when each frame was drawn, by its time
    const { requestAnimationFrame } = window;
    window.requestAnimationFrame = (callback) =>
        requestAnimationFrame((time) => {
            callback(time);
            drawnAt[time] = performance.now();
        });
}"""


class Frame(NamedTuple):
    """What was drawn, in pixels of the world; times in milliseconds since the page's start."""

    time: float
    drawn_at: float
    x: float
    y: float
    other_x: float


class Trial:
    """A page on a link, in a game with another player who is near the server."""

    def __init__(self, browser: Browser, server: Server, relay: Relay, gap: int) -> None:
        link = relay.link
        # Milliseconds until everything that was done is visible.
        self.settle = 400 + 1000 * (2 * (link.delay + link.jitter) + link.stall) + 4 * gap
        self.other = server.join()
        self.page = browser.new_page(viewport={"width": 900, "height": 720})
        self.page.add_init_script(path=PROBE)
        self.page.add_init_script(TIMES + f"window.gap = {gap}")
        self.game_page = GamePage(self.page, server)
        self.page.goto(f"{PAGE.as_uri()}?server={relay.url}")
        self.game_page.playing().wait(lambda: self.other.id in self.game_page.state())
        self.color = self.game_page.color
        self.other_color = self.game_page.state()[self.other.id][2]
        self.page.wait_for_timeout(self.settle)
        self.page.evaluate("frames.splice(0, frames.length - 1), 0")  # some are empty

    def frames(self) -> list[Frame]:
        """Return the frames since the last one that was returned, beginning with that one."""
        frames = self.page.evaluate(
            "(colors) => [...frames.splice(0, frames.length - 1), frames[0]].map("
            "([time, places]) => [time, drawnAt[time], ...colors.map((color) => places[color])])",
            [self.color, self.other_color],
        )
        return [
            Frame(time, drawn_at, x, y, other_x) for time, drawn_at, [x, y], [other_x, _] in frames
        ]

    def last_key(self) -> float:
        """Return when a key last went down or up, in milliseconds since the page's start."""
        return float(self.page.evaluate("keys.at(-1)"))

    def place(self) -> tuple[float, float]:
        """Return where our own square is drawn."""
        x, y = self.page.evaluate("(color) => frames.at(-1)[1][color]", self.color)
        return float(x), float(y)

    def key(self) -> tuple[float, float, float]:
        """Walk for a while. Return milliseconds to the first pixel, pixels slid on, and back."""
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
        first = next(frame.drawn_at for frame in frames if abs(frame.x - frames[0].x) >= 1)
        after = [direction * frame.x for frame in frames if frame.drawn_at >= up]
        return first - down, max(after) - after[0], max(after) - after[-1]

    def walk(self, direction: int) -> tuple[list[float], list[float]]:
        """Let both walk from wall to wall. Return the pixels per frame of our own and the other."""
        key = "ArrowRight" if direction > 0 else "ArrowLeft"
        self.frames()
        self.page.keyboard.down(key)
        self.other.move(direction, 0)
        self.page.wait_for_timeout(ACROSS)
        self.page.keyboard.up(key)
        self.other.move(0, 0)
        self.page.wait_for_timeout(self.settle)
        pairs = list(itertools.pairwise(self.frames()))

        def pixels(x: Callable[[Frame], float]) -> list[float]:
            return [
                direction * (x(b) - x(a)) * FRAME / (b.time - a.time)
                for a, b in pairs
                if all(WALL < x(frame) < 770 - WALL for frame in (a, b))
            ]

        return pixels(lambda frame: frame.x), pixels(lambda frame: frame.other_x)

    def point(self) -> float:
        """Hold the mouse down until our square stops. Return the pixels between the two."""
        x, y = random.uniform(80, 720), random.uniform(80, 520)
        self.page.mouse.move(*self.game_page.on_page(x, y))
        self.page.mouse.down()
        place = None
        while place != (place := self.place()):
            self.page.wait_for_timeout(self.settle)
        self.page.mouse.up()
        self.page.wait_for_timeout(self.settle)
        return abs(complex(*place) + (15 + 15j) - complex(x, y))


@contextmanager
def trial_on(name: str, browser: Browser, server: Server) -> Iterator[Trial]:
    """Play on one of the links."""
    relay = Relay(server.port, LINKS[name])
    try:
        trial = Trial(browser, server, relay, NARROW if name == "narrow" else 0)
        yield trial
        trial.page.close()
        server.disconnect_players()
    finally:
        relay.stop()


def measure(name: str, trial: Trial, tries: int) -> list[Cell]:
    """Return a row of the table."""
    trial.key()  # the first try doesn't count
    keys = []
    for number in range(tries):
        progress(f"{name}: key {number + 1} of {tries}")
        keys.append(trial.key())
    first, slid, back = zip(*keys, strict=True)
    trial.walk(-1)  # to the wall
    walks = []
    for number in range(tries):
        progress(f"{name}: walk {number + 1} of {tries}")
        walks.append(trial.walk(-1 if number % 2 else 1))
    own, others = zip(*walks, strict=True)
    pointers = []
    for number in range(tries):
        progress(f"{name}: pointer {number + 1} of {tries}")
        pointers.append(trial.point())
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--links",
        nargs="+",
        default=list(LINKS),
        choices=LINKS,
        help="milliseconds each way; `jitter` is 25 and up to 30 more, `stalls` 25 and nothing "
        "for 200 every 2 s, `narrow` 25 and a state every 300 (all)",
    )
    parser.add_argument("--browser", default="chromium", choices=["chromium", "firefox"])
    parser.add_argument("--tries", type=int, default=5, metavar="N", help="of each (%(default)s)")
    options = parser.parse_args()
    TABLE.print_head()
    with (
        tempfile.TemporaryDirectory() as folder,
        running(Server(Path(folder))) as server,
        sync_playwright() as playwright,
        getattr(playwright, options.browser).launch(**launch_arguments(options.browser)) as browser,
    ):
        for name in options.links:
            with trial_on(name, browser, server) as trial:
                TABLE.print_row(measure(name, trial, options.tries))


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
