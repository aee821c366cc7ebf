"""Slow, stuck and vanished players, and a server that stalls."""

import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise

import pytest
from websockets import ConnectionClosed, Frame, Opcode

from tests.harness.game_server import Server
from tests.harness.player import Player, assert_others_play_on, walking
from tests.harness.relay import Link, Relay
from tests.harness.waiting import PATIENCE, wait_until


@pytest.mark.slow
def test_vanished_players_cost_nothing_and_are_gone_in_15_seconds_but_a_quiet_one_stays(
    server: Server,
) -> None:
    walker, quiet = server.join(), server.join()
    memory = server.memory()
    for _ in range(20):
        server.connect_raw()  # it vanishes: it never reads
    start = time.monotonic()
    quiet.wait_for_players(22)
    with walking(walker):
        assert_others_play_on(quiet)
        columns = [state[walker.id][0] for state in quiet.states(2)]
        assert {abs(b - a) for a, b in pairwise(columns)} <= {0, 10}  # 20 would be a lost state
        quiet.wait_for_players(2)
        assert time.monotonic() - start < 18  # 15, and a margin for a busy machine
        quiet.states(3)
        assert len(quiet.state()) == 2
    assert server.memory() < memory + 6
    wait_until(lambda: server.log().count("keepalive ping timeout") == 20)


@pytest.mark.slow
def test_a_slow_link_gets_fewer_states_but_fresh_ones(
    server: Server, start_relay: Callable[[Server, Link], Relay]
) -> None:
    players = [server.join() for _ in range(20)]
    relay = start_relay(server, Link(rate=4000))
    seen: dict[str, float] = {}  # when a player with a good link saw each state

    def watch() -> None:
        with suppress(ConnectionClosed, TimeoutError):
            while True:
                text = players[1].connection.recv(PATIENCE)
                seen[str(text)] = time.monotonic()

    threading.Thread(target=watch, daemon=True).start()
    ages = []
    with Player(relay.url, compression=None) as slow, walking(players[0]):
        deadline = time.monotonic() + 18
        while time.monotonic() < deadline:
            text = str(slow.connection.recv(PATIENCE))
            if text in seen:
                ages.append(time.monotonic() - seen[text])
        assert slow.id in slow.state()
    assert 20 < len(ages) < 18 * 15
    assert max(ages[-20:]) < 5


@pytest.mark.slow
def test_a_ping_may_be_answered_after_5_seconds(server: Server) -> None:
    with server.connect_raw() as slow:
        received = b""
        while b"\x89\x04" not in received:  # the header of a ping
            received += slow.recv(4096)
        ping = received[received.index(b"\x89\x04") + 2 :][:4]
        answer_at = time.monotonic() + 5
        while time.monotonic() < answer_at:
            slow.recv(4096)
        slow.sendall(Frame(Opcode.PONG, ping).serialize(mask=True))
        watcher = server.join()
        watcher.states(4)  # closing a connection takes up to 4 seconds
        assert "1" in watcher.state()


def test_a_stalled_server_makes_up_for_one_tick_at_most(game: Server) -> None:
    walker, watcher = game.join(), game.join()
    with walking(walker):
        watcher.states(0.5)
        game.process.send_signal(signal.SIGSTOP)
        time.sleep(3)
        game.process.send_signal(signal.SIGCONT)
        start = time.monotonic()
        columns = [watcher.state()[walker.id][0] for _ in range(60)]
        assert all(abs(b - a) <= 10 for a, b in pairwise(columns))
        # These are 2 seconds. Three missed seconds are 90 missed ticks, which would come at once.
        assert time.monotonic() - start > 1


def test_after_many_joins_and_leaves_everything_is_as_before(server: Server) -> None:
    stays = server.join()
    ids = {stays.id}
    files, memory = set(), []
    for _ in range(4):
        crowd = [Player(server.url) for _ in range(100)]
        ids.update(player.id for player in crowd)
        state = stays.wait_for_players(101)
        assert len({color for _, _, color in state.values()}) == 101
        for number, player in enumerate(crowd):
            player.move(1, 0)
            if number % 3 == 0:
                player.connection.socket.shutdown(socket.SHUT_RDWR)
            elif number % 3 == 1:
                player.send("{}")
            player.close()
        stays.wait_for_players(1)
        wait_until(lambda: server.online() == 1)
        time.sleep(0.2)
        files.add(server.open_files())
        memory.append(server.memory())
    assert len(ids) == 401
    assert len(files) == 1
    assert memory[-1] - memory[0] < 2  # megabytes; 300 connections that are kept take 3.5


def test_a_network_that_stalls_loses_no_tap(
    game: Server, start_relay: Callable[[Server, Link], Relay]
) -> None:
    relay = start_relay(game, Link(delay=0.05, stall=0.5))
    with Player(relay.url) as player:
        x, y = player.position()
        for _ in range(10):
            player.tap(1, 0)
            time.sleep(0.1)
        player.wait_for(lambda state: state[player.id][:2] == [x + 100, y])


def test_a_half_open_handshake_is_closed(game: Server) -> None:
    with game.connect_raw(b"GET / HTTP/1.1\r\n") as raw:
        assert raw.recv(100) == b""
