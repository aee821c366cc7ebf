"""A relay that makes a near server a far one: delay, jitter and stalls, all in order."""

import asyncio
import random
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass

STALL_EVERY = 2  # seconds from the beginning of a stall to that of the next


@dataclass
class Link:
    """How long things take on their way, each way, in seconds. It may change at any time."""

    delay: float = 0
    jitter: float = 0  # at most so much longer
    stall: float = 0  # for so long nothing gets through, each STALL_EVERY seconds

    def arrival(self) -> float:
        """Return when what is sent now gets there, as of time.monotonic()."""
        arrival = time.monotonic() + self.delay + random.uniform(0, self.jitter)
        stalled = arrival % STALL_EVERY
        return arrival + self.stall - stalled if stalled < self.stall else arrival


class Relay:
    """A way to the server on a port of this machine, for whoever connects to `url` instead."""

    def __init__(self, port: int, link: Link) -> None:
        self.port = port
        self.link = link
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"ws://127.0.0.1:{self.listener.getsockname()[1]}"
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=asyncio.run, args=[self.run()], daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """Cut all connections, and let no more in."""
        self.stopping.set()
        self.thread.join()

    async def run(self) -> None:
        """Let in whoever comes, until it is stopped."""
        accepting = asyncio.create_task(self.accept())
        # Not in a thread that waits for it: that would hold up the end of a program that fails.
        while not self.stopping.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        accepting.cancel()

    async def accept(self) -> None:
        self.listener.setblocking(False)
        with self.listener:
            async with asyncio.TaskGroup() as connections:
                while True:
                    client, _ = await asyncio.get_running_loop().sock_accept(self.listener)
                    connections.create_task(self.relay(client))

    async def relay(self, client: socket.socket) -> None:
        """Carry what a client and the server say, until both have hung up or one is gone."""
        with client, socket.socket() as server, suppress(OSError):
            for end in (client, server):
                end.setblocking(False)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().sock_connect(server, ("127.0.0.1", self.port))
            await asyncio.gather(self.carry(client, server), self.carry(server, client))

    async def carry(self, source: socket.socket, target: socket.socket) -> None:
        """Carry what comes from one end to the other, each piece as late as the link has it."""
        loop = asyncio.get_running_loop()
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def receive() -> None:
            data = b"anything"
            while data:  # none is the end
                data = await loop.sock_recv(source, 2**16)
                under_way.put_nowait((self.link.arrival(), data))

        async def send() -> None:
            while True:
                arrival, data = await under_way.get()
                await asyncio.sleep(arrival - time.monotonic())
                if not data:
                    return target.shutdown(socket.SHUT_WR)
                await loop.sock_sendall(target, data)

        await asyncio.gather(receive(), send())
