"""The command line, the log, stopping, and bugs in somebody's own code."""

import itertools
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from websockets import ConnectionClosed

from tests.conftest import StartServer
from tests.harness.game_server import SERVER, Server, edited_server
from tests.harness.player import Player, refusal, walking
from tests.harness.waiting import PATIENCE, wait_until


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SERVER), *arguments], capture_output=True, text=True, timeout=60
    )


# --- The command line ---


def test_help_names_every_option() -> None:
    result = run("--help")
    assert result.returncode == 0
    for word in ("--host", "--port", "--max-players", "--origin", "127.0.0.1", "8765", "1000"):
        assert word in result.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--port", "99999"), "choose another --host or --port"),
        (("--host", "no-such-host.invalid"), "choose another --host or --port"),
        (("--host", "x" * 70), "choose another --host or --port"),
        (("--port", "http"), "argument --port: invalid int value: 'http'"),
    ],
)
def test_a_bad_option_gets_a_clear_error(arguments: tuple[str, ...], complaint: str) -> None:
    result = run(*arguments)
    assert result.returncode != 0
    assert complaint in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


def test_a_taken_port_is_one_line_that_says_what_to_do(game: Server) -> None:
    result = run("--port", str(game.port))
    assert result.returncode != 0
    (line,) = result.stderr.splitlines()
    assert str(game.port) in line
    assert "choose another --host or --port" in line


# --- The log ---


def test_the_log_has_one_line_for_each_event(server: Server) -> None:
    other = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"
    first, second = server.join(), server.join(source_address=(other, 0))
    first.wait_for_players(2)
    # A goodbye with control characters can't forge a line.
    second.connection.close(4000, "bye\n2026-01-01 00:00:00 player 99 joined \x1b[31m")
    first.wait_for_players(1)
    first.send("nonsense")
    first.close_reason()
    wait_until(lambda: "player 1 left" in server.log())
    server.interrupt()
    patterns = [
        rf"listening: open http://127\.0\.0\.1:{server.port}/",
        r"127\.0\.0\.1: player 1 joined, 1 online",
        rf"{other}: player 2 joined, 2 online",
        rf"{other}: player 2 left \('.*bye\\n2026.*\\x1b.*'\), 1 online",
        r"127\.0\.0\.1: player 1 left \('expected .*'\), 0 online",
    ]
    lines = server.log().splitlines()
    assert len(lines) == len(patterns), lines
    for line, pattern in zip(lines, patterns, strict=True):
        assert re.fullmatch(rf"\S+ \S+ {pattern}", line), line


def test_a_log_that_nobody_reads_does_not_stop_the_game_and_nothing_is_lost() -> None:
    unread, log = os.pipe()
    process = subprocess.Popen([sys.executable, SERVER, "--port", "0"], stderr=log)
    os.close(log)
    try:
        text = os.read(unread, 1000)
        link = re.search(rb"http://(\S+)/", text)
        assert link
        url = f"ws://{link[1].decode()}"
        with Player(url) as walker, Player(url) as watcher, walking(walker):
            for _ in range(600):  # twice as many lines, which is more than a pipe holds
                Player(url).close()
            assert len(watcher.states(1)) > 5
        process.send_signal(signal.SIGTERM)
        text += b"".join(iter(lambda: os.read(unread, 65536), b""))
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
        os.close(unread)
    joined = set(re.findall(rb"player (\d+) joined", text))
    assert len(joined) == 602
    assert joined == set(re.findall(rb"player (\d+) left", text))


# --- Stopping ---


IN_BACKGROUND = ("sh", "-c", 'trap "" INT HUP; exec "$@"', "sh")  # where Ctrl+C is ignored


@pytest.mark.parametrize(
    ("number", "prefix"), [(signal.SIGINT, ()), (signal.SIGTERM, IN_BACKGROUND)]
)
def test_a_stopped_server_says_goodbye_to_everyone(
    start_server: StartServer, number: int, prefix: tuple[str, ...]
) -> None:
    server = start_server(prefix=prefix)
    players = [server.join() for _ in range(3)]
    server.connect_raw()  # never answers
    server.connect_raw(b"GET / HTTP/1.1\r\n")  # hasn't finished its handshake
    players[0].wait_for_players(4)
    assert server.interrupt(number) == 0
    assert [player.close_reason()[0] for player in players] == [1001] * 3
    assert len(re.findall(r"player \d left", server.log())) == 4


def test_a_server_can_be_interrupted_again_and_again(server: Server) -> None:
    player = server.join()
    server.connect_raw()  # never answers, so that the goodbye takes a while
    numbers = itertools.cycle((signal.SIGINT, signal.SIGTERM))

    def has_ended() -> bool:
        server.process.send_signal(next(numbers))
        return server.process.poll() is not None

    wait_until(has_ended)
    assert server.process.returncode == 0
    assert player.close_reason()[0] == 1001


# --- Bugs in somebody's own code ---


@pytest.fixture
def start_with_bug(tmp_path: Path) -> Iterator[Callable[[str], Server]]:
    """Start a server with a bug, which logs a traceback."""
    servers = []

    def start(code: str) -> Server:
        servers.append(Server(tmp_path, program=edited_server(tmp_path / "bug", insert=code)))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()
        assert "Traceback (most recent call last):" in server.log()


@pytest.mark.parametrize("error", ["KeyError", "FileNotFoundError", "UnicodeError"])
def test_a_bug_in_a_step_ends_the_server_with_a_traceback(
    start_with_bug: Callable[[str], Server], error: str
) -> None:
    code = f'\n\ndef step(self):\n    raise {error}("my own bug")\n\n\nWorld.step = step\n'
    server = start_with_bug(code)
    with suppress(ConnectionClosed, OSError, EOFError, TimeoutError):
        server.join()
    assert server.process.wait(PATIENCE) == 1
    assert "my own bug" in server.log()
    assert "--port" not in server.log()


BUGS_FOR_ONE_PLAYER = """
right = World.{name}


def wrong(self, *arguments):
    if self.last_id == 2:
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        raise ValueError("my own bug")
    return right(self, *arguments)


World.{name} = wrong
"""


def test_a_bug_in_steering_ends_that_player_only(start_with_bug: Callable[[str], Server]) -> None:
    server = start_with_bug(BUGS_FOR_ONE_PLAYER.format(name="steer"))
    stays, steers = server.join(), server.join()
    steers.move(1, 0)
    assert steers.close_reason()[0] == 1011
    stays.wait_for_players(1)
    wait_until(lambda: "my own bug" in server.log())
    wait_until(lambda: "ZeroDivisionError" in server.log())  # from a callback


def test_a_bug_in_joining_ends_that_player_only(start_with_bug: Callable[[str], Server]) -> None:
    server = start_with_bug(BUGS_FOR_ONE_PLAYER.format(name="join"))
    stays, _ = server.join(), server.join()
    stays.wait_for_players(2)
    assert refusal(server.url)[0] == 1011
    assert len(stays.state()) == 2
    wait_until(lambda: "my own bug" in server.log())
