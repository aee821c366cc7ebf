"""The rules, without a network."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server import DIAGONAL_STEP, HEIGHT, SIZE, STEP, TICK_RATE, WIDTH, World, color

headings = st.tuples(st.integers(-1, 1), st.integers(-1, 1))


def place(world: World, player_id: int, x: int, y: int) -> None:
    world.players[player_id].x, world.players[player_id].y = x, y


def position(world: World, player_id: int) -> tuple[int, int]:
    x, y, _ = world.state()[player_id]
    return x, y


def world_with_player(x: int = 400, y: int = 300) -> tuple[World, int]:
    world = World()
    player_id = world.join()
    place(world, player_id, x, y)
    return world, player_id


def walk(
    world: World, player_id: int, *headings: tuple[int, int], ticks: int = 10
) -> tuple[int, int]:
    """Steer to all headings between two ticks, and return how far the player gets."""
    x, y = position(world, player_id)
    for heading in headings:
        world.steer(player_id, heading)
    for _ in range(ticks):
        world.step()
    new_x, new_y = position(world, player_id)
    return new_x - x, new_y - y


def test_players_appear_everywhere_inside_the_world() -> None:
    world = World()
    places = []
    for _ in range(2000):  # enough to hit a place outside, if one in 770 is
        player = world.join()
        places.append(position(world, player))
        world.leave(player)
    columns, rows = zip(*places, strict=True)
    assert 0 <= min(columns) < 20
    assert WIDTH - 20 < max(columns) + SIZE <= WIDTH
    assert 0 <= min(rows) < 20
    assert HEIGHT - 20 < max(rows) + SIZE <= HEIGHT


PRESS, RELEASE = (1, 0), (0, 0)


@pytest.mark.parametrize(
    ("headings", "ticks", "way"),
    [
        pytest.param([PRESS], 5, (50, 0), id="a held key: one step a tick"),
        pytest.param([(-1, 1)], 1, (-7, 7), id="a diagonal: 7 pixels along each axis"),
        pytest.param([PRESS, RELEASE] * 5, 10, (50, 0), id="every tap between two ticks counts"),
        pytest.param([PRESS, RELEASE, (0, 1), RELEASE], 10, (10, 10), id="two keys in turn"),
        pytest.param([(1, 1), PRESS, RELEASE], 10, (7, 7), id="releasing one of two: no press"),
        pytest.param([PRESS] * 50 + [RELEASE], 10, (10, 0), id="repeating a heading: no press"),
    ],
)
def test_walking(headings: list[tuple[int, int]], ticks: int, way: tuple[int, int]) -> None:
    world, player = world_with_player()
    assert walk(world, player, *headings, ticks=ticks) == way
    # After a release, it rests. Otherwise, it walks on.
    assert (walk(world, player, ticks=1) == (0, 0)) == (headings[-1] == RELEASE)


def test_taps_keep_their_order() -> None:
    world, player = world_with_player(x=0)
    # Against the wall and then away from it. The other way around, it would end at the wall.
    assert walk(world, player, (-1, 0), (0, 0), (1, 0), (0, 0)) == (10, 0)


def test_players_stop_at_the_walls() -> None:
    world, player = world_with_player(x=13, y=17)
    corners = []
    for heading in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
        walk(world, player, heading, ticks=120)
        corners.append(position(world, player))
    assert corners == [(0, 0), (770, 0), (770, 570), (0, 570)]


def test_at_most_a_second_of_taps_is_remembered() -> None:
    world, player = world_with_player(x=0)
    assert walk(world, player, *[(1, 0), (0, 0)] * 500, ticks=100) == (STEP * TICK_RATE, 0)


def test_ids_count_up_and_are_never_used_twice() -> None:
    world = World()
    assert [world.join(), world.join()] == [1, 2]
    world.leave(2)
    world.leave(1)
    assert world.join() == 3


def join(world: World) -> str:
    """Add a player, and return its color."""
    player_id = world.join()
    return world.state()[player_id][2]


def test_a_new_player_takes_the_lowest_free_color() -> None:
    world = World()
    colors = [join(world) for _ in range(5)]
    assert colors == [color(number) for number in range(5)]
    world.leave(2)
    world.leave(4)
    assert [join(world), join(world)] == [colors[1], colors[3]]


@given(st.lists(st.one_of(st.none(), st.integers(0, 30)), max_size=80))
def test_no_two_players_have_the_same_color(actions: list[int | None]) -> None:
    world = World()
    for action in actions:
        if action is None:
            world.join()
        elif action < len(world.players):
            world.leave(list(world.players)[action])
        colors = [color for _, _, color in world.state().values()]
        assert len(set(colors)) == len(colors)
        assert all(len(color) == 7 and int(color[1:], 16) >= 0 for color in colors)


@given(
    st.integers(0, WIDTH - SIZE),
    st.integers(0, HEIGHT - SIZE),
    st.lists(st.lists(headings, max_size=5), max_size=100),
)
def test_players_stay_inside_and_move_one_step_per_tick_at_most(
    x: int, y: int, ticks: list[list[tuple[int, int]]]
) -> None:
    world, player = world_with_player(x, y)
    for steering in ticks:
        before = position(world, player)
        for heading in steering:
            world.steer(player, heading)
        world.step()
        after = position(world, player)
        assert 0 <= after[0] <= WIDTH - SIZE
        assert 0 <= after[1] <= HEIGHT - SIZE
        dx, dy = abs(after[0] - before[0]), abs(after[1] - before[1])
        assert (dx, dy) in {(dx, 0), (0, dy)} or max(dx, dy) <= DIAGONAL_STEP
        assert max(dx, dy) <= STEP
