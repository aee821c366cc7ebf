"""Measure how many players a server can take: `python -m tests.tools.load --help`.

Bots walk and rest a few times a second, and use compression as browsers do.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from picows import ws_connect

from tests.harness.game_server import Server, cpu_time, running
from tests.tools.bots import OFFER, Bot
from tests.tools.report import print_row

COLUMNS = (
    "players",
    "states/s",  # that a bot got, on average
    "worst",  # and the bot that got the fewest
    "latency ms",  # from a move to the first state that shows it: the median
    "p99",
    "CPU %",  # of one core, by the server
    "us/state",  # the server's CPU time for each state delivered
    "MB/s",  # sent, with WebSocket's headers
    "wire B",  # per state, as a browser gets it
    "bots CPU %",  # near 100, the bots are at their limit, which distorts the other figures
)


@asynccontextmanager
async def bots_in(url: str, plain: bool, players: int) -> AsyncIterator[list[Bot]]:
    """Let bots join a game, a few at a time, and leave at the end."""
    bots: list[Bot] = []

    async def join() -> None:
        _, bot = await ws_connect(
            Bot,
            url,
            extra_headers=None if plain else OFFER,
            websocket_handshake_timeout=60,  # seconds; many join at once
        )
        assert isinstance(bot, Bot)
        bots.append(bot)

    try:
        for start in range(0, players, 50):
            await asyncio.gather(*(join() for _ in range(start, min(start + 50, players))))
        yield bots
    finally:
        for bot in bots:
            bot.transport.disconnect()


async def measure(options: argparse.Namespace, players: int, server: Server | None) -> None:
    """Print the row of a game with this many bots."""
    url, plain = server.url if server else options.url, options.plain
    async with bots_in(url, plain, players) as bots:
        await asyncio.sleep(2)  # until everyone walks, each at a different time
        for bot in bots:
            bot.states = bot.bytes = 0
            bot.latencies.clear()
        bots_before, server_before = cpu_time(), server.cpu_time() if server else 0
        start = time.perf_counter()
        await asyncio.sleep(options.seconds)
        seconds = time.perf_counter() - start
        bots_cpu = cpu_time() - bots_before
        server_cpu = server.cpu_time() - server_before if server else None
        states, total = sum(bot.states for bot in bots), sum(bot.bytes for bot in bots)
        latencies = sorted(1000 * latency for bot in bots for latency in bot.latencies)
    print_row(
        [
            players,
            states / players / seconds,
            min(bot.states for bot in bots) / seconds,
            statistics.median(latencies) if latencies else None,
            latencies[int(0.99 * len(latencies))] if latencies else None,
            100 * server_cpu / seconds if server_cpu is not None else None,
            1e6 * server_cpu / states if server_cpu is not None and states else None,
            total / seconds / 1e6,
            total / states if states else None,
            100 * bots_cpu / seconds,
        ]
    )


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
    options = parser.parse_args()
    raise_file_limit(max(options.players))
    print_row(COLUMNS)
    for players in options.players:
        if options.url:
            asyncio.run(measure(options, players, None))
            continue
        with (
            tempfile.TemporaryDirectory() as folder,
            running(Server(Path(folder), "--max-players", str(players))) as server,
        ):
            asyncio.run(measure(options, players, server))


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
