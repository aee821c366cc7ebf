"""Attack a server from a process of its own, which reads all that it is sent.

The options are a line of JSON on the standard input, and the attack lasts until that is closed,
but no longer than the options allow. It prints a line when it is connected for the first time,
and at the end what it did, as JSON.
"""

import asyncio
import json
import os
import socket
import ssl
import struct
import sys
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any


@dataclass
class Attack:
    """What each of the connections does."""

    port: int
    first: str  # what it sends on connecting, in hexadecimal
    flood: str = ""  # what it sends after that, over and over
    reset: bool = False  # whether it resets the connection after sending some of that
    hold: bool = True  # whether it stays connected until the other end hangs up
    again: bool = True  # whether it connects again after that
    connections: int = 20  # how many there are at the same time
    rate: float = 0  # how many of them begin in a second; 0 is all at once
    for_each_address: int = 1_000_000  # how many come from one address of this machine
    certificate: str = ""  # the file of the one to trust, for TLS
    seconds: float = 30  # how long all of it may last


@dataclass
class Report:
    """What came of it."""

    connected: int = 0  # how often
    sent: int = 0  # bytes
    answers: Counter[str] = field(default_factory=Counter)  # the first line of each


async def read_all(reader: asyncio.StreamReader) -> None:
    with suppress(OSError):
        while await reader.read(65536):
            pass


@cache
def trusting(certificate: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificate)


async def connect(attack: Attack, report: Report, number: int) -> None:
    """Live the life of one connection."""
    options: dict[str, Any] = {}
    if attack.certificate:
        options = {"ssl": trusting(attack.certificate), "server_hostname": "localhost"}
    if address := number // attack.for_each_address:
        options["local_addr"] = (f"127.0.0.{1 + address}", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", attack.port, **options)
    report.connected += 1
    if report.connected == 1:
        print("attacking", flush=True)
    first, flood = bytes.fromhex(attack.first), bytes.fromhex(attack.flood)
    try:
        writer.write(first)
        report.sent += len(first)
        report.answers[(await reader.readline()).decode("latin-1").strip()] += 1
        if not attack.hold:
            return
        reading = asyncio.create_task(read_all(reader))
        while flood and not reading.done():
            writer.write(flood)
            await writer.drain()
            await asyncio.sleep(0)  # for drain need not wait, and then nobody else has a turn
            report.sent += len(flood)
            if attack.reset:
                await asyncio.sleep(0.001)
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, linger
                )
                return
        await reading
    finally:
        writer.transport.abort()


async def keep_connecting(attack: Attack, report: Report, number: int) -> None:
    if attack.rate:
        await asyncio.sleep(number / attack.rate)
    while True:
        with suppress(OSError, ValueError):
            await connect(attack, report, number)
        if not attack.again:
            return
        await asyncio.sleep(0.01)


async def run(attack: Attack) -> Report:
    """Attack until the standard input is closed, or the time is over."""
    report = Report()
    over = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wait_for_end() -> None:
        os.read(0, 1)
        loop.call_soon_threadsafe(over.set)

    threading.Thread(target=wait_for_end, daemon=True).start()
    numbers = range(attack.connections)
    tasks = [loop.create_task(keep_connecting(attack, report, number)) for number in numbers]
    with suppress(TimeoutError):
        await asyncio.wait_for(over.wait(), attack.seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return report


if __name__ == "__main__":
    attack = Attack(**json.loads(sys.stdin.readline()))
    print(json.dumps(vars(asyncio.run(run(attack)))))
