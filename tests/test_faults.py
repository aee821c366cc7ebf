"""What goes wrong on real networks, done to a real server, and what the others notice of it."""

import asyncio
import json
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from conftest import (
    PATIENCE,
    Player,
    Server,
    State,
    assert_others_play_on,
    end_process,
    handshake,
    start_process,
    timed_states,
    wait_until,
    walking,
    with_open_files,
)
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

StartServer = Callable[..., Server]
MOVE = Frame(Opcode.TEXT, b'{"type":"move","dx":1,"dy":0}')


def waiting_bytes(port: int) -> int:
    """Return the most bytes that the system holds back for one connection of a server."""
    queues = [0]
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, queue, *_ = line.split()
        if local.endswith(f":{port:04X}") and state == "01":
            queues.append(int(queue.split(":")[0], 16))
    return max(queues)


def open_files(server: Server) -> int:
    return psutil.Process(server.process.pid).num_fds()


# --- Slow, stuck and vanished players ---


@pytest.mark.waits
def test_players_that_never_read_cost_the_others_nothing_and_are_gone_soon(server: Server) -> None:
    process = psutil.Process(server.process.pid)
    players = [server.join() for _ in range(20)]
    stuck = [server.connect_raw() for _ in range(20)]
    players[0].wait_for(lambda state: len(state) == 40)
    memory = process.memory_info().rss
    with walking(players[0]):
        assert_others_play_on(players[1])
        states = timed_states(players[1], 4)
        columns = [state["1"][0] for _, state in states]
        # A state left out would show as a step of 20.
        assert {abs(b - a) for a, b in pairwise(columns)} <= {0, 10}
        bursts = [b - a < 0.002 for (a, _), (b, _) in pairwise(states)]
        assert sum(bursts) < 0.45 * len(bursts)  # in pairs, it would be half
        if Path("/proc/net/tcp").exists():
            assert waiting_bytes(server.port) < 30_000
        players[0].wait_for(lambda state: len(state) == 20)
    assert process.memory_info().rss < memory + 5_000_000
    wait_until(lambda: server.log().count("keepalive ping timeout") == 20)
    for raw in stuck:
        raw.close()


class SlowLink:
    """A relay to a server that lets through so many bytes a second, and stores few."""

    def __init__(self, server: Server, rate: int) -> None:
        self.rate = rate
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"ws://127.0.0.1:{self.listener.getsockname()[1]}"
        self.server = server
        self.ends: list[socket.socket] = [self.listener]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self) -> None:
        client, _ = self.listener.accept()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        upstream = self.server.connect_raw(b"")
        upstream.settimeout(None)
        self.ends += [client, upstream]
        threading.Thread(target=self.forward, args=(client, upstream), daemon=True).start()
        self.forward(upstream, client, self.rate)

    def forward(self, source: socket.socket, sink: socket.socket, rate: int = 0) -> None:
        with suppress(OSError):
            while data := source.recv(rate // 20 or 4096):
                sink.sendall(data)
                if rate:
                    time.sleep(len(data) / rate)

    def close(self) -> None:
        for end in self.ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@pytest.mark.waits
def test_a_slow_link_gets_fewer_states_but_fresh_ones_and_is_not_dropped(server: Server) -> None:
    players = [server.join() for _ in range(20)]
    link = SlowLink(server, rate=4000)
    seen: dict[str, float] = {}  # when a player with a good link saw each state
    ages: list[float] = []

    def watch() -> None:
        with suppress(ConnectionClosed):
            while True:
                text = players[1].connection.recv(PATIENCE)
                seen[text] = time.monotonic()

    threading.Thread(target=watch, daemon=True).start()
    slow = Player(link.url, compression=None)
    with walking(players[0]):
        start = time.monotonic()
        while time.monotonic() < start + 18:
            text = slow.connection.recv(PATIENCE)
            if text in seen:
                ages.append(time.monotonic() - seen[text])
        assert f"player {slow.id} left" not in server.log()
        assert 20 < len(ages) < 18 * 15
        assert max(ages[-20:]) < 5
    link.close()
    slow.connection.close()


def test_a_slow_player_stays_when_a_crowd_leaves_at_once(server: Server) -> None:
    watcher, slow = server.join(), server.connect_raw()
    crowd = [server.connect_raw() for _ in range(400)]
    watcher.wait_for(lambda state: len(state) == 402)
    with walking(watcher):
        watcher.states(1)  # of 10 KB each, one of which now waits for the slow player
        for raw in crowd:
            raw.close()
        watcher.wait_for(lambda state: len(state) == 2)
        assert {len(state) for state in watcher.states(0.5)} == {2}
    slow.close()


FROZEN_PLAYER = """
import sys
from websockets.sync.client import connect
with connect(sys.argv[1]) as connection:
    for message in connection:
        print(flush=True)
"""


@pytest.mark.waits
def test_a_vanished_player_is_gone_within_15_seconds_and_a_quiet_one_stays(server: Server) -> None:
    quiet = server.join()
    command = [sys.executable, "-c", FROZEN_PLAYER, server.url]
    vanishing = start_process(command, stdout=subprocess.PIPE)
    try:
        assert vanishing.stdout
        quiet.wait_for(lambda state: len(state) == 2)
        vanishing.stdout.readline()
        vanishing.send_signal(signal.SIGSTOP)
        start = time.monotonic()
        state = quiet.wait_for(lambda state: len(state) == 1)
        assert time.monotonic() - start < 18  # 15, and a margin for a busy machine
    finally:
        end_process(vanishing)
    assert list(state) == [quiet.id]
    quiet.states(start + 20 - time.monotonic())
    assert list(quiet.state()) == [quiet.id]


@pytest.mark.waits
def test_a_ping_comes_after_5_seconds_and_may_be_answered_after_7(server: Server) -> None:
    slow = server.connect_raw(handshake() + MOVE.serialize(mask=True))
    start = time.monotonic()
    received = b""
    while b"\x89\x04" not in received:  # a ping, whose data are always 4 bytes
        received += slow.recv(4096)
        assert time.monotonic() - start < 8  # 5, and a margin for a busy machine
    ping = received[received.index(b"\x89\x04") + 2 :][:4]
    answer_at = time.monotonic() + 6
    while time.monotonic() < answer_at:
        slow.recv(4096)
    slow.sendall(Frame(Opcode.PONG, ping).serialize(mask=True))
    watcher = server.join()
    watcher.states(3)
    assert "1" in watcher.state()
    slow.close()


# --- Floods ---


def test_a_flood_is_cut_off_gains_nothing_and_hurts_nobody(server: Server) -> None:
    watcher, other = server.join(), server.join()
    with walking(other):
        flooder = server.join()
        places = [watcher.wait_for(lambda state: flooder.id in state)[flooder.id][:2]]
        torrent = MOVE.serialize(mask=True) * 1000

        def flood() -> None:
            with suppress(OSError):
                while True:
                    flooder.connection.socket.sendall(torrent)

        threading.Thread(target=flood, daemon=True).start()
        start = time.monotonic()
        states = timed_states(watcher, 2)
        assert flooder.closed() == (1008, "too many messages")
        assert time.monotonic() - start < 10
    places += [state[flooder.id][:2] for _, state in states if flooder.id in state]
    assert all(abs(b[0] - a[0]) <= 10 and a[1] == b[1] for a, b in pairwise(places))
    assert flooder.id not in states[-1][1]
    wait_until(lambda: server.log().count("too many messages") == 1)


def test_a_hundred_messages_at_once_are_not_too_many_and_one_more_is(server: Server) -> None:
    player = server.join()
    player.connection.socket.sendall(MOVE.serialize(mask=True) * 100)
    assert player.id in player.states(2)[-1]
    # The machine may be so busy that the server reads it over more than a second.
    for _ in range(5):
        with suppress(OSError):
            player.connection.socket.sendall(MOVE.serialize(mask=True) * 101)
        with suppress(ConnectionClosed):
            player.states(2)
    assert player.closed() == (1008, "too many messages")


def test_a_flood_is_read_no_faster_than_a_player_plays_and_waits_at_its_sender(
    server: Server,
) -> None:
    flooder = server.connect_raw(b"")
    flooder.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    flooder.sendall(handshake())
    flooder.setblocking(False)
    torrent = Frame(Opcode.PING, b"").serialize(mask=True) * 100
    sent, answered, start = 0, 0, time.monotonic()
    while time.monotonic() - start < 4:
        readable, writable, _ = select.select([flooder], [flooder], [], 0.1)
        if readable:
            answered += len(flooder.recv(65536))
        if writable:
            sent += flooder.send(torrent[sent % 600 :])
    flooder.close()
    # 18 KB were read in that time, and each 6 of them answered by 2. A few states came as well.
    assert 3_000 < answered < 12_000


@pytest.mark.waits
def test_one_whose_answers_pile_up_is_gone_with_all_that_it_held(server: Server) -> None:
    watcher = server.join()
    watcher.state()
    memory, files = psutil.Process(server.process.pid).memory_info().rss, open_files(server)
    flooder = server.connect_raw()
    watcher.wait_for(lambda state: len(state) == 2)
    torrent = Frame(Opcode.PING, bytes(125)).serialize(mask=True) * 100

    def flood() -> None:
        with suppress(OSError):
            while True:
                flooder.sendall(torrent)

    threading.Thread(target=flood, daemon=True).start()
    watcher.wait_for(lambda state: len(state) == 1, timeout=25)
    wait_until(lambda: open_files(server) == files)
    assert psutil.Process(server.process.pid).memory_info().rss < memory + 10_000_000
    flooder.close()


def test_an_honest_player_that_mashes_its_keys_is_never_closed(server: Server) -> None:
    player = server.join()
    for _ in range(3 * 30):
        player.tap(random.choice((-1, 1)), 0)
        time.sleep(1 / 30)
    time.sleep(2)  # and then as a stalled network delivers it
    player.connection.socket.sendall(MOVE.serialize(mask=True) * 60)
    player.states(0.5)
    assert player.id in player.wait_for(lambda state: True)


# --- Garbage ---


def test_garbage_on_the_port_disturbs_nobody(server: Server) -> None:
    player = server.join()
    player.state()
    files, lines = open_files(server), len(server.log().splitlines())
    bomb = zlib.compressobj(wbits=-15)
    inflating = bomb.compress(bytes(5_000_000)) + bomb.flush(zlib.Z_SYNC_FLUSH)[:-4]
    deflate = handshake("Sec-WebSocket-Extensions: permessage-deflate")
    garbage = {
        "noise": random.Random(1).randbytes(5000),
        "half a handshake": b"GET / HTTP/1.1\r\nHost: x\r\n",
        "nothing": b"",
        "an enormous header": b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        "a thousand headers": b"GET / HTTP/1.1\r\n" + b"X: x\r\n" * 1000 + b"\r\n",
        "a TLS hello": bytes.fromhex("16030100c8010000c40303") + bytes(200),
        "no such path": b"GET /secret HTTP/1.1\r\nHost: x\r\n\r\n",
        "another method": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        "a broken key": handshake().replace(b"AAAA", b"*"),
        "two origins": handshake("Origin: http://a\r\nOrigin: http://b"),
        "a bomb": deflate + Frame(Opcode.TEXT, inflating[:200], rsv1=False).serialize(mask=True),
        "a compressed bomb": deflate + compressed_frame(inflating),
    }
    with walking(player):
        connections = [server.connect_raw(data) for data in garbage.values()]
        dropped = [server.connect_raw(b"") for _ in range(500)]
        for raw in dropped:
            # Reset, not closed: the rudest way to go.
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raw.close()
        assert_others_play_on(player)
    assert b" 404 " in connections[list(garbage).index("no such path")].recv(100)
    for raw in connections:
        raw.close()
    wait_until(lambda: open_files(server) <= files)
    assert server.process.poll() is None
    assert len(server.log().splitlines()) - lines <= 2 * len(garbage)
    assert list(player.wait_for(lambda state: len(state) == 1)) == [player.id]


def compressed_frame(data: bytes) -> bytes:
    frame = bytearray(Frame(Opcode.TEXT, data).serialize(mask=True))
    frame[0] |= 0b01000000  # RSV1: the message is compressed
    return bytes(frame)


def test_half_a_handshake_does_not_stay_open_for_ever(server: Server) -> None:
    raw = server.connect_raw(b"GET / HTTP/1.1\r\n")
    assert raw.recv(100) == b""
    raw.close()


# --- Churn, stalls and shortage ---


def test_after_much_coming_and_going_everything_is_as_before(server: Server) -> None:
    process = psutil.Process(server.process.pid)
    chance = random.Random(7)

    async def come_and_go() -> None:
        """Let 25 join and leave for a while in many ways, and check on those who stay."""
        ids: list[str] = []
        staying: list[ClientConnection] = []

        async def join() -> ClientConnection:
            # Whose queue is full reads no goodbye either.
            connection = await connect(server.url, ping_interval=None, max_queue=None)
            ids.append(str(json.loads(await connection.recv())["id"]))
            await connection.send('{"type":"move","dx":1,"dy":0}')
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
        async with asyncio.timeout(PATIENCE):
            players: State = {}
            while len(players) != 25:
                players = json.loads(await staying[0].recv()).get("players", {})
        assert len({color for _, _, color in players.values()}) == 25
        for connection in staying:
            await connection.close()

    files, memory = set(), []
    for _ in range(4):
        # In a thread of its own, because Playwright's loop may be running in this one.
        with ThreadPoolExecutor() as executor:
            executor.submit(asyncio.run, come_and_go()).result()
        wait_until(lambda: server.log().splitlines()[-1].endswith(" 0 online"))
        time.sleep(0.2)
        files.add(open_files(server))
        memory.append(process.memory_info().rss)
    assert len(files) == 1
    # Python frees the memory of connections in batches. The 40 kB of each would make 39 MB.
    assert memory[-1] - memory[0] < 20_000_000


def test_a_stalled_server_goes_on_without_making_up_for_it(server: Server) -> None:
    walker, watcher = server.join(), server.join()
    with walking(walker):
        watcher.states(0.5)
        server.process.send_signal(signal.SIGSTOP)
        time.sleep(3)
        server.process.send_signal(signal.SIGCONT)
        states = watcher.states(2)
    columns = [state[walker.id][0] for state in states]
    assert all(abs(b - a) <= 10 for a, b in pairwise(columns))
    # 3 missed seconds are 90 missed ticks.
    assert len(states) < 2 * 30 + 15
    assert set(states[-1]) == {walker.id, watcher.id}


@pytest.mark.skipif(sys.platform == "win32", reason="needs a system with a limit on open files")
def test_without_free_files_the_game_goes_on_and_newcomers_get_in_later(
    start_server: StartServer,
) -> None:
    server = start_server(prefix=with_open_files(40))
    player = server.join()
    with walking(player):
        crowd = [server.connect_raw() for _ in range(60)]
        assert_others_play_on(player)
        player.states(2)
        wait_until(lambda: "Too many open files" in server.log())
        assert server.log().count("Too many open files") <= 2
        for raw in crowd:
            raw.close()
        newcomer = server.join()
        assert newcomer.id in newcomer.state()
    assert server.interrupt() == 0


@pytest.mark.skipif(sys.platform == "win32", reason="needs a system with a limit on open files")
def test_a_server_that_is_stopped_without_free_files_ends_without_a_traceback(
    start_server: StartServer,
) -> None:
    server = start_server(prefix=with_open_files(40))
    crowd = [server.connect_raw() for _ in range(60)]  # none of which answers a goodbye
    wait_until(lambda: "Too many open files" in server.log())
    assert server.interrupt() == 0  # later than asyncio wants to listen again
    for raw in crowd:
        raw.close()
