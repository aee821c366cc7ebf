"""Attacks, each from a process of its own, and what the others notice of them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import (
    PATIENCE,
    ROOT,
    Player,
    Server,
    assert_others_play_on,
    edited_server,
    end_process,
    free_port,
    handshake,
    move,
    start_process,
    wait_until,
    walking,
    with_open_files,
)
from websockets.frames import Frame, Opcode

StartServer = Callable[..., Server]
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
BEGINNING = Frame(Opcode.TEXT, b"", fin=False).serialize(mask=True)
MIDDLE = Frame(Opcode.CONT, b"", fin=False).serialize(mask=True)
FLOODS = {
    "pings": Frame(Opcode.PING, b"").serialize(mask=True) * 5000,
    "pongs": Frame(Opcode.PONG, b"").serialize(mask=True) * 5000,
    # A good message, in as many fragments as websockets lets it have.
    "fragments": BEGINNING
    + MIDDLE * 4000
    + Frame(Opcode.CONT, move(1, 0).encode()).serialize(mask=True),
}


@dataclass
class Report:
    """What an attack did, known when it is over."""

    connected: int = 0
    sent: int = 0
    answers: dict[str, int] = field(default_factory=dict)


@contextmanager
def attack(port: int, first: bytes, flood: bytes = b"", **options: Any) -> Iterator[Report]:
    """Attack meanwhile. The options are those of `attacker.py`."""
    options |= {"port": port, "first": first.hex(), "flood": flood.hex()}
    process = start_process(
        [sys.executable, str(ROOT / "tests" / "attacker.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    report = Report()
    try:
        assert process.stdin
        process.stdin.write(json.dumps(options) + "\n")
        process.stdin.flush()
        assert process.stdout
        process.stdout.readline()  # when it has begun
        yield report
        assert process.poll() is None, "the attack was over too soon"
        output, _ = process.communicate(timeout=PATIENCE)
        report.__init__(**json.loads(output))  # type: ignore[misc]
    finally:
        end_process(process)


def memory(server: Server) -> float:
    """Return how much memory a server has, in MB."""
    return psutil.Process(server.process.pid).memory_info().rss / 1e6


def lines(server: Server) -> int:
    return server.log().count("\n")


# --- Floods of what is no message ---


@pytest.mark.parametrize(("connections", "rate", "gap"), [(20, 6, 1), (60, 3, 1.5)])
@pytest.mark.parametrize("kind", FLOODS)
def test_floods_of_what_is_no_message(
    server: Server, kind: str, connections: int, rate: float, gap: float
) -> None:
    walker, watcher = server.join(), server.join()
    flood = attack(server.port, handshake(), FLOODS[kind], connections=connections)
    with walking(walker), flood as report:
        wait_until(lambda: server.log().count("joined") > connections)
        assert_others_play_on(watcher, rate=rate, gap=gap)
    assert report.connected >= connections
    assert report.sent > 100_000


def test_pings_and_then_a_reset_are_a_line_or_two_in_the_log(server: Server) -> None:
    walker, watcher = server.join(), server.join()
    before = lines(server)
    with walking(walker), attack(server.port, handshake(), FLOODS["pings"], reset=True) as report:
        wait_until(lambda: server.log().count("left") > 40)
        watcher.states(1)
    wait_until(lambda: "2 online" in server.log().splitlines()[-1])
    assert report.connected > 40
    assert lines(server) - before <= 2 * report.connected


# --- Requests ---

LISTS = ("Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol", "Connection", "Upgrade")


def request_with_a_list(header: str, lines: int) -> bytes:
    """Return a handshake with so many lines of a header that is a list, 8 KB each."""
    line = f"{header}: {', '.join(['a'] * 2666)}"
    return handshake("\r\n".join([line] * lines))


@pytest.mark.parametrize("header", LISTS)
def test_a_request_with_an_endless_list_is_refused(server: Server, header: str) -> None:
    walker, watcher = server.join(), server.join()
    request = request_with_a_list(header, 110)
    with walking(walker), attack(server.port, request, hold=False, connections=2) as report:
        assert_others_play_on(watcher)
    assert set(report.answers) == {"HTTP/1.1 431 Request Header Fields Too Large"}


REQUESTS_AND_MORE = {
    "two at once": (GET + b"\r\n") * 2,
    "a request and bytes": GET + b"\r\n" + b"more",
    "no such path and bytes": GET.replace(b"/ ", b"/nothing ") + b"\r\n" + bytes(300),
    "a broken key and bytes": handshake().replace(b"AAAA", b"*", 1) + b"some bytes",
    "a request and a goodbye": GET + b"\r\n" + Frame(Opcode.CLOSE, b"").serialize(mask=True),
    "a handshake and bytes": handshake() + b"some bytes",
    "a handshake and a goodbye": handshake() + Frame(Opcode.CLOSE, b"").serialize(mask=True),
}


@pytest.mark.parametrize("kind", REQUESTS_AND_MORE)
def test_whatever_comes_behind_a_request_is_no_traceback(server: Server, kind: str) -> None:
    walker, watcher = server.join(), server.join()
    requests = attack(server.port, REQUESTS_AND_MORE[kind], hold=False, connections=4)
    with walking(walker), requests as report:
        assert_others_play_on(watcher, seconds=1)
    assert report.connected > 4
    assert "Traceback" not in server.log()


def test_players_that_never_end_a_message_of_many_fragments(server: Server) -> None:
    walker, watcher = server.join(), server.join()
    before = memory(server)
    endless = handshake() + BEGINNING + MIDDLE * 4089
    with walking(walker), attack(server.port, endless, connections=200, again=False):
        assert_others_play_on(watcher)
        wait_until(lambda: server.log().count("joined") == 202)
        watcher.states(1)
        assert memory(server) - before < 20  # as with 200 honest players, and 15 more


def test_half_open_requests_with_long_headers(server: Server) -> None:
    walker, watcher = server.join(), server.join()
    before = memory(server)
    half = GET + (b"X: " + b"x" * 8000 + b"\r\n") * 120
    with walking(walker), attack(server.port, half, connections=300, again=False) as report:
        assert_others_play_on(watcher)
        watcher.states(1)
        assert memory(server) - before < 15
    assert report.connected > 200


# --- Shortage ---


@pytest.mark.waits
@pytest.mark.skipif(sys.platform == "win32", reason="needs a system with a limit on open files")
def test_silent_connections_do_not_take_all_open_files(start_server: StartServer) -> None:
    server = start_server(prefix=with_open_files(256))
    with attack(server.port, b"", connections=800, rate=40, again=False, seconds=60):
        start = time.monotonic()
        while time.monotonic() - start < 9:
            with Player(server.url, open_timeout=3) as player:
                assert player.state()
            time.sleep(0.2)
    assert "Too many open files" not in server.log()


# --- A log that nobody reads ---


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_log_that_nobody_reads_does_not_stop_the_game(tmp_path: Path, number: int) -> None:
    port = free_port()
    unread, log = os.pipe()
    # With little room for lines that wait, so that there is soon none left.
    program = edited_server(tmp_path, "maxsize=10_000", "maxsize=50")
    process = start_process([sys.executable, program, "--port", str(port)], stderr=log)
    os.close(log)
    try:
        assert b"listening" in os.read(unread, 100)
        url = f"ws://127.0.0.1:{port}"
        with Player(url) as walker, Player(url) as watcher, walking(walker):
            # A pipe holds 64 KB, which is 900 lines. Each connection is two.
            with attack(port, handshake(), hold=False) as report:
                wait_until(lambda: any(int(each) > 500 for each in watcher.state()))
            assert_others_play_on(watcher)
            process.send_signal(number)
            assert process.wait(PATIENCE) == 0
        assert report.connected > 450
    finally:
        end_process(process)
        os.close(unread)


def test_what_waits_for_a_reader_of_the_log_at_a_stop_is_not_lost() -> None:
    port = free_port()
    unread, log = os.pipe()
    process = start_process([sys.executable, ROOT / "server.py", "--port", str(port)], stderr=log)
    os.close(log)
    try:
        text = os.read(unread, 100)  # that it listens
        with Player(f"ws://127.0.0.1:{port}") as watcher, attack(port, handshake(), hold=False):
            # More than a pipe holds.
            wait_until(lambda: any(int(each) > 600 for each in watcher.state()))
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        text += b"".join(iter(lambda: os.read(unread, 65536), b""))
        assert process.wait(PATIENCE) == 0
    finally:
        end_process(process)
        os.close(unread)
    joined, left = (
        set(re.findall(rb"player (\d+) " + what, text)) for what in (b"joined", b"left")
    )
    assert len(joined) > 600
    assert joined == left


def test_what_was_logged_before_a_stop_is_not_lost(server: Server) -> None:
    crowd = [server.connect_raw() for _ in range(100)]
    watcher = server.join()
    watcher.wait_for(lambda players: len(players) == 101)
    assert server.interrupt() == 0
    assert len(re.findall(r"player \d+ joined", server.log())) == 101
    assert len(re.findall(r"player \d+ left", server.log())) == 101
    for raw in crowd:
        raw.close()
