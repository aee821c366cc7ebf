"""Put bots into a game and measure how it bears them: `python tests/load.py --help`.

The bots walk and rest a few times a second, and compress and inflate as browsers do. One real
`websockets` client among them checks every message, and counts the bytes on the wire.
"""

import argparse
import asyncio
import functools
import itertools
import json
import math
import random
import socket
import statistics
import subprocess
import sys
import time
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import psutil
from conftest import ROOT, free_port, wait_until
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import serve
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

# --- What browsers do about compression, for bots whose library does nothing. ---
OFFER = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}
TAIL = b"\0\0\xff\xff"  # of every compressed message; WebSocket leaves it out


def deflate(message: bytes) -> bytes:
    """Compress a message that refers to nothing before it."""
    compressor = zlib.compressobj(wbits=-15)
    return (compressor.compress(message) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


@functools.lru_cache  # most bots get the same, and one inflates it for all
def inflate(payload: bytes, before: bytes) -> bytes:
    """Return the message in a payload of the server's, which refers to the one before at most."""
    return zlib.decompressobj(wbits=-15, zdict=before).decompress(payload + TAIL)


PLAIN_MOVES = {
    heading: b'{"type":"move","dx":%d,"dy":%d}' % heading
    for heading in itertools.product((-1, 0, 1), repeat=2)
}
DEFLATED_MOVES = {heading: deflate(message) for heading, message in PLAIN_MOVES.items()}


class Bot(WSListener):
    """A player that walks, rests, and times how long its first step takes to come back."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.states = self.bytes = 0
        self.before = b""  # the last message that came compressed
        self.key = b""  # what its entry in a state begins with; empty until the welcome
        self.position = b""  # where it rests, as the state has it
        self.looking = False  # whether the next state is to tell where it rests
        self.moved_at: float | None = None  # when it set off, until a state shows that
        self.latencies: list[float] = []

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        self.compresses = "Sec-WebSocket-Extensions" in transport.response.headers

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.key = b""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type != WSMsgType.TEXT:
            return
        if frame.rsv1:
            self.before = inflate(frame.get_payload_as_bytes(), self.before)
        if self.key:
            self.states += 1
            size = frame.payload_size
            self.bytes += size + (2 if size < 126 else 4 if size < 65_536 else 10)
        if not self.key or self.looking or self.moved_at is not None:
            self.read(self.before if frame.rsv1 else frame.get_payload_as_bytes())

    def read(self, message: bytes) -> None:
        if not self.key:
            self.enter(json.loads(message)["id"])
            return
        start = message.find(self.key)
        if start < 0:
            return
        position = message[start + len(self.key) : message.index(b',"', start)]
        if self.looking:
            self.position = position
            self.looking = False
            self.loop.call_later(random.uniform(0, 0.2), self.walk)
        elif self.moved_at is not None and position != self.position:
            self.latencies.append(time.perf_counter() - self.moved_at)
            self.moved_at = None
            self.loop.call_later(random.uniform(0.1, 0.5), self.rest)

    def enter(self, player_id: int) -> None:
        self.key = b'"%d":[' % player_id
        if player_id:
            self.rest()
        else:  # serve_bare() has no world to walk in, and gets moves as many for nothing
            self.fidget()

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
            moves = DEFLATED_MOVES if self.compresses else PLAIN_MOVES
            self.transport.send(WSMsgType.TEXT, moves[heading], rsv1=self.compresses)


class Straggler(Bot):
    """A bot that stops reading time and again, and so misses states that others get."""

    def on_ws_connected(self, transport: WSTransport) -> None:
        super().on_ws_connected(transport)
        self.read_on()

    def stop_reading(self) -> None:
        self.transport.underlying_transport.pause_reading()
        self.loop.call_later(random.uniform(0.1, 1), self.read_on)

    def read_on(self) -> None:
        self.transport.underlying_transport.resume_reading()
        self.loop.call_later(random.uniform(0.1, 1), self.stop_reading)


def small_socket(url: object) -> socket.socket:
    """Return a socket that soon has enough when nobody reads."""
    small = socket.socket()
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    return small


class Browser(ClientConnection):
    """A player that checks every message, and counts what comes over the wire."""

    wire = text = states = 0  # bytes, bytes, number

    def data_received(self, data: bytes) -> None:
        self.wire += len(data)
        super().data_received(data)

    async def watch(self) -> None:
        player_id = str(json.loads(await self.recv())["id"])
        async for message in self:
            state = json.loads(message)
            assert state["type"] == "state", message
            assert player_id in state["players"], message
            self.states += 1
            self.text += len(message)


async def serve_bare(port: int, size: int) -> None:
    """Send a ready frame to all 30 times a second with bare transport.write; drop what comes."""
    state = b'{"type":"state","players":{"0":[]}}'.ljust(size)
    frame = Frame(Opcode.TEXT, state).serialize(mask=False)
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
async def bots_in(url: str, players: int, stragglers: int, plain: bool) -> AsyncIterator[list[Bot]]:
    """Let bots into a game, a few at a time, and out again."""
    kinds = [Straggler] * stragglers + [Bot] * (players - stragglers)
    random.shuffle(kinds)

    async def join(kind: type[Bot]) -> Bot:
        _, bot = await ws_connect(
            kind,
            url,
            extra_headers=None if plain else OFFER,
            websocket_handshake_timeout=60,  # seconds; many come at once
            socket_factory=small_socket if kind is Straggler else None,
        )
        assert isinstance(bot, Bot)
        return bot

    bots: list[Bot] = []
    try:
        while len(bots) < players:
            bots += await asyncio.gather(*map(join, kinds[len(bots) : len(bots) + 50]))
            progress(f"{len(bots)} of {players} bots have joined")
        yield bots
    finally:
        for bot in bots:
            bot.transport.disconnect()


def progress(text: str) -> None:
    """Show what goes on, on a terminal only."""
    if sys.stderr.isatty():
        print(f"\r{text:<60}\r", end="", file=sys.stderr, flush=True)


async def measure(
    url: str, players: int, arguments: argparse.Namespace, server: psutil.Process | None
) -> Row:
    """Return the figures of a game with so many bots, by the names of the columns."""
    seconds, plain = arguments.seconds, arguments.plain
    memory = server.memory_info().rss if server else 0
    async with (
        bots_in(url, players, arguments.stragglers, plain) as bots,
        connect(
            url,
            create_connection=Browser,
            compression=None if plain else "deflate",
            ping_interval=None,
        ) as browser,
    ):
        assert isinstance(browser, Browser)
        watching = asyncio.create_task(browser.watch())
        await asyncio.sleep(2)  # until all have joined in, and walk at different times
        for bot in bots:
            bot.states = bot.bytes = 0
            bot.latencies.clear()
        browser.wire = browser.text = browser.states = 0
        myself = psutil.Process()
        start, bots_cpu = time.perf_counter(), cpu(myself)
        server_cpu = cpu(server) if server else 0.0
        for passed in range(math.ceil(seconds)):
            progress(f"{players} players: {passed} of {seconds:g} s")
            await asyncio.sleep(min(1, seconds - passed))
        seconds = time.perf_counter() - start
        bots_cpu = cpu(myself) - bots_cpu
        server_cpu = cpu(server) - server_cpu if server else 0.0
        if watching.done():
            watching.result()  # raises what was wrong
        watching.cancel()
        states = sum(bot.states for bot in bots)
        sent = sum(bot.bytes for bot in bots)
        readers = [bot for bot in bots if not isinstance(bot, Straggler)]
        stragglers = [bot for bot in bots if isinstance(bot, Straggler)]
        latencies = sorted(itertools.chain.from_iterable(bot.latencies for bot in readers))
        row: Row = {
            "players": players,
            "states/s": statistics.mean(bot.states for bot in readers) / seconds,
            "worst": min(bot.states for bot in readers) / seconds,
            "MB/s": sent / seconds / 1e6,
            "bots CPU %": 100 * bots_cpu / seconds,
        }
        if stragglers:
            row["straggling"] = statistics.mean(bot.states for bot in stragglers) / seconds
        if browser.states:
            row["wire B"] = browser.wire / browser.states
            row["plain B"] = browser.text / browser.states
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
    if (straggling := row.get("straggling")) is not None:
        cells.append(f"  {straggling:.1f} states/s for a straggler")
    if (row["bots CPU %"] or 0) > 90:
        cells.append("  the bots are at their limit: figures are theirs")
    print(" ".join(cells))
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
        "--plain", action="store_true", help="offer no compression, which browsers always do"
    )
    parser.add_argument(
        "--stragglers",
        type=int,
        default=0,
        metavar="N",
        help="so many of the players stop reading time and again; "
        "states/s, worst and latency are those of the others",
    )
    parser.add_argument(
        "--bare",
        action="store_true",
        help="measure, after each row, what it costs to send ready plain frames of the same "
        "states with nothing but transport.write",
    )
    parser.add_argument("--serve-bare", type=int, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve_bare:
        asyncio.run(serve_bare(*arguments.serve_bare))
    if arguments.stragglers >= min(arguments.players):
        parser.error("--stragglers must leave a player who reads")
    raise_file_limit(max(arguments.players))
    print(" ".join(name.rjust(width) for name, width in COLUMNS), flush=True)
    for players in arguments.players:
        if arguments.url:
            show(asyncio.run(measure(arguments.url, players, arguments, None)))
            continue
        port = free_port()
        command = [str(ROOT / "server.py"), "--host", "127.0.0.1", "--port", str(port)]
        with running(*command, "--max-players", str(players + 1)) as server:
            wait_for_port(port)
            url = f"ws://127.0.0.1:{port}"
            row = asyncio.run(measure(url, players, arguments, server))
            show(row)
        if arguments.bare:
            size = str(round(row["plain B"] or 0))
            with running(__file__, "--serve-bare", str(port), size) as server:
                wait_for_port(port)
                show(asyncio.run(measure(url, players, arguments, server)))


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
