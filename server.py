"""A multiplayer game server: players steer colored squares, and everyone sees everyone.

    a key goes down or up -> a move message -> World.steer sets a heading, and moves nothing
    30 times a second     -> World.step moves everyone -> one state message goes to everyone

World holds the rules and knows nothing about the network. Game holds the connections and knows
nothing about the rules. The sections after main() aren't about the game itself: they serve the
page, save processor time, hold off floods, and keep the log from blocking the game.
"""

import argparse
import asyncio
import colorsys
import functools
import json
import logging
import queue
import random
import signal
import socket
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from logging.handlers import QueueHandler, QueueListener
from pathlib import Path
from typing import Any

from websockets import CloseCode, ConnectionClosed, Frame, NegotiationError, Opcode, State
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.extensions import permessage_deflate as deflate
from websockets.http11 import Request, Response

WIDTH, HEIGHT = 800, 600  # the world, in pixels
SIZE = 30  # the side of a player's square, in pixels
STEP = 10  # pixels per tick along one axis
DIAGONAL_STEP = round(STEP / 2**0.5)  # pixels per tick along both axes, about the same speed
TICK_RATE = 30  # ticks per second
HEARTBEAT = 1  # seconds after which a state is sent even if nothing has changed
# Chosen to be easy to tell apart, including for people with color blindness.
PALETTE = [
    "#0084ff", "#fdff00", "#e85103", "#f900ab", "#00bb8f", "#e0cbff", "#f49d03", "#9279bb",
    "#a9fff6", "#57ff88", "#ff96bd", "#ed5061", "#eeffcc", "#07b6f5", "#bda457", "#9bc784",
    "#00cedc", "#fccb00", "#ffb9b1", "#bb708c",
]  # fmt: skip
Heading = tuple[int, int]  # -1, 0 or 1 along x, and the same along y, which points down


# --- The rules ---
@functools.cache
def color(number: int) -> str:
    """Return the color with this number, counted from 0, as "#rrggbb"."""
    if number < len(PALETTE):
        return PALETTE[number]
    # Turning the hue by the golden angle keeps each new color away from the ones before it.
    rgb = colorsys.hls_to_rgb(number * 137.508 % 360 / 360, 0.71, 0.85)
    return "#" + bytes(round(255 * part) for part in rgb).hex()


@dataclass(slots=True)
class Player:
    """A player's square: its top-left corner in pixels, its color, and where it is heading."""

    x: int
    y: int
    color_number: int
    heading: Heading = (0, 0)
    # The headings of new key presses, of which each tick uses one. Without this queue, a key tapped
    # between two ticks would do nothing. It keeps one second's worth at most.
    key_presses: deque[Heading] = field(default_factory=lambda: deque(maxlen=TICK_RATE))


class World:
    """All players by ID, and the rules they move by."""

    def __init__(self) -> None:
        self.players: dict[int, Player] = {}
        self.last_id = 0

    def join(self) -> int:
        """Add a player at a random place. Return its ID, which is never reused."""
        x, y = random.randint(0, WIDTH - SIZE), random.randint(0, HEIGHT - SIZE)
        taken = {player.color_number for player in self.players.values()}
        color_number = min(set(range(len(taken) + 1)) - taken)  # the lowest that nobody has
        self.last_id += 1
        self.players[self.last_id] = Player(x, y, color_number)
        return self.last_id

    def leave(self, player_id: int) -> None:
        """Remove the player with this ID."""
        del self.players[player_id]

    def steer(self, player_id: int, heading: Heading) -> None:
        """Set a player's heading. The player moves on the next step, not now."""
        player = self.players[player_id]
        (dx, dy), (old_dx, old_dy) = heading, player.heading
        # An axis has got a new direction. Going back to 0 doesn't count: that's a release.
        is_key_press = (dx and dx != old_dx) or (dy and dy != old_dy)
        if is_key_press:
            player.key_presses.append(heading)
        player.heading = heading

    def step(self) -> None:
        """Move everyone by one tick."""
        for player in self.players.values():
            dx, dy = player.key_presses.popleft() if player.key_presses else player.heading
            if dx or dy:
                length = DIAGONAL_STEP if dx and dy else STEP
                player.x = min(max(player.x + dx * length, 0), WIDTH - SIZE)
                player.y = min(max(player.y + dy * length, 0), HEIGHT - SIZE)

    def state(self) -> dict[int, tuple[int, int, str]]:
        """Return what everyone can see: each player's (x, y, color), by ID."""
        return {i: (p.x, p.y, color(p.color_number)) for i, p in self.players.items()}


# --- The messages ---
class BadMessage(Exception):
    """A message that is not part of the protocol. The text says what was expected."""


to_json = json.JSONEncoder(separators=(",", ":")).encode  # without spaces, to save bytes
PONG = to_json({"type": "pong"})


def welcome_message(player_id: int) -> str:
    """Return a player's first message: its ID and the numbers that the page needs."""
    numbers = {"width": WIDTH, "height": HEIGHT, "size": SIZE, "step": STEP, "tick_rate": TICK_RATE}
    return to_json({"type": "welcome", "id": player_id, **numbers})


def state_message(world: World) -> str:
    """Return the message that shows everyone the whole world."""
    return to_json({"type": "state", "players": world.state()})


# --- The connections ---
class Game:
    """A world, the connections of its players by ID, and the clock that moves it."""

    def __init__(self, max_players: int) -> None:
        self.max_players = max_players
        self.world = World()
        self.connections: dict[int, ServerConnection] = {}
        self.running = True

    def log(self, ws: ServerConnection, event: str) -> None:
        logging.info("%s: %s, %d online", ws.remote_address[0], event, len(self.connections))

    async def handler(self, ws: ServerConnection) -> None:
        """Handle one connection from beginning to end. The library runs it for each player."""
        if len(self.connections) >= self.max_players:
            # Accept and then close, because a page can't read why a handshake failed.
            self.log(ws, "refused, the game is full")
            return await ws.close(CloseCode.TRY_AGAIN_LATER, "the game is full")
        player_id = self.world.join()
        self.connections[player_id] = ws
        error: BadMessage | ConnectionClosed | None = None
        try:
            self.log(ws, f"player {player_id} joined")
            await ws.send(welcome_message(player_id))
            async for message in ws:
                await self.handle_message(player_id, message)
        except (BadMessage, ConnectionClosed) as exception:
            error = exception
        finally:
            del self.connections[player_id]
            self.world.leave(player_id)
            reason = f" ({str(error)!a})" if error else ""  # !a escapes control characters
            self.log(ws, f"player {player_id} left{reason}")
        # Close only after the player is gone from the game, because closing may take seconds.
        if isinstance(error, BadMessage):
            await ws.close(CloseCode.POLICY_VIOLATION, str(error))

    async def handle_message(self, player_id: int, message: str | bytes) -> None:
        """Do what a player's message says, or raise BadMessage."""
        content = None
        if isinstance(message, str):  # and not binary
            with suppress(json.JSONDecodeError):
                content = json.loads(message)
        match content:
            case {"type": "move", "dx": -1 | 0 | 1 as dx, "dy": -1 | 0 | 1 as dy}:
                self.world.steer(player_id, (int(dx), int(dy)))  # JSON's true and 1.0 match 1, too
            case {"type": "ping"}:
                await self.connections[player_id].send(PONG)
            case _:
                raise BadMessage(
                    'expected {"type":"move","dx":DX,"dy":DY} with DX and DY -1, 0 or 1, '
                    'or {"type":"ping"}'
                )

    async def tick_until_stopped(self) -> None:
        """Move the world at an even pace, and send its state whenever it has changed."""
        next_tick = last_sent_at = time.monotonic()
        last_state = ""
        while self.running:
            self.world.step()
            state = state_message(self.world)
            now = time.monotonic()
            if state != last_state or now - last_sent_at >= HEARTBEAT:
                broadcast_state(self.connections.values(), state)
                last_state, last_sent_at = state, now
            # After a stall, the clock catches up by one tick at most.
            next_tick = max(next_tick + 1 / TICK_RATE, now)
            await asyncio.sleep(next_tick - time.monotonic())


async def main(options: argparse.Namespace) -> None:
    """Run the game until Ctrl+C or SIGTERM. Raise SystemExit if it can't listen."""
    game = Game(options.max_players)

    def stop(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_IGN)  # a second Ctrl+C must not kill us as we exit
        game.running = False

    for number in (signal.SIGINT, signal.SIGTERM):  # Windows has no loop.add_signal_handler()
        signal.signal(number, stop)
    try:
        server = await serve(
            game.handler,
            options.host,
            options.port,
            origins=[origin.removesuffix("/") for origin in options.origin] or None,
            process_request=serve_page,
            process_response=log_refused_origin,
            extensions=[SharedDeflateFactory(client_no_context_takeover=True)],
            create_connection=PacedConnection,
            open_timeout=4,  # seconds
            # A player who vanishes is removed after 4 + 6 + 4 seconds at most.
            ping_interval=4,
            ping_timeout=6,
            close_timeout=4,
            max_size=256,  # bytes in a message
            max_queue=None,  # unlimited, because PacedConnection limits what is read
            write_limit=2**24,  # bytes; so high that keepalive pings never wait for a slow client
        )
    except (OSError, OverflowError, UnicodeError) as error:
        raise SystemExit(f"server.py: {error}; choose another --host or --port") from None
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # not on Windows
        # Keeps stale states out of the kernel's send buffers. Connections inherit the option.
        for listener in server.sockets:
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 4096)  # bytes
    async with server:  # at the end, it says goodbye to everyone
        port = server.sockets[0].getsockname()[1]
        logging.info("listening: open %s", links(options.host, port))
        await game.tick_until_stopped()
        # If the process ran out of file descriptors, asyncio will try to accept connections again,
        # on a socket that is closed by then. Don't log that as an error.
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)


# --- The page: without it, friends would need a copy of client.html ---
def serve_page(ws: ServerConnection, request: Request) -> Response | None:
    """Answer a plain HTTP request; return None to let a WebSocket handshake go on."""
    if ws.protocol.close_expected():
        # More bytes followed the request, so the library has hung up, and an answer would raise
        # an exception. Once it is told that the connection has ended, it skips the answer.
        ws.protocol.receive_eof()
        return None
    if "Sec-WebSocket-Key" in request.headers:
        return None
    if request.method not in ("GET", "HEAD") or request.path.partition("?")[0] != "/":
        return ws.respond(404, "Not found. The game is at /.\n")
    page = Path(__file__).with_name("client.html").read_bytes()  # each time, so that edits show
    headers = Headers({"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store"})
    headers["Content-Length"] = str(len(page))
    return Response(200, "OK", headers, page if request.method == "GET" else b"")


def log_refused_origin(ws: ServerConnection, request: Request, response: Response) -> None:
    """Log which --origin would have let a page in."""
    if response.status_code == 403:
        origins = request.headers.get_all("Origin")
        logging.info("%s: refused, its origin is %.99s", ws.remote_address[0], origins)


def links(host: str, port: int) -> str:
    """Return the links that open the page, when the server listens on this host."""
    host = "::1" if host == "::" else host
    if host not in ("", "0.0.0.0"):
        return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
    addresses = set()
    with suppress(OSError):
        addresses.update(socket.gethostbyname_ex(socket.gethostname())[2])
    with suppress(OSError), socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing, but picks the address to send from
        addresses.add(probe.getsockname()[0])
    hosts = [each for each in sorted(addresses) if not each.startswith("127.")]
    return " or ".join(f"http://{each}:{port}/" for each in hosts or ["<this machine's address>"])


# --- Compression: without it, the same state would be compressed again for each player ---
# A browser keeps the last 32 KiB that it decompressed, called the window, and new data may refer to
# it. We compress only states, so the window ends with the last state that the browser got. If we
# give that state to the compressor as its dictionary, the result suits everyone who got it last.
STATELESS: dict[str, Any] = {  # the library keeps no context, because we pass it in ourselves
    "remote_no_context_takeover": True,
    "local_no_context_takeover": True,
    "remote_max_window_bits": 15,  # 32 KiB
    "local_max_window_bits": 15,
}
recent_states: deque[bytes] = deque(maxlen=8)  # newest first


class SharedDeflate(deflate.PerMessageDeflate):
    """The compression of one connection. It remembers the last state that was sent."""

    last_state = b""

    def encode(self, frame: Frame) -> Frame:
        """Return a frame as it is. States don't pass through here, so only they are compressed."""
        return frame

    def state_frame(self, state: bytes) -> bytes:
        """Return the frame that shows this client a new state."""
        # Older states don't count, or each slow player could need a compression of its own.
        known = self.last_state if self.last_state in recent_states else b""
        self.last_state = state
        return compressed_frame(state, known)


class SharedDeflateFactory(deflate.ServerPerMessageDeflateFactory):
    """Negotiates as the library does, but declines what can't be shared by everyone."""

    def process_request_params(self, *args: Any, **kwargs: Any) -> tuple[Any, SharedDeflate]:
        response, agreed = super().process_request_params(*args, **kwargs)
        # A client that keeps less than 32 KiB, or nothing, gets uncompressed states.
        if agreed.local_no_context_takeover or agreed.local_max_window_bits < 15:
            raise NegotiationError("compressed states need the last state as context")
        return response, SharedDeflate(**STATELESS)


@functools.lru_cache
def compressed_frame(state: bytes, last_state: bytes) -> bytes:
    """Return the frame with a state for everyone who got the same last state."""
    compression = deflate.PerMessageDeflate(**STATELESS, compress_settings={"zdict": last_state})
    return Frame(Opcode.TEXT, state).serialize(mask=False, extensions=[compression])


def broadcast_state(connections: Iterable[ServerConnection], message: str) -> None:
    """Send a state to everyone who has room for it."""
    state = message.encode()
    recent_states.appendleft(state)
    plain_frame = Frame(Opcode.TEXT, state).serialize(mask=False)
    for ws in connections:
        # Someone who hasn't taken the last state yet is skipped, and gets a fresh one later.
        if ws.state is not State.OPEN or ws.transport.get_write_buffer_size():
            continue
        match ws.protocol.extensions:
            case [SharedDeflate() as compression]:
                ws.transport.write(compression.state_frame(state))
            case _:
                ws.transport.write(plain_frame)


# --- Pacing: without it, a few clients that flood the server would slow it for everyone ---
READ_RATE = 4000  # bytes per second; the fastest fingers send 1000
READ_BURST = 2000  # bytes that may arrive at once


class PacedConnection(ServerConnection, asyncio.BufferedProtocol):
    """Reads no faster than people play, so that a flood waits at its sender.

    It is a token bucket. Each byte takes a token. The bucket gains READ_RATE tokens per second, and
    holds READ_BURST at most. When it is empty, reading pauses.

    A BufferedProtocol gives asyncio the buffer to read into. A small one limits what a single read
    can bring in.
    """

    buffer = bytearray(256)  # all connections share it, because each read is used at once
    tokens = float(READ_BURST)
    last_read_at = 0.0

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, size: int) -> None:
        self.data_received(bytes(self.buffer[:size]))
        now = self.loop.time()
        earned = (now - self.last_read_at) * READ_RATE
        self.tokens = min(self.tokens + earned, READ_BURST) - size
        self.last_read_at = now
        if self.tokens < 0:
            self.transport.pause_reading()
            self.loop.call_later(-self.tokens / READ_RATE, self.transport.resume_reading)


# --- Logging: without it, a terminal or pipe that is blocked would stop the game ---
def log_in_background() -> QueueListener:
    """Put log lines into a queue. Return the listener that writes them in a thread of its own."""
    last_message = ""

    def is_new(record: logging.LogRecord) -> bool:
        nonlocal last_message
        previous, last_message = last_message, record.getMessage()
        return last_message != previous

    records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    handler = QueueHandler(records)
    handler.addFilter(is_new)  # out of file descriptors, asyncio logs one error again and again
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", handlers=[handler])
    for library in ("asyncio", "websockets"):
        logging.getLogger(library).setLevel(logging.ERROR)  # or they would log each connection
    listener = QueueListener(records, logging.StreamHandler())
    listener.start()
    return listener


# --- The command line ---
if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A multiplayer game. Open the link it prints.")
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="0.0.0.0 invites the local network (%(default)s)")
    add("--port", default=8765, type=int, help="0 takes any free port (%(default)s)")
    add("--max-players", default=1000, type=int, help="limit of players online (%(default)s)")
    add(
        "--origin", action="append", default=[], help="let in pages from this site only; repeatable"
    )
    options = parser.parse_args()
    listener = log_in_background()
    try:
        asyncio.run(main(options))
    finally:
        listener.stop()  # writes what is still in the queue
