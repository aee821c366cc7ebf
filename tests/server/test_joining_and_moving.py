"""Joining, leaving and moving, over real connections."""

import itertools
import re
import socket
from pathlib import Path

from websockets import Frame, Opcode

from tests.conftest import StartServer
from tests.harness.game_server import Server, edited_server
from tests.harness.player import refusal
from tests.harness.waiting import wait_until

# --- Joining and leaving ---


def test_the_welcome_comes_first_and_then_a_state_with_the_player(server: Server) -> None:
    player = server.join()
    numbers = {"width": 800, "height": 600, "size": 30, "step": 10, "tick_rate": 30}
    assert player.welcome == {"type": "welcome", "id": 1, **numbers}
    x, y, color = player.state()["1"]
    assert 0 <= x <= 770
    assert 0 <= y <= 570
    assert re.fullmatch("#[0-9a-f]{6}", color)


def test_everyone_sees_everyone(game: Server) -> None:
    players = [game.join() for _ in range(5)]
    for player in players:
        state = player.wait_for_players(5)
        assert list(state) == [each.id for each in players]
        assert len({color for _, _, color in state.values()}) == 5


def test_a_player_is_gone_who_leaves_or_whose_connection_breaks(game: Server) -> None:
    stays, leaves, breaks = game.join(), game.join(), game.join()
    stays.wait_for_players(3)
    leaves.close()
    assert set(stays.wait_for_players(2)) == {stays.id, breaks.id}
    breaks.connection.socket.shutdown(socket.SHUT_RDWR)
    stays.wait_for_players(1)
    assert int(game.join().id) > int(breaks.id)


def test_a_player_who_says_goodbye_but_stays_connected_is_gone_soon(game: Server) -> None:
    stays = game.join()
    lingers = game.connect_raw()
    stays.wait_for_players(2)
    lingers.sendall(Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=True))
    stays.wait_for_players(1)


def test_a_full_game_refuses_players_until_somebody_leaves_even_before_the_next_tick(
    start_server: StartServer, tmp_path: Path
) -> None:
    program = edited_server(tmp_path / "slow", TICK_RATE="1")
    server = start_server("--max-players", "2", program=program)
    first, second = server.join(), server.join()
    assert first.welcome["tick_rate"] == 1
    assert refusal(server.url) == (1013, "the game is full")
    wait_until(lambda: "refused, the game is full" in server.log())
    color = first.wait_for_players(2)[second.id][2]
    # That was a tick, so the next one is a second away.
    second.close()
    wait_until(lambda: "player 2 left" in server.log())
    third = server.join()
    assert third.id == "3"
    assert first.wait_for(lambda state: third.id in state)[third.id][2] == color
    first.move(1, 0)
    assert 1 <= len(first.states(2.5)) <= 4


# --- Moving ---


def test_a_held_key_moves_the_player_for_everyone_until_it_is_released(game: Server) -> None:
    walker, watcher = game.join(), game.join()
    x, y = walker.position()
    walker.move(1, 0)
    state = watcher.wait_for(lambda state: state[walker.id][0] >= x + 100)
    assert state[walker.id][1] == y
    assert (state[walker.id][0] - x) % 10 == 0
    walker.move(0, 0)
    walker.states(0.3)
    resting = walker.state()
    assert walker.states(1.2)[-1] == resting


def test_a_state_comes_with_every_change_and_once_a_second_without(game: Server) -> None:
    player = game.join()
    player.states(0.2)
    assert 2 <= len(player.states(3.5)) <= 4
    player.move(1, 0)
    columns = [state[player.id][0] for state in player.states(0.9)]
    assert {b - a for a, b in itertools.pairwise(columns)} == {10}
    assert len(columns) > 12
