"""Attack a server from a process of its own, so that the test's players don't slow it down.

That process runs this file. Its options are a line of JSON on standard input. The attack ends when
standard input is closed. Then it prints what it did, as JSON.
"""

import asyncio
import json
import socket
import ssl
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any

from websockets import Frame, Opcode

SECONDS = 60  # after which an attack ends in any case
MOVE = b'{"type":"move","dx":1,"dy":0}'
BEGINNING = Frame(Opcode.TEXT, b"", fin=False).serialize(mask=True)
MIDDLE = Frame(Opcode.CONT, b"", fin=False).serialize(mask=True)
FLOODS = {
    "pings": Frame(Opcode.PING, b"").serialize(mask=True) * 5000,
    "pongs": Frame(Opcode.PONG, b"").serialize(mask=True) * 5000,
    "fragments": BEGINNING + MIDDLE * 4000 + Frame(Opcode.CONT, MOVE).serialize(mask=True),
    "moves": Frame(Opcode.TEXT, MOVE).serialize(mask=True) * 1000,
}


@dataclass
class Attack:
    """What each connection does."""

    port: int
    first: str  # hexadecimal: what it sends when it has connected
    flood: str = ""  # hexadecimal: what it sends after that, over and over
    connections: int = 20  # how many there are at the same time
    again: bool = True  # whether it connects again when the connection has ended
    hold: bool = True  # whether it stays connected after the first answer
    reset: bool = False  # whether it resets the connection after sending some of the flood
    rate: int = 1_000_000  # how many of them start in a second
    certificate: str = ""  # the file with the certificate to trust, for TLS


@dataclass
class Report:
    """What the attack did. It is known when the attack is over."""

    connected: int = 0  # how often
    sent: int = 0  # bytes


@contextmanager
def attack(port: int, first: bytes, flood: bytes = b"", **options: Any) -> Iterator[Report]:
    """Attack a server meanwhile. The options are those of Attack."""
    report = Report()
    line = json.dumps(asdict(Attack(port, first.hex(), flood.hex(), **options)))
    command = [sys.executable, __file__]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin
        assert process.stdout
        try:
            print(line, file=process.stdin, flush=True)
            assert process.stdout.readline(), "the attack could not connect"
            yield report
            assert process.poll() is None, "the attack ended too early"
            process.stdin.close()
            vars(report).update(json.loads(process.stdout.read()))
        finally:
            process.kill()


# --- What the process does ---


async def flood(writer: asyncio.StreamWriter, data: bytes, report: Report) -> None:
    while data:
        writer.write(data)
        await writer.drain()
        await asyncio.sleep(0)  # lets the others continue even if drain() needn't wait
        report.sent += len(data)


async def connect(attack: Attack, report: Report, tls: ssl.SSLContext | None) -> None:
    """Open one connection, and flood it until the server closes it."""
    name = "localhost" if tls else None
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", attack.port, ssl=tls, server_hostname=name
    )
    report.connected += 1
    if report.connected == 1:
        print("attacking", flush=True)
    writer.write(bytes.fromhex(attack.first))
    flooding = None
    try:
        answer = await reader.read(65536)
        if answer and attack.hold:
            flooding = asyncio.create_task(flood(writer, bytes.fromhex(attack.flood), report))
        if attack.reset:
            await asyncio.sleep(0.001)
            linger = struct.pack("ii", 1, 0)  # on, 0 seconds
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            return
        while answer and attack.hold:
            answer = await reader.read(65536)
    finally:
        if flooding:
            flooding.cancel()
        writer.transport.abort()


async def run(attack: Attack) -> Report:
    """Attack until standard input is closed."""
    report = Report()
    tls = ssl.create_default_context(cafile=attack.certificate) if attack.certificate else None

    async def keep_connecting(number: int) -> None:
        await asyncio.sleep(number / attack.rate)
        again = True
        while again:
            with suppress(OSError):
                await connect(attack, report, tls)
            again = attack.again
            await asyncio.sleep(0.01)

    tasks = [asyncio.create_task(keep_connecting(n)) for n in range(attack.connections)]
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.to_thread(sys.stdin.read), SECONDS)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return report


if __name__ == "__main__":
    print(json.dumps(asdict(asyncio.run(run(Attack(**json.loads(sys.stdin.readline())))))))
