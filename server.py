"""A small multiplayer game server: everyone is a colored square, and everyone sees everyone."""

import argparse
import asyncio
import colorsys
import functools
import itertools
import json
import logging
import os
import queue
import random
import re
import signal
import socket
import threading
import time
import zlib
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from logging.handlers import QueueHandler, QueueListener
from pathlib import Path
from typing import Any, NoReturn

os.environ["WEBSOCKETS_MAX_FRAGMENTS"] = "16"  # of a message; read when the library is imported
os.environ["WEBSOCKETS_MAX_LINE_LENGTH"] = "4096"  # bytes, of a line of a handshake

from websockets import CloseCode, ConnectionClosed, Frame, Opcode, Request, Response, State
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.extensions import permessage_deflate

WIDTH, HEIGHT = 800, 600  # the world, in pixels
SIZE = 30  # the side of a player's square, in pixels
STEP, DIAGONAL_STEP = 10, 7  # pixels per tick along each axis; 7 across and 7 down make about 10
TICK_RATE = 30  # ticks per second
MESSAGE_RATE = 100  # messages that a player may send within a second
# Each as far as can be from all others, for color-blind people as well. Found by annealing.
PALETTE = [
    "#0084ff", "#fdff00", "#e85103", "#f900ab", "#00bb8f", "#e0cbff", "#f49d03", "#9279bb",
    "#a9fff6", "#57ff88", "#ff96bd", "#ed5061", "#eeffcc", "#07b6f5", "#bda457", "#9bc784",
    "#00cedc", "#fccb00", "#ffb9b1", "#bb708c",
]  # fmt: skip
Heading = tuple[int, int]  # -1, 0 or 1 along x and along y, which points down


# --- The rules. They know nothing of connections. ---
def color(number: int) -> str:
    """Return the color with this number, counted from 0, as "#rrggbb"."""
    if number < len(PALETTE):
        return PALETTE[number]
    # Hues a golden angle apart: each new one falls into the widest gap that is left.
    rgb = colorsys.hls_to_rgb(number * 137.508 % 360 / 360, 0.71, 0.85)
    return "#" + bytes(round(255 * part) for part in rgb).hex()


@dataclass(slots=True)
class Player:
    """A player's square, by its top left corner in pixels, and where it is heading."""

    x: int
    y: int
    color_number: int
    color: str
    heading: Heading = (0, 0)
    # Headings still owed a step each, a second's worth at most: a tap may be shorter than a tick.
    pending: deque[Heading] = field(default_factory=lambda: deque(maxlen=TICK_RATE))


class World:
    """Everyone in the game, by ID."""

    def __init__(self) -> None:
        self.players: dict[int, Player] = {}
        self.last_id = 0

    def join(self) -> int:
        """Put a new player at a random place; return its ID, which nobody had before."""
        x, y = random.randint(0, WIDTH - SIZE), random.randint(0, HEIGHT - SIZE)
        taken = {player.color_number for player in self.players.values()}
        number = next(number for number in itertools.count() if number not in taken)
        self.last_id += 1
        self.players[self.last_id] = Player(x, y, number, color(number))
        return self.last_id

    def leave(self, player_id: int) -> None:
        """Take a player out of the world."""
        del self.players[player_id]

    def steer(self, player_id: int, heading: Heading) -> None:
        """Set where a player is heading. It moves with the next step, not before."""
        if player := self.players.get(player_id):  # it may have left with this message unread
            (dx, dy), (old_dx, old_dy) = heading, player.heading
            if dx not in (0, old_dx) or dy not in (0, old_dy):  # a key went down
                player.pending.append(heading)  # and is owed a step for that
            player.heading = heading

    def step(self) -> None:
        """Move everyone by one tick."""
        for player in self.players.values():
            dx, dy = player.pending.popleft() if player.pending else player.heading
            if dx or dy:
                length = DIAGONAL_STEP if dx and dy else STEP
                player.x = min(max(player.x + dx * length, 0), WIDTH - SIZE)
                player.y = min(max(player.y + dy * length, 0), HEIGHT - SIZE)

    def state(self) -> dict[int, tuple[int, int, str]]:
        """Return what everyone gets to see: (x, y, color) by ID."""
        return {player_id: (p.x, p.y, p.color) for player_id, p in self.players.items()}


# --- The messages. ---
class BadMessage(Exception):
    """A message that no page of ours sends; the text says what was expected."""


to_json = json.JSONEncoder(separators=(",", ":")).encode  # without the spaces that nobody reads


def welcome_message(player_id: int) -> str:
    """Return the first message to a player: who it is, and the numbers of the world."""
    numbers = {"width": WIDTH, "height": HEIGHT, "size": SIZE, "step": STEP, "tick_rate": TICK_RATE}
    return to_json({"type": "welcome", "id": player_id, **numbers})


def state_message(world: World) -> str:
    """Return the message to everybody on every tick: the whole world."""
    return to_json({"type": "state", "players": world.state()})


@functools.lru_cache  # nearly every message is one of the same nine
def parse_move(message: str | bytes) -> Heading:
    """Return the heading in a move message; raise BadMessage for any other."""
    if isinstance(message, str):  # and not binary
        with suppress(json.JSONDecodeError):
            match json.loads(message):
                case {"type": "move", "dx": -1 | 0 | 1 as dx, "dy": -1 | 0 | 1 as dy}:
                    return int(dx), int(dy)  # true and 1.0 equal 1, so they match as well
    raise BadMessage('expected the text {"type":"move","dx":DX,"dy":DY}, DX and DY -1, 0 or 1')


# --- The connections. They know nothing of the rules. ---
class Game:
    """A world and the connections of its players."""

    def __init__(self, max_players: int) -> None:
        self.max_players = max_players
        self.world = World()
        self.player_ids: dict[ServerConnection, int] = {}
        self.occupied = asyncio.Event()  # set while anyone is connected

    def log(self, ws: ServerConnection, event: str) -> None:
        logging.info("%s: %s, %d online", ws.remote_address[0], event, len(self.player_ids))

    async def play(self, ws: ServerConnection) -> None:
        """Let a new player in and do what its messages say, until the last one."""
        self.drop_closed()  # so that whoever is just leaving takes neither a place nor a color
        if len(self.player_ids) >= self.max_players:
            # Accepted before it is closed: a browser could not read why a handshake failed.
            self.log(ws, "refused, the game is full")
            return await ws.close(CloseCode.TRY_AGAIN_LATER, "the game is full")
        player_id = self.player_ids[ws] = self.world.join()
        self.occupied.set()
        self.log(ws, f"player {player_id} joined")
        # broadcast writes before it returns, so that no state can come before the welcome.
        broadcast([ws], welcome_message(player_id))
        recent: deque[float] = deque(maxlen=MESSAGE_RATE + 1)  # when the last messages came
        try:
            async for message in ws:
                recent.append(time.monotonic())
                if len(recent) > MESSAGE_RATE and recent[-1] - recent[0] < 1:
                    raise BadMessage("too many messages")
                self.world.steer(player_id, parse_move(message))
        except BadMessage as reason:
            await ws.close(CloseCode.POLICY_VIOLATION, str(reason))
        except ConnectionClosed:
            pass  # without a goodbye

    async def run(self) -> None:
        """Tick at an even pace while there are players, and sleep while there are none."""
        due = 0.0  # when the next tick is
        sent = ("", 0)  # the last state, and in which second it was sent
        while True:
            await self.occupied.wait()
            self.drop_closed()
            self.world.step()
            now = time.monotonic()
            state = state_message(self.world)
            if sent != (state, int(now)):  # something changed, or a second went by
                sent = (state, int(now))
                broadcast_state(self.player_ids, state)
            due = max(due + 1 / TICK_RATE, now)  # missed ticks are not made up, but for one
            await asyncio.sleep(due - time.monotonic())

    def drop_closed(self) -> None:
        """Take out whoever is closing, however long the other end takes to close as well."""
        for ws in [ws for ws in self.player_ids if ws.state is not State.OPEN]:
            player_id = self.player_ids.pop(ws)
            self.world.leave(player_id)
            close = ws.protocol.close_sent
            reason = f" ({close.reason!a})" if close and close.reason else ""
            self.log(ws, f"player {player_id} left{reason}")
        if not self.player_ids:
            self.occupied.clear()


# --- Start and stop. ---
async def main(options: argparse.Namespace) -> None:
    """Run the game until Ctrl+C or SIGTERM; raise SystemExit if it cannot listen."""
    game = Game(options.max_players)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(log_loop_error)
    ticker = loop.create_task(game.run())
    signals = (signal.SIGINT, signal.SIGTERM)
    for number in signals:  # Windows has no loop.add_signal_handler
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(ticker.cancel))
    try:
        server = await serve(
            game.play,
            options.host,
            options.port,
            process_request=functools.partial(answer, options.origin),
            extensions=[SharedDeflateFactory(client_no_context_takeover=True)],
            create_connection=PacedConnection,
            server_header=None,
            open_timeout=4,  # seconds, for the handshake
            ping_interval=5,  # seconds; with the timeout, the vanished are gone after 13
            ping_timeout=8,
            close_timeout=4,  # seconds; for the page to a slow link as well
            max_size=256,  # bytes
            max_queue=None,  # PacedConnection limits what is read
            write_limit=2**24,  # bytes; out of reach, for above it a ping would wait for ever
        )
    except (OSError, UnicodeError) as error:
        raise SystemExit(f"server.py: {error}; choose another --host or --port") from None
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # not on Windows
        for listener in server.sockets:  # whose connections inherit it: no state waits to get old
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 4096)  # bytes
    logging.info("listening: open %s", link(options.host, options.port))
    try:
        with suppress(asyncio.CancelledError):
            await ticker
    finally:
        for number in signals:
            signal.signal(number, signal.SIG_IGN)  # to be told once is enough
        server.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(server.wait_closed(), timeout=2)
        for ws in server.all_connections:  # who did not say goodbye in time
            ws.transport.abort()
        game.drop_closed()


def link(host: str, port: int) -> str:
    """Return the link to open, when the server listens on this host."""
    if host in ("", "0.0.0.0"):  # everywhere
        with suppress(OSError), socket.socket(type=socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))  # sends nothing, but tells which address is ours
            host = probe.getsockname()[0]
    host = "::1" if host == "::" else host
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


# --- The page over HTTP, and who may connect. ---
def answer(allowed: list[str], ws: ServerConnection, request: Request) -> Response | None:
    """Serve the page to a plain GET; return None to let an allowed handshake go on."""
    if ws.protocol.close_expected():
        ws.protocol.receive_eof()  # or it would answer, though what came behind made it hang up
        return None
    if "Sec-WebSocket-Key" in request.headers:
        origins = request.headers.get_all("Origin")
        if not allowed or set(origins) & set(allowed):
            return None
        logging.info("%s: refused, its origin is %.99s", ws.remote_address[0], origins)
        return ws.respond(403, "Pages from elsewhere may not connect.\n")
    if request.method not in ("GET", "HEAD") or request.path.partition("?")[0] != "/":
        return ws.respond(404, "Not found. The game is at /.\n")
    try:
        page = ws.respond(200, Path(__file__).with_name("client.html").read_text("utf-8"))
    except (OSError, UnicodeError) as error:
        return ws.respond(503, f"client.html cannot be read: {error}.\n")
    del page.headers["Content-Type"]  # or there would be two
    page.headers["Content-Type"] = "text/html; charset=utf-8"
    page.headers["Cache-Control"] = "no-store"  # an edit shows on reload
    page.body = page.body if request.method == "GET" else b""
    return page


# --- Compressed once for everybody. ---
# Nearly everybody got the same state before, so this one is deflated against that one for all of
# them together: once per tick, and not once per player.
last_states: deque[bytes] = deque(maxlen=8)


@functools.lru_cache
def compressed_frame(state: bytes, before: bytes, window_bits: int) -> bytes:
    """Return the frame with a state, for those who got the other one before."""
    compressor = zlib.compressobj(wbits=-window_bits, zdict=before)
    data = compressor.compress(state) + compressor.flush(zlib.Z_SYNC_FLUSH)
    # The last four bytes are always the same, and WebSocket leaves them out.
    frame = bytearray(Frame(Opcode.TEXT, data[:-4]).serialize(mask=False))
    frame[0] |= 0b0100_0000  # RSV1, for a compressed message
    return bytes(frame)


class SharedDeflate(permessage_deflate.PerMessageDeflate):
    """The compression of one connection, as the library has agreed on it with the client."""

    def __init__(self, agreed: permessage_deflate.PerMessageDeflate) -> None:
        # As if both sides forgot: then the library makes no compressor, which would take 45 KB.
        super().__init__(True, True, agreed.remote_max_window_bits, agreed.local_max_window_bits)
        self.remembers = not agreed.local_no_context_takeover
        self.before = b""  # the last state that the client got, and remembers

    def encode(self, frame: Frame) -> Frame:
        """Leave all other messages plain: the client does not remember those, only states."""
        return frame

    def state_frame(self, state: bytes) -> bytes:
        """Return the frame with the next state for this connection."""
        # Older ones would each need a compression of their own.
        before = self.before if self.before in last_states else b""
        if self.remembers:
            self.before = state
        return compressed_frame(state, before, self.local_max_window_bits)


class SharedDeflateFactory(permessage_deflate.ServerPerMessageDeflateFactory):
    """Lets the library negotiate, and puts SharedDeflate in place of its own compression."""

    def process_request_params(self, *offer: Any, **named: Any) -> tuple[Any, SharedDeflate]:
        response, agreed = super().process_request_params(*offer, **named)
        return response, SharedDeflate(agreed)


def broadcast_state(connections: Iterable[ServerConnection], state: str) -> None:
    """Do what broadcast does, with frames that are made once for everybody."""
    message = state.encode()
    last_states.appendleft(message)  # newest first, which is found at once
    plain_frame = Frame(Opcode.TEXT, message).serialize(mask=False)
    for ws in connections:
        # Not while the last state still waits to be sent, for this one would come late; nor
        # between the fragments of another message.
        if ws.transport.get_write_buffer_size() or ws.protocol.expect_continuation_frame:
            continue
        match ws.protocol.extensions:
            case [SharedDeflate() as compression]:
                ws.transport.write(compression.state_frame(message))
            case _:
                ws.transport.write(plain_frame)


# --- What only hardens. You may skip it at first. ---
READ_RATE = 4000  # bytes per second that a player may send; the fastest fingers make 1000
READ_AHEAD = 2000  # bytes that may come at once
log_once = functools.lru_cache(logging.error)  # the same text only once


class PacedConnection(ServerConnection, asyncio.BufferedProtocol):
    """Reads no faster than a player plays: a flood waits at its sender, and costs nobody else.

    A BufferedProtocol decides how much is read at once. With `due`, it is a token bucket.
    """

    buffer = bytearray(256)  # of all connections, for what was read is taken out at once
    due = 0.0  # when all that was read so far would have come at READ_RATE

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, count: int) -> None:
        self.data_received(bytes(self.buffer[:count]))
        now = self.loop.time()
        self.due = max(self.due, now - READ_AHEAD / READ_RATE) + count / READ_RATE
        if self.due > now:
            self.transport.pause_reading()
            self.loop.call_at(self.due, self.transport.resume_reading)


def log_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what asyncio complains of: a bug with its traceback, a lack of files once a minute."""
    # No file is left for a newcomer; or asyncio tries to listen again, but we have stopped.
    if "socket" in context or "_start_serving" in context["message"]:
        log_once(f"{time.strftime('%H:%M')} {context['message']}: {context['exception']}")
    else:
        loop.default_exception_handler(context)


def log_in_background() -> QueueListener:
    """Let a thread write the log, so that the game goes on when nobody takes what it writes."""
    lines: queue.Queue[Any] = queue.Queue(maxsize=10_000)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", handlers=[QueueHandler(lines)]
    )
    logging.raiseExceptions = False  # a line that finds the queue full is lost
    logging.getLogger("websockets").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # or it warns of each unsent answer
    listener = QueueListener(lines, logging.StreamHandler())
    listener.start()
    return listener


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"server.py: {message}\n")


if __name__ == "__main__":
    parser = Parser(description=__doc__)
    parser.add_argument("--host", default="localhost", help="0.0.0.0 for the network (%(default)s)")
    parser.add_argument("--port", default=8765, type=int, help="TCP port (%(default)s)")
    parser.add_argument("--max-players", default=1000, type=int, help="in at once (%(default)s)")
    parser.add_argument("--origin", action="append", default=[], help="whose pages may play")
    options = parser.parse_args()
    options.origin = [text.removesuffix("/").lower() for text in options.origin]
    if not 1 <= options.port <= 65535 or options.max_players < 1:
        parser.error("--port must be from 1 to 65535, and --max-players at least 1")
    if not all(re.fullmatch(r"https?://[^/\s]+", text) for text in options.origin):
        parser.error("--origin must be like https://game.example.org")
    listener = log_in_background()
    try:
        asyncio.run(main(options))
    finally:
        # A thread that waits for somebody to take the log holds up a normal exit, too.
        deadline = threading.Timer(2, os._exit, [0])
        deadline.start()
        listener.stop()
        deadline.cancel()
