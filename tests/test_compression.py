"""States compressed once for everybody, for clients with every kind of offer."""

import asyncio
import itertools
import json
import random
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import load
from conftest import PATIENCE, ROOT, Server, end_process, handshake, move, start_process
from playwright.sync_api import Browser
from test_client import Client, new_context
from test_proxy import Proxy, proxy  # noqa: F401, the fixture
from websockets.asyncio.client import ClientConnection, connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory as Deflate
from websockets.extensions.permessage_deflate import PerMessageDeflate

sys.path.insert(0, str(ROOT))
from server import SharedDeflate, compressed_frame, last_states

StartServer = Callable[..., Server]

# What a client may offer. Small windows come after large ones, so that what was deflated for those
# would be there to be mistaken for theirs.
OFFERS = {
    "a browser's": [Deflate(client_max_window_bits=True)],
    **{f"{bits} bits": [Deflate(server_max_window_bits=bits)] for bits in range(15, 8, -1)},
    "the server forgets": [Deflate(server_no_context_takeover=True)],
    "the server forgets 9 bits": [
        Deflate(server_no_context_takeover=True, server_max_window_bits=9)
    ],
    "the client forgets 9 bits": [
        Deflate(client_no_context_takeover=True, client_max_window_bits=9)
    ],
    "one of two": [Deflate(server_max_window_bits=10, client_max_window_bits=True), Deflate()],
    "nothing": None,
}

# What a state could be deflated against, if it had been in a compressed message.
LIKE_A_STATE = '{"type":"state","players":{"1":['

# A server on which messages of all kinds go to those at /chat.
CHAT = f"""
import asyncio
import itertools
import runpy
from contextlib import suppress

from websockets.asyncio import server
from websockets.exceptions import ConnectionClosed

serve = server.serve
connections = set()


async def slowly(*fragments):
    for fragment in fragments:
        yield fragment
        await asyncio.sleep(0.05)


async def talk(ws, number):
    with suppress(ConnectionClosed):
        await ws.send(f"text {{number}}")
        await ws.send(b"binary %d" % number)
        await ws.send("")
        await ws.send(b"")
        await ws.send(f"long {{number}} " * 5000)
        await ws.send([f"{{number}} in fragments ", {LIKE_A_STATE!r}])
        await ws.send(slowly(f"{{number}} in ", "slow fragments ", {LIKE_A_STATE!r}))


async def chat():
    for number in itertools.count():
        server.broadcast(connections, f"broadcast {{number}}")
        await asyncio.gather(*(talk(ws, number) for ws in connections))
        await asyncio.sleep(0.3)


def serve_with_chat(handler, *arguments, **options):
    async def handler_with_chat(ws):
        if ws.request.path == "/chat":
            connections.add(ws)
        try:
            await handler(ws)
        finally:
            connections.discard(ws)

    tasks.append(asyncio.create_task(chat()))
    return serve(handler_with_chat, *arguments, **options)


tasks = []
server.serve = serve_with_chat
runpy.run_path({str(ROOT / "server.py")!r}, run_name="__main__")
"""


def chat(number: int) -> list[str | bytes]:
    """Return what the server with chat sends in one of its rounds."""
    return [
        f"broadcast {number}",
        f"text {number}",
        b"binary %d" % number,
        "",
        b"",
        f"long {number} " * 5000,
        f"{number} in fragments {LIKE_A_STATE}",
        f"{number} in slow fragments {LIKE_A_STATE}",
    ]


class Listener:
    """A player that walks about and keeps all that it gets."""

    def __init__(self, name: str, straggles: bool = False) -> None:
        self.name = name + (", straggling" if straggles else "")
        self.offer = OFFERS[name]
        self.straggles = straggles  # stops reading time and again, and misses states
        self.messages: list[str | bytes] = []

    async def join(self, url: str, port: int, tls: ssl.SSLContext | None) -> ClientConnection:
        connection = socket.socket()
        size = 4096 if self.straggles else 2**20
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        connection.connect(("127.0.0.1", port))
        self.ws = await connect(
            url,
            sock=connection,
            ssl=tls,
            compression=None,
            extensions=self.offer,
            max_queue=1 if self.straggles else None,
            max_size=None,
        )
        assert bool(self.ws.protocol.extensions) == bool(self.offer), self.name
        return self.ws

    async def listen(self) -> None:
        async for message in self.ws:
            self.messages.append(message)
            # Long enough to miss states, and so seldom that it gets through all else, pings too.
            if self.straggles and len(self.messages) % 100 == 0:
                await asyncio.sleep(1.5)

    async def walk(self) -> None:
        while True:
            await self.ws.send(move(random.randint(-1, 1), random.randint(-1, 1)))
            await asyncio.sleep(0.2)

    @property
    def states(self) -> list[str | bytes]:
        return [m for m in self.messages if isinstance(m, str) and m.startswith('{"type":"state"')]

    @property
    def others(self) -> list[str | bytes]:
        """All that came but for the welcome and the states."""
        states = set(self.states)
        return [message for message in self.messages[1:] if message not in states]


@contextmanager
def crowd(server: Server, size: int) -> Iterator[None]:
    """Let so many bots play, and a browser that checks what it gets."""
    command = [sys.executable, str(ROOT / "tests" / "load.py"), "--seconds", "1000"]
    command += ["--players", str(size - 1), "--url", server.url]
    bots = start_process(command, stdout=subprocess.DEVNULL)
    try:
        yield
        assert bots.poll() is None
    finally:
        end_process(bots)


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine in a thread of its own, for the real browser's loop may run in this one."""
    with ThreadPoolExecutor() as executor:
        return executor.submit(asyncio.run, coroutine).result()


async def until(condition: Callable[[], object]) -> None:
    """Return once the condition holds."""
    async with asyncio.timeout(2 * PATIENCE):
        while not condition():  # noqa: ASYNC110, for many may change it
            await asyncio.sleep(0.05)


async def play(
    server: Server,
    listeners: list[Listener],
    url: str,
    port: int,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Let listeners play in a world that grows and shrinks; see that all see the same."""
    witness = Listener("nothing")  # gets the same plain frames as ever, and nothing but states

    def size() -> int:
        return len(json.loads(witness.states[-1])["players"]) if witness.states else 0

    async with AsyncExitStack() as connections, asyncio.TaskGroup() as group:
        await connections.enter_async_context(await witness.join(server.url, server.port, None))
        group.create_task(witness.listen())
        walks = []
        for each in listeners:
            await connections.enter_async_context(await each.join(url, port, tls))
            group.create_task(each.listen())
            walks.append(group.create_task(each.walk()))
        everybody = len(listeners) + 1
        with crowd(server, 186):
            await until(lambda: size() == everybody + 186)
            with crowd(server, 400 - 186 - everybody):
                await until(lambda: size() == 400)
                await asyncio.sleep(2)
            await until(lambda: size() == everybody + 186)
        for each, walk in zip(listeners, walks, strict=True):
            walk.cancel()
            await each.ws.send(move(0, 0))
            each.straggles = False
        await until(lambda: size() == everybody)
        await until(lambda: {each.states[-1] for each in listeners} == {witness.states[-1]})
        for each in [*listeners, witness]:
            await each.ws.close()
    plain = {state for each in [witness, *listeners] if not each.offer for state in each.states}
    for each in listeners:
        assert len(each.states) > 3, each.name
        assert set(each.states) <= plain, each.name
        assert "straggling" not in each.name or plain - set(each.states), each.name


def test_everybody_sees_the_same_whatever_they_offer(server: Server) -> None:
    listeners = [Listener(name, straggles) for straggles in (False, True) for name in OFFERS]
    run(play(server, listeners, server.url, server.port))
    assert not any(each.others for each in listeners)


def test_other_messages_come_between_as_they_were_sent(
    start_server: StartServer, tmp_path: Path
) -> None:
    program = tmp_path / "chat.py"
    program.write_text(CHAT)
    server = start_server("--max-players", "10000", program=program)
    listeners = [Listener(name, straggles) for straggles in (False, True) for name in OFFERS]
    run(play(server, listeners, f"{server.url}/chat", server.port))
    for each in listeners:
        assert len(each.others) > 20, each.name
        first = int(str(each.others[0]).removeprefix("broadcast "))
        sent = itertools.chain.from_iterable(chat(number) for number in itertools.count(first))
        assert all(a == b for a, b in zip(each.others, sent, strict=False)), each.name


def test_everybody_sees_the_same_through_nginx_with_tls(
    start_server: StartServer,
    proxy: Proxy,  # noqa: F811
) -> None:
    server = start_server(port=proxy.world_ports[1])
    listeners = [Listener(name) for name in OFFERS]
    url = proxy.link(1).replace("https", "wss")
    run(play(server, listeners, url, proxy.port, proxy.tls))


def test_a_real_browser_sees_what_everybody_sees(server: Server, browser: Browser) -> None:
    page = new_context(browser).new_page()
    with crowd(server, 299):
        client = Client(page, server).playing()
        client.wait(lambda: len(client.state()) == 300)
        page.keyboard.down("ArrowRight")
        enough = client.evaluate("states") + 60
        client.wait(lambda: client.evaluate("states") > enough)
        page.keyboard.up("ArrowRight")
    witness = server.join(compression=None)
    witness.wait_for(lambda players: len(players) == 2)
    client.wait(lambda: [client.state()] == witness.states(1.2)[-1:])  # one a second at least
    assert "permessage-deflate" in client.evaluate("sockets[0].extensions")
    assert client.errors == []
    page.context.close()


def test_a_state_is_small_on_the_wire(server: Server) -> None:
    async def bytes_per_state() -> float:
        async with connect(server.url, create_connection=load.Browser) as meter:
            assert isinstance(meter, load.Browser)
            while str(await meter.recv()).count("#") < 100:
                pass
            start = meter.wire
            for _ in range(60):
                await meter.recv()
            return (meter.wire - start) / 60

    with crowd(server, 99):
        # About 200, when about half of them walk; each compressed by itself, 800; plain, 2500.
        assert run(bytes_per_state()) < 400


def test_stragglers_cost_a_few_compressions_a_state_and_not_one_each() -> None:
    agreed = PerMessageDeflate(False, False, 15, 15)
    stragglers = [SharedDeflate(agreed) for _ in range(100)]
    for number, straggler in enumerate(stragglers):  # each got another state last
        last_states.appendleft(b"state %d" % number)
        straggler.state_frame(last_states[0])
    last_states.appendleft(b"the newest state")
    before = compressed_frame.cache_info().misses
    for straggler in stragglers:
        straggler.state_frame(last_states[0])
    assert compressed_frame.cache_info().misses - before < 10


def test_rubbish_as_an_offer_gets_plain_frames_or_a_refusal(server: Server) -> None:
    player = server.join()
    for offer, status, state in (
        ("permessage-deflate; server_max_window_bits=77", b"101", b"\x81"),
        ("permessage-deflate; server_max_window_bits=8", b"101", b"\x81"),
        ("permessage-deflate; server_max_window_bits", b"101", b"\x81"),
        ("permessage-deflate; client_max_window_bits=8.5", b"101", b"\x81"),
        ("permessage-deflate; server_no_context_takeover=1", b"101", b"\x81"),
        ("permessage-deflate; nonsense; nonsense", b"101", b"\x81"),
        ("permessage-deflat, permessage-bzip2, nonsense", b"101", b"\x81"),
        ("permessage-deflate; nonsense, permessage-deflate", b"101", b"\xc1"),
        ("permessage-deflate, " * 20 + "nonsense", b"101", b"\xc1"),
        ("permessage-deflate; client_max_window_bits=", b"400", b""),
        ("permessage-deflate; \xff", b"400", b""),
        (";,;", b"400", b""),
    ):
        with server.connect_raw(handshake(f"Sec-WebSocket-Extensions: {offer}")) as raw:
            stream = raw.makefile("rb")
            head = b"".join(iter(stream.readline, b"\r\n"))
            assert head.split(b" ")[1] == status, offer
            assert (b"permessage-deflate" in head) == (state == b"\xc1"), offer
            if state:
                _, length = stream.read(2)  # the header of the welcome
                assert b"welcome" in stream.read(length)
                assert stream.read(1) == state, offer
    player.wait_for(lambda players: len(players) == 1)
