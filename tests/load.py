"""Put bots into a game and measure how it bears them: `python tests/load.py --help`.

The bots take plain frames, for picows does not compress, and walk and rest a few times a second.
One real `websockets` client among them, which compresses as browsers do, counts bytes on the wire.
"""

import argparse
import asyncio
import itertools
import json
import math
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import psutil
from conftest import ROOT, free_port, wait_until
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

Row = dict[str, float | None]

TICK_RATE = 30  # states per second that everyone should get
SETTLE = 0.15  # seconds from a stop until the bot surely rests
COLUMNS = (
    ("players", 7),
    ("states/s", 8),  # that a bot received; on average
    ("worst", 6),  # and of the bot that received least
    ("latency ms", 10),  # from a move to the first state that shows it: the median
    ("p99", 6),
    ("CPU %", 6),  # of one core, of the server
    ("us/state", 8),  # of the server's CPU, by states delivered
    ("MB/s", 7),  # sent, with WebSocket's headers
    ("wire B", 7),  # per state, as a browser gets it
    ("KB/player", 9),  # of the server's memory
    ("bots CPU %", 10),
)


class Bot(WSListener):  # type: ignore[misc]
    """A player that walks, rests, and times how long its first step takes to come back."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.states = self.bytes = 0
        self.key = b""  # what its entry in a state begins with; empty until the welcome
        self.position = b""  # where it rests, as the state has it
        self.looking = False  # whether the next state is to tell where it rests
        self.moved_at: float | None = None  # when it set off, until a state shows that
        self.latencies: list[float] = []

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.key = b""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type != WSMsgType.TEXT:
            return
        if not self.key:
            player_id = json.loads(frame.get_payload_as_bytes())["id"]
            self.key = b'"%d":[' % player_id
            if player_id:
                self.rest()
            else:  # serve_bare() has no world to walk in, and gets moves as many for nothing
                self.fidget()
            return
        self.states += 1
        self.bytes += frame.payload_size + (2 if frame.payload_size < 126 else 4)
        if self.looking or self.moved_at is not None:
            self.read(frame.get_payload_as_bytes())

    def read(self, state: bytes) -> None:
        start = state.find(self.key)
        if start < 0:
            return
        position = state[start + len(self.key) : state.index(b',"', start)]
        if self.looking:
            self.position = position
            self.looking = False
            self.loop.call_later(random.uniform(0, 0.2), self.walk)
        elif self.moved_at is not None and position != self.position:
            self.latencies.append(time.perf_counter() - self.moved_at)
            self.moved_at = None
            self.loop.call_later(random.uniform(0.1, 0.5), self.rest)

    def walk(self) -> None:
        # Inward, because a step into a wall would never show.
        x, y = map(int, self.position.split(b","))
        self.moved_at = time.perf_counter()
        self.move(random.choice([(1 if x < 385 else -1, 0), (0, 1 if y < 285 else -1)]))

    def rest(self) -> None:
        self.move((0, 0))
        self.loop.call_later(SETTLE, self.look)

    def fidget(self) -> None:
        self.move((0, 0))
        # As many moves as in the game, where a walk and a rest take 0.6 seconds.
        self.loop.call_later(random.uniform(0.15, 0.45), self.fidget)

    def look(self) -> None:
        self.looking = True

    def move(self, heading: tuple[int, int]) -> None:
        if self.key:
            message = b'{"type":"move","dx":%d,"dy":%d}' % heading
            self.transport.send(WSMsgType.TEXT, message)


class Browser(ClientConnection):
    """A connection that compresses, and counts what comes over the wire."""

    bytes = states = 0

    def data_received(self, data: bytes) -> None:
        self.bytes += len(data)
        super().data_received(data)

    async def watch(self) -> None:
        with suppress(ConnectionClosed):
            async for _ in self:
                self.states += 1


async def serve_bare(port: int, size: int) -> None:
    """Send a ready frame to all 30 times a second with bare transport.write; drop what comes."""
    frame = Frame(Opcode.TEXT, b" " * size).serialize(mask=False)
    transports: list[asyncio.Transport] = []

    async def handler(ws: object) -> None:
        await ws.send('{"id":0}')  # type: ignore[attr-defined]
        transports.append(ws.transport)  # type: ignore[attr-defined]
        async for _ in ws:  # type: ignore[attr-defined]
            pass

    # Pings as often as the game's, for without them nobody could do either.
    async with serve(handler, "127.0.0.1", port, compression=None, ping_interval=5):
        due = time.monotonic()
        while True:
            for transport in transports:
                transport.write(frame)
            due = max(due + 1 / TICK_RATE, time.monotonic())
            await asyncio.sleep(due - time.monotonic())


@asynccontextmanager
async def bots_in(url: str, players: int) -> AsyncIterator[list[Bot]]:
    """Let bots into a game, a few at a time, and out again."""
    bots: list[Bot] = []
    try:
        while len(bots) < players:
            batch = range(min(50, players - len(bots)))
            bots += [bot for _, bot in await asyncio.gather(*(ws_connect(Bot, url) for _ in batch))]
            progress(f"{len(bots)} of {players} bots have joined")
        yield bots
    finally:
        for bot in bots:
            bot.transport.disconnect()


def progress(text: str) -> None:
    """Show what goes on, on a terminal only."""
    if sys.stderr.isatty():
        print(f"\r{text:<60}\r", end="", file=sys.stderr, flush=True)


async def measure(url: str, players: int, seconds: float, server: psutil.Process | None) -> Row:
    """Return the figures of a game with so many bots, by the names of the columns."""
    memory = server.memory_info().rss if server else 0
    async with (
        bots_in(url, players) as bots,
        connect(url, create_connection=Browser, ping_interval=None) as browser,
    ):
        assert isinstance(browser, Browser)
        watching = asyncio.create_task(browser.watch())
        await asyncio.sleep(2)  # until all have joined in, and walk at different times
        for bot in bots:
            bot.states = bot.bytes = 0
            bot.latencies.clear()
        browser.bytes = browser.states = 0
        myself = psutil.Process()
        start, bots_cpu = time.perf_counter(), cpu(myself)
        server_cpu = cpu(server) if server else 0.0
        for passed in range(math.ceil(seconds)):
            progress(f"{players} players: {passed} of {seconds:g} s")
            await asyncio.sleep(min(1, seconds - passed))
        seconds = time.perf_counter() - start
        bots_cpu = cpu(myself) - bots_cpu
        server_cpu = cpu(server) - server_cpu if server else 0.0
        watching.cancel()
        states = sum(bot.states for bot in bots)
        sent = sum(bot.bytes for bot in bots)
        latencies = sorted(itertools.chain.from_iterable(bot.latencies for bot in bots))
        row: Row = {
            "players": players,
            "states/s": states / players / seconds,
            "worst": min(bot.states for bot in bots) / seconds,
            "MB/s": sent / seconds / 1e6,
            "bots CPU %": 100 * bots_cpu / seconds,
            "state B": sent / states if states else None,
        }
        if browser.states:
            row["wire B"] = browser.bytes / browser.states
        if latencies:
            row["latency ms"] = 1000 * statistics.median(latencies)
            row["p99"] = 1000 * latencies[int(0.99 * len(latencies))]
        if server:
            row["CPU %"] = 100 * server_cpu / seconds
            row["us/state"] = 1e6 * server_cpu / states if states else None
            row["KB/player"] = (server.memory_info().rss - memory) / 1000 / players
        return row


def cpu(process: psutil.Process) -> float:
    """Return the seconds of CPU that a process has used."""
    times = process.cpu_times()
    return float(times.user + times.system)


def show(row: Row) -> None:
    """Print a row of the table, and what is wrong with its figures, if anything is."""
    progress("")
    cells = []
    for name, width in COLUMNS:
        value = row.get(name)
        text = "-" if value is None else f"{value:.1f}" if isinstance(value, float) else str(value)
        cells.append(text.rjust(width))
    busy = (row["bots CPU %"] or 0) > 90
    print(" ".join(cells), "  the bots are at their limit: figures are theirs" if busy else "")
    sys.stdout.flush()


@contextmanager
def running(*command: str) -> Iterator[psutil.Process]:
    """Run a Python program that listens on a port, for as long as it is needed."""
    process = subprocess.Popen([sys.executable, *command], stderr=subprocess.DEVNULL)
    try:
        yield psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait()


def wait_for_port(port: int) -> None:
    """Return once somebody listens on a port of this machine."""

    def listening() -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return True
        return False

    wait_until(listening)


def raise_file_limit(players: int) -> None:
    """Allow as many open files as the system lets us, for us and for the server that we start."""
    try:
        import resource
    except ImportError:  # on Windows, where there is no such limit
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if most != resource.RLIM_INFINITY and most < players + 50:
        print(f"{players} players need {players + 50} open files, and {most} are allowed: ", end="")
        print(f"raise the limit with `ulimit -n {players + 50}`")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--players", type=int, nargs="+", default=[10, 100, 500, 1000], metavar="N")
    parser.add_argument("--seconds", type=float, default=5, help="how long to measure each (5)")
    parser.add_argument("--url", help="play on this running server, as ws://localhost:8765")
    parser.add_argument(
        "--bare",
        action="store_true",
        help="measure, after each row, what it costs to send ready frames of the same size "
        "with nothing but transport.write",
    )
    parser.add_argument("--serve-bare", type=int, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve_bare:
        asyncio.run(serve_bare(*arguments.serve_bare))
    raise_file_limit(max(arguments.players))
    print(" ".join(name.rjust(width) for name, width in COLUMNS), flush=True)
    for players in arguments.players:
        if arguments.url:
            show(asyncio.run(measure(arguments.url, players, arguments.seconds, None)))
            continue
        port = free_port()
        command = [str(ROOT / "server.py"), "--host", "127.0.0.1", "--port", str(port)]
        with running(*command, "--max-players", str(players + 1)) as server:
            wait_for_port(port)
            url = f"ws://127.0.0.1:{port}"
            row = asyncio.run(measure(url, players, arguments.seconds, server))
            show(row)
        if arguments.bare:
            size = str(round(row["state B"] or 0))
            with running(__file__, "--serve-bare", str(port), size) as server:
                wait_for_port(port)
                show(asyncio.run(measure(url, players, arguments.seconds, server)))


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
