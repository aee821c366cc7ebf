"""States are compressed once for everyone, and every kind of client sees the same."""

import itertools
import random
import time
from contextlib import suppress
from pathlib import Path
from socket import socket
from typing import Any

from websockets import Data
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory as Deflate

from server import STATELESS, SharedDeflate, compressed_frame, recent_states
from tests.conftest import StartServer
from tests.harness.game_server import Server, edited_server, handshake
from tests.harness.player import move_frame
from tests.harness.waiting import PATIENCE
from tests.tools.bots import inflate

HEADINGS = list(itertools.product((-1, 0, 1), repeat=2))
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
            await asyncio.sleep(0.7)

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


def is_state(message: Data) -> bool:
    return isinstance(message, str) and message.startswith('{"type":"state"')


class Listener:
    """A player that keeps everything it gets after the welcome message."""

    def __init__(self, server: Server, name: str, straggles: bool) -> None:
        """Join with one of the OFFERS. A straggler stores little, so it misses states."""
        options: dict[str, Any] = {"compression": None, "extensions": OFFERS[name]}
        if straggles:
            options |= {"sock": server.connect_raw(b""), "max_queue": 1}
        self.name = name
        self.player = server.join(**options)
        self.messages: list[Data] = []

    def receive(self, timeout: float) -> None:
        self.messages.append(self.player.connection.recv(timeout))

    def catch_up(self) -> None:
        """Receive what has arrived, until there is a pause."""
        with suppress(TimeoutError):
            while True:
                self.receive(0.01)

    @property
    def states(self) -> list[Data]:
        return [message for message in self.messages if is_state(message)]


def walk_about(players: list[Listener], crowd: list[socket]) -> None:
    """Let everyone walk for some seconds. They receive only once a second."""
    for _ in range(3):
        for each in players:
            each.player.move(*random.choice(HEADINGS))
        for raw in crowd:
            raw.sendall(move_frame(*random.choice(HEADINGS)))
        time.sleep(1)
        for each in players:
            each.catch_up()


def test_everyone_sees_the_same_with_every_offer_and_other_messages_arrive(
    start_server: StartServer, tmp_path: Path
) -> None:
    states_file = tmp_path / "states"
    insert = f"CHAT_MESSAGES = {CHAT_MESSAGES}\nSTATES_FILE = {str(states_file)!r}\n{CHAT}"
    server = start_server(program=edited_server(tmp_path / "chat", insert=insert))
    prompt = [Listener(server, name, straggles=False) for name in OFFERS]
    stragglers = [Listener(server, name, straggles=True) for name in OFFERS]
    players = prompt + stragglers
    crowd = [server.connect_raw() for _ in range(100)]
    walk_about(players, crowd)
    for raw in crowd:
        raw.close()
    walk_about(players, [])
    for each in players:
        each.player.move(0, 0)
    for each in players:
        while len(each.states) < 2 or each.states[-1] != each.states[-2]:  # until a heartbeat
            each.receive(PATIENCE)
    sent = set(states_file.read_text().splitlines())
    for each in players:
        assert set(each.states) <= sent, each.name
        assert each.states[-1] == players[0].states[-1], each.name
        chat = [message for message in each.messages if not is_state(message)]
        assert len(chat) > 5, each.name
        expected = itertools.cycle(CHAT_AS_RECEIVED)
        assert chat == list(itertools.islice(expected, len(chat))), each.name
    most = max(len(each.states) for each in stragglers)
    assert most < min(len(each.states) for each in prompt)
    for listeners in (prompt, stragglers):
        compressed = [each.name for each in listeners if each.player.connection.protocol.extensions]
        names = ["a browser's", "a window of 15 bits", "the client forgets", "one of two"]
        assert compressed == names


class CountingSocket(socket):
    """A socket that counts the bytes that it receives."""

    received = 0

    def recv(self, *arguments: int) -> bytes:
        data = super().recv(*arguments)
        self.received += len(data)
        return data


def test_a_state_is_small_on_the_wire(server: Server) -> None:
    connection = CountingSocket()
    connection.connect(("127.0.0.1", server.port))
    offer = OFFERS["a browser's"]
    player = server.join(sock=connection, compression=None, extensions=offer)
    others = [server.connect_raw() for _ in range(49)]
    player.wait_for_players(50)
    for other in others:
        other.sendall(move_frame(*random.choice(HEADINGS)))
    before = connection.received
    states = player.states(2)
    assert len(states) > 20
    # Compressed by itself, it is 580; plain, 1260.
    assert (connection.received - before) / len(states) < 250


def test_stragglers_share_a_few_compressions_and_can_read_them() -> None:
    stragglers = [SharedDeflate(**STATELESS) for _ in range(100)]
    for straggler in stragglers:  # each got another state last
        straggler.last_state = random.randbytes(20).hex().encode()
        recent_states.appendleft(straggler.last_state)
    newest = b"".join(recent_states)
    recent_states.appendleft(newest)
    before = compressed_frame.cache_info().misses
    for straggler in stragglers:
        last_state = straggler.last_state
        payload = straggler.state_frame(newest)[4:]  # after the header
        assert inflate(payload, last_state) == newest
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
