"""Your own square answers at once, and ends where the server has it."""

import re
from collections.abc import Callable
from itertools import pairwise

import pytest

from tests.harness.game_server import Server
from tests.harness.page import TICK, GamePage, OpenPage
from tests.harness.relay import Link, Relay

DELAY = 0.075  # seconds in each direction

StartRelay = Callable[[Server, Link], Relay]


@pytest.fixture
def link() -> Link:
    """The connection of `far_page`. A test may change it."""
    return Link(DELAY)


@pytest.fixture
def far_page(open_page: OpenPage, start_relay: StartRelay, game: Server, link: Link) -> GamePage:
    """A page that plays far away from its server, and draws every frame."""
    page = open_page(f"?server={start_relay(game, link).url}").playing()
    page.wait(lambda: distance(page))
    page.show_all_frames()
    return page


def distance(page: GamePage) -> int:
    """Return the milliseconds in the status line, or 0 if there are none yet."""
    found = re.search(r" · (\d+) ms$", page.status.inner_text())
    return int(found[1]) if found else 0


def walk(page: GamePage, *keys: str, way: int = 150) -> None:
    """Hold keys until the state has moved this far along x, and wait until all is at rest."""
    page.forget()
    start, _ = page.position()
    for key in keys:
        page.keyboard.down(key)
    page.wait(lambda: abs(page.position()[0] - start) >= way)
    for key in keys:
        page.keyboard.up(key)
    wait_for_rest(page)


def wait_for_rest(page: GamePage) -> None:
    """Wait until a state has the square at rest. Then it must be drawn exactly there."""
    page.wait_for_states(1)
    page.wait(lambda: page.evaluate("performance.now() - messages.at(-1)[0]") > 400)
    page.wait_for_frames()
    _, x, y = page.drawn(page.color)[-1]
    assert (x, y) == pytest.approx(page.position(), abs=0.7)  # of whole pixels on the display


def lead(page: GamePage) -> float:
    """Return how far along x the square was drawn before a state showed that it moves."""
    states = [
        (time, message["players"][page.id][0])
        for time, message in page.evaluate("messages")
        if message["type"] == "state"
    ]
    start = page.drawn(page.color)[0][1]
    shown = next(time for time, x in states if abs(x - start) > 2)
    frames = pairwise(page.drawn(page.color))
    return max(abs(x - start) for (_, x, _), (later, _, _) in frames if later < shown)


def speed(page: GamePage) -> float:
    """Return the first speed of the square along x, in pixels of the world per millisecond."""
    frames = pairwise(page.drawn(page.color))
    moving = [(time, x) for (time, x, _), (_, later, _) in frames if x != later]
    start, first = moving[0]
    end, last = next((time, x) for time, x in moving if time > start + 120)
    return abs(last - first) / (end - start)


def test_your_square_answers_before_the_server_can(far_page: GamePage) -> None:
    far_page.evaluate(
        """() => {
            dispatchEvent(new KeyboardEvent("keydown", { code: "ArrowRight" }));
            window.pressedAt = performance.now();
        }"""
    )
    far_page.wait(lambda: far_page.position()[0] > 500)
    pressed_at = far_page.evaluate("pressedAt")
    after = [x for time, x, _ in far_page.drawn(far_page.color) if time > pressed_at]
    assert after[4] > 386
    assert lead(far_page) > 15


@pytest.mark.only_browser("chromium")
def test_it_moves_as_fast_as_the_server_moves_it(far_page: GamePage) -> None:
    walk(far_page, "ArrowRight")
    assert speed(far_page) == pytest.approx(10 / TICK, rel=0.25)
    walk(far_page, "ArrowLeft", "ArrowDown")
    assert speed(far_page) == pytest.approx(7 / TICK, rel=0.25)


@pytest.mark.only_browser("chromium")
def test_it_is_hardly_drawn_back_when_it_stops(far_page: GamePage) -> None:
    drawn_back = []
    for key, dx in (("ArrowRight", 1), ("ArrowLeft", -1), ("ArrowRight", 1)):
        walk(far_page, key)
        places = [x * dx for _, x, _ in far_page.drawn(far_page.color)]
        drawn_back.append(max(places) - places[-1])
    assert min(drawn_back) <= 15  # 10, and rounding; a busy machine adds to some of them


@pytest.mark.only_browser("chromium")
def test_it_ends_where_the_server_has_it(far_page: GamePage) -> None:
    page = far_page
    for key, way in (("ArrowLeft", 385), ("ArrowRight", 100)):  # to the wall, and back
        walk(page, key, "ArrowDown", way=way)
    page.evaluate(  # taps that wait at the server for their ticks
        """() => {
            for (let tap = 0; tap < 15; tap += 1) {
                for (const event of ["keydown", "keyup"]) {
                    dispatchEvent(new KeyboardEvent(event, { code: "ArrowLeft" }));
                }
            }
        }"""
    )
    wait_for_rest(page)
    walk(page, "ArrowRight", "ArrowUp", way=30)
    assert all(
        -0.7 <= x <= 770.7 and -0.7 <= y <= 570.7
        for _, places in page.evaluate("frames")
        for x, y in places.values()
    )


def test_the_status_line_shows_the_round_trip(far_page: GamePage) -> None:
    assert 2000 * DELAY <= distance(far_page) < 2000 * DELAY + 1000  # on a busy machine


@pytest.mark.only_browser("chromium")
def test_a_distance_that_changes_is_noticed_without_a_jump(far_page: GamePage, link: Link) -> None:
    page = far_page
    page.keyboard.down("ArrowRight")
    page.wait(lambda: page.position()[0] == 770)
    page.keyboard.up("ArrowRight")
    link.delay = 0.3
    page.wait(lambda: distance(page) >= 600)
    page.wait_for_frames(90)  # many enough for the time that the change takes
    walk(page, "ArrowLeft")
    assert lead(page) > 100
    page.forget()
    page.keyboard.down("ArrowLeft")
    link.delay = 0
    page.wait(lambda: distance(page) < 300)
    page.keyboard.up("ArrowLeft")
    steps = [abs(b - a) for (_, a, _), (_, b, _) in pairwise(page.drawn(page.color))]
    assert max(steps) < 100
