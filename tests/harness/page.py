"""client.html in a browser, and what it does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Error, Page, expect

from tests.harness.game_server import ROOT, Server
from tests.harness.player import State
from tests.harness.waiting import PATIENCE, wait_until

PAGE = ROOT / "client.html"
PROBE = Path(__file__).with_name("probe.js")  # documents what `evaluate` can ask for
TICK = 1000 / 30  # milliseconds
SILENCE = 3000  # milliseconds without a message after which the page gives a connection up
OPENING_LIMIT = 10000  # milliseconds until the welcome, after which it does so, too
FRAME_GAP = 100  # milliseconds; see probe.js
KEYS = ("ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "KeyA", "KeyD", "KeyW", "KeyS")


class GamePage:
    """A page that plays, or tries to."""

    def __init__(self, page: Page, server: Server) -> None:
        self.page = page
        self.server = server
        self.keyboard = page.keyboard
        self.status = page.locator("#status")
        self.errors: list[str] = []
        self.requests: list[str] = []
        page.on("pageerror", self.note_error)
        page.on("request", lambda request: self.requests.append(request.url))

    def note_error(self, error: Error) -> None:
        # Firefox reports each failed connection as an error, whatever the page does about it.
        if "ws://" not in error.message:
            self.errors.append(str(error))

    def playing(self) -> "GamePage":
        """Wait until the page plays and has got a state."""
        expect(self.status).to_contain_text("You are player", timeout=PATIENCE * 1000)
        self.wait(lambda: self.id in self.state())
        return self

    def leave(self) -> None:
        """Release everything and leave the game, without the page trying again."""
        for key in KEYS:
            self.keyboard.up(key)
        self.page.mouse.up()
        self.evaluate("leave()")

    def evaluate(self, script: str, argument: Any = None) -> Any:
        return self.page.evaluate(script, argument)

    def wait(self, condition: Callable[[], Any], timeout: float = PATIENCE) -> Any:
        """Wait for a condition while the browser's events are handled."""

        def check() -> Any:
            self.page.wait_for_timeout(50)
            return condition()

        return wait_until(check, timeout)

    def wait_for_frames(self, number: int = 3) -> None:
        """Wait until the page has drawn some frames. The first may have begun before."""
        self.evaluate(
            """async (number) => {
                for (let i = 0; i < number; i += 1) await new Promise(requestAnimationFrame);
            }""",
            number,
        )

    def wait_for_states(self, number: int) -> None:
        """Wait until some more states have arrived."""
        enough = self.evaluate("states") + number
        self.wait(lambda: self.evaluate("states") >= enough)

    def show_all_frames(self) -> None:
        """Draw as often as the browser can, and forget the frames before."""
        self.evaluate("window.frameGap = 0")
        self.forget()

    def forget(self) -> None:
        """Draw what has arrived, and forget the messages and frames so far."""
        self.wait_for_frames(2)
        self.evaluate("frames.length = messages.length = 0")

    def show(self, players: State) -> None:
        """Show players that no server sent, at once and without glides, and no others from now on.

        After three seconds the page would miss its server.
        """
        self.evaluate(
            """(newPlayers) => {
                window.gap = Infinity;
                for (const players of [{}, newPlayers]) {
                    sockets.at(-1).onmessage({ data: JSON.stringify({ type: "state", players }) });
                }
            }""",
            players,
        )

    # --- What it sent and got ---

    @property
    def sent(self) -> list[tuple[int, int]]:
        """The headings that it sent."""
        return [(dx, dy) for dx, dy in self.evaluate("sentMoves")]

    def forget_sent(self) -> None:
        self.evaluate("sentMoves.length = 0")

    def expect_sent(self, *headings: tuple[int, int]) -> None:
        """Wait for these headings, and no others, since the last call. Forget them."""
        self.wait(lambda: len(self.sent) >= len(headings))
        self.wait_for_frames(3)
        assert self.sent == list(headings)
        self.forget_sent()

    @property
    def id(self) -> str:
        return str(self.evaluate("lastWelcome.id"))

    def state(self) -> State:
        """Return the players in the last state."""
        players: State = self.evaluate("lastState.players")
        return players

    def position(self) -> tuple[int, int]:
        """Return where the last state has the page's own square."""
        x, y, _ = self.state()[self.id]
        return x, y

    @property
    def color(self) -> str:
        return str(self.state()[self.id][2])

    def arrival_of(self, player_id: str, x: int, since: float = 0) -> float:
        """Return when the first state arrived that has a player at this x."""
        return next(
            float(time)
            for time, message in self.evaluate("messages")
            if time > since and message.get("players", {}).get(player_id, [None])[0] == x
        )

    # --- What it draws ---

    def drawn(self, color: str) -> list[tuple[float, float, float]]:
        """Return where the square of this color was drawn: (time, x, y) for each frame."""
        places = [
            (time, *places[color]) for time, places in self.evaluate("frames") if color in places
        ]
        assert places, f"no rectangle was filled with {color}; does probe.js see what is drawn?"
        return places

    def pixels(self, *places: tuple[float, float]) -> list[str]:
        """Return the colors of the canvas at the places of the world that are on it."""
        colors: list[list[int]] = self.evaluate(
            """(places) => {
                const { width, height } = document.querySelector("canvas");
                const context = document.querySelector("canvas").getContext("2d");
                const { data } = context.getImageData(0, 0, width, height);
                return places.map(([x, y]) => {
                    const [column, row] = [x, y].map((v) => Math.floor((v * width) / 800));
                    return [...data.subarray(4 * (row * width + column)).subarray(0, 3)];
                });
            }""",
            [(x, y) for x, y in places if 0 <= x < 800 and 0 <= y < 600],
        )
        return [f"#{bytes(color).hex()}" for color in colors]

    def on_page(self, x: float, y: float) -> tuple[float, float]:
        """Return where on the page a place of the world is."""
        self.wait_for_frames(2)
        left, top, width = self.evaluate(
            """() => {
                const box = document.querySelector("canvas").getBoundingClientRect();
                return [box.left, box.top, box.width];
            }"""
        )
        return left + x * width / 800, top + y * width / 800


OpenPage = Callable[..., GamePage]  # the type of the fixture `open_page`
