"""The page, in a real browser, against a real server."""

import itertools
import json
import re
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import PATIENCE, ROOT, Player, Server, missing, wait_until
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


def test_reduced_motion_is_respected(open_page: OpenPage) -> None:
    duration = "getComputedStyle(document.querySelector('canvas')).transitionDuration"
    assert open_page().evaluate(duration) == "0.3s"
    assert open_page(device={"reduced_motion": "reduce"}).evaluate(duration) == "0s"


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


def test_a_finger_that_leaves_the_canvas_lets_go(open_page: OpenPage) -> None:
    client = open_page(device=PHONE).playing()
    client.wait(client.state)
    finger = Finger(client)
    finger.touch("touchStart", beside(client, *directions_with_room(client)[0]))
    client.wait(lambda: client.sent)
    finger.touch("touchMove", (400, 900))
    client.wait(lambda: client.sent[-1] == (0, 0))
    finger.touch("touchEnd")


def test_whoever_reaches_the_pointer_stops_there(client: Client) -> None:
    x, y = beside(client, *directions_with_room(client)[0], 60)
    finger = Finger(client)
    place = finger.place(x + 7, y + 3)
    client.page.mouse.move(place["x"], place["y"])
    client.page.mouse.down()
    client.wait(lambda: client.sent and client.sent[-1] == (0, 0))
    sent = list(client.sent)
    client.page.wait_for_timeout(500)
    assert client.sent == sent  # it does not waver
    here = client.position()
    assert abs(here[0] + 15 - x) < 50
    assert abs(here[1] + 15 - y) < 50
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
    client.wait(lambda: client.sent[-1] == (0, 0))
    client.page.mouse.up()


def test_the_canvas_has_no_menu_and_a_phone_gets_a_hint_of_its_own(open_page: OpenPage) -> None:
    client = open_page(device=PHONE).playing()
    expect(client.page.get_by_text("finger")).to_be_visible()
    expect(client.page.get_by_text("arrow keys")).to_be_hidden()
    assert client.evaluate(
        """() => !document.querySelector("canvas").dispatchEvent(
            new MouseEvent("contextmenu", { cancelable: true }))"""
    )
    style = "getComputedStyle(document.querySelector('canvas'))"
    assert client.evaluate(f"[{style}.touchAction, {style}.userSelect]") == ["none", "none"]
