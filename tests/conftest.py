"""A real server for each test, a small client to play with, and a real browser."""

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.sync.client import connect

if TYPE_CHECKING:  # who tests the rules needs no browser
    from playwright.sync_api import Browser, Playwright

ROOT = Path(__file__).resolve().parent.parent
PROBE = ROOT / "tests" / "probe.js"  # to be run in a page; tells what it notes of it
PATIENCE = 20  # seconds to wait for what must happen, on a machine that may be busy

State = dict[str, tuple[int, int, str]]  # ID to x, y and color


def wait_until(condition: Callable[[], Any], timeout: float = PATIENCE) -> Any:
    """Return the first true value of the condition; fail if there is none within the timeout."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
    return value


def free_port() -> int:
    """Return a port of this machine that nobody uses, nor gets from the system for a connection."""
    while True:
        port = random.SystemRandom().randint(15_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def handshake(headers: str = "") -> bytes:
    """Return the request that opens a WebSocket connection."""
    lines = (
        "GET / HTTP/1.1",
        "Host: localhost",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Version: 13",
        headers,
    )
    return "".join(f"{line}\r\n" for line in lines if line).encode() + b"\r\n"


def move(dx: int, dy: int) -> str:
    """Return a move message."""
    return json.dumps({"type": "move", "dx": dx, "dy": dy})


# Outlives a worker that is killed, and ends whatever that one has started and not ended.
REAPER = """
import os, signal, sys
from contextlib import suppress
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
running = set()
for line in sys.stdin:
    running ^= {int(line)}  # it has started, or has ended
for each in running:
    with suppress(OSError):  # it has ended, and nobody said so
        os.killpg(each, signal.SIGKILL) if hasattr(os, "killpg") else os.kill(each, signal.SIGTERM)
"""


@cache
def reaper() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", REAPER], stdin=subprocess.PIPE, text=True, bufsize=1
    )


def tell_reaper(process: subprocess.Popen[Any]) -> None:
    """Say that a process has started, or that it has ended."""
    stdin = reaper().stdin
    assert stdin
    stdin.write(f"{process.pid}\n")


def start_process(command: Sequence[str | Path], **options: Any) -> subprocess.Popen[Any]:
    """Start a process that does not outlive this one. It leads a group of its own."""
    process = subprocess.Popen(command, start_new_session=True, **options)
    tell_reaper(process)
    return process


def end_process(process: subprocess.Popen[Any]) -> None:
    """Kill a process, in case it has not ended by itself."""
    with process:  # which closes its pipes
        process.kill()
    tell_reaper(process)


def with_open_files(number: int) -> tuple[str, ...]:
    """Return what starts a server that may have so many files open."""
    return ("sh", "-c", f'ulimit -n {number} && exec "$@"', "sh")


class Player:
    """A player's connection."""

    def __init__(self, url: str, **options: Any) -> None:
        options = {"max_queue": None, "ping_interval": None, "legacy": True, **options}
        self.connection = connect(url, **options)
        self.welcome = self.receive()
        self.id = str(self.welcome["id"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def send(self, message: str | bytes) -> None:
        self.connection.send(message)

    def move(self, dx: int, dy: int) -> None:
        self.send(move(dx, dy))

    def tap(self, dx: int, dy: int) -> None:
        """Press and release a key, in one piece, so that there is no tick between."""
        frames = (Frame(Opcode.TEXT, move(*heading).encode()) for heading in ((dx, dy), (0, 0)))
        self.connection.socket.sendall(b"".join(frame.serialize(mask=True) for frame in frames))

    def receive(self, timeout: float = PATIENCE) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self.connection.recv(timeout))
        return message

    def state(self) -> State:
        """Return the next state that comes."""
        message = self.receive()
        assert message["type"] == "state"
        players: State = message["players"]
        return players

    def wait_for(self, condition: Callable[[State], Any], timeout: float = PATIENCE) -> State:
        """Return the first state that the condition holds for."""
        deadline = time.monotonic() + timeout
        while not condition(state := self.state()):
            assert time.monotonic() < deadline, f"it did not happen in time; last: {state}"
        return state

    def states(self, seconds: float) -> list[State]:
        """Return the states that come in this time."""
        states = []
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                states.append(self.receive(left)["players"])
            except TimeoutError:
                break
        return states

    def position(self, state: State | None = None) -> tuple[int, int]:
        x, y, *_ = (state or self.wait_for(lambda players: self.id in players))[self.id]
        return x, y

    def inward(self) -> int:
        """Return the direction along x that has room to walk, for 35 steps at least."""
        return 1 if self.position()[0] < 385 else -1

    def closed(self) -> tuple[int, str]:
        """Return the close code and reason of the server, once it has closed the connection."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                self.connection.recv(PATIENCE)
            except ConnectionClosed as closed:
                return (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (1006, "")
        raise AssertionError("the server has not closed the connection")


class Server:
    """A `python server.py` of its own, on a free port."""

    def __init__(
        self,
        log: Path,
        *arguments: str,
        port: int | None = None,
        program: Path = ROOT / "server.py",
        prefix: tuple[str, ...] = (),
        **options: Any,
    ) -> None:
        self.log_file = log
        self.port = port or free_port()
        self.url = f"ws://127.0.0.1:{self.port}"
        self.players: list[Player] = []
        command = [*prefix, sys.executable, str(program), "--port", str(self.port), *arguments]
        with log.open("ab") as stderr:
            self.process = start_process(command, stderr=stderr, **options)
        wait_until(lambda: "listening" in self.log() or self.process.poll() is not None)

    def log(self) -> str:
        return self.log_file.read_text()

    def join(self, **options: Any) -> Player:
        """Let a new player into the game."""
        self.players.append(Player(self.url, **options))
        return self.players[-1]

    def connect_raw(self, data: bytes = handshake()) -> socket.socket:
        """Connect without any library, with small buffers, and send a handshake or other data."""
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.settimeout(PATIENCE)
        raw.connect(("127.0.0.1", self.port))
        raw.sendall(data)
        return raw

    def join_refused(self) -> tuple[int, str]:
        """Try to join a game that lets nobody in; return the close code and reason."""
        with connect(self.url) as connection, pytest.raises(ConnectionClosed) as closed:
            connection.recv(PATIENCE)
        assert closed.value.rcvd
        return closed.value.rcvd.code, closed.value.rcvd.reason

    def interrupt(self, number: int = signal.SIGTERM) -> int:
        """Tell the server to stop, and return its exit status."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def stop(self) -> None:
        """End it, and whoever plays on it."""
        end_process(self.process)
        for player in self.players:
            player.connection.close()


def edited_server(folder: Path, before: str, after: str) -> Path:
    """Return a server.py of somebody who has changed a line of it."""
    source = (ROOT / "server.py").read_text("utf-8")
    assert source.count(before) == 1
    program = folder / "server.py"
    program.write_text(source.replace(before, after), "utf-8")
    return program


# --- What others notice ---


@contextmanager
def walking(player: Player) -> Iterator[None]:
    """Let a player walk to and fro meanwhile, so that there is a new state on every tick."""
    stop = threading.Event()

    def walk() -> None:
        direction = 1
        with suppress(ConnectionClosed):
            while not stop.wait(0.5):
                direction = -direction
                player.move(direction, 0)

    player.move(player.inward(), 0)
    thread = threading.Thread(target=walk)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def timed_states(player: Player, seconds: float) -> list[tuple[float, State]]:
    """Return the states that come in this time, and when each came."""
    while True:  # what has come before does not count
        try:
            player.connection.recv(0)
        except TimeoutError:
            break
    states = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        state = player.state()
        states.append((time.monotonic(), state))
    return states


def worst_gap(states: list[tuple[float, State]]) -> float:
    return max((b - a for (a, _), (b, _) in pairwise(states)), default=float("inf"))


def assert_others_play_on(
    watcher: Player, seconds: float = 2, rate: float = 15, gap: float = 0.5
) -> None:
    """Look whether enough states come in a second, evenly, while somebody walks.

    The machine may be busy, so it is enough if one look in three is good. What hurts the others
    must therefore last for three times so many seconds.
    """
    looks = []
    for _ in range(3):
        states = timed_states(watcher, seconds)
        looks.append((len(states) / seconds, worst_gap(states)))
        if looks[-1][0] >= rate and looks[-1][1] <= gap:
            return
    raise AssertionError(f"states per second and the longest gap in seconds: {looks}")


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start servers with arguments of the test's own. None of them may ever log a traceback."""
    servers: list[Server] = []

    def start(*arguments: str, **options: Any) -> Server:
        servers.append(Server(tmp_path / f"server{len(servers)}.log", *arguments, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()
        assert "Traceback" not in server.log(), server.log()[-5000:]


@pytest.fixture
def server(start_server: Callable[..., Server]) -> Server:
    """A server as `python server.py` starts it."""
    return start_server()


@pytest.fixture(scope="module")
def lasting_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that many short tests use, one after the other. They leave nothing behind."""
    server = Server(tmp_path_factory.mktemp("lasting") / "server.log")
    yield server
    server.stop()
    assert "Traceback" not in server.log(), server.log()[-5000:]


def find_program(*names: str) -> str | None:
    """Return the path of the first of these programs that is installed, or None."""
    return next(filter(None, map(shutil.which, names)), None)


def find_browser() -> str | None:
    """Return the path of an installed Chromium or Chrome, or None for Playwright's own."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    return find_program(*names)


def missing(what: str) -> None:
    """Skip the test for want of something to install, or fail where everything must be there."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(what)


def launch_browser(playwright: "Playwright", name: str = "chromium") -> "Browser":
    """Start a headless "chromium" or "firefox"; raise Playwright's Error if there is none."""
    if name == "firefox":
        path = find_program("firefox-esr", "firefox")
        return playwright.firefox.launch(
            channel="moz-firefox",
            executable_path=path,
            # A page's waits between two tries are its own: Firefox would add some to each.
            firefox_user_prefs={"network.websocket.delay-failed-reconnects": False},
        )
    return playwright.chromium.launch(
        executable_path=find_browser(),
        args=["--no-sandbox", "--disable-background-networking", "--disable-component-update"],
    )


INSTALL = {
    "chromium": "install Chromium or Chrome, or run `playwright install chromium`",
    "firefox": "install Firefox ESR",
}


@pytest.fixture(scope="session")
def playwright() -> Iterator["Playwright"]:
    """What starts and steers the browsers."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="session", params=INSTALL)
def browser(playwright: "Playwright", request: pytest.FixtureRequest) -> Iterator["Browser"]:
    """A headless browser: whoever asks for it runs in each of them, or is `in_chromium` only."""
    from playwright.sync_api import Error

    try:
        browser = launch_browser(playwright, request.param)
    except Error as error:
        missing(f"{INSTALL[request.param]}: {error.message.splitlines()[0]}")
    yield browser
    browser.close()


# For what Playwright can do in no other one.
in_chromium = pytest.mark.parametrize("browser", ["chromium"], indirect=True)


# --- Which test runs when and where ---


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let what mostly waits begin first, or in the end everybody would wait for it.

    And of the tests of a browser those that share a page, which draws as long as it is open.
    """

    def place(item: pytest.Item) -> tuple[bool, bool]:
        shares = "shared" in getattr(item, "fixturenames", ())
        return item.get_closest_marker("waits") is None, not shares

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Let two workers have all the pages of a browser: to start it on each would take long.

    And let one have all those crowds of hundreds, which would be too many at the same time.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        groups: ClassVar[dict[str, str]] = {}

        def _split_scope(self, nodeid: str) -> str:
            """Return the name of the group of tests that run one after the other on a worker."""
            for browser in INSTALL:
                if re.search(rf"[\[-]{browser}\b", nodeid):
                    return self.groups.setdefault(nodeid, f"{browser} {len(self.groups) % 2}")
            return "crowds" if "/test_compression.py" in nodeid else nodeid

    return Scheduling(config, log)
