"""Measure how many players a server can take: `python -m tests.tools.load --help`.

Bots walk and rest a few times a second, and use compression as browsers do. One more player checks
every message with a complete WebSocket library.
"""

import argparse
import asyncio
import math
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil
from picows import ws_connect
from websockets import ConnectionClosed
from websockets.asyncio.client import connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from tests.harness.game_server import Server, running
from tests.tools.bots import OFFER, Bot, Checker, Straggler, small_socket
from tests.tools.report import Cell, Table, progress

TABLE = Table(
    ("players", 7),
    ("states/s", 8),  # that a bot got, on average
    ("worst", 6),  # and the bot that got the fewest
    ("latency ms", 10),  # from a move to the first state that shows it: the median
    ("p99", 6),
    ("CPU %", 6),  # of one core, by the server
    ("us/state", 8),  # the server's CPU time for each state delivered
    ("MB/s", 7),  # sent, with WebSocket's headers
    ("wire B", 7),  # per state, as a browser gets it
    ("KB/player", 9),  # of the server's memory
    ("bots CPU %", 10),
)


@asynccontextmanager
async def bots_in(url: str, options: argparse.Namespace, players: int) -> AsyncIterator[list[Bot]]:
    """Let bots join a game, a few at a time, and leave at the end."""
    kinds = [Straggler] * options.stragglers + [Bot] * (players - options.stragglers)
    random.shuffle(kinds)
    bots: list[Bot] = []

    async def join(kind: type[Bot]) -> None:
        _, bot = await ws_connect(
            kind,
            url,
            extra_headers=None if options.plain else OFFER,
            websocket_handshake_timeout=60,  # seconds; many join at once
            socket_factory=small_socket if kind is Straggler else None,
        )
        assert isinstance(bot, Bot)
        bots.append(bot)

    try:
        for start in range(0, players, 50):
            await asyncio.gather(*map(join, kinds[start : start + 50]))
            progress(f"{len(bots)} of {players} bots have joined")
        yield bots
    finally:
        for bot in bots:
            bot.transport.disconnect()


@asynccontextmanager
async def checker_in(url: str, plain: bool) -> AsyncIterator[Checker]:
    """Let a player join that checks every message. At the end, raise what was wrong."""
    # The library's own offer limits the window of the server, which then doesn't compress.
    extensions = None if plain else [ClientPerMessageDeflateFactory(client_max_window_bits=True)]
    connection = await connect(
        url,
        create_connection=Checker,
        compression=None,
        extensions=extensions,
        ping_interval=None,
    )
    assert isinstance(connection, Checker)
    checking = asyncio.create_task(connection.check())
    try:
        yield connection
    finally:
        connection.transport.abort()
        with suppress(ConnectionClosed):
            await checking


def cpu(process: psutil.Process | None) -> float:
    """Return the seconds of CPU time that a process has used."""
    times = process.cpu_times() if process else None
    return float(times.user + times.system) if times else 0


def memory(process: psutil.Process | None) -> int:
    """Return the bytes of memory that a process uses."""
    return process.memory_info().rss if process else 0


async def measure(
    url: str, options: argparse.Namespace, players: int, server: psutil.Process | None = None
) -> None:
    """Print the row of a game with this many bots."""
    memory_before = memory(server)
    async with bots_in(url, options, players) as bots, checker_in(url, options.plain) as checker:
        await asyncio.sleep(2)  # until everyone walks, each at a different time
        for bot in bots:
            bot.states = bot.bytes = 0
            bot.latencies.clear()
        checker.received_bytes = checker.states = 0
        bots_cpu, server_cpu = cpu(psutil.Process()), cpu(server)
        start = time.perf_counter()
        for passed in range(math.ceil(options.seconds)):
            progress(f"{players} players: {passed} of {options.seconds:g} s")
            await asyncio.sleep(min(1, options.seconds - passed))
        seconds = time.perf_counter() - start
        bots_cpu, server_cpu = cpu(psutil.Process()) - bots_cpu, cpu(server) - server_cpu
        memory_used = memory(server) - memory_before
        states = sum(bot.states for bot in bots)
        rates = [bot.states / seconds for bot in bots if not isinstance(bot, Straggler)]
        slow_rates = [bot.states / seconds for bot in bots if isinstance(bot, Straggler)]
        latencies = sorted(
            1000 * latency
            for bot in bots
            if not isinstance(bot, Straggler)
            for latency in bot.latencies
        )
        row: list[Cell] = [
            players,
            statistics.mean(rates),
            min(rates),
            statistics.median(latencies) if latencies else None,
            latencies[int(0.99 * len(latencies))] if latencies else None,
            100 * server_cpu / seconds if server else None,
            1e6 * server_cpu / states if server and states else None,
            sum(bot.bytes for bot in bots) / seconds / 1e6,
            checker.received_bytes / checker.states if checker.states else None,
            memory_used / 1000 / players if server else None,
            100 * bots_cpu / seconds,
        ]
    notes = []
    if slow_rates:
        notes.append(f"{statistics.mean(slow_rates):.1f} states/s for a straggler")
    if bots_cpu > 0.9 * seconds:
        notes.append("the bots are at their limit, which distorts the figures")
    TABLE.print_row(row, "; ".join(notes))


def raise_file_limit(players: int) -> None:
    """Allow as many open files as the system lets us, also for the server that we start."""
    try:
        import resource
    except ImportError:  # on Windows, which has no such limit
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if most != resource.RLIM_INFINITY and most < players + 50:
        print(f"Only {most} open files are allowed. Run `ulimit -n {players + 50}` before.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--players", type=int, nargs="+", default=[10, 100, 500, 1000], metavar="N")
    add("--seconds", type=float, default=5, help="how long to measure each (%(default)s)")
    add("--url", help="play on a server that already runs, such as ws://localhost:8765")
    add("--plain", action="store_true", help="without compression, which browsers always offer")
    add(
        "--stragglers",
        type=int,
        default=0,
        metavar="N",
        help="let this many of the players keep pausing; states/s, worst and latency don't "
        "include them",
    )
    options = parser.parse_args()
    if options.stragglers >= min(options.players):
        parser.error("--stragglers must be less than --players")
    raise_file_limit(max(options.players))
    TABLE.print_head()
    for players in options.players:
        if options.url:
            asyncio.run(measure(options.url, options, players))
            continue
        with tempfile.TemporaryDirectory() as folder:
            server = Server(Path(folder), "--max-players", str(players + 1))
            with running(server):
                process = psutil.Process(server.process.pid)
                asyncio.run(measure(server.url, options, players, process))


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
