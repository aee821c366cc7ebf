"""Slow, stuck and vanished players, and a server that stalls."""

import asyncio
import json
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise

import pytest
from websockets import ConnectionClosed, Frame, Opcode
from websockets.asyncio.client import ClientConnection, connect

from tests.harness.game_server import Server, handshake
from tests.harness.player import Player, State, assert_others_play_on, move, walking
from tests.harness.relay import Link, Relay
from tests.harness.waiting import PATIENCE, wait_until


@pytest.mark.slow
def test_players_that_never_read_cost_the_others_nothing_and_are_gone_soon(server: Server) -> None:
    walker, watcher = server.join(), server.join()
    stuck = [server.connect_raw() for _ in range(20)]
    watcher.wait_for_players(22)
    memory = server.memory()
    with walking(walker):
        assert_others_play_on(watcher)
        columns = [state[walker.id][0] for state in watcher.states(3)]
        assert {abs(b - a) for a, b in pairwise(columns)} <= {0, 10}  # 20 would be a lost state
        watcher.wait_for_players(2)
    assert server.memory() < memory + 5
    wait_until(lambda: server.log().count("keepalive ping timeout") == 20)
    for raw in stuck:
        raw.close()


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
    slow = Player(relay.url, compression=None)
    ages = []
    with walking(players[0]):
        deadline = time.monotonic() + 18
        while time.monotonic() < deadline:
            text = str(slow.connection.recv(PATIENCE))
            if text in seen:
                ages.append(time.monotonic() - seen[text])
    assert f"player {slow.id} left" not in server.log()
    assert 20 < len(ages) < 18 * 15
    assert max(ages[-20:]) < 5
    slow.close()


def test_a_slow_player_stays_when_a_crowd_leaves_at_once(server: Server) -> None:
    watcher, slow = server.join(), server.connect_raw()
    crowd = [server.connect_raw() for _ in range(300)]
    watcher.wait_for_players(302)
    with walking(watcher):
        watcher.states(1)  # of 7 KB each, one of which now waits for the slow player
        for raw in crowd:
            raw.close()
        watcher.wait_for_players(2)
        assert {len(state) for state in watcher.states(0.5)} == {2}
    slow.close()


PLAYER_PROCESS = """
import sys
from websockets.sync.client import connect
with connect(sys.argv[1]) as connection:
    for message in connection:
        print(flush=True)
"""


@pytest.mark.slow
def test_a_vanished_player_is_gone_within_15_seconds_and_a_quiet_one_stays(server: Server) -> None:
    quiet = server.join()
    command = [sys.executable, "-c", PLAYER_PROCESS, server.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as vanishing:
        assert vanishing.stdout
        quiet.wait_for_players(2)
        vanishing.stdout.readline()
        vanishing.send_signal(signal.SIGSTOP)
        start = time.monotonic()
        quiet.wait_for_players(1)
        assert time.monotonic() - start < 18  # 15, and a margin for a busy machine
        vanishing.kill()
    quiet.states(start + 20 - time.monotonic())
    assert list(quiet.state()) == [quiet.id]


@pytest.mark.slow
def test_a_ping_may_be_answered_after_5_seconds(server: Server) -> None:
    with server.connect_raw(handshake()) as slow:
        received = b""
        while b"\x89\x04" not in received:  # the header of a ping
            received += slow.recv(4096)
        ping = received[received.index(b"\x89\x04") + 2 :][:4]
        answer_at = time.monotonic() + 5
        while time.monotonic() < answer_at:
            slow.recv(4096)
        slow.sendall(Frame(Opcode.PONG, ping).serialize(mask=True))
        watcher = server.join()
        watcher.states(2)
        assert "1" in watcher.state()


def test_a_stalled_server_makes_up_for_one_tick_at_most(server: Server) -> None:
    walker, watcher = server.join(), server.join()
    with walking(walker):
        watcher.states(0.5)
        server.process.send_signal(signal.SIGSTOP)
        time.sleep(3)
        server.process.send_signal(signal.SIGCONT)
        states = [watcher.state() for _ in range(30)]
    columns = [state[walker.id][0] for state in states]
    assert all(abs(b - a) <= 10 for a, b in pairwise(columns))
    # Three missed seconds are 90 missed ticks, which would come at once.
    assert len(watcher.states(1)) < 45


def test_after_many_joins_and_leaves_everything_is_as_before(server: Server) -> None:
    chance = random.Random(7)

    async def come_and_go() -> None:
        """Let players join, and leave in many ways. Check what the last ones see."""
        ids: list[int] = []
        staying: list[ClientConnection] = []

        async def join() -> ClientConnection:
            connection = await connect(server.url, ping_interval=None, max_queue=None)
            ids.append(json.loads(await connection.recv())["id"])
            await connection.send(move(1, 0))
            await asyncio.sleep(chance.uniform(0, 0.05))
            return connection

        async def live() -> None:
            for _ in range(12):
                connection = await join()
                match chance.randrange(3):
                    case 0:
                        await connection.close()
                    case 1:
                        connection.transport.abort()
                    case 2:
                        await connection.send("{}")
                        await connection.wait_closed()
            staying.append(await join())

        async with asyncio.timeout(3 * PATIENCE), asyncio.TaskGroup() as group:
            for _ in range(25):
                group.create_task(live())
        assert len(set(ids)) == len(ids) == 25 * 13
        players: State = {}
        async with asyncio.timeout(PATIENCE):
            while len(players) != 25:
                players = json.loads(await staying[0].recv()).get("players", {})
        assert len({color for _, _, color in players.values()}) == 25
        for connection in staying:
            await connection.close()

    files, memory = set(), []
    for _ in range(4):
        with ThreadPoolExecutor() as executor:
            executor.submit(asyncio.run, come_and_go()).result()
        wait_until(lambda: server.online() == 0)
        time.sleep(0.2)
        files.add(server.open_files())
        memory.append(server.memory())
    assert len(files) == 1
    # Python frees the memory of connections in batches. All of them would take 39 MB.
    assert memory[-1] - memory[0] < 20


def test_a_network_that_stalls_loses_no_tap(
    placed_server: Server, start_relay: Callable[[Server, Link], Relay]
) -> None:
    relay = start_relay(placed_server, Link(delay=0.05, stall=0.5))
    with Player(relay.url) as player:
        x, y = player.position()
        for _ in range(10):
            player.tap(1, 0)
            time.sleep(0.1)
        player.wait_for(lambda state: state[player.id][:2] == [x + 100, y])


def test_a_half_open_handshake_is_closed(game: Server) -> None:
    with game.connect_raw(b"GET / HTTP/1.1\r\n") as raw:
        assert raw.recv(100) == b""


def test_connections_that_are_reset_leave_nothing_behind(server: Server) -> None:
    player = server.join()
    files = server.open_files()
    for _ in range(300):
        raw = server.connect_raw(b"")
        linger = b"\x01\0\0\0\0\0\0\0"  # on, 0 seconds: reset instead of closed
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        raw.close()
    wait_until(lambda: server.open_files() <= files)
    assert player.state()
    assert len(server.log().splitlines()) == 2
