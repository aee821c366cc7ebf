"""States are compressed once for everyone, and every kind of client sees the same."""

import asyncio
import itertools
import json
import random
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from picows import ws_connect
from websockets import Data
from websockets.asyncio.client import connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory as Deflate

from server import STATELESS, SharedDeflate, compressed_frame, recent_states
from tests.conftest import StartServer
from tests.harness.game_server import Server, edited_server, handshake
from tests.harness.player import move
from tests.harness.waiting import PATIENCE
from tests.tools.bots import OFFER, Bot, Checker

OFFERS = {
    "a browser's": [Deflate(client_max_window_bits=True)],
    "a window of 15 bits": [Deflate(server_max_window_bits=15)],
    "a window of 14 bits": [Deflate(server_max_window_bits=14)],
    "a window of 9 bits": [Deflate(server_max_window_bits=9)],
    "the server forgets": [Deflate(server_no_context_takeover=True)],
    "the client forgets": [Deflate(client_no_context_takeover=True, client_max_window_bits=9)],
    "one of two": [Deflate(server_max_window_bits=10), Deflate()],
    "none": None,
}

# Keeps each state in a file, and sends everyone other messages between the states. One of these
# could be taken for part of a state.
CHAT = """
states_file = open(STATES_FILE, "w")
right_broadcast_state = broadcast_state


def broadcast_state(connections, message):
    print(message, file=states_file, flush=True)
    right_broadcast_state(connections, message)


right_handler = Game.handler


async def chatting_handler(self, ws):
    async def chat():
        await asyncio.sleep(0.1)
        while True:
            for message in CHAT_MESSAGES:
                await ws.send(message)
            await asyncio.sleep(0.3)

    task = asyncio.create_task(chat())
    try:
        await right_handler(self, ws)
    finally:
        task.cancel()


Game.handler = chatting_handler
"""
LIKE_A_STATE = '{"type":"state","players":{"1":['
CHAT_MESSAGES = ["text", b"binary", "", "long " * 500, ["in fragments", LIKE_A_STATE]]
CHAT_AS_RECEIVED = [*CHAT_MESSAGES[:-1], "in fragments" + LIKE_A_STATE]


class Listener:
    """A player that walks about and keeps everything it gets."""

    def __init__(self, name: str, straggles: bool = False) -> None:
        self.name = name + (", straggling" if straggles else "")
        self.offer = OFFERS[name]
        self.straggles = straggles  # pauses often, and so misses states
        self.messages: list[Data] = []

    async def join(self, server: Server) -> None:
        connection = socket.socket()
        size = 4096 if self.straggles else 2**20
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        connection.connect(("127.0.0.1", server.port))
        self.ws = await connect(
            server.url,
            sock=connection,
            compression=None,
            extensions=self.offer,
            max_queue=1 if self.straggles else None,
            max_size=None,
        )

    async def listen(self) -> None:
        async for message in self.ws:
            self.messages.append(message)
            if self.straggles and len(self.messages) % 40 == 0:
                await asyncio.sleep(1)

    async def walk(self) -> None:
        while True:
            await self.ws.send(move(random.randint(-1, 1), random.randint(-1, 1)))
            await asyncio.sleep(0.2)

    @property
    def states(self) -> list[Data]:
        return [m for m in self.messages if isinstance(m, str) and m.startswith('{"type":"state"')]

    @property
    def others(self) -> list[Data]:
        """Return everything but the welcome and the states."""
        states = set(self.states)
        return [message for message in self.messages[1:] if message not in states]


@asynccontextmanager
async def crowd(server: Server, size: int) -> AsyncIterator[None]:
    """Let bots walk in a game."""
    transports = []
    for _ in range(size):
        transport, _ = await ws_connect(Bot, server.url, extra_headers=OFFER)
        transports.append(transport)
    yield
    for transport in transports:
        transport.disconnect()


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine in a thread. Playwright's loop may be running in this one."""
    with ThreadPoolExecutor() as executor:
        return executor.submit(asyncio.run, coroutine).result()


async def until(condition: Callable[[], object]) -> None:
    """Return once the condition holds."""
    async with asyncio.timeout(3 * PATIENCE):
        while not condition():  # noqa: ASYNC110, many events may change it
            await asyncio.sleep(0.05)


async def play(server: Server, listeners: list[Listener]) -> None:
    """Let clients play in a game that grows and shrinks, until all have seen the same end."""

    def size() -> int:
        states = listeners[0].states
        return len(json.loads(states[-1])["players"]) if states else 0

    async with asyncio.TaskGroup() as group:
        for each in listeners:
            await each.join(server)
            group.create_task(each.listen())
        walks = [group.create_task(each.walk()) for each in listeners]
        async with crowd(server, 100):
            await until(lambda: size() == len(listeners) + 100)
            await asyncio.sleep(3)
        await until(lambda: size() == len(listeners))
        for each, walk in zip(listeners, walks, strict=True):
            walk.cancel()
            await each.ws.send(move(0, 0))
            each.straggles = False
        await until(lambda: len({each.states[-1] for each in listeners}) == 1)
        for each in listeners:
            await each.ws.close()


def test_everyone_sees_the_same_with_every_offer_and_other_messages_arrive(
    start_server: StartServer, tmp_path: Path
) -> None:
    states_file = tmp_path / "states"
    insert = f"CHAT_MESSAGES = {CHAT_MESSAGES}\nSTATES_FILE = {str(states_file)!r}\n{CHAT}"
    server = start_server(program=edited_server(tmp_path / "chat", insert=insert))
    listeners = [Listener(name, straggles) for straggles in (False, True) for name in OFFERS]
    run(play(server, listeners))
    sent = set(states_file.read_text().splitlines())
    for each in listeners:
        assert len(each.states) > 3, each.name
        assert set(each.states) <= sent, each.name
        assert len(each.others) > 5, each.name
        chat = itertools.cycle(CHAT_AS_RECEIVED)
        assert each.others == list(itertools.islice(chat, len(each.others))), each.name
    compressed = {each.name for each in listeners if each.ws.protocol.extensions}
    names = ("a browser's", "a window of 15 bits", "the client forgets", "one of two")
    assert compressed == {name + rest for name in names for rest in ("", ", straggling")}


def test_a_state_is_small_on_the_wire(game: Server) -> None:
    async def bytes_per_state() -> float:
        async with crowd(game, 49):
            offer = OFFERS["a browser's"]
            checker = await connect(
                game.url, create_connection=Checker, compression=None, extensions=offer
            )
            assert isinstance(checker, Checker)
            while str(await checker.recv()).count("#") < 50:
                pass
            start = checker.received_bytes
            for _ in range(60):
                await checker.recv()
            await checker.close()
            return (checker.received_bytes - start) / 60

    # About 105, of which half of the players walk. Compressed by itself, it is 580; plain, 1260.
    assert run(bytes_per_state()) < 250


def test_stragglers_share_a_few_compressions() -> None:
    stragglers = [SharedDeflate(**STATELESS) for _ in range(100)]
    for number, straggler in enumerate(stragglers):  # each got another state last
        straggler.last_state = b"state %d" % number
        recent_states.appendleft(straggler.last_state)
    recent_states.appendleft(b"the newest state")
    before = compressed_frame.cache_info().misses
    for straggler in stragglers:
        straggler.state_frame(recent_states[0])
    assert compressed_frame.cache_info().misses - before < 10


def test_an_odd_offer_gets_plain_frames_or_a_refusal(game: Server) -> None:
    plain, compressed = b"\x81", b"\xc1"  # how the first state starts
    for offer, status, state in (
        ("permessage-deflate; server_max_window_bits=77", b"101", plain),
        ("permessage-deflate; server_max_window_bits=8", b"101", plain),
        ("permessage-deflate; client_max_window_bits=8.5", b"101", plain),
        ("permessage-deflate; server_no_context_takeover=1", b"101", plain),
        ("permessage-deflat, permessage-bzip2, nonsense", b"101", plain),
        ("permessage-deflate; nonsense, permessage-deflate", b"101", compressed),
        ("permessage-deflate, " * 20 + "nonsense", b"101", compressed),
        ("permessage-deflate; client_max_window_bits=", b"400", b""),
        (";,;", b"400", b""),
    ):
        with game.connect_raw(handshake(f"Sec-WebSocket-Extensions: {offer}")) as raw:
            stream = raw.makefile("rb")
            head = b"".join(iter(stream.readline, b"\r\n"))
            assert head.split(b" ")[1] == status, offer
            assert (b"permessage-deflate" in head) == (state == compressed), offer
            if state:
                _, length = stream.read(2)  # the header of the welcome
                assert b"welcome" in stream.read(length)
                assert stream.read(1) == state, offer
