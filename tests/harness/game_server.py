"""A server process for a test, and raw connections to it."""

import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from tests.harness.player import Player
from tests.harness.waiting import PATIENCE, wait_until

ROOT = Path(__file__).resolve().parents[2]
SERVER = ROOT / "server.py"
MAIN = 'if __name__ == "__main__":\n'

# Code to insert before MAIN. A place goes with a color, and a new player takes the lowest free
# color. So the first player of an empty game always appears in the middle, and the others in rows
# that it doesn't reach by moving left and right.
PLACED = """
PLACES = [(385, 285), (100, 100), (100, 470), (600, 100), (600, 470), (350, 100), (350, 470)]
join_at_random = World.join


def join_at_place(self):
    player_id = join_at_random(self)
    player = self.players[player_id]
    player.x, player.y = PLACES[player.color_number % len(PLACES)]
    return player_id


World.join = join_at_place
"""


def edited_server(folder: Path, *, insert: str = "", **replacements: str) -> Path:
    """Copy server.py, insert code before its main block, and give constants other values."""
    source = SERVER.read_text("utf-8")
    source = source.replace(MAIN, f"{insert}\n\n{MAIN}")
    for name, value in replacements.items():
        source, count = re.subn(rf"^{name} = [^ ]+", f"{name} = {value}", source, flags=re.M)
        assert count == 1, f"server.py has no constant {name}"
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "server.py"
    program.write_text(source, "utf-8")
    shutil.copy(ROOT / "client.html", folder)
    return program


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


def free_ports(number: int) -> list[int]:
    """Return ports that were free a moment ago, for programs that can't choose one."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


def has_ipv6() -> bool:
    """Return whether this machine has the address ::1."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def with_open_files(number: int) -> tuple[str, ...]:
    """Return the prefix of a command that lets a process have this many open files."""
    return ("sh", "-c", f'ulimit -n {number} && exec "$@"', "sh")


def cpu_time(process_id: int | None = None) -> float:
    """Return the seconds of processor time that a process has used, or this one."""
    times = psutil.Process(process_id).cpu_times()
    return float(times.user + times.system)


class Server:
    """A server process on a free port."""

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        program: Path = SERVER,
        port: int = 0,
        prefix: tuple[str, ...] = (),
        **options: Any,
    ) -> None:
        """Start the server and wait until it listens. The options are those of Popen."""
        self.log_file = folder / "server.log"
        self.clients: list[Player | socket.socket] = []
        command = [*prefix, sys.executable, str(program), "--port", str(port), *arguments]
        with self.log_file.open("ab") as stderr:
            self.process = subprocess.Popen(command, stderr=stderr, **options)
        try:
            wait_until(lambda: "listening" in self.log() or self.process.poll() is not None)
        except BaseException:  # such as KeyboardInterrupt
            self.stop()
            raise
        link = re.search(r"listening: open http://.*:(\d+)/", self.log())
        self.port = int(link[1]) if link else port
        self.url = f"ws://127.0.0.1:{self.port}"
        self.page_url = f"http://127.0.0.1:{self.port}/"

    def log(self) -> str:
        return self.log_file.read_text()

    def join(self, url: str = "", **options: Any) -> Player:
        """Add a player, who may have another URL for this server. The options are connect()'s."""
        player = Player(url or self.url, **options)
        self.clients.append(player)
        return player

    def connect_raw(self, data: bytes = handshake()) -> socket.socket:
        """Connect without a library, with small buffers, and send a handshake or other data."""
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.settimeout(PATIENCE)
        raw.connect(("127.0.0.1", self.port))
        raw.sendall(data)
        self.clients.append(raw)
        return raw

    def online(self) -> int:
        """Return how many players are online, as the log says."""
        numbers = re.findall(r"(\d+) online$", self.log(), re.M)
        return int(numbers[-1]) if numbers else 0

    def memory(self) -> float:
        """Return how much memory the server takes, in megabytes."""
        return float(psutil.Process(self.process.pid).memory_info().rss / 1e6)

    def cpu_time(self) -> float:
        return cpu_time(self.process.pid)

    def open_files(self) -> int:
        return int(psutil.Process(self.process.pid).num_fds())

    def disconnect_all(self) -> None:
        for client in self.clients:
            client.close()
        self.clients.clear()

    def interrupt(self, number: int = signal.SIGTERM) -> int:
        """Tell the server to stop, and return its exit status."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def stop(self) -> None:
        """Kill the server, and disconnect its clients."""
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(PATIENCE)
        self.disconnect_all()

    def assert_no_traceback(self) -> None:
        assert "Traceback" not in self.log(), self.log()[-5000:]


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """Stop the server at the end. It must not have logged a traceback."""
    try:
        yield server
    finally:
        server.stop()
    server.assert_no_traceback()
