"""Your own square answers at once, and ends where the server has it."""

import re
from collections.abc import Callable
from itertools import pairwise

import pytest

from tests.harness.game_server import Server
from tests.harness.page import PAGE, TICK, GamePage, OpenPage
from tests.harness.relay import Link, Relay

DELAY = 0.075  # seconds in each direction


@pytest.fixture
def link() -> Link:
    """The connection of `far_page`. A test may change it."""
    return Link(DELAY)


@pytest.fixture
def far_page(
    open_page: OpenPage, start_relay: Callable[[Server, Link], Relay], game: Server, link: Link
) -> GamePage:
    """A page that plays far away from its server, and draws every frame."""
    page = open_page(f"{PAGE.as_uri()}?server={start_relay(game, link).url}").playing()
    page.wait(lambda: distance(page))
    page.show_all_frames()
    return page


def distance(page: GamePage) -> int:
    """Return the milliseconds in the status line, or 0 if there are none yet."""
    found = re.search(r" · (\d+) ms$", page.status.inner_text())
    return int(found[1]) if found else 0


def wait_for_rest(page: GamePage) -> None:
    """Wait until no state has arrived for a while and the square is drawn exactly where it was."""

    def is_at_rest() -> bool:
        _, x, y = page.drawn(page.color)[-1]
        is_quiet = page.evaluate("performance.now() - messages.at(-1)[0]") > 400
        return is_quiet and (x, y) == pytest.approx(page.position(), abs=0.7)  # pixels are whole

    page.wait(is_at_rest)


def predicted(page: GamePage, *codes: str) -> list[tuple[float, float]]:
    """Press keys at the same moment. Return (milliseconds since then, pixels along x) for each
    frame before a state shows that the square moves, and release the keys.
    """
    page.forget()
    start, _ = page.position()
    pressed_at = page.evaluate(
        """(codes) => {
            const now = performance.now();
            performance.now = () => now; // on a busy machine, the time between two keys is long
            for (const code of codes) dispatchEvent(new KeyboardEvent("keydown", { code }));
            delete performance.now;
            return now;
        }""",
        list(codes),
    )
    page.wait(lambda: abs(page.position()[0] - start) > 30)
    shown_at = next(
        time
        for time, message in page.evaluate("messages")
        if message["type"] == "state" and message["players"][page.id][0] != start
    )
    frames = [
        (time - pressed_at, abs(x - start))
        for time, x, _ in page.drawn(page.color)
        if pressed_at < time < shown_at
    ]
    page.evaluate("dispatchEvent(new Event('blur'))")
    return frames


@pytest.mark.parametrize(
    ("codes", "step"),
    [
        (["ArrowRight"], 10),
        pytest.param(["KeyA", "KeyS"], 7, marks=pytest.mark.only_browser("chromium")),
    ],
)
def test_it_is_predicted_as_fast_as_the_server_moves_it(
    far_page: GamePage, codes: list[str], step: int
) -> None:
    assert 2000 * DELAY <= distance(far_page) < 2000 * DELAY + 1000  # on a busy machine
    # No more than the round trip is predicted, and it takes twice the delay at least.
    frames = [(elapsed, x) for elapsed, x in predicted(far_page, *codes) if elapsed < 2000 * DELAY]
    assert frames
    for elapsed, x in frames:
        assert x == pytest.approx(elapsed / TICK * step, abs=4)


@pytest.mark.only_browser("chromium")
def test_it_ends_where_the_server_has_it(far_page: GamePage) -> None:
    page = far_page
    for keys, is_far_enough in (
        (["ArrowUp"], lambda: page.position()[1] == 0),  # at the wall
        (["ArrowDown", "ArrowRight"], lambda: page.position()[0] >= 450),
    ):
        for key in keys:
            page.keyboard.down(key)
        page.wait(is_far_enough)
        for key in keys:
            page.keyboard.up(key)
        wait_for_rest(page)
    assert all(y >= -0.7 for _, _, y in page.drawn(page.color))
    page.evaluate(  # taps that wait at the server for their ticks
        """() => {
            for (let tap = 0; tap < 15; tap += 1) {
                for (const event of ["keydown", "keyup"]) {
                    dispatchEvent(new KeyboardEvent(event, { code: "ArrowLeft" }));
                }
            }
        }"""
    )
    page.wait_for_states(2)  # the first may be from before the taps
    wait_for_rest(page)


@pytest.mark.only_browser("chromium")
def test_a_distance_that_changes_is_noticed_without_a_jump(far_page: GamePage, link: Link) -> None:
    page = far_page
    link.delay = 0.3
    page.wait(lambda: distance(page) >= 600)
    page.wait_for_frames(90)  # many enough for the time that the change takes
    # Up to 600 ms are predicted, where it was 150 ms before.
    later = [(elapsed, x) for elapsed, x in predicted(page, "ArrowRight") if 250 < elapsed < 550]
    assert later
    assert all(x == pytest.approx(0.3 * elapsed, abs=6) for elapsed, x in later)
    wait_for_rest(page)
    page.forget()
    page.keyboard.down("ArrowLeft")
    link.delay = 0
    page.wait(lambda: distance(page) < 300)
    page.keyboard.up("ArrowLeft")
    steps = [abs(b - a) for (_, a, _), (_, b, _) in pairwise(page.drawn(page.color))]
    assert max(steps) < 100
