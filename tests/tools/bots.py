"""Players for the load tool, light enough to have a thousand of them."""

import asyncio
import functools
import itertools
import json
import random
import time
import zlib

from picows import WSFrame, WSListener, WSMsgType, WSTransport

REST = 0.15  # seconds after a stop until the bot surely stands still

# What browsers do about compression. The bots' library knows nothing about it.
OFFER = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}
TAIL = b"\0\0\xff\xff"  # the end of every compressed message; WebSocket leaves it out


def deflate(message: bytes) -> bytes:
    """Compress a message by itself."""
    compressor = zlib.compressobj(wbits=-15)
    return (compressor.compress(message) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


@functools.lru_cache  # most bots get the same message, which is inflated only once
def inflate(payload: bytes, previous: bytes) -> bytes:
    """Decompress a message that may refer to the previous one."""
    return zlib.decompressobj(wbits=-15, zdict=previous).decompress(payload + TAIL)


PLAIN_MOVES = {
    heading: b'{"type":"move","dx":%d,"dy":%d}' % heading
    for heading in itertools.product((-1, 0, 1), repeat=2)
}
DEFLATED_MOVES = {heading: deflate(message) for heading, message in PLAIN_MOVES.items()}


class Bot(WSListener):
    """A player that walks and rests in turn. It measures when its first step is visible."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.states = self.bytes = 0
        self.last_compressed = b""  # the last message that arrived compressed
        self.key = b""  # the start of its entry in a state; empty before the welcome message
        self.position = b""  # where it rests, as the state has it
        self.looking = False  # whether it takes its position from the next state
        self.moved_at: float | None = None  # when it started to walk, until a state shows it
        self.latencies: list[float] = []  # seconds

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        self.compresses = "Sec-WebSocket-Extensions" in transport.response.headers

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.key = b""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type != WSMsgType.TEXT:
            return
        if frame.rsv1:
            payload = frame.get_payload_as_bytes()
            self.last_compressed = inflate(payload, self.last_compressed)
        if not self.key:
            self.key = b'"%d":[' % json.loads(frame.get_payload_as_bytes())["id"]
            return self.rest()
        size = frame.payload_size
        self.states += 1
        self.bytes += size + (2 if size < 126 else 4 if size < 65_536 else 10)
        if self.looking or self.moved_at is not None:
            self.read(self.last_compressed if frame.rsv1 else frame.get_payload_as_bytes())

    def read(self, state: bytes) -> None:
        start = state.find(self.key)
        if start < 0:
            return
        position = state[start + len(self.key) : state.index(b',"', start)]
        if self.looking:
            self.position = position
            self.looking = False
            self.loop.call_later(random.uniform(0, 0.2), self.walk)
        elif self.moved_at is not None and position != self.position:
            self.latencies.append(time.perf_counter() - self.moved_at)
            self.moved_at = None
            self.loop.call_later(random.uniform(0.1, 0.5), self.rest)

    def walk(self) -> None:
        # Inward, because a step into a wall would never show.
        x, y = map(int, self.position.split(b","))
        self.moved_at = time.perf_counter()
        self.move(random.choice([(1 if x < 385 else -1, 0), (0, 1 if y < 285 else -1)]))

    def rest(self) -> None:
        self.move((0, 0))
        self.loop.call_later(REST, self.look)

    def look(self) -> None:
        self.looking = True

    def move(self, heading: tuple[int, int]) -> None:
        if self.key:
            moves = DEFLATED_MOVES if self.compresses else PLAIN_MOVES
            self.transport.send(WSMsgType.TEXT, moves[heading], rsv1=self.compresses)
