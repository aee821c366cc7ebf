"""A relay that makes the connection to a server worse: delay, jitter, a low rate, stalls."""

import asyncio
import random
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass

STALL_EVERY = 2  # seconds from the start of one stall to the start of the next


@dataclass
class Link:
    """The properties of a connection, in each direction. They may change at any time."""

    delay: float = 0  # seconds
    jitter: float = 0  # seconds at most, in addition to the delay
    stall: float = 0  # seconds without any data, once every STALL_EVERY seconds
    rate: int = 0  # bytes per second; 0 is unlimited

    def arrival(self) -> float:
        """Return when data sent now arrives, on the clock of time.monotonic()."""
        arrival = time.monotonic() + self.delay + random.uniform(0, self.jitter)
        stalled = arrival % STALL_EVERY
        return arrival + self.stall - stalled if stalled < self.stall else arrival


class Relay:
    """Connects its clients to a port of this machine. Clients use `url` instead of the server's."""

    def __init__(self, port: int, link: Link) -> None:
        self.port = port
        self.link = link
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.url = f"ws://127.0.0.1:{self.listener.getsockname()[1]}"
        self.loop = asyncio.new_event_loop()
        self.accepting = self.loop.create_task(self.accept())
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        with suppress(asyncio.CancelledError):
            self.loop.run_until_complete(self.accepting)
        self.loop.close()

    def stop(self) -> None:
        """Cut all connections, and accept no more."""
        self.loop.call_soon_threadsafe(self.accepting.cancel)
        self.thread.join()

    async def accept(self) -> None:
        with self.listener:
            async with asyncio.TaskGroup() as connections:
                while True:
                    client, _ = await self.loop.sock_accept(self.listener)
                    connections.create_task(self.relay(client))

    async def relay(self, client: socket.socket) -> None:
        """Relay one connection until both ends have closed it or one is gone."""
        with client, socket.socket() as server, suppress(OSError):
            for end in (client, server):
                end.setblocking(False)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self.link.rate:  # a slow link stores little
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            await self.loop.sock_connect(server, ("127.0.0.1", self.port))
            await asyncio.gather(self.forward(client, server), self.forward(server, client))

    async def forward(self, source: socket.socket, target: socket.socket) -> None:
        """Forward the data of one direction."""
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def receive() -> None:
            data = b"anything"
            while data:  # no data is the end
                rate = self.link.rate
                data = await self.loop.sock_recv(source, rate // 20 or 65536)
                under_way.put_nowait((self.link.arrival(), data))
                if rate:
                    await asyncio.sleep(len(data) / rate)

        async def send() -> None:
            while True:
                arrival, data = await under_way.get()
                await asyncio.sleep(arrival - time.monotonic())
                if not data:
                    return target.shutdown(socket.SHUT_WR)
                await self.loop.sock_sendall(target, data)

        await asyncio.gather(receive(), send())
