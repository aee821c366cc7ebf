"""A small multiplayer game server: everyone is a colored square, and everyone sees everyone."""

import argparse
import asyncio
import colorsys
import functools
import json
import logging
import random
import signal
import socket
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from websockets import CloseCode, ConnectionClosed, Frame, Opcode, Request, Response, State
from websockets.asyncio.server import ServerConnection, broadcast, serve

WIDTH, HEIGHT = 800, 600  # the world, in pixels
SIZE = 30  # the side of a player's square, in pixels
STEP, DIAGONAL_STEP = 10, 7  # pixels per tick along each axis; 7 across and 7 down make about 10
TICK_RATE = 30  # ticks per second
MESSAGE_RATE = 100  # messages that a player may send within a second
DEFLATE_WINDOW = 4096  # bytes that websockets' compression looks back on
BUFFER_SIZE = 4096  # bytes, about, that the system may keep unread or unsent for a connection
PAGE_POLICY = "default-src 'unsafe-inline' ws: wss:; img-src data:"  # no code from elsewhere
Heading = tuple[int, int]  # -1, 0 or 1 along x and along y, which points down


# --- The rules. They know nothing of connections. ---
@dataclass(slots=True)
class Player:
    """A player's square, by its top left corner in pixels, and where it is heading."""

    x: int
    y: int
    color_number: int
    color: str  # "#rrggbb"
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
        number = min(set(range(len(taken) + 1)) - taken)
        # Hues a golden angle apart: each new one falls into the widest gap that is left.
        rgb = colorsys.hls_to_rgb(number * 137.508 % 360 / 360, 0.65, 0.85)
        color = "#" + bytes(round(255 * part) for part in rgb).hex()
        self.last_id += 1
        self.players[self.last_id] = Player(x, y, number, color)
        return self.last_id

    def leave(self, player_id: int) -> None:
        """Take a player out of the world."""
        del self.players[player_id]

    def steer(self, player_id: int, heading: Heading) -> None:
        """Set where a player is heading. It moves with the next step, not before."""
        if player := self.players.get(player_id):  # it may have left with this message unread
            if heading[0] not in (0, player.heading[0]) or heading[1] not in (0, player.heading[1]):
                player.pending.append(heading)  # it heads a new way, and is owed a step for that
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
to_json = json.JSONEncoder(separators=(",", ":")).encode  # without the spaces that nobody reads


@functools.lru_cache  # nearly every message is one of the same nine
def parse_move(message: str | bytes) -> Heading:
    """Return the heading in a move message; raise ValueError with a hint for any other."""
    with suppress(json.JSONDecodeError):
        match isinstance(message, str) and json.loads(message):  # False if it is binary
            case {"type": "move", "dx": -1 | 0 | 1 as dx, "dy": -1 | 0 | 1 as dy}:
                return int(dx), int(dy)  # true and 1.0 equal 1, so they match as well
    raise ValueError('expected the text {"type":"move","dx":DX,"dy":DY}, DX and DY -1, 0 or 1')


# --- The connections. They know nothing of the rules. ---
class Game:
    """A world and the connections of its players."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.world = World()
        self.player_ids: dict[ServerConnection, int] = {}
        self.occupied = asyncio.Event()  # set while anyone is connected
        self.longest_state = 0.0  # of late, in bytes; it fades with every state

    def log(self, ws: ServerConnection, event: str) -> None:
        logging.info("%s: %s, %d online", ws.remote_address[0], event, len(self.player_ids))

    def answer(self, ws: ServerConnection, request: Request) -> Response | None:
        """Serve the page to a plain GET; return None to let an allowed handshake go on."""
        if "Sec-WebSocket-Key" in request.headers:
            origins = request.headers.get_all("Origin")
            if not self.options.origin or set(origins) & set(self.options.origin):
                return None
            self.log(ws, f"refused, its origin is {origins!s:.99}")
            return ws.respond(403, "Pages from elsewhere may not connect.\n")
        if request.method == "GET" and request.path.partition("?")[0] == "/":
            with suppress(OSError, UnicodeError):
                ws.close_timeout = 10  # seconds, as for a handshake; a slow link needs some
                page = ws.respond(200, Path(__file__).with_name("client.html").read_text("utf-8"))
                del page.headers["Content-Type"]  # or there would be two
                page.headers["Content-Type"] = "text/html; charset=utf-8"
                page.headers["Cache-Control"] = "no-store"  # an edit shows on reload
                page.headers["Content-Security-Policy"] = PAGE_POLICY
                return page
        return ws.respond(404, "Not found. The game is at /, if client.html is beside server.py.\n")

    async def play(self, ws: ServerConnection) -> None:
        """Let a new player in and do what its messages say, until the last one."""
        if len(self.player_ids) >= self.options.max_players:
            # Accepted before it is closed: a browser could not read why a handshake failed.
            self.log(ws, "refused, the game is full")
            return await ws.close(CloseCode.TRY_AGAIN_LATER, "the game is full")
        player_id = self.player_ids[ws] = self.world.join()
        self.occupied.set()
        self.log(ws, f"player {player_id} joined")
        facts = {"width": WIDTH, "height": HEIGHT, "size": SIZE, "step": STEP}
        facts["tick_rate"] = TICK_RATE
        # broadcast writes before it returns, so that no state can come before the welcome.
        broadcast([ws], to_json({"type": "welcome", "id": player_id, **facts}))
        recent: deque[float] = deque(maxlen=MESSAGE_RATE + 1)  # when the last messages came
        try:
            async for message in ws:
                recent.append(time.monotonic())
                if len(recent) > MESSAGE_RATE and recent[-1] - recent[0] < 1:
                    raise ValueError("too many messages")
                self.world.steer(player_id, parse_move(message))
        except (ValueError, ConnectionClosed) as reason:  # if it is closed, close() does nothing
            await ws.close(CloseCode.POLICY_VIOLATION, str(reason))

    async def run(self) -> None:
        """Tick at an even pace while there are players, and sleep while there are none."""
        due = 0.0  # when the next tick is
        shown = ("", 0)  # the last state that was sent, and in which second
        while True:
            await self.occupied.wait()
            # Whoever is closing leaves now, however long the other end takes to close as well.
            for ws in [ws for ws in self.player_ids if ws.protocol.state is not State.OPEN]:
                self.world.leave(player_id := self.player_ids.pop(ws))
                reason = getattr(ws.protocol.close_sent, "reason", "")
                self.log(ws, f"player {player_id} left" + (f" ({reason!a})" if reason else ""))
            if not self.player_ids:
                self.occupied.clear()
            self.world.step()
            state = to_json({"type": "state", "players": self.world.state()})
            now = time.monotonic()
            if shown != (state, int(now)):  # something changed, or a second went by
                shown = (state, int(now))
                self.show(state)
            due = (due if due + 1 / TICK_RATE > now else now) + 1 / TICK_RATE  # skips missed ones
            await asyncio.sleep(due - time.monotonic())

    def show(self, state: str) -> None:
        """Send a state to all but those for whom the last still waits: it would come late."""
        self.longest_state = max(len(state), 0.999 * self.longest_state)
        frame = Frame(Opcode.TEXT, state.encode()).serialize(mask=False)
        for ws in self.player_ids:
            unsent = ws.transport.get_write_buffer_size()
            if not unsent and len(state) <= DEFLATE_WINDOW:
                broadcast([ws], state)
            elif not unsent:  # too long to compress well: the same plain frame for all costs less
                ws.transport.write(frame)
            elif unsent > self.longest_state + BUFFER_SIZE:
                ws.transport.abort()  # more than a state: it sends pings, and reads no answers


# --- The command line. ---
async def main(options: argparse.Namespace) -> None:
    """Run the game until Ctrl+C or SIGTERM; raise OSError if it cannot listen."""
    loop = asyncio.get_running_loop()
    game = Game(options)
    ticker = loop.create_task(game.run())
    for each in (signal.SIGINT, signal.SIGTERM):  # Windows has no loop.add_signal_handler
        signal.signal(each, lambda *_: loop.is_closed() or loop.call_soon_threadsafe(ticker.cancel))
    # Short of open files, asyncio says so over and over. The cache lets one a minute through.
    log_once = functools.lru_cache(lambda trouble, minute: logging.error(trouble))
    loop.set_exception_handler(
        lambda _, what: log_once(f"{what['message']}: {what.get('exception')}", time.time() // 60)
    )
    server = await serve(
        game.play,
        options.host,
        options.port,
        process_request=game.answer,
        ping_interval=5,  # seconds; with the timeout, the vanished are gone after 13
        ping_timeout=8,
        close_timeout=1,
        max_size=256,  # bytes
        write_limit=2**24,  # bytes; out of reach, for above it a ping waits without a timeout
    )
    # Connections inherit small buffers: a flood is read in bits, and no state waits to get old.
    for listener in server.sockets:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_SIZE)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # not on Windows
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, BUFFER_SIZE)
    host, port = options.host, options.port
    if host == "0.0.0.0":
        with suppress(OSError), socket.socket(type=socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))  # sends nothing, but tells which address is ours
            host = probe.getsockname()[0]
    logging.info("listening: open http://%s:%d/", f"[{host}]" if ":" in host else host, port)
    with suppress(asyncio.CancelledError):
        await ticker
    server.close()
    await asyncio.wait([loop.create_task(server.wait_closed())], timeout=2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, usage=argparse.SUPPRESS)
    parser.add_argument("--host", default="localhost", help="0.0.0.0 for the network (%(default)s)")
    parser.add_argument("--port", default=8765, type=int, help="TCP port (%(default)s)")
    parser.add_argument("--max-players", default=1000, type=int, help="in at once (%(default)s)")
    parser.add_argument("--origin", action="append", help="URL whose pages may play; may repeat")
    options = parser.parse_args()
    if not 1 <= options.port <= 65535 or options.max_players < 1:
        parser.error("--port must be from 1 to 65535, and --max-players at least 1")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("websockets").setLevel(logging.ERROR)
    try:
        asyncio.run(main(options))
    except (OSError, UnicodeError) as error:
        raise SystemExit(f"server.py: {error}; choose another --host or --port") from None
