"""Attacks, and what the others notice of them."""

import random
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
from websockets import Frame, Opcode
from websockets.extensions.permessage_deflate import PerMessageDeflate

from server import STATELESS
from tests.conftest import StartServer
from tests.harness.attack import BEGINNING, FLOODS, attack
from tests.harness.game_server import Server, handshake, with_open_files
from tests.harness.player import Player, assert_others_play_on, walking
from tests.harness.waiting import wait_until

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n"

# --- Floods ---


@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_waits_at_its_senders(game: Server, kind: str) -> None:
    walker, watcher = game.join(), game.join()
    with walking(walker), attack(game.port, handshake(), FLOODS[kind]) as report:
        wait_until(lambda: game.online() > 20)
        start, before = time.monotonic(), game.cpu_time()
        assert_others_play_on(watcher, seconds=1, rate=6, gap=1)
        # Unlimited, it would take the whole processor.
        assert game.cpu_time() - before < 0.8 * (time.monotonic() - start)
    assert report.sent > 100_000


def test_a_flood_of_moves_makes_nobody_faster(game: Server) -> None:
    watcher = game.join()
    with attack(game.port, handshake(), FLOODS["moves"], connections=1):
        flooder = next(reversed(watcher.wait_for_players(2)))
        columns = [state[flooder][0] for state in watcher.states(1)]
    assert {b - a for a, b in pairwise(columns)} <= {0, 10}


def test_pings_followed_by_a_reset_log_two_lines_at_most(game: Server) -> None:
    before = game.log().count("\n")
    with attack(game.port, handshake(), FLOODS["pings"], reset=True) as report:
        wait_until(lambda: game.log().count("left") > 40)
    wait_until(lambda: game.online() == 0)
    assert game.log().count("\n") - before <= 2 * report.connected


# --- Requests ---


def request_with_a_list(header: str) -> bytes:
    """Return a handshake with 900 KB of a header that is a list."""
    line = f"{header}: {', '.join(['a'] * 2666)}"
    return handshake("\r\n".join([line] * 110))


REQUESTS = {
    **{
        f"an endless {header}": request_with_a_list(header)
        for header in ("Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol", "Connection")
    },
    "two at once": (GET + b"\r\n") * 2,
    "a request and bytes": GET + b"\r\n" + b"more",
    "no such path and bytes": GET.replace(b"/ ", b"/nothing ") + b"\r\n" + bytes(300),
    "a broken key and bytes": handshake().replace(b"AAAA", b"*", 1) + b"some bytes",
    "a request and a goodbye": GET + b"\r\n" + Frame(Opcode.CLOSE, b"").serialize(mask=True),
    "a handshake and bytes": handshake() + b"some bytes",
    "a handshake and a goodbye": handshake() + Frame(Opcode.CLOSE, b"").serialize(mask=True),
    "half a request": GET + (b"X: " + b"x" * 8000 + b"\r\n") * 120,
}


@pytest.mark.parametrize("kind", REQUESTS)
def test_odd_requests_disturb_nobody_and_log_no_traceback(game: Server, kind: str) -> None:
    walker, watcher = game.join(), game.join()
    with walking(walker), attack(game.port, REQUESTS[kind], hold=False) as report:
        assert_others_play_on(watcher, seconds=1)
    assert report.connected >= 20
    game.assert_no_traceback()


def test_half_open_requests_take_little_memory(server: Server) -> None:
    watcher = server.join()
    before = server.memory()
    half = REQUESTS["half a request"]
    with attack(server.port, half, connections=100, again=False) as report:
        watcher.states(2)
        assert server.memory() - before < 10  # megabytes; the requests have 100
    assert report.connected > 50


def compressed(data: bytes) -> bytes:
    """Return a compressed message that a client sends."""
    extensions = [PerMessageDeflate(**STATELESS)]
    return Frame(Opcode.TEXT, data).serialize(mask=True, extensions=extensions)


GARBAGE = {
    "noise": random.Random(1).randbytes(5000),
    "nothing": b"",
    "a thousand headers": b"GET / HTTP/1.1\r\n" + b"X: x\r\n" * 1000 + b"\r\n",
    "a TLS hello": bytes.fromhex("16030100c8010000c40303") + bytes(200),
    "a request with a body": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
    "two origins": handshake("Origin: http://a\r\nOrigin: http://b"),
    "a compressed bomb": handshake("Sec-WebSocket-Extensions: permessage-deflate")
    + compressed(bytes(100_000)),
    "an unfinished message": handshake() + BEGINNING,
}


def test_garbage_disturbs_nobody(game: Server) -> None:
    player = game.join()
    files, lines = game.open_files(), game.log().count("\n")
    with walking(player):
        connections = [game.connect_raw(data) for data in GARBAGE.values()]
        assert_others_play_on(player, seconds=1)
    for raw in connections:
        raw.close()
    wait_until(lambda: game.open_files() <= files)
    assert game.log().count("\n") - lines <= 2 * len(GARBAGE)
    player.wait_for_players(1)


# --- Shortage of files ---

needs_ulimit = pytest.mark.skipif(
    sys.platform == "win32", reason="needs a system with a limit on open files"
)


@needs_ulimit
@pytest.mark.slow
def test_silent_connections_do_not_take_all_open_files(start_server: StartServer) -> None:
    server = start_server(prefix=with_open_files(256))
    with attack(server.port, b"", connections=800, rate=40, again=False):
        start = time.monotonic()
        while time.monotonic() - start < 9:
            with Player(server.url, open_timeout=20) as player:
                assert player.state()
            time.sleep(0.2)
    assert "Too many open files" not in server.log()


@needs_ulimit
def test_without_free_files_the_game_goes_on_and_stops_cleanly(tmp_path: Path) -> None:
    server = Server(tmp_path, prefix=with_open_files(40))
    try:
        player = server.join()
        with walking(player):
            crowd = [server.connect_raw() for _ in range(60)]
            assert_others_play_on(player)
            wait_until(lambda: "Too many open files" in server.log())
            for raw in crowd[:30]:
                raw.close()
            newcomer = server.join()
            assert newcomer.id in newcomer.state()
            for _ in range(60):
                server.connect_raw()
            player.states(2)
            # asyncio complains with a traceback. Equal lines in a row are logged once.
            assert server.log().count("Too many open files") < 20
        assert server.interrupt() == 0
        assert "Invalid file descriptor" not in server.log()
    finally:
        server.stop()
