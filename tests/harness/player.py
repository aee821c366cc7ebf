"""A player that a test controls, and what it sees of the game."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import pairwise
from typing import Any, Self

from websockets import ConnectionClosed, Frame, Opcode
from websockets.sync.client import connect

from tests.harness.waiting import PATIENCE

State = dict[str, list[Any]]  # player ID to [x, y, color]


def move(dx: int, dy: int) -> str:
    """Return a move message."""
    return json.dumps({"type": "move", "dx": dx, "dy": dy})


def move_frame(dx: int, dy: int) -> bytes:
    """Return the frame of a move message, for connections without a library."""
    return Frame(Opcode.TEXT, move(dx, dy).encode()).serialize(mask=True)


class Player:
    """A player's connection. It has read the welcome message."""

    def __init__(self, url: str, **options: Any) -> None:
        self.stack = ExitStack()
        # Without limits on the queue, a player that a test doesn't read from isn't slow.
        options = {"max_queue": None, "ping_interval": None, **options}
        self.connection = self.stack.enter_context(connect(url, **options))
        self.welcome = self.receive()
        self.id = str(self.welcome["id"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.stack.close()

    def send(self, message: str | bytes) -> None:
        self.connection.send(message)

    def move(self, dx: int, dy: int) -> None:
        self.send(move(dx, dy))

    def tap(self, dx: int, dy: int) -> None:
        """Press and release a key between two ticks."""
        self.connection.socket.sendall(move_frame(dx, dy) + move_frame(0, 0))

    def receive(self, timeout: float = PATIENCE) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self.connection.recv(timeout))
        return message

    def state(self) -> State:
        """Return the next state."""
        message = self.receive()
        assert message["type"] == "state", message
        players: State = message["players"]
        return players

    def wait_for(self, condition: Callable[[State], Any], timeout: float = PATIENCE) -> State:
        """Return the first state for which the condition holds."""
        deadline = time.monotonic() + timeout
        while not condition(state := self.state()):
            assert time.monotonic() < deadline, f"it did not happen in time; last: {state}"
        return state

    def wait_for_players(self, number: int, timeout: float = PATIENCE) -> State:
        """Return the first state that has this many players."""
        return self.wait_for(lambda state: len(state) == number, timeout)

    def timed_states(self, seconds: float) -> list[tuple[float, State]]:
        """Return the states that arrive from now on, each with the time of its arrival."""
        with suppress(TimeoutError):
            while True:  # drop what arrived before
                self.connection.recv(0)
        states = []
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            with suppress(TimeoutError):
                state = self.receive(left)["players"]
                states.append((time.monotonic(), state))
        return states

    def states(self, seconds: float) -> list[State]:
        """Return the states that arrive from now on."""
        return [state for _, state in self.timed_states(seconds)]

    def position(self) -> tuple[int, int]:
        """Return where this player is in the next state."""
        x, y, _ = self.wait_for(lambda state: self.id in state)[self.id]
        return x, y

    def close_reason(self) -> tuple[int, str]:
        """Wait until the server closes the connection, and return the close code and reason."""
        return close_reason(self.connection)


def close_reason(connection: Any) -> tuple[int, str]:
    """Wait until the server closes a connection, and return the close code and reason."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            connection.recv(PATIENCE)
        except ConnectionClosed as closed:
            return (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (1006, "")
    raise AssertionError("the server has not closed the connection")


def refusal(url: str) -> tuple[int, str]:
    """Join a game that refuses new players, and return the close code and reason."""
    with connect(url) as connection:
        return close_reason(connection)


@contextmanager
def walking(player: Player) -> Iterator[None]:
    """Let a player walk back and forth, so that there is a new state on every tick."""
    stop = threading.Event()

    def walk() -> None:
        direction = 1
        with suppress(ConnectionClosed):
            while not stop.is_set():
                player.move(direction, 0)
                direction = -direction
                stop.wait(0.5)

    thread = threading.Thread(target=walk)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def assert_others_play_on(
    watcher: Player, seconds: float = 2, rate: float = 15, gap: float = 0.5
) -> None:
    """Check that states arrive at a good rate and evenly, while somebody walks.

    The machine may be busy, so one good look in three is enough. What hurts the other players must
    last for three looks.
    """
    looks = []
    for _ in range(3):
        states = watcher.timed_states(seconds)
        worst = max((b - a for (a, _), (b, _) in pairwise(states)), default=seconds)
        looks.append((round(len(states) / seconds, 1), round(worst, 3)))
        if looks[-1][0] >= rate and looks[-1][1] <= gap:
            return
    raise AssertionError(f"states per second and the longest gap in seconds: {looks}")
