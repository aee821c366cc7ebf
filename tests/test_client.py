"""The page, in a real browser, against a real server."""

import itertools
import json
import re
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import PATIENCE, ROOT, Player, Server, missing, wait_until
from links import Link, Relay
from playwright.sync_api import Browser, Page, Request, WebSocket, expect

StartServer = Callable[..., Server]
PAGE = (ROOT / "client.html").as_uri()

# What a test needs in the page: its connections, and where a color begins in the canvas, in the
# row 3 pixels below y, in pixels of the world; once, or in so many frames with the time of each.
TOOLS = """
    window.sockets = []; // and when each was made, and what came when
    window.times = [];
    window.messages = [];
    window.WebSocket = class extends WebSocket {
        constructor(...address) {
            super(...address);
            sockets.push(this);
            times.push(performance.now());
            this.addEventListener("message", ({ data }) => {
                messages.push([performance.now(), JSON.parse(data)]);
            });
        }
    };
    window.hex = (data) => "#" + [...data].map((v) => v.toString(16).padStart(2, "0")).join("");
    window.findLeft = (y, color) => {
        const canvas = document.querySelector("canvas");
        const scale = canvas.width / 800;
        const row = canvas.getContext("2d").getImageData(0, (y + 3) * scale, canvas.width, 1).data;
        for (let x = 0; x < canvas.width; x += 1) {
            if (hex(row.slice(4 * x, 4 * x + 3)) === color) return x / scale;
        }
        return null;
    };
    window.watch = ([y, color, frames]) => new Promise((resolve) => {
        const seen = [];
        const look = () => {
            seen.push([performance.now(), findLeft(y, color)]);
            seen.length < frames ? requestAnimationFrame(look) : resolve(seen);
        };
        requestAnimationFrame(look);
    });
"""
PIXEL = """([x, y]) => {
    const canvas = document.querySelector("canvas");
    const scale = canvas.width / 800;
    const data = canvas.getContext("2d").getImageData(x * scale, y * scale, 1, 1).data;
    return hex(data.slice(0, 3));
}"""


class Client:
    """A page that plays, with all that it sends and receives."""

    def __init__(self, page: Page, server: Server, query: str | None = None) -> None:
        self.page = page
        self.sent: list[tuple[int, int]] = []
        self.received: list[dict[str, Any]] = []
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.status = page.locator("#status")
        page.add_init_script(TOOLS)
        page.on("websocket", self.listen)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", self.note_request)
        page.goto(f"{PAGE}?server={server.url}" if query is None else PAGE + query)

    def note_request(self, request: Request) -> None:
        self.requests.append(request.url)

    def listen(self, socket: WebSocket) -> None:
        socket.on("framesent", self.note_sent)
        socket.on("framereceived", lambda text: self.received.append(json.loads(text)))

    def note_sent(self, text: str | bytes) -> None:
        message = json.loads(text)
        if message.get("type") == "move":
            self.sent.append((message["dx"], message["dy"]))

    def playing(self) -> "Client":
        expect(self.status).to_contain_text("You are player", timeout=PATIENCE * 1000)
        return self

    def wait(self, condition: Callable[[], Any]) -> Any:
        """Wait for a condition, while the browser's events come in."""

        def check() -> Any:
            self.page.wait_for_timeout(20)
            return condition()

        return wait_until(check)

    def expect_sent(self, *headings: tuple[int, int]) -> None:
        """Wait for these headings to be the only ones sent since the last look."""
        self.wait(lambda: len(self.sent) >= len(headings))
        self.page.wait_for_timeout(100)
        assert self.sent == list(headings)
        self.sent.clear()

    @property
    def id(self) -> str:
        return str([m for m in self.received if m["type"] == "welcome"][-1]["id"])

    def state(self) -> dict[str, tuple[int, int, str]]:
        """Return the players in the last state that came."""
        states = [m for m in self.received if m["type"] == "state"]
        return states[-1]["players"] if states else {}

    def position(self) -> tuple[int, int]:
        x, y, _ = self.state()[self.id]
        return x, y

    def join_apart(self, server: Server) -> Player:
        """Let one more player in, in rows that this page's square does not reach."""
        while True:
            player = server.join()
            self.wait(lambda: player.id in self.state())  # noqa: B023
            if abs(player.position()[1] - self.position()[1]) > 45:
                return player
            player.connection.close()
            self.wait(lambda: player.id not in self.state())  # noqa: B023

    def pixel(self, x: float, y: float) -> str:
        color: str = self.page.evaluate(PIXEL, [x, y])
        return color

    def evaluate(self, script: str, argument: Any = None) -> Any:
        return self.page.evaluate(script, argument)


@pytest.fixture
def open_page(browser: Browser, server: Server) -> Iterator[Callable[..., Client]]:
    """Open the page from its file, and see to it that no script of its ever fails."""
    clients: list[Client] = []
    contexts = []

    def open_page(query: str | None = None, to: Server = server, device: Any = None) -> Client:
        contexts.append(
            browser.new_context(**(device or {"viewport": {"width": 900, "height": 720}}))
        )
        clients.append(Client(contexts[-1].new_page(), to, query))
        return clients[-1]

    yield open_page
    for client in clients:
        assert client.errors == []
    for context in contexts:
        context.close()


@pytest.fixture
def client(open_page: Callable[..., Client]) -> Client:
    """A page in the game, alone."""
    return open_page().playing()


OpenPage = Callable[..., Client]


# --- Drawing ---


def test_every_player_is_a_square_of_its_color_with_its_id(client: Client, server: Server) -> None:
    client.join_apart(server)
    client.page.wait_for_timeout(200)
    for x, y, color in client.state().values():
        for inside_x, inside_y in ((1.5, 1.5), (28, 1.5), (1.5, 28), (28, 28), (15, 3)):
            assert client.pixel(x + inside_x, y + inside_y) == color
        row = {client.pixel(x + 4 + step / 2, y + 15) for step in range(44)}
        assert len(row) > 1  # something is written there
        outside = [(x - 1.5, y + 15), (x + 31.5, y + 15), (x + 15, y - 1.5), (x + 15, y + 31.5)]
        for outside_x, outside_y in outside:
            if 0 <= outside_x < 800 and 0 <= outside_y < 600:
                assert client.pixel(outside_x, outside_y) != color


def test_your_own_square_stands_out_by_more_than_color(client: Client, server: Server) -> None:
    other = client.join_apart(server)
    client.page.wait_for_timeout(200)

    def has_white_line(player_id: str) -> bool:
        x, y, _ = client.state()[player_id]
        points = [(x + 15, y - d / 2) for d in range(1, 14)]
        points += [(x + 15, y + 30 + d / 2) for d in range(1, 14)]
        return any(client.pixel(*point) == "#ffffff" for point in points if 0 <= point[1] < 600)

    assert has_white_line(client.id)
    assert not has_white_line(other.id)


@pytest.mark.parametrize(("width", "height"), [(900, 720), (390, 844), (844, 390), (320, 320)])
@pytest.mark.parametrize("density", [1, 2.5])
def test_the_canvas_fits_the_window_keeps_its_shape_and_is_sharp(
    open_page: OpenPage, width: int, height: int, density: float
) -> None:
    viewport = {"width": width, "height": height}
    client = open_page(device={"viewport": viewport, "device_scale_factor": density}).playing()
    client.page.wait_for_timeout(100)
    left, top, right, bottom, pixels_across, pixels_down, scroll_height = client.evaluate(
        """() => {
            const canvas = document.querySelector("canvas");
            const { left, top, right, bottom } = canvas.getBoundingClientRect();
            const { scrollHeight } = document.documentElement;
            return [left, top, right, bottom, canvas.width, canvas.height, scrollHeight];
        }"""
    )
    assert left >= 0
    assert top >= 0
    assert right <= width
    assert bottom <= height
    assert scroll_height <= height
    assert (right - left) / (bottom - top) == pytest.approx(4 / 3, rel=0.01)
    assert right - left > 0.9 * min(width - 40, (height - 70) * 4 / 3)
    assert pixels_across == pytest.approx((right - left) * density, abs=2.5)
    assert pixels_down == pytest.approx((bottom - top) * density, abs=2.5)
    status = client.status.bounding_box()
    assert status
    assert status["y"] >= bottom
    assert status["y"] + status["height"] <= height


def test_a_hint_tells_the_keys_until_the_first_move(client: Client) -> None:
    hint = client.page.get_by_text("arrow keys")
    expect(hint).to_be_visible()
    client.page.keyboard.press("ArrowUp")
    expect(hint).to_be_hidden()


def test_the_status_line_tells_who_you_are_and_how_many_are_online(
    client: Client, server: Server
) -> None:
    expect(client.status).to_contain_text("You are player 1 · 1 online")
    server.join()
    expect(client.status).to_contain_text("You are player 1 · 2 online")


def center(client: Client, selector: str) -> tuple[float, float]:
    """Return the middle of something in the page, in pixels of the world."""
    x, y = client.evaluate(
        """(selector) => {
            const field = document.querySelector("canvas").getBoundingClientRect();
            const box = document.querySelector(selector).getBoundingClientRect();
            const scale = 800 / field.width;
            const x = (box.left + box.right) / 2 - field.left;
            const y = (box.top + box.bottom) / 2 - field.top;
            return [x * scale, y * scale];
        }""",
        selector,
    )
    return x, y


def test_the_hint_does_not_cover_your_square_and_tells_of_mouse_and_finger(
    open_page: OpenPage,
) -> None:
    for _ in range(6):  # where a player appears is chance
        client = open_page().playing()
        client.wait(client.state)
        hint = client.page.get_by_text("arrow keys")
        expect(hint).to_contain_text("mouse")
        expect(hint).to_contain_text("finger")
        client.wait(
            lambda: (center(client, "#hint")[1] > 300) == (client.position()[1] <= 300)  # noqa: B023
        )
        client.page.close()


@pytest.mark.parametrize("keys", [("ArrowLeft", "ArrowUp"), ("ArrowRight", "ArrowDown")])
def test_the_outline_is_whole_also_in_a_corner(client: Client, keys: tuple[str, str]) -> None:
    for key in keys:
        client.page.keyboard.down(key)
    corner = (0, 0) if "ArrowLeft" in keys else (770, 570)
    client.wait(lambda: client.position() == corner)
    client.page.wait_for_timeout(300)
    x, y = corner
    middle_x, middle_y = x + 15, y + 15
    reach = [d / 2 for d in range(12, 42)]  # pixels from the middle of the square
    for away_x, away_y in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        line = [(middle_x + d * away_x, middle_y + d * away_y) for d in reach]
        inside = [(x, y) for x, y in line if 0 <= x < 800 and 0 <= y < 600]
        assert "#ffffff" in {client.pixel(*point) for point in inside}, (away_x, away_y)


def test_forced_colors_leave_the_field_as_it_is(open_page: OpenPage) -> None:
    client = open_page(device={"forced_colors": "active", "color_scheme": "light"}).playing()
    background, border = client.evaluate(
        """() => {
            const style = getComputedStyle(document.querySelector("canvas"));
            return [style.backgroundColor, style.boxShadow];
        }"""
    )
    assert background == "rgb(16, 20, 28)"
    assert border != "none"


def test_screen_readers_hear_who_you_are_trouble_and_its_end_and_no_more(
    client: Client, server: Server, start_server: StartServer
) -> None:
    client.evaluate(
        """() => {
            window.heard = [];
            const live = document.querySelector("[role=status]");
            new MutationObserver(() => heard.push(live.textContent)).observe(
                live, { childList: true, characterData: true, subtree: true });
        }"""
    )
    assert client.page.get_by_role("status").inner_text() == "You are player 1"
    other = server.join()
    expect(client.status).to_contain_text("2 online")
    other.connection.close()
    expect(client.status).to_contain_text("1 online")
    assert client.evaluate("heard") == []
    server.interrupt()
    client.wait(lambda: client.evaluate("sockets.length") >= 5)
    start_server(port=server.port)
    client.playing()
    stopped = "Disconnected: the server has stopped."
    assert client.evaluate("heard") == [stopped, "You are player 1"]


# --- Motion ---


def test_others_glide_between_states(client: Client, server: Server) -> None:
    other = client.join_apart(server)
    x, y, color = other.state()[other.id]
    inward = other.inward()
    other.move(inward, 0)
    client.wait(lambda: abs(client.state().get(other.id, (x,))[0] - x) >= 30)
    seen = [left for _, left in client.evaluate("watch", [y, color, 45]) if left is not None]
    steps = [inward * (b - a) for a, b in itertools.pairwise(seen)]
    assert min(steps) >= -1.1  # a pixel of rounding
    assert sum(steps) > 50
    # Without gliding every frame would show a place where a state has put the square.
    between = [left for left in seen if min((left - x) % 10, (x - left) % 10) > 2]
    assert len(between) > len(seen) / 5


def test_after_a_pause_the_first_step_is_not_spread_over_it(client: Client, server: Server) -> None:
    other = client.join_apart(server)
    x, y, color = other.state()[other.id]
    inward = other.inward()
    goal = x + 10 * inward
    client.wait(lambda: other.id in client.state())
    client.page.wait_for_timeout(1600)
    client.evaluate("(watched) => { window.seen = watch(watched); }", [y, color, 120])
    client.page.wait_for_timeout(300)
    other.tap(inward, 0)
    seen = [entry for entry in client.evaluate("() => seen") if entry[1] is not None]
    arrived = next(time for time, left in seen if abs(left - goal) <= 1)
    told = next(
        time
        for time, message in client.evaluate("messages")
        if message["type"] == "state" and message["players"].get(other.id, [x])[0] == goal
    )
    assert arrived - told < 400  # spread over the pause, it would be 1000


# Notes in each frame where our own square is drawn, and where the last state that came has it.
DRAWN = """(color) => {
    window.drawn = [];
    let place = null;
    const { fillRect } = CanvasRenderingContext2D.prototype;
    CanvasRenderingContext2D.prototype.fillRect = function (left, top, ...size) {
        fillRect.call(this, left, top, ...size);
        const scale = this.canvas.width / 800;
        if (this.fillStyle === color) place = [left / scale, top / scale];
    };
    requestAnimationFrame(function look() {
        const states = messages.filter(([, { type }]) => type === "state");
        const mine = Object.values(states.at(-1)[1].players).find((player) => player[2] === color);
        if (place && mine) drawn.push([...place, mine[0], mine[1]]);
        messages.splice(0, messages.length - 1);
        requestAnimationFrame(look);
    });
}"""


class Drawn:
    """Where a page draws its own square, frame by frame, and where the last state has it."""

    def __init__(self, client: Client) -> None:
        self.client = client
        client.wait(client.state)
        client.evaluate(DRAWN, client.state()[client.id][2])
        left = client.position()[0] < 385
        self.key, self.inward = ("ArrowRight", 1) if left else ("ArrowLeft", -1)

    def turn(self) -> None:
        """Walk the other way from now on."""
        self.key = "ArrowLeft" if self.inward > 0 else "ArrowRight"
        self.inward = -self.inward

    def walk(self, milliseconds: int) -> list[list[float]]:
        """Hold a key for so long, wait for the end of all motion, and return what was drawn."""
        self.client.evaluate("drawn.length = 0")
        self.client.page.keyboard.down(self.key)
        self.client.page.wait_for_timeout(milliseconds)
        self.client.page.keyboard.up(self.key)
        return self.rest()

    def rest(self) -> list[list[float]]:
        """Wait until nothing has moved for a while; return what was drawn since the walk began."""
        self.client.page.wait_for_timeout(1000)
        self.client.wait(
            lambda: self.client.evaluate(
                """() => drawn.length > 60 && drawn.slice(-60).every((frame) =>
                    JSON.stringify(frame) === JSON.stringify(drawn.at(-1)))"""
            )
        )
        frames: list[list[float]] = self.client.evaluate("drawn")
        x, y, true_x, true_y = frames[-1]
        assert (x, y) == pytest.approx((true_x, true_y), abs=0.6)  # of whole pixels on the display
        return frames

    def back(self, frames: list[list[float]]) -> float:
        """Return how far the square was drawn back, against the way it walked."""
        farthest = max(self.inward * x for x, *_ in frames)
        return farthest - self.inward * frames[-1][0]


@pytest.fixture
def relay(server: Server) -> Iterator[Relay]:
    """A long way to the server: half a second there, and half a second back."""
    relay = Relay(server.port, Link(0.5))
    yield relay
    relay.stop()


def test_your_own_square_answers_before_the_server_can(open_page: OpenPage, relay: Relay) -> None:
    client = open_page(f"?server={relay.url}").playing()
    drawn = Drawn(client)

    def moved_before_any_state(frames: list[list[float]]) -> float:
        start, state = frames[0][0], frames[0][2]
        return max(abs(x - start) for x, _, true_x, _ in frames if true_x == state)

    # The first time nobody knows how far away the server is. From then on, the page does.
    assert moved_before_any_state(drawn.walk(300)) == 0
    client.page.wait_for_timeout(2000)
    drawn.turn()
    frames = drawn.walk(300)
    assert moved_before_any_state(frames) > 40
    assert drawn.back(frames) < 40


def test_your_own_square_ends_where_the_server_has_it(open_page: OpenPage, relay: Relay) -> None:
    client = open_page(f"?server={relay.url}").playing()
    drawn = Drawn(client)
    drawn.walk(300)
    client.page.wait_for_timeout(2000)
    drawn.turn()  # to the near wall, against it for a while, along it and back
    drawn.walk(1600)
    client.page.keyboard.down("ArrowDown")
    drawn.walk(1000)
    client.page.keyboard.up("ArrowDown")
    drawn.turn()
    drawn.walk(100)
    for _ in range(3):  # taps that queue up
        client.evaluate(
            """(code) => {
                for (let tap = 0; tap < 15; tap += 1) {
                    dispatchEvent(new KeyboardEvent("keydown", { code }));
                    dispatchEvent(new KeyboardEvent("keyup", { code }));
                }
            }""",
            drawn.key,
        )
        drawn.rest()
        drawn.turn()
    frames = client.evaluate("drawn")
    assert all(-0.6 <= x <= 770.6 and -0.6 <= y <= 570.6 for x, y, *_ in frames)


def test_one_late_packet_does_not_spoil_the_next_stop(open_page: OpenPage, server: Server) -> None:
    relay = Relay(server.port, Link(0.05))
    client = open_page(f"?server={relay.url}").playing()
    drawn = Drawn(client)
    for _ in range(3):
        drawn.walk(300)
        drawn.turn()
    relay.link.delay = 0.6
    client.page.keyboard.down(drawn.key)
    client.page.wait_for_timeout(50)
    relay.link.delay = 0.05
    client.page.keyboard.up(drawn.key)
    drawn.rest()
    client.page.wait_for_timeout(2000)
    drawn.turn()
    assert drawn.back(drawn.walk(600)) < 60  # had it counted, 165
    relay.stop()


def test_pushing_a_wall_teaches_nothing(client: Client) -> None:
    drawn = Drawn(client)
    drawn.turn()
    client.page.keyboard.down(drawn.key)
    client.wait(lambda: client.position()[0] in (0, 770))
    client.page.keyboard.up(drawn.key)
    drawn.rest()
    for _ in range(4):
        drawn.walk(100)  # against it
        drawn.turn()
        drawn.walk(100)  # away from it
        drawn.turn()
        drawn.walk(400)  # and back
    client.page.wait_for_timeout(2000)
    drawn.turn()
    assert (
        drawn.back(drawn.walk(600)) < 60
    )  # seconds from a push to the next step would be hundreds


# --- Keys ---


def test_a_held_key_moves_at_once_and_evenly_and_repeats_are_ignored(client: Client) -> None:
    client.page.keyboard.down("ArrowRight")
    for _ in range(5):
        client.page.keyboard.down("ArrowRight")  # as a keyboard repeats it
    client.expect_sent((1, 0))
    client.page.keyboard.up("ArrowRight")
    client.expect_sent((0, 0))


def test_a_tap_moves_one_step(client: Client) -> None:
    x, y = client.position()
    key, goal = ("ArrowRight", x + 10) if x < 400 else ("ArrowLeft", x - 10)
    client.evaluate(
        """(code) => {
            // At once, so that no tick can come between the two.
            dispatchEvent(new KeyboardEvent("keydown", { code }));
            dispatchEvent(new KeyboardEvent("keyup", { code }));
        }""",
        key,
    )
    client.wait(lambda: client.position() == (goal, y))
    client.page.wait_for_timeout(300)
    assert client.position() == (goal, y)


@pytest.mark.parametrize(
    ("keys", "heading"),
    [
        (("ArrowLeft",), (-1, 0)),
        (("ArrowUp",), (0, -1)),
        (("ArrowDown",), (0, 1)),
        (("KeyW",), (0, -1)),
        (("KeyA",), (-1, 0)),
        (("KeyS",), (0, 1)),
        (("KeyD",), (1, 0)),
        (("ArrowUp", "ArrowRight"), (1, -1)),
        (("KeyS", "ArrowLeft"), (-1, 1)),
    ],
)
def test_arrows_and_wasd_steer(
    client: Client, keys: tuple[str, ...], heading: tuple[int, int]
) -> None:
    for key in keys:
        client.page.keyboard.down(key)
    client.wait(lambda: client.sent and client.sent[-1] == heading)
    for key in keys:
        client.page.keyboard.up(key)
    client.wait(lambda: client.sent[-1] == (0, 0))


def test_opposite_keys_cancel(client: Client) -> None:
    for key in ("ArrowLeft", "ArrowRight", "KeyA"):
        client.page.keyboard.down(key)
    client.expect_sent((-1, 0), (0, 0))
    client.page.keyboard.up("ArrowRight")
    client.expect_sent((-1, 0))


@pytest.mark.parametrize("modifier", ["Control", "Alt", "Meta"])
def test_shortcuts_are_left_to_the_browser(client: Client, modifier: str) -> None:
    client.evaluate("addEventListener('keydown', (e) => { window.last = e.defaultPrevented; })")
    client.page.keyboard.down(modifier)
    client.page.keyboard.press("KeyS")
    assert client.evaluate("last") is False
    client.page.keyboard.up(modifier)
    client.page.keyboard.press("KeyS")
    assert client.evaluate("last") is True
    client.expect_sent((0, 1), (0, 0))


def test_the_command_key_releases_what_macos_will_not_report(client: Client) -> None:
    client.page.keyboard.down("ArrowLeft")
    client.page.keyboard.down("Meta")
    client.expect_sent((-1, 0), (0, 0))


def test_keys_never_scroll_the_page(open_page: OpenPage) -> None:
    client = open_page(device={"viewport": {"width": 300, "height": 150}}).playing()
    for key in ("ArrowDown", "ArrowRight", "Space", "PageDown", "End"):
        client.page.keyboard.press(key)
    client.page.wait_for_timeout(200)
    assert client.evaluate("[scrollX, scrollY]") == [0, 0]


def test_lost_focus_releases_everything(client: Client) -> None:
    client.page.keyboard.down("ArrowLeft")
    client.page.keyboard.down("ArrowUp")
    client.wait(lambda: client.sent[-1:] == [(-1, -1)])
    client.evaluate("dispatchEvent(new Event('blur'))")
    client.wait(lambda: client.sent[-1] == (0, 0))
    client.sent.clear()
    client.page.keyboard.down("ArrowLeft")  # still down, so this is a repeat
    client.page.keyboard.up("ArrowLeft")
    client.page.wait_for_timeout(200)
    assert client.sent == []


def test_a_hidden_page_releases_everything(client: Client) -> None:
    client.page.keyboard.down("ArrowLeft")
    client.expect_sent((-1, 0))
    client.evaluate(
        """() => {
            Object.defineProperty(document, "hidden", { value: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }"""
    )
    client.expect_sent((0, 0))


def press(client: Client, event: str, code: str, key: str) -> None:
    """Press or release a key as a keyboard would of which Playwright has none."""
    client.evaluate(
        "([event, code, key]) => dispatchEvent(new KeyboardEvent(event, { code, key }))",
        [event, code, key],
    )


@pytest.mark.parametrize(
    ("code", "key", "heading"),
    [
        ("Numpad4", "ArrowLeft", (-1, 0)),  # the numeric pad without NumLock
        ("Numpad8", "ArrowUp", (0, -1)),
        ("", "ArrowDown", (0, 1)),  # a keyboard on a screen
        ("", "d", (1, 0)),
        ("", "D", (1, 0)),
    ],
)
def test_other_keyboards_steer_as_well(
    client: Client, code: str, key: str, heading: tuple[int, int]
) -> None:
    press(client, "keydown", code, key)
    client.expect_sent(heading)
    press(client, "keyup", code, key)
    client.expect_sent((0, 0))


@pytest.mark.parametrize(("code", "key"), [("Numpad4", "4"), ("KeyZ", "w"), ("", "Unidentified")])
def test_keys_of_other_meanings_do_not_steer(client: Client, code: str, key: str) -> None:
    press(client, "keydown", code, key)
    press(client, "keydown", "KeyS", "s")
    client.expect_sent((0, 1))


def test_an_open_menu_releases_everything(client: Client) -> None:
    open_menu = """(selector) => document.querySelector(selector).dispatchEvent(
        new MouseEvent("contextmenu", { bubbles: true, cancelable: true }))"""
    client.page.keyboard.down("ArrowLeft")
    client.expect_sent((-1, 0))
    assert client.evaluate(open_menu, "canvas") is False  # there is none on the field
    client.page.wait_for_timeout(200)
    assert client.sent == []
    assert client.evaluate(open_menu, "body") is True
    client.expect_sent((0, 0))


# --- Trouble ---


def opacity(client: Client) -> float:
    return float(client.evaluate("getComputedStyle(document.querySelector('canvas')).opacity"))


def test_a_restarted_server_is_found_again_and_held_keys_count(
    client: Client, server: Server, start_server: StartServer
) -> None:
    assert client.id == "1"
    for _ in range(2):
        server.join()
    client.wait(lambda: opacity(client) == 1)
    client.page.wait_for_timeout(1100)
    assert server.interrupt() == 0
    expect(client.status).to_contain_text("Disconnected", timeout=PATIENCE * 1000)
    expect(client.status).to_contain_text("Trying again")
    client.wait(lambda: opacity(client) < 0.5)
    client.page.keyboard.down("ArrowLeft")
    client.sent.clear()
    start_server(port=server.port)
    expect(client.status).to_contain_text("You are player 1 · 1 online", timeout=PATIENCE * 1000)
    client.expect_sent((-1, 0))
    client.wait(lambda: client.position()[0] == 0)
    client.wait(lambda: opacity(client) == 1)


def test_a_silent_server_counts_as_lost_and_is_found_again(client: Client, server: Server) -> None:
    server.process.send_signal(signal.SIGSTOP)
    expect(client.status).to_contain_text("silent", timeout=PATIENCE * 1000)
    client.wait(lambda: opacity(client) < 0.5)
    server.process.send_signal(signal.SIGCONT)
    expect(client.status).to_contain_text("You are player 2 · 1 online", timeout=PATIENCE * 1000)


def test_no_server_at_all_is_said_and_tried_again_ever_less_often(
    open_page: OpenPage, server: Server, start_server: StartServer
) -> None:
    server.stop()
    client = open_page()
    expect(client.status).to_contain_text("Disconnected", timeout=PATIENCE * 1000)
    client.wait(lambda: client.evaluate("sockets.length") >= 6)
    waits = [b - a for a, b in itertools.pairwise(client.evaluate("times"))]
    assert waits[0] < 400  # at once; then at random from half of 500, 1000, 2000, ... on
    for wait, least in zip(waits[1:5], (250, 500, 1000, 2000), strict=True):
        assert wait >= least
    assert max(waits) < 5000 + 1000
    start_server(port=server.port)
    client.playing()


def test_whoever_comes_back_to_the_page_need_not_wait(
    client: Client, server: Server, start_server: StartServer
) -> None:
    server.interrupt()
    client.wait(lambda: client.evaluate("sockets.length") >= 6)  # some seconds between two tries
    client.wait(lambda: re.search(r"in [2-5]\.", client.status.inner_text()))
    before = client.evaluate("sockets.length")
    client.evaluate("dispatchEvent(new Event('online'))")
    assert client.evaluate("sockets.length") == before + 1


def test_a_full_game_is_said_and_joined_as_soon_as_there_is_room(
    open_page: OpenPage, start_server: StartServer
) -> None:
    server = start_server("--max-players", "1")
    first = server.join()
    client = open_page(to=server)
    expect(client.status).to_contain_text("the game is full", timeout=PATIENCE * 1000)
    expect(client.status).to_contain_text("Trying again")
    client.wait(lambda: opacity(client) < 0.5)
    first.connection.close()
    expect(client.status).to_contain_text("You are player 2 · 1 online", timeout=PATIENCE * 1000)


def test_one_who_was_thrown_out_is_told_why_and_stays_out(client: Client) -> None:
    client.evaluate("sockets[0].send('{}')")
    expect(client.status).to_contain_text("expected", timeout=PATIENCE * 1000)
    client.evaluate("dispatchEvent(new Event('online'))")
    client.page.keyboard.press("ArrowLeft")
    client.page.wait_for_timeout(1500)
    assert client.evaluate("sockets.length") == 1
    expect(client.status).to_contain_text("Disconnected: expected")
    client.wait(lambda: opacity(client) < 0.5)


def test_unknown_messages_are_ignored(client: Client) -> None:
    client.evaluate(
        """sockets[0].dispatchEvent(
            new MessageEvent("message", { data: '{"type":"weather","players":{}}' })
        )"""
    )
    expect(client.status).to_contain_text("You are player 1 · 1 online")


def test_why_the_game_ended_is_said_until_it_goes_on(
    client: Client, server: Server, start_server: StartServer
) -> None:
    server.interrupt()
    expect(client.status).to_contain_text("the server has stopped", timeout=PATIENCE * 1000)
    client.wait(lambda: client.evaluate("sockets.length") >= 5)
    expect(client.status).to_contain_text("the server has stopped")
    full = start_server("--max-players", "1", port=server.port)
    first = full.join()
    expect(client.status).to_contain_text("the game is full", timeout=PATIENCE * 1000)
    first.connection.close()
    client.playing()
    full.process.kill()
    address = f"no connection to {server.url}"
    expect(client.status).to_contain_text(address, timeout=PATIENCE * 1000)


def test_a_full_game_that_is_gone_is_no_longer_full(
    open_page: OpenPage, start_server: StartServer
) -> None:
    server = start_server("--max-players", "1")
    server.join()
    client = open_page(to=server)
    expect(client.status).to_contain_text("the game is full", timeout=PATIENCE * 1000)
    server.stop()
    expect(client.status).to_contain_text("no connection", timeout=PATIENCE * 1000)


@pytest.mark.parametrize("trouble", ["no server", "full", "thrown out"])
def test_trouble_is_told_in_the_middle_of_the_field_and_the_hint_goes(
    open_page: OpenPage, start_server: StartServer, trouble: str
) -> None:
    server = start_server("--max-players", "1")
    if trouble == "no server":
        server.stop()
    if trouble == "full":
        server.join()
    client = open_page(to=server)
    if trouble == "thrown out":
        client.playing().evaluate("sockets[0].send('{}')")
    expect(client.status).to_contain_text("Disconnected", timeout=PATIENCE * 1000)
    assert center(client, "#status") == pytest.approx((400, 300), abs=15)
    expect(client.page.get_by_text("arrow keys")).to_be_hidden()
    if trouble == "full":
        server.players[0].connection.close()
        client.playing()
        assert center(client, "#status")[1] > 600
        expect(client.page.get_by_text("arrow keys")).to_be_visible()


# --- Addresses ---


def test_opened_as_a_file_the_page_connects_to_this_machine(
    open_page: OpenPage, start_server: StartServer
) -> None:
    server = start_server(port=8765)
    if "listening" not in server.log():
        missing("stop what listens on port 8765, where the page looks for its server")
    client = open_page("", to=server).playing()
    assert client.evaluate("sockets[0].url") == "ws://localhost:8765/"
    assert [url for url in client.requests if not url.startswith(("file:", "data:"))] == []


@pytest.mark.parametrize("address", ["hello", "http://localhost:8765", "ws://", "/game", ""])
def test_a_malformed_address_is_said(open_page: OpenPage, address: str) -> None:
    client = open_page(f"?server={address}")
    expect(client.status).to_contain_text("ws://host:port")
    assert client.evaluate("sockets.length") == 0


# --- Touch and mouse ---

PHONE = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 3,
    "has_touch": True,
    "is_mobile": True,
}
SIDEWAYS = PHONE | {"viewport": {"width": 844, "height": 390}}
HEADINGS = [(dx, dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1) if dx or dy]


class Finger:
    """A finger on the page, which touches places of the world."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.session = client.page.context.new_cdp_session(client.page)
        left, top, width = client.evaluate(
            """async () => {
                // Not before the page is drawn.
                for (const _ of "12") await new Promise(requestAnimationFrame);
                const box = document.querySelector("canvas").getBoundingClientRect();
                return [box.left, box.top, box.width];
            }"""
        )
        self.place = lambda x, y: {"x": left + x * width / 800, "y": top + y * width / 800}

    def touch(self, event: str, *points: tuple[float, float]) -> None:
        touches = [{**self.place(*point), "id": number} for number, point in enumerate(points)]
        self.session.send("Input.dispatchTouchEvent", {"type": event, "touchPoints": touches})


def beside(client: Client, dx: int, dy: int, distance: int = 90) -> tuple[int, int]:
    """Return a place in a direction from the middle of the page's own square."""
    x, y = client.position()
    return x + 15 + dx * distance, y + 15 + dy * distance


def directions_with_room(client: Client) -> list[tuple[int, int]]:
    """Return the headings that lead to a place 90 pixels away and still on the canvas."""
    places = [(heading, beside(client, *heading)) for heading in HEADINGS]
    return [heading for heading, (x, y) in places if 5 < x < 795 and 5 < y < 595]


def lead_to_the_middle(client: Client, finger: Finger) -> None:
    """Let a finger lead the page's own square to where there is room on all sides."""

    def near(distance: int) -> bool:
        x, y = client.position()
        return abs(x - 385) < distance and abs(y - 285) < distance

    while True:
        client.sent.clear()
        finger.touch("touchStart", (400, 300))
        client.wait(lambda: near(50) or client.sent[-1:] == [(0, 0)])
        finger.touch("touchEnd")
        client.page.wait_for_timeout(150)
        if near(100):  # where frames are few, it may walk past by more
            client.sent.clear()
            return


@pytest.mark.parametrize("device", [PHONE, SIDEWAYS], ids=["upright", "sideways"])
def test_a_finger_leads_in_eight_directions_and_lets_go(
    open_page: OpenPage, device: dict[str, Any]
) -> None:
    client = open_page(device=device).playing()
    client.wait(client.state)
    finger = Finger(client)
    for heading in HEADINGS:
        lead_to_the_middle(client, finger)
        finger.touch("touchStart", beside(client, *heading))
        client.wait(lambda: client.sent)
        finger.touch("touchEnd")
        client.wait(lambda: client.sent[-1] == (0, 0))
        assert client.sent[0] == heading
    assert client.evaluate("[scrollX, scrollY, visualViewport.scale]") == [0, 0, 1]


def test_a_finger_that_moves_leads_elsewhere_and_a_second_one_changes_nothing(
    open_page: OpenPage,
) -> None:
    client = open_page(device=PHONE).playing()
    client.wait(client.state)
    finger = Finger(client)
    lead_to_the_middle(client, finger)
    left, right = (40, 300), (760, 300)
    finger.touch("touchStart", left)
    client.wait(lambda: client.sent)
    finger.touch("touchStart", left, right)
    client.page.wait_for_timeout(100)
    assert {dx for dx, _ in client.sent} <= {-1, 0}
    finger.touch("touchMove", right, left)
    client.wait(lambda: client.sent[-1][0] == 1)
    finger.touch("touchCancel")
    client.wait(lambda: client.sent[-1] == (0, 0))


@pytest.mark.parametrize("device", [PHONE, SIDEWAYS], ids=["upright", "sideways"])
def test_a_finger_that_leaves_the_field_leads_on(
    open_page: OpenPage, device: dict[str, Any]
) -> None:
    client = open_page(device=device).playing()
    client.wait(client.state)
    finger = Finger(client)
    lead_to_the_middle(client, finger)
    finger.touch("touchStart", beside(client, 0, -1))
    client.wait(lambda: client.sent)
    for away in (500, 640, 700):  # down, and off
        finger.touch("touchMove", (400, away))
    client.wait(lambda: client.position()[1] >= 550)
    finger.touch("touchMove", (400, 300))
    client.wait(lambda: client.sent[-1] == (0, -1))
    finger.touch("touchEnd")
    client.wait(lambda: client.sent[-1] == (0, 0))


@pytest.mark.parametrize("device", [PHONE, SIDEWAYS], ids=["upright", "sideways"])
def test_a_finger_beside_the_field_leads_as_well(
    open_page: OpenPage, device: dict[str, Any]
) -> None:
    client = open_page(device=device).playing()
    client.wait(client.state)
    finger = Finger(client)
    lead_to_the_middle(client, finger)
    place, wall = ((400, -300), (385, 0)) if device is PHONE else ((-100, 300), (0, 285))
    finger.touch("touchStart", place)
    client.wait(lambda: client.position() == pytest.approx(wall, abs=20))
    finger.touch("touchEnd")
    client.wait(lambda: client.sent[-1] == (0, 0))
    assert client.evaluate("[scrollX, scrollY, visualViewport.scale]") == [0, 0, 1]


def test_whoever_reaches_the_pointer_stops_there(client: Client) -> None:
    x, y = beside(client, *directions_with_room(client)[0], 60)
    finger = Finger(client)
    place = finger.place(x + 7, y + 3)
    client.page.mouse.move(place["x"], place["y"])
    client.page.mouse.down()

    def stays() -> bool:
        sent = list(client.sent)
        client.page.wait_for_timeout(1500)
        return bool(sent) and client.sent == sent  # it does not waver

    client.wait(stays)
    assert client.sent[-1] == (0, 0)
    here = client.position()
    assert abs(here[0] + 15 - x - 7) < 20
    assert abs(here[1] + 15 - y - 3) < 20
    client.page.mouse.up()


def test_the_mouse_leads_as_a_finger_does(client: Client) -> None:
    finger = Finger(client)
    heading = directions_with_room(client)[0]
    place = finger.place(*beside(client, *heading))
    client.page.mouse.move(place["x"], place["y"])
    client.page.mouse.down(button="right")
    client.page.mouse.up(button="right")
    client.page.wait_for_timeout(100)
    assert client.sent == []
    client.page.mouse.down()
    client.wait(lambda: client.sent)
    assert client.sent[0] == heading
    client.page.mouse.move(1, 1)  # off the canvas
    client.wait(lambda: client.position() == pytest.approx((0, 0), abs=20))
    client.page.mouse.up()
    client.wait(lambda: client.sent[-1] == (0, 0))


def test_a_pointer_that_is_passed_for_distance_is_come_back_to(
    open_page: OpenPage, server: Server
) -> None:
    relay = Relay(server.port, Link(0.3))
    client = open_page(f"?server={relay.url}").playing()
    client.wait(client.state)
    place = Finger(client).place(400, 300)
    client.page.mouse.move(place["x"], place["y"])
    client.page.mouse.down()
    client.wait(lambda: client.position() == pytest.approx((385, 285), abs=20))
    client.page.wait_for_timeout(2500)  # the first time, it slides on for 180
    client.wait(lambda: client.position() == pytest.approx((385, 285), abs=20))
    client.page.mouse.up()
    relay.stop()


def test_a_pointer_that_is_held_all_along_leads_the_new_player(
    client: Client, server: Server, start_server: StartServer
) -> None:
    place = Finger(client).place(400, 300)
    client.page.mouse.move(place["x"], place["y"])
    client.page.mouse.down()
    client.wait(lambda: client.position() == pytest.approx((385, 285), abs=20))
    client.wait(lambda: client.sent[-1] == (0, 0))
    server.interrupt()
    expect(client.status).to_contain_text("Disconnected", timeout=PATIENCE * 1000)
    client.received.clear()
    start_server(port=server.port)
    client.playing()
    client.wait(client.state)
    client.wait(lambda: client.position() == pytest.approx((385, 285), abs=20))
    client.page.mouse.up()


def test_a_finger_on_the_page_neither_scrolls_nor_selects(client: Client) -> None:
    style = "getComputedStyle(document.body)"
    assert client.evaluate(f"[{style}.touchAction, {style}.userSelect]") == ["none", "none"]
