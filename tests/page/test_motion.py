"""Other players move evenly between the states."""

import statistics
from itertools import pairwise

import pytest

from tests.harness.page import TICK, GamePage
from tests.harness.player import Player

pytestmark = pytest.mark.only_browser("chromium")


def join_in_view(page: GamePage) -> tuple[Player, str]:
    """Draw every frame, and add a player at (100, 100). Return the player and its color."""
    page.show_all_frames()
    player = page.server.join()
    page.wait(lambda: player.id in page.state())
    page.wait_for_frames()
    return player, page.state()[player.id][2]


def test_others_appear_at_their_places_and_glide_between_states(page: GamePage) -> None:
    other, color = join_in_view(page)
    other.move(1, 0)
    page.wait(lambda: page.state()[other.id][0] >= 300)
    assert all(abs(y - 100) <= 1 for _, _, y in page.drawn(color))
    places = [x for _, x, _ in page.drawn(color)]
    assert abs(places[0] - 100) <= 1
    assert min(b - a for a, b in pairwise(places)) >= -1.1  # a pixel of rounding
    assert places[-1] > 200
    # Without gliding, each frame would show a place from a state, which is a multiple of 10.
    moved = [x for x in places if x > 102]
    between = [x for x in moved if 1.1 < x % 10 < 8.9]
    assert len(between) > len(moved) / 10


def test_a_step_takes_a_bit_more_than_a_tick_after_any_pause(page: GamePage) -> None:
    other, color = join_in_view(page)
    durations = []
    goal = 100
    for heartbeats in (0, 0, 0, 1):
        page.wait_for_states(heartbeats)  # nothing moves, so there is one per second
        goal += 10
        other.tap(1, 0)
        page.wait(lambda: page.state()[other.id][0] == goal)  # noqa: B023
        page.wait(lambda: abs(page.drawn(color)[-1][1] - goal) <= 1)  # noqa: B023
        arrival = page.arrival_of(other.id, goal)
        places = [(time - arrival, x) for time, x, _ in page.drawn(color) if time > arrival]
        end = next(time for time, x in places if abs(x - goal) <= 1)
        assert 1.2 * TICK < end < 300  # spread over the longest pause, it would be 1000
        # On its way, each frame tells how long the whole step takes.
        ways = [(time, x - (goal - 10)) for time, x in places]
        durations += [10 * time / way for time, way in ways if 2 < way < 8]
    assert TICK < statistics.median(durations) < 2.5 * TICK


def test_late_states_are_caught_up_with_without_a_jump(page: GamePage) -> None:
    other, color = join_in_view(page)
    page.evaluate("window.gap = 400")  # 12 steps
    other.move(1, 0)
    page.wait(lambda: page.state()[other.id][0] >= 300)
    other.move(0, 0)
    page.wait_for_states(2)  # the last is a heartbeat
    end = page.state()[other.id][0]
    arrival = page.arrival_of(other.id, end)
    page.wait(lambda: page.drawn(color)[-1][0] > arrival + 700)
    places = page.drawn(color)
    assert all(abs(x - end) <= 1 for time, x, _ in places if time > arrival + 600)
    speeds = [
        (b - a) / max(later - earlier, 16) for (earlier, a, _), (later, b, _) in pairwise(places)
    ]
    assert max(speeds) < 2 * 10 / TICK  # within a tick or two, it would jump
