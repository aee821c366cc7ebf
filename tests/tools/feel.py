"""Measure how the page feels, near the server and far from it: `python -m tests.tools.feel --help`.

The real page plays in a real browser, through a relay that delays its messages. What it draws in
each frame is measured: where the squares are. The figures are medians of several tries.
"""

import argparse
import itertools
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median, stdev
from typing import NamedTuple

from playwright.sync_api import Browser, sync_playwright

from tests.harness.browser import launch_arguments
from tests.harness.game_server import Server, running
from tests.harness.page import PAGE, PROBE, GamePage
from tests.harness.relay import Link, Relay
from tests.tools.report import Cell, print_row

LINKS = {
    "0": Link(),
    "25": Link(0.025),
    "75": Link(0.075),
    "150": Link(0.150),
    "jitter": Link(0.025, jitter=0.030),
    "stalls": Link(0.025, stall=0.200),
}
COLUMNS = (
    "link",
    "key ms",  # from a key press to the first frame that shows your own square moved
    "worst",
    "own sd",  # of the pixels in each frame while walking steadily; 5 is the average
    "others sd",
    "pointer px",  # from the pointer to the middle of your own square that stopped there
    "worst",
)
FRAME = 1000 / 60  # milliseconds; the pixels of frames at another rate are converted to this one
WALL = 100  # pixels from a wall within which a walk doesn't count as steady
ACROSS = 2700  # milliseconds that a walk from wall to wall takes, and a little more
TIMES = """{
    window.keyDownAt = 0; // when a key last went down
    addEventListener("keydown", ({ timeStamp }) => (keyDownAt = timeStamp), true);
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
    other_x: float


class Trial:
    """A page on a link, in a game with another player who is near the server."""

    def __init__(self, browser: Browser, server: Server, relay: Relay) -> None:
        link = relay.link
        # Milliseconds until everything that was done is visible.
        self.settle = 400 + 1000 * (2 * (link.delay + link.jitter) + link.stall)
        self.other = server.join()
        self.page = browser.new_page(viewport={"width": 900, "height": 720})
        self.page.add_init_script(path=PROBE)
        self.page.add_init_script(TIMES)
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
            "([time, places]) => [time, drawnAt[time], ...colors.map((it) => places[it][0])])",
            [self.color, self.other_color],
        )
        return [Frame(*frame) for frame in frames]

    def place(self) -> tuple[float, float]:
        """Return where our own square is drawn."""
        x, y = self.page.evaluate("(color) => frames.at(-1)[1][color]", self.color)
        return float(x), float(y)

    def key(self) -> float:
        """Walk for a while. Return the milliseconds to the first pixel."""
        key = "ArrowRight" if self.place()[0] < 385 else "ArrowLeft"
        self.page.wait_for_timeout(random.uniform(0, 100))
        self.frames()
        self.page.keyboard.down(key)
        self.page.wait_for_timeout(random.uniform(500, 900))
        self.page.keyboard.up(key)
        self.page.wait_for_timeout(self.settle)
        frames = self.frames()
        first = next(frame.drawn_at for frame in frames if abs(frame.x - frames[0].x) >= 1)
        return first - float(self.page.evaluate("keyDownAt"))

    def walk(self, direction: int) -> tuple[float, float]:
        """Let both walk from wall to wall. Return how unevenly ours walked, and the other."""
        key = "ArrowRight" if direction > 0 else "ArrowLeft"
        self.frames()
        self.page.keyboard.down(key)
        self.other.move(direction, 0)
        self.page.wait_for_timeout(ACROSS)
        self.page.keyboard.up(key)
        self.other.move(0, 0)
        self.page.wait_for_timeout(self.settle)
        own, others = [], []
        for a, b in itertools.pairwise(self.frames()):
            frames = (b.time - a.time) / FRAME
            if all(WALL < x < 770 - WALL for x in (a.x, b.x)):
                own.append((b.x - a.x) / frames)
            if all(WALL < x < 770 - WALL for x in (a.other_x, b.other_x)):
                others.append((b.other_x - a.other_x) / frames)
        return stdev(own), stdev(others)

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
def trial_on(link: Link, browser: Browser, server: Server) -> Iterator[Trial]:
    """Play on one of the links."""
    relay = Relay(server.port, link)
    try:
        trial = Trial(browser, server, relay)
        yield trial
        trial.page.close()
        server.disconnect_all()
    finally:
        relay.stop()


def measure(trial: Trial, tries: int) -> list[Cell]:
    """Return what follows the link's name in a row of the table."""
    trial.key()  # the first try doesn't count
    keys = [trial.key() for _ in range(tries)]
    trial.walk(-1)  # to the wall
    own, others = zip(*(trial.walk(-1 if n % 2 else 1) for n in range(tries)), strict=True)
    pointers = [trial.point() for _ in range(tries)]
    return [median(keys), max(keys), median(own), median(others), median(pointers), max(pointers)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--links",
        nargs="+",
        default=list(LINKS),
        choices=LINKS,
        help="milliseconds each way; `jitter` is 25 and up to 30 more, `stalls` 25 and nothing "
        "for 200 every 2 s (all)",
    )
    parser.add_argument("--browser", default="chromium", choices=["chromium", "firefox"])
    parser.add_argument("--tries", type=int, default=5, metavar="N", help="of each (%(default)s)")
    options = parser.parse_args()
    print_row(COLUMNS)
    with (
        tempfile.TemporaryDirectory() as folder,
        running(Server(Path(folder))) as server,
        sync_playwright() as playwright,
        getattr(playwright, options.browser).launch(**launch_arguments(options.browser)) as browser,
    ):
        for name in options.links:
            with trial_on(LINKS[name], browser, server) as trial:
                print_row([name, *measure(trial, options.tries)])


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
