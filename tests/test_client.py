"""The page, in real browsers, against a real server."""

import itertools
import json
import signal
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE, PROBE, ROOT, Player, Server, in_chromium, missing, wait_until
from links import Link, Relay
from playwright.sync_api import Browser, BrowserContext, Error, Page, Request, expect

StartServer = Callable[..., Server]
PAGE = (ROOT / "client.html").as_uri()
TICK = 1000 / 30  # milliseconds
WAITS = (0, 500, 1000, 2000, 4000, 5000)  # milliseconds at most between two tries to connect
FRAME_GAP = 100  # milliseconds between two frames where one need not look even: they cost the most
SILENCE = 3000  # milliseconds without a message that end a connection


class Client:
    """A page that plays, with all that it sends."""

    def __init__(self, page: Page, server: Server, query: str | None = None) -> None:
        self.page = page
        self.server = server
        self.sent: list[tuple[int, int]] = []
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.status = page.locator("#status")
        clients[page] = self
        page.on("pageerror", self.note_error)
        page.on("request", self.note_request)
        page.goto(f"{PAGE}?server={server.url}" if query is None else PAGE + query)

    def let_go(self) -> None:
        """Release whatever a test has held."""
        self.page.mouse.up()
        for key in ("ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "KeyA", "Meta"):
            self.page.keyboard.up(key)

    def leave(self) -> None:
        """End the game, so that the page may be another client's."""
        self.let_go()
        self.page.remove_listener("pageerror", self.note_error)
        self.page.remove_listener("request", self.note_request)
        # Then it neither draws any more nor connects again.
        self.evaluate("window.frameGap = 1e6; window.WebSocket = null; sockets.at(-1)?.close()")

    def note_request(self, request: Request) -> None:
        self.requests.append(request.url)

    def note_error(self, error: Error) -> None:
        # Firefox calls it one when a connection fails, whatever the page does about it.
        if "ws://" not in error.message:
            self.errors.append(str(error))

    def note_sent(self, text: str) -> None:
        message = json.loads(text)
        if message.get("type") == "move":
            self.sent.append((message["dx"], message["dy"]))

    def show_all_frames(self) -> None:
        """Let it draw as often as the browser shows frames, as motion needs it."""
        self.evaluate("window.frameGap = 0")
        self.forget()

    def playing(self) -> "Client":
        expect(self.status).to_contain_text("You are player", timeout=PATIENCE * 1000)
        return self

    def wait(self, condition: Callable[[], Any], timeout: float = PATIENCE) -> Any:
        """Wait for a condition, while the browser's events come in."""

        def check() -> Any:
            self.page.wait_for_timeout(30)
            return condition()

        return wait_until(check, timeout)

    def expect_sent(self, *headings: tuple[int, int]) -> None:
        """Wait for these headings to be the only ones sent since the last look."""
        self.wait(lambda: len(self.sent) >= len(headings))
        self.page.wait_for_timeout(100)
        assert self.sent == list(headings)
        self.sent.clear()

    @property
    def id(self) -> str:
        return str(self.evaluate("lastWelcome.id"))

    def state(self) -> dict[str, tuple[int, int, str]]:
        """Return the players in the last state that came."""
        players: dict[str, tuple[int, int, str]] = self.evaluate("lastState.players")
        return players

    def position(self) -> tuple[int, int]:
        x, y, _ = self.state()[self.id]
        return x, y

    def join_apart(self) -> Player:
        """Let one more player in, in rows that this page's square does not reach."""
        while True:
            player = self.server.join()
            self.wait(lambda: player.id in self.state())  # noqa: B023
            if abs(player.position()[1] - self.position()[1]) > 45:
                self.forget()  # who had the same color and has left
                return player
            player.connection.close()
            self.wait(lambda: player.id not in self.state())  # noqa: B023

    def pixels(self, *places: tuple[float, float]) -> list[str]:
        """Return the colors that the canvas has at these places of the world, if they are on it."""
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

    def forget(self) -> None:
        """Forget what was drawn and told so far."""
        self.evaluate(
            """async () => {
                // Not before all that was told is drawn.
                for (const _ of "12") await new Promise(requestAnimationFrame);
                frames.length = messages.length = 0;
            }"""
        )

    def drawn(self, color: str) -> list[tuple[float, float, float]]:
        """Return where the square of a color was drawn, as (time, x, y) in each frame so far."""
        places: list[tuple[float, float, float]] = self.evaluate(
            """(color) => frames
                .filter(([_, drawn]) => color in drawn)
                .map(([time, drawn]) => [time, drawn[color][0], drawn[color][1]])""",
            color,
        )
        return places

    def told(self, player_id: str, x: int, since: float = 0) -> float:
        """Return when the page was told first that a player is at this x."""
        times = (
            time
            for time, message in self.evaluate("messages")
            if time > since and message.get("players", {}).get(player_id, [None])[0] == x
        )
        return float(next(times))

    def waits(self) -> list[float]:
        """Return how long the page has waited between two tries to connect, in milliseconds."""
        return [wait for wait in self.evaluate("waits") if wait != SILENCE]

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Return where on the page a place of the world is."""
        left, top, width = self.evaluate(
            """async () => {
                // Not before the page is drawn.
                for (const _ of "12") await new Promise(requestAnimationFrame);
                const box = document.querySelector("canvas").getBoundingClientRect();
                return [box.left, box.top, box.width];
            }"""
        )
        return left + x * width / 800, top + y * width / 800

    def evaluate(self, script: str, argument: Any = None) -> Any:
        return self.page.evaluate(script, argument)


clients: dict[Page, Client] = {}  # the last one that each page was opened for


def new_context(browser: Browser, **device: Any) -> BrowserContext:
    """Return where pages can be opened whose clients know what they send."""
    context = browser.new_context(**device)
    context.expose_binding("report", lambda source, text: clients[source["page"]].note_sent(text))
    context.add_init_script(path=PROBE)
    context.add_init_script(f"window.frameGap = {FRAME_GAP}")
    return context


class UsualPages:
    """Pages of the usual size, to be used again and again: to open one takes long."""

    def __init__(self, browser: Browser) -> None:
        self.context = new_context(browser, viewport={"width": 640, "height": 520})
        self.free: list[Page] = []

    def open(self, server: Server, query: str | None = None) -> Client:
        return Client(self.free.pop() if self.free else self.context.new_page(), server, query)

    def close(self, client: Client) -> None:
        try:
            client.leave()
        except Error:  # it does not answer, so nobody gets it again
            client.page.close()
        else:
            self.free.append(client.page)


class SharedGame:
    """A page alone in a game, on which one test plays after the other: to open one takes long."""

    def __init__(self, pages: UsualPages, folder: Path) -> None:
        self.pages = pages
        self.folder = folder
        self.runs = itertools.count()
        self.server: Server | None = None
        self.client: Client | None = None

    def begin(self) -> Client:
        """Return the page, alone in the game and at rest."""
        if not self.client:
            self.server = Server(self.folder / f"server{next(self.runs)}.log")
            self.client = self.pages.open(self.server).playing()
            self.client.wait(self.client.state)
        self.client.forget()
        self.client.sent.clear()
        return self.client

    def tidy(self) -> None:
        """Bring the page back to what it was. If that fails, the next test gets another one."""
        client = self.client
        assert client
        try:
            assert client.errors == []
            assert "Traceback" not in client.server.log(), client.server.log()[-5000:]
            for player in client.server.players:
                player.connection.close()
            client.server.players.clear()
            client.let_go()
            client.evaluate(
                f"window.gap = 0; window.frameGap = {FRAME_GAP}; dispatchEvent(new Event('blur'))"
            )
            if client.sent:
                client.page.wait_for_timeout(200)  # until it stands still
            expect(client.status).to_contain_text("You are player 1 · 1 online")
            client.wait(lambda: len(client.state()) == 1)
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        if self.client:
            self.pages.close(self.client)
        if self.server:
            self.server.stop()
        self.client = self.server = None


@pytest.fixture(scope="session")
def usual_pages(browser: Browser) -> UsualPages:
    """The pages of the usual size, of all tests."""
    return UsualPages(browser)


@pytest.fixture(scope="module")
def shared_game(
    usual_pages: UsualPages, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SharedGame]:
    game = SharedGame(usual_pages, tmp_path_factory.mktemp("shared"))
    yield game
    game.end()


@pytest.fixture
def shared(shared_game: SharedGame) -> Iterator[Client]:
    """A page in the game, alone, for tests that leave nothing behind but where its square is."""
    yield shared_game.begin()
    shared_game.tidy()


@pytest.fixture
def open_page(
    browser: Browser, usual_pages: UsualPages, shared_game: SharedGame, server: Server
) -> Iterator[Callable[..., Client]]:
    """Open the page from its file, and see to it that no script of its ever fails."""
    shared_game.end()  # it would go on drawing
    usual: list[Client] = []
    others: list[Client] = []

    def open_page(query: str | None = None, to: Server = server, device: Any = None) -> Client:
        if device:
            others.append(Client(new_context(browser, **device).new_page(), to, query))
            return others[-1]
        usual.append(usual_pages.open(to, query))
        return usual[-1]

    yield open_page
    errors = [client.errors for client in usual + others]
    for client in usual:
        usual_pages.close(client)
    for client in others:
        client.page.context.close()
    assert not any(errors), errors


@pytest.fixture
def client(open_page: Callable[..., Client]) -> Client:
    """A page in the game, alone."""
    return open_page().playing()


OpenPage = Callable[..., Client]


# --- Drawing ---


def test_every_player_is_a_square_of_its_color_with_its_id(shared: Client) -> None:
    shared.join_apart()
    shared.page.wait_for_timeout(200)
    own = shared.state()[shared.id][2]
    for x, y, color in shared.state().values():
        # At a wall the outline of one's own lies on its square.
        near, far = (4, 26) if color == own else (1.5, 28)
        inside = ((near, near), (far, near), (near, far), (far, far), (15, 4))
        assert set(shared.pixels(*((x + right, y + down) for right, down in inside))) == {color}
        row = shared.pixels(*((x + 4 + step / 2, y + 15) for step in range(44)))
        assert len(set(row)) > 1  # something is written there
        outside = [(x - 1.5, y + 15), (x + 31.5, y + 15), (x + 15, y - 1.5), (x + 15, y + 31.5)]
        assert color not in shared.pixels(*outside)


def test_your_own_square_stands_out_by_more_than_color(shared: Client) -> None:
    other = shared.join_apart()
    shared.page.wait_for_timeout(200)

    def has_white_line(player_id: str) -> bool:
        x, y, _ = shared.state()[player_id]
        points = [(x + 15, y - d / 2) for d in range(1, 14)]
        points += [(x + 15, y + 30 + d / 2) for d in range(1, 14)]
        return "#ffffff" in shared.pixels(*points)

    assert has_white_line(shared.id)
    assert not has_white_line(other.id)


@pytest.mark.parametrize("density", [1, 2.5])
def test_the_canvas_fits_the_window_keeps_its_shape_and_is_sharp(
    open_page: OpenPage, density: float
) -> None:
    client = open_page(
        device={"viewport": {"width": 900, "height": 720}, "device_scale_factor": density}
    ).playing()
    for width, height in ((900, 720), (390, 844), (844, 390), (320, 320)):
        client.page.set_viewport_size({"width": width, "height": height})
        client.wait(lambda: client.evaluate("innerWidth") == width)  # noqa: B023
        client.place(0, 0)
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


def test_your_own_square_is_on_top(shared: Client) -> None:
    other = shared.server.join()
    shared.wait(lambda: other.id in shared.state())
    other.move(-1, -1)
    shared.page.keyboard.down("ArrowLeft")
    shared.page.keyboard.down("ArrowUp")
    shared.wait(lambda: {place[:2] == [0, 0] for place in shared.state().values()} == {True})
    shared.page.wait_for_timeout(200)
    assert shared.pixels((15, 28)) == [shared.state()[shared.id][2]]


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


def test_the_hint_does_not_cover_your_square_and_tells_of_mouse_and_finger(client: Client) -> None:
    hint = client.page.get_by_text("arrow keys")
    expect(hint).to_contain_text("mouse")
    expect(hint).to_contain_text("finger")
    for dy, wall in ((-1, 0), (1, 570)):
        # Not by a key, for then the hint would go.
        client.evaluate(f'sockets[0].send(\'{{"type":"move","dx":0,"dy":{dy}}}\')')
        client.wait(lambda: client.position()[1] == wall)  # noqa: B023
        assert (center(client, "#hint")[1] > 300) == (wall == 0)


def test_the_outline_is_whole_also_in_a_corner(shared: Client) -> None:
    reach = [d / 2 for d in range(12, 42)]  # pixels from the middle of the square
    for keys, (x, y) in (
        (("ArrowLeft", "ArrowUp"), (0, 0)),
        (("ArrowRight", "ArrowDown"), (770, 570)),
    ):
        for key in keys:
            shared.page.keyboard.down(key)
        shared.wait(lambda: shared.position() == (x, y))  # noqa: B023
        for key in keys:
            shared.page.keyboard.up(key)
        shared.page.wait_for_timeout(300)
        for away_x, away_y in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            line = ((x + 15 + d * away_x, y + 15 + d * away_y) for d in reach)
            assert "#ffffff" in shared.pixels(*line), (away_x, away_y)


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
    expect(client.page.get_by_role("status")).to_have_text("You are player 1")
    client.evaluate("said.splice(0)")
    other = server.join()
    expect(client.status).to_contain_text("2 online")
    client.wait(lambda: other.id in client.state())
    other.move(other.inward(), 0)
    enough = client.evaluate("states") + 10
    client.wait(lambda: client.evaluate("states") > enough)
    other.connection.close()
    expect(client.status).to_contain_text("1 online")
    assert client.evaluate("said") == []
    client.evaluate("window.pace = 0.1")
    server.interrupt()
    client.wait(lambda: client.evaluate("sockets.length") >= 4)
    start_server(port=server.port)
    client.playing()
    stopped = "Disconnected: the server has stopped."
    assert [text for _, text in client.evaluate("said")] == [stopped, "You are player 1"]


def test_states_that_change_no_text_cost_no_layout(shared: Client) -> None:
    shared.evaluate(
        """() => {
            window.changes = 0;
            new MutationObserver((all) => { changes += all.length; }).observe(
                document.body, { childList: true, characterData: true, subtree: true }
            );
        }"""
    )
    other = shared.server.join()
    expect(shared.status).to_contain_text("2 online")
    shared.wait(lambda: shared.evaluate("changes") > 0)
    shared.evaluate("changes = 0")
    other.move(other.inward(), 0)
    enough = shared.evaluate("states") + 10
    shared.wait(lambda: shared.evaluate("states") > enough)
    assert shared.evaluate("changes") == 0


# --- Motion ---


def test_others_glide_between_states(shared: Client) -> None:
    shared.show_all_frames()
    other = shared.join_apart()
    x, _, color = other.state()[other.id]
    inward = other.inward()
    other.move(inward, 0)
    shared.wait(lambda: abs(shared.state()[other.id][0] - x) >= 250)
    seen = [left for _, left, _ in shared.drawn(color)]
    steps = [inward * (b - a) for a, b in itertools.pairwise(seen)]
    assert min(steps) >= -1.1  # a pixel of rounding
    assert sum(steps) > 100
    # Without gliding every frame would show a place where a state has put the square.
    moved = [left for left in seen if abs(left - x) > 2]
    between = [left for left in moved if min((left - x) % 10, (x - left) % 10) > 2]
    assert len(between) > len(moved) / 5


def test_a_step_takes_a_little_more_than_a_tick_however_long_the_pause_before(
    shared: Client,
) -> None:
    shared.show_all_frames()
    other = shared.join_apart()
    x, _, color = other.state()[other.id]
    inward = other.inward()
    durations = []
    for pause in (0, 100, 300, 1600):
        goal = x + 10 * inward
        shared.page.wait_for_timeout(300 + pause)
        other.tap(inward, 0)
        shared.wait(lambda: shared.state()[other.id][0] == goal)  # noqa: B023
        shared.page.wait_for_timeout(300)
        told = shared.told(other.id, goal)
        after = [(time - told, left) for time, left, _ in shared.drawn(color) if time > told]
        arrived = next(time for time, left in after if abs(left - goal) <= 1)
        assert arrived > 1.2 * TICK
        assert arrived < 300  # spread over the longest pause, it would be 1600
        # How long all of it takes, by each frame in which it was on its way.
        for time, left in after:
            if 2 < (part := abs(left - x)) < 8:
                durations.append(10 * time / part)
        x = goal
    assert TICK < statistics.median(durations) < 2.5 * TICK


def test_who_has_come_a_long_way_since_the_last_state_glides_and_catches_up(
    shared: Client,
) -> None:
    shared.show_all_frames()
    other = shared.join_apart()
    x, _, color = other.state()[other.id]
    inward = other.inward()
    shared.evaluate("window.gap = 400")  # 12 steps
    other.move(inward, 0)
    shared.wait(lambda: abs(shared.state()[other.id][0] - x) >= 300)
    other.move(0, 0)
    at = other.states(1)[-1][other.id][0]
    shared.wait(lambda: shared.state()[other.id][0] == at)
    told = shared.told(other.id, at)
    shared.page.wait_for_timeout(1100)
    seen = shared.drawn(color)
    assert all(abs(left - at) <= 1 for time, left, _ in seen if time > told + 1000)
    # Caught up within a tick or two, it would jump.
    speeds = [
        abs(b - a) / max(later - earlier, 16)
        for (earlier, a, _), (later, b, _) in itertools.pairwise(seen)
    ]
    assert max(speeds) < 2 * 10 / TICK


# --- Your own square ---


class Walker:
    """A page's own square that walks along x, on a link with so many seconds each way."""

    def __init__(self, client: Client, link: Link | None = None) -> None:
        self.client = client
        self.link = link or Link()
        self.delay = self.link.delay
        client.wait(client.state)
        client.show_all_frames()
        self.color = client.state()[client.id][2]
        left = client.position()[0] < 385
        self.key, self.inward = ("ArrowRight", 1) if left else ("ArrowLeft", -1)

    def turn(self) -> None:
        """Walk the other way from now on."""
        self.key = "ArrowLeft" if self.inward > 0 else "ArrowRight"
        self.inward = -self.inward

    def walk(self, milliseconds: int) -> None:
        """Hold a key for so long, and wait for the end of all motion."""
        self.client.forget()
        self.client.page.keyboard.down(self.key)
        self.client.page.wait_for_timeout(milliseconds)
        self.client.page.keyboard.up(self.key)
        self.rest()

    def rest(self) -> None:
        """Wait until nothing is under way. Then it is drawn where the server has it."""
        # For so long that the page is sure of it, and measures the next walk.
        self.client.page.wait_for_timeout(2000 * self.delay + 600)

        def at_rest() -> bool:
            position = self.client.position()
            self.client.page.wait_for_timeout(200)
            seen = self.seen()
            return position == self.client.position() and all(
                place == pytest.approx(position, abs=0.7)  # of whole pixels on the display
                for time, *place in seen
                if time > seen[-1][0] - 150
            )

        self.client.wait(at_rest)

    def learn(self) -> None:
        """Wait until the page has made use of what it knows, which it does in many frames."""
        self.client.forget()
        self.client.wait(lambda: self.client.evaluate("frames.length") > 60)

    def seen(self) -> list[tuple[float, float, float]]:
        """Return where it was drawn since the last walk began."""
        return self.client.drawn(self.color)

    def lead(self) -> float:
        """Return how far it has walked before a state showed that it walks."""
        states = [
            (time, message["players"][self.client.id][0])
            for time, message in self.client.evaluate("messages")
        ]
        told = next((time for time, x in states if x != states[0][1]), states[-1][0])
        before = [x for (_, x, _), (later, _, _) in itertools.pairwise(self.seen()) if later < told]
        return max(abs(x - states[0][1]) for x in before)

    def speed(self) -> float:
        """Return how fast it walked along x at first, in pixels of the world per millisecond."""
        frames = itertools.pairwise(self.seen())
        moving = [(time, x) for (time, x, _), (_, later, _) in frames if x != later]
        start, at = moving[0]
        end, there = next((time, x) for time, x in moving if time > start + 150)
        return abs(there - at) / (end - start)

    def back(self) -> float:
        """Return how far it was drawn back at its end, against the way it walked."""
        seen = [x * self.inward for _, x, _ in self.seen()]
        return max(seen) - seen[-1]


@pytest.fixture
def far_away(open_page: OpenPage, server: Server) -> Iterator[Callable[[float], Walker]]:
    """Open a page that is so many seconds away from the server, each way."""
    relays: list[Relay] = []

    def far_away(delay: float) -> Walker:
        relays.append(Relay(server.port, Link(delay)))
        return Walker(open_page(f"?server={relays[-1].url}").playing(), relays[-1].link)

    yield far_away
    for relay in relays:
        relay.stop()


FarAway = Callable[[float], Walker]


def test_your_own_square_answers_before_the_server_can(far_away: FarAway) -> None:
    walker = far_away(0.5)
    # The first time nobody knows how far away the server is. From then on, the page does.
    walker.walk(300)
    assert walker.lead() < 10
    for _ in range(3):  # on a busy machine, it may be mistaken at first
        walker.learn()
        walker.turn()
        walker.walk(300)
        assert walker.lead() > 40
        if walker.back() < 40:
            break
    assert walker.back() < 40
    assert walker.speed() == pytest.approx(10 / TICK, rel=0.15)
    walker.turn()
    walker.client.page.keyboard.down("ArrowDown")
    walker.walk(300)
    walker.client.page.keyboard.up("ArrowDown")
    assert walker.speed() == pytest.approx(7 / TICK, rel=0.15)


def test_turns_on_the_way_teach_nothing(far_away: FarAway) -> None:
    walker = far_away(0.3)
    page = walker.client.page
    walker.walk(1100)
    # What it learned on the way did not make it jump: by 200 pixels, at once.
    steps = (abs(b - a) for (_, a, _), (_, b, _) in itertools.pairwise(walker.seen()))
    assert max(steps) < 100
    walker.turn()
    page.keyboard.down(walker.key)
    page.wait_for_timeout(800)  # until it is seen to walk
    for _ in range(6):
        page.keyboard.press("ArrowDown")
        page.wait_for_timeout(50)
    page.keyboard.up(walker.key)
    walker.rest()
    walker.learn()
    walker.turn()
    walker.walk(300)
    assert walker.lead() > 40


def test_your_own_square_ends_where_the_server_has_it(far_away: FarAway) -> None:
    walker = far_away(0.1)
    client = walker.client
    walker.walk(300)
    walker.learn()
    walker.turn()  # to the near wall, against it for a while, along it and back
    walker.walk(1600)
    client.page.keyboard.down("ArrowDown")
    walker.walk(400)
    client.page.keyboard.up("ArrowDown")
    walker.turn()
    walker.walk(100)
    client.evaluate(  # taps that queue up
        """(code) => {
            for (let tap = 0; tap < 15; tap += 1) {
                dispatchEvent(new KeyboardEvent("keydown", { code }));
                dispatchEvent(new KeyboardEvent("keyup", { code }));
            }
        }""",
        walker.key,
    )
    walker.rest()
    assert all(-0.7 <= x <= 770.7 and -0.7 <= y <= 570.7 for _, x, y in walker.seen())


def test_one_late_packet_does_not_spoil_the_next_stop(far_away: FarAway) -> None:
    walker = far_away(0.05)
    for _ in range(3):
        walker.walk(200)
        walker.turn()
    walker.link.delay = walker.delay = 0.6
    walker.client.page.keyboard.down(walker.key)
    walker.client.page.wait_for_timeout(50)
    walker.link.delay = 0.05
    walker.client.page.keyboard.up(walker.key)
    walker.rest()
    walker.delay = 0.05
    walker.learn()
    walker.turn()
    walker.walk(600)
    assert walker.back() < 60  # had it counted, 165


def test_the_time_without_a_server_teaches_nothing(
    client: Client, server: Server, start_server: StartServer
) -> None:
    walker = Walker(client)
    walker.rest()
    server.process.send_signal(signal.SIGSTOP)
    client.page.keyboard.down(walker.key)
    expect(client.status).to_contain_text("Disconnected", timeout=PATIENCE * 1000)
    server.process.kill()
    server.process.wait()
    client.evaluate("lastState.players = {}")
    start_server(port=server.port)
    client.playing()
    client.page.wait_for_timeout(500)
    client.page.keyboard.up(walker.key)
    walker = Walker(client)  # it is another player, at another place
    walker.rest()
    walker.learn()
    walker.walk(300)
    assert walker.back() < 40  # of the seconds before, it would be 90


def test_pushing_a_wall_teaches_nothing(client: Client) -> None:
    walker = Walker(client)
    walker.turn()
    client.page.keyboard.down(walker.key)
    client.wait(lambda: client.position()[0] in (0, 770))
    client.page.keyboard.up(walker.key)
    walker.rest()
    for _ in range(2):
        client.page.wait_for_timeout(500)  # a rest
        walker.walk(100)  # against the wall
        client.page.wait_for_timeout(500)
        walker.turn()
        walker.walk(100)  # away from it
        walker.turn()
        walker.walk(300)  # and back
    walker.learn()
    walker.turn()
    walker.walk(600)
    assert walker.back() < 60  # the time from a push to the next step would be hundreds


# --- Keys ---


def test_a_held_key_moves_at_once_and_evenly_and_repeats_are_ignored(shared: Client) -> None:
    shared.page.keyboard.down("ArrowRight")
    for _ in range(5):
        shared.page.keyboard.down("ArrowRight")  # as a keyboard repeats it
    shared.expect_sent((1, 0))
    # Nor does a repeated key begin to walk after all was released.
    shared.evaluate("dispatchEvent(new Event('blur'))")
    shared.page.keyboard.down("ArrowRight")
    shared.expect_sent((0, 0))


def test_a_tap_moves(shared: Client) -> None:
    x, y = shared.position()
    key, dx = ("ArrowRight", 1) if x < 400 else ("ArrowLeft", -1)
    shared.evaluate(
        """(code) => {
            dispatchEvent(new KeyboardEvent("keydown", { code }));
            dispatchEvent(new KeyboardEvent("keyup", { code }));
        }""",
        key,
    )
    shared.expect_sent((dx, 0), (0, 0))
    # By one step, unless the machine is so busy that there is a tick between the two.
    shared.wait(lambda: shared.position() != (x, y))
    assert (shared.position()[0] - x) * dx >= 10
    assert shared.position()[1] == y


def test_arrows_and_wasd_steer(shared: Client) -> None:
    for keys, heading in (
        (("ArrowLeft",), (-1, 0)),
        (("ArrowRight",), (1, 0)),
        (("ArrowUp",), (0, -1)),
        (("ArrowDown",), (0, 1)),
        (("KeyW",), (0, -1)),
        (("KeyA",), (-1, 0)),
        (("KeyS",), (0, 1)),
        (("KeyD",), (1, 0)),
        (("ArrowUp", "ArrowRight"), (1, -1)),
        (("KeyS", "ArrowLeft"), (-1, 1)),
    ):
        for key in keys:
            shared.page.keyboard.down(key)
        shared.wait(lambda: shared.sent and shared.sent[-1] == heading)  # noqa: B023
        for key in keys:
            shared.page.keyboard.up(key)
        shared.wait(lambda: shared.sent[-1] == (0, 0))


def test_opposite_keys_cancel(shared: Client) -> None:
    for key in ("ArrowLeft", "ArrowRight", "KeyA"):
        shared.page.keyboard.down(key)
    shared.expect_sent((-1, 0), (0, 0))
    shared.page.keyboard.up("ArrowRight")
    shared.expect_sent((-1, 0))


def test_shortcuts_are_left_to_the_browser(shared: Client) -> None:
    shared.evaluate("addEventListener('keydown', (e) => { window.last = e.defaultPrevented; })")
    for modifier in ("Control", "Alt", "Meta"):
        shared.page.keyboard.down(modifier)
        shared.page.keyboard.press("KeyS")
        assert shared.evaluate("last") is False
        shared.page.keyboard.up(modifier)
        shared.page.keyboard.press("KeyS")
        assert shared.evaluate("last") is True
        shared.expect_sent((0, 1), (0, 0))


def test_the_command_key_releases_what_macos_will_not_report(shared: Client) -> None:
    shared.page.keyboard.down("ArrowLeft")
    shared.page.keyboard.down("Meta")
    shared.expect_sent((-1, 0), (0, 0))


def test_keys_never_scroll_the_page(open_page: OpenPage) -> None:
    client = open_page(device={"viewport": {"width": 300, "height": 150}}).playing()
    for key in ("ArrowDown", "ArrowRight", "Space", "PageDown", "End"):
        client.page.keyboard.press(key)
    client.page.wait_for_timeout(200)
    assert client.evaluate("[scrollX, scrollY]") == [0, 0]


def test_lost_focus_releases_everything(shared: Client) -> None:
    shared.page.keyboard.down("ArrowLeft")
    shared.page.keyboard.down("ArrowUp")
    shared.wait(lambda: shared.sent[-1:] == [(-1, -1)])
    shared.evaluate("dispatchEvent(new Event('blur'))")
    shared.wait(lambda: shared.sent[-1] == (0, 0))
    shared.sent.clear()
    shared.page.keyboard.down("ArrowLeft")  # still down, so this is a repeat
    shared.page.keyboard.up("ArrowLeft")
    shared.page.wait_for_timeout(200)
    assert shared.sent == []


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


def test_other_keyboards_steer_as_well(shared: Client) -> None:
    for code, key, heading in (
        ("Numpad4", "ArrowLeft", (-1, 0)),  # the numeric pad without NumLock
        ("Numpad8", "ArrowUp", (0, -1)),
        ("", "ArrowDown", (0, 1)),  # a keyboard on a screen
        ("", "ArrowRight", (1, 0)),
    ):
        press(shared, "keydown", code, key)
        shared.expect_sent(heading)
        press(shared, "keyup", code, key)
        shared.expect_sent((0, 0))


def test_keys_of_other_meanings_do_not_steer(shared: Client) -> None:
    for code, key in (("Numpad4", "4"), ("KeyZ", "w"), ("", "Unidentified"), ("", "Shift")):
        press(shared, "keydown", code, key)
    press(shared, "keydown", "KeyS", "s")
    shared.expect_sent((0, 1))


def test_an_open_menu_releases_everything(shared: Client) -> None:
    open_menu = """(selector) => document.querySelector(selector).dispatchEvent(
        new MouseEvent("contextmenu", { bubbles: true, cancelable: true }))"""
    shared.page.keyboard.down("ArrowLeft")
    shared.expect_sent((-1, 0))
    assert shared.evaluate(open_menu, "canvas") is False  # there is none on the field
    shared.page.wait_for_timeout(200)
    assert shared.sent == []
    assert shared.evaluate(open_menu, "body") is True
    shared.expect_sent((0, 0))


# --- Trouble ---


def opacity(client: Client) -> float:
    return float(client.evaluate("getComputedStyle(document.querySelector('canvas')).opacity"))


def test_a_restarted_server_is_found_again_and_held_keys_count(
    client: Client, server: Server, start_server: StartServer
) -> None:
    client.wait(lambda: opacity(client) == 1)
    client.page.keyboard.down("ArrowLeft")
    client.expect_sent((-1, 0))
    client.wait(lambda: client.position()[0] == 0)
    assert server.interrupt() == 0
    expect(client.status).to_contain_text("Disconnected", timeout=PATIENCE * 1000)
    expect(client.status).to_contain_text("Trying again")
    client.wait(lambda: opacity(client) < 0.5)
    client.evaluate("lastState.players = {}")
    start_server(port=server.port)
    expect(client.status).to_contain_text("You are player 1 · 1 online", timeout=PATIENCE * 1000)
    client.expect_sent((-1, 0))
    client.wait(lambda: client.position()[0] == 0)
    client.wait(lambda: opacity(client) == 1)


def test_nothing_is_left_of_the_game_before(
    client: Client, server: Server, start_server: StartServer
) -> None:
    color = client.state()[client.id][2]
    server.interrupt()
    expect(client.status).to_contain_text("Disconnected", timeout=PATIENCE * 1000)
    client.evaluate("lastState.players = {}")
    start_server(port=server.port)
    client.wait(client.state)
    # The same ID as before, and so the same color, at another place. It has never moved there.
    welcome, _ = client.evaluate("messages.findLast(([_, { type }]) => type === 'welcome')")
    client.wait(lambda: len(client.drawn(color)) and client.drawn(color)[-1][0] > welcome + 100)
    x, y = client.position()
    for time, left, top in client.drawn(color):
        if time > welcome:
            assert (left, top) == (pytest.approx(x, abs=1), pytest.approx(y, abs=1))
    # Nor does it hear what the old connection says.
    assert "player 1 " in client.evaluate(
        """() => {
            const players = { 1: [0, 0, "#ffffff"], 2: [0, 0, "#ffffff"] };
            for (const message of [{ type: "welcome", id: 2 }, { type: "state", players }]) {
                const data = JSON.stringify(message);
                sockets[0].dispatchEvent(new MessageEvent("message", { data }));
            }
            return document.querySelector("#status").textContent + " ";
        }"""
    )


def test_a_silent_server_counts_as_lost_and_is_found_again(client: Client, server: Server) -> None:
    server.process.send_signal(signal.SIGSTOP)
    expect(client.status).to_contain_text("does not answer", timeout=PATIENCE * 1000)
    (last, _), (said, _) = client.evaluate("[messages.at(-1), said.at(-1)]")
    assert said - last == pytest.approx(SILENCE, abs=1500)
    client.wait(lambda: opacity(client) < 0.5)
    server.process.send_signal(signal.SIGCONT)
    expect(client.status).to_contain_text("You are player 2 · 1 online", timeout=PATIENCE * 1000)
    client.page.wait_for_timeout(300)  # the old connection is closed at last, which is no loss
    expect(client.status).to_contain_text("You are player 2 · 1 online")


def check_waits(waits: list[float]) -> None:
    """See that the page waits ever longer, and for a random time."""
    for wait, longest in zip(waits, WAITS, strict=True):
        assert longest / 2 <= wait <= longest
    assert any(wait < 0.98 * longest for wait, longest in zip(waits[1:], WAITS[1:], strict=True))


def test_no_server_at_all_is_said_and_tried_again_ever_less_often(
    open_page: OpenPage, server: Server, start_server: StartServer
) -> None:
    server.stop()
    client = open_page()
    client.evaluate("window.pace = 0.1")
    expect(client.status).to_contain_text("Disconnected", timeout=PATIENCE * 1000)
    client.wait(lambda: len(client.waits()) >= len(WAITS))
    check_waits(client.waits()[: len(WAITS)])
    client.wait(lambda: len(client.waits()) > len(WAITS))
    assert client.waits()[len(WAITS)] <= max(WAITS)
    start_server(port=server.port)
    client.playing()


def test_a_server_that_keeps_nobody_for_long_is_tried_ever_less_often(client: Client) -> None:
    client.evaluate(
        """() => {
            window.pace = 0.1;
            window.Usual = WebSocket;
            window.WebSocket = class extends Usual {
                constructor(...address) {
                    super(...address);
                    this.addEventListener("message", () => this.close());
                }
            };
            sockets[0].close();
        }"""
    )
    client.wait(lambda: len(client.waits()) >= len(WAITS))
    assert client.waits()[len(WAITS) - 1] >= WAITS[-2] / 2
    # But one that keeps us longer is tried at once.
    client.evaluate("void (window.WebSocket = Usual)")
    client.playing()
    client.page.wait_for_timeout(1100)
    client.evaluate("sockets.at(-1).close()")
    client.wait(lambda: client.waits()[-1] == 0)


def test_whoever_comes_back_to_the_page_need_not_wait(client: Client, server: Server) -> None:
    client.evaluate("window.pace = 1000")
    server.interrupt()

    def tries() -> int:
        """Return the number of tries, once the last one has failed."""
        client.wait(lambda: client.evaluate("sockets.at(-1).readyState") == 3)
        return int(client.evaluate("sockets.length"))

    client.wait(lambda: tries() == 2)  # and the third would be after some minutes
    for event in (
        "window.dispatchEvent(new Event('online'))",
        "window.dispatchEvent(new Event('pageshow'))",
        "document.dispatchEvent(new Event('visibilitychange'))",
    ):
        before = tries()
        client.evaluate(event)
        assert client.evaluate("sockets.length") == before + 1
    # But nobody has come back to a page that is hidden.
    before = tries()
    client.evaluate("Object.defineProperty(document, 'hidden', { value: true })")
    client.evaluate("dispatchEvent(new Event('online'))")
    assert client.evaluate("sockets.length") == before


def test_a_full_game_is_said_and_joined_as_soon_as_there_is_room(
    open_page: OpenPage, start_server: StartServer
) -> None:
    server = start_server("--max-players", "1")
    first = server.join()
    client = open_page(to=server)
    expect(client.status).to_contain_text("the game is full", timeout=PATIENCE * 1000)
    expect(client.status).to_contain_text("Trying again")
    client.wait(lambda: opacity(client) < 0.5)
    client.evaluate("window.pace = 0.1")
    client.page.keyboard.down("ArrowLeft")
    first.connection.close()
    expect(client.status).to_contain_text("You are player 2 · 1 online", timeout=PATIENCE * 1000)
    client.expect_sent((-1, 0))


def test_one_who_was_thrown_out_is_told_why_and_stays_out(client: Client) -> None:
    client.evaluate("window.pace = 0.1")
    client.evaluate("sockets[0].send('{}')")
    expect(client.status).to_contain_text("expected", timeout=PATIENCE * 1000)
    client.evaluate("dispatchEvent(new Event('online'))")
    client.page.keyboard.press("ArrowLeft")
    client.page.wait_for_timeout(300)
    assert client.evaluate("sockets.length") == 1
    expect(client.status).to_contain_text("Disconnected: expected")
    client.wait(lambda: opacity(client) < 0.5)


def test_unknown_messages_are_ignored(client: Client) -> None:
    assert client.evaluate(
        """() => {
            const read = () => document.body.innerText + document.body.outerHTML;
            const before = read();
            for (const type of ["weather", "", null, undefined]) {
                const message = { type, id: 99, width: 1, height: 1, size: 1, players: {} };
                const data = JSON.stringify(message);
                sockets[0].dispatchEvent(new MessageEvent("message", { data }));
            }
            return read() === before;
        }"""
    )
    expect(client.status).to_contain_text("You are player 1 · 1 online")


def test_why_the_game_ended_is_said_until_it_goes_on(
    client: Client, server: Server, start_server: StartServer
) -> None:
    client.evaluate("window.pace = 0.1")
    server.interrupt()
    expect(client.status).to_contain_text("the server has stopped", timeout=PATIENCE * 1000)
    client.wait(lambda: client.evaluate("sockets.length") >= 4)
    expect(client.status).to_contain_text("the server has stopped")
    # No more tries until it is told to, for another one is to be in the game by then. The timer or
    # the try of this moment may still be of the old pace, but what comes after it is not.
    before = client.evaluate("window.pace = 1000, waits.length")
    client.wait(lambda: set(client.evaluate("waits")[before:]) - {SILENCE})
    full = start_server("--max-players", "1", port=server.port)
    first = full.join()
    client.evaluate("dispatchEvent(new Event('online'))")
    expect(client.status).to_contain_text("the game is full", timeout=PATIENCE * 1000)
    first.connection.close()
    wait_until(lambda: "player 1 left" in full.log())
    client.evaluate("window.pace = 0.1; dispatchEvent(new Event('online'))")
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
    client.evaluate("window.pace = 0.1")
    expect(client.status).to_contain_text("the game is full", timeout=PATIENCE * 1000)
    server.stop()
    expect(client.status).to_contain_text("no connection", timeout=PATIENCE * 1000)


def test_trouble_is_told_in_the_middle_of_the_field_and_the_hint_goes(
    open_page: OpenPage, start_server: StartServer
) -> None:
    server = start_server("--max-players", "1")
    first = server.join()
    client = open_page(to=server)
    expect(client.status).to_contain_text("the game is full", timeout=PATIENCE * 1000)
    hint = client.page.get_by_text("arrow keys")

    def told_in_the_middle() -> bool:
        return bool(center(client, "#status") == pytest.approx((400, 300), abs=15))

    assert told_in_the_middle()
    expect(hint).to_be_hidden()
    client.evaluate("window.pace = 0.1")
    first.connection.close()
    client.playing()
    assert center(client, "#status")[1] > 600
    expect(hint).to_be_visible()
    client.evaluate("sockets.at(-1).send('{}')")
    expect(client.status).to_contain_text("expected", timeout=PATIENCE * 1000)
    assert told_in_the_middle()
    expect(hint).to_be_hidden()


# --- Addresses ---


def test_opened_as_a_file_the_page_connects_to_this_machine(
    open_page: OpenPage, start_server: StartServer
) -> None:
    server = start_server(port=8765)
    if "listening" not in server.log():
        missing("stop what listens on port 8765, where the page looks for its server")
    client = open_page("", to=server).playing()
    assert client.evaluate("sockets[0].url") == "ws://localhost:8765/"
    # For Firefox, a connection is a request as well.
    own = ("file:", "data:", "http://localhost:8765/")
    assert [url for url in client.requests if not url.startswith(own)] == []


def test_a_malformed_address_is_said(open_page: OpenPage) -> None:
    client = open_page("?server=hello")
    for address in ("hello", "http://localhost:8765", "ws://", "/game", ""):
        client.page.goto(f"{PAGE}?server={address}")
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
        client.show_all_frames()
        self.session = client.page.context.new_cdp_session(client.page)

    def touch(self, event: str, *points: tuple[float, float]) -> None:
        places = [self.client.place(*point) for point in points]
        touches = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(places)]
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

    while not near(100):
        finger.touch("touchStart", (400, 300))
        client.wait(lambda: near(50) or client.sent[-1:] == [(0, 0)])
        finger.touch("touchEnd")
        client.wait(lambda: client.sent[-1:] in ([], [(0, 0)]))
        client.page.wait_for_timeout(100)  # where frames are few, it may walk past by more
    client.sent.clear()


@in_chromium
def test_a_finger_leads_in_eight_directions_and_lets_go(open_page: OpenPage) -> None:
    client = open_page(device=PHONE).playing()
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


@in_chromium
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


@in_chromium
def test_a_finger_that_leaves_the_field_leads_on(open_page: OpenPage) -> None:
    client = open_page(device=SIDEWAYS).playing()
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


@in_chromium
@pytest.mark.parametrize("device", [PHONE, SIDEWAYS], ids=["upright", "sideways"])
def test_a_finger_beside_the_field_leads_as_well(
    open_page: OpenPage, device: dict[str, Any]
) -> None:
    client = open_page(device=device).playing()
    client.wait(client.state)
    finger = Finger(client)
    lead_to_the_middle(client, finger)
    place, wall = ((550, -300), (535, 0)) if device is PHONE else ((-100, 450), (0, 435))
    finger.touch("touchStart", place)
    client.wait(lambda: client.position() == pytest.approx(wall, abs=20))
    finger.touch("touchEnd")
    client.wait(lambda: client.sent[-1] == (0, 0))
    assert client.evaluate("[scrollX, scrollY, visualViewport.scale]") == [0, 0, 1]


def test_a_pointer_that_trembles_is_no_flood_of_messages(client: Client) -> None:
    client.page.mouse.move(*client.place(400, 300))
    client.evaluate("addEventListener('pointerdown', (event) => (window.down = event.pointerId))")
    client.page.mouse.down()
    # As on a display of 500 frames a second, with the square between two places of the pointer.
    client.evaluate(
        """async () => {
            const { left, right } = document.querySelector("canvas").getBoundingClientRect();
            for (let time = 0; time < 1500; time += 2) {
                const clientX = time % 4 ? left : right;
                const place = { clientX, clientY: 300, buttons: 1, pointerId: down };
                dispatchEvent(new PointerEvent("pointermove", place));
                const until = performance.now() + 2;
                if (time % 50 === 0) await new Promise(requestAnimationFrame);
                while (performance.now() < until);
            }
        }"""
    )
    client.page.mouse.up()
    client.wait(lambda: client.sent[-1] == (0, 0))
    assert client.evaluate("sockets.length") == 1
    assert len(client.sent) > 10


def test_whoever_reaches_the_pointer_stops_there(shared: Client) -> None:
    shared.show_all_frames()
    x, y = beside(shared, *directions_with_room(shared)[0], 60)
    shared.page.mouse.move(*shared.place(x + 7, y + 3))
    shared.page.mouse.down()

    def stays() -> bool:
        sent = list(shared.sent)
        shared.page.wait_for_timeout(1500)
        return bool(sent) and shared.sent == sent  # it does not waver

    shared.wait(stays)
    assert shared.sent[-1] == (0, 0)
    here = shared.position()
    assert abs(here[0] + 15 - x - 7) < 20
    assert abs(here[1] + 15 - y - 3) < 20
    shared.page.mouse.up()


def test_the_way_to_the_pointer_does_not_waver_between_two_directions(
    shared: Client,
) -> None:
    shared.show_all_frames()
    # To a corner, and from there to a place that lies between two of the eight directions.
    shared.page.mouse.move(*shared.place(15, 15))
    shared.page.mouse.down()
    corner = pytest.approx((0, 0), abs=30)  # where it may be already
    shared.wait(lambda: shared.position() == corner and shared.sent[-1:] in ([], [(0, 0)]))
    shared.sent.clear()
    shared.page.mouse.move(*shared.place(15 + 700, 15 + 290))
    shared.wait(lambda: shared.position()[0] > 600 and shared.sent[-1:] == [(0, 0)])
    assert len(shared.sent) < 12
    shared.page.mouse.up()


def test_the_mouse_leads_as_a_finger_does(shared: Client) -> None:
    shared.show_all_frames()
    heading = directions_with_room(shared)[0]
    shared.page.mouse.move(*shared.place(*beside(shared, *heading)))
    shared.page.mouse.down(button="right")
    shared.page.mouse.up(button="right")
    shared.page.wait_for_timeout(100)
    assert shared.sent == []
    shared.evaluate(
        """() => addEventListener("gotpointercapture", ({ target }) => {
            window.captor = target.localName;
        })"""
    )
    shared.page.mouse.down()
    shared.wait(lambda: shared.sent)
    assert shared.sent[0] == heading
    shared.page.mouse.move(1, 1)  # off the canvas, and it would lead from outside the window too
    assert shared.evaluate("captor") == "canvas"
    shared.wait(lambda: shared.position() == pytest.approx((0, 0), abs=20))
    shared.page.mouse.up()
    shared.wait(lambda: shared.sent[-1] == (0, 0))


def test_keys_count_while_the_mouse_leads(shared: Client) -> None:
    x, y = shared.position()
    left, right = (20, y + 15), (780, y + 15)
    far, key, dx = (right, "ArrowLeft", 1) if x < 385 else (left, "ArrowRight", -1)
    shared.page.mouse.move(*shared.place(*far))
    shared.page.mouse.down()
    shared.wait(lambda: shared.sent[-1:] == [(dx, 0)])
    shared.page.keyboard.down(key)
    shared.wait(lambda: shared.sent[-1] == (-dx, 0))
    shared.page.keyboard.up(key)
    shared.wait(lambda: shared.sent[-1] == (dx, 0))
    shared.page.mouse.up()
    shared.wait(lambda: shared.sent[-1] == (0, 0))


def test_a_pointer_that_moves_on_after_it_was_reached_leads_at_once(shared: Client) -> None:
    shared.show_all_frames()
    shared.evaluate("addEventListener('pointerdown', (event) => (window.down = event.pointerId))")
    shared.page.mouse.move(*shared.place(400, 300))
    shared.page.mouse.down()
    shared.wait(lambda: shared.position() == pytest.approx((385, 285), abs=20))
    shared.wait(lambda: shared.sent[-1:] in ([], [(0, 0)]))
    led = shared.evaluate(
        """async ([clientX, clientY]) => {
            await new Promise((over) => setTimeout(over, 60)); // two ticks after the last message
            let sent = 0;
            const { send } = sockets[0];
            sockets[0].send = function (data) {
                sent += 1;
                send.call(sockets[0], data);
            };
            const place = { clientX, clientY, buttons: 1, pointerId: down };
            dispatchEvent(new PointerEvent("pointermove", place));
            sockets[0].send = send;
            return sent;
        }""",
        shared.place(60, 60),
    )
    shared.page.mouse.up()
    assert led == 1


def test_a_pointer_that_is_passed_for_distance_is_come_back_to(far_away: FarAway) -> None:
    client = far_away(0.3).client
    client.page.mouse.move(*client.place(400, 300))
    client.page.mouse.down()
    client.page.wait_for_timeout(2500)  # the first time, it slides on for 180
    client.wait(lambda: client.position() == pytest.approx((385, 285), abs=20), 3 * PATIENCE)
    client.page.mouse.up()


def test_a_pointer_that_is_held_all_along_leads_the_new_player(
    client: Client, server: Server, start_server: StartServer
) -> None:
    client.show_all_frames()
    client.page.mouse.move(*client.place(400, 300))
    client.page.mouse.down()
    client.wait(lambda: client.position() == pytest.approx((385, 285), abs=20))
    client.wait(lambda: client.sent[-1] == (0, 0))
    server.interrupt()
    expect(client.status).to_contain_text("Disconnected", timeout=PATIENCE * 1000)
    client.evaluate("lastState.players = {}")
    start_server(port=server.port)
    client.playing()
    client.wait(client.state)
    client.wait(lambda: client.position() == pytest.approx((385, 285), abs=20))
    client.page.mouse.up()
    client.wait(lambda: client.sent[-1] == (0, 0))


def test_the_left_button_going_up_lets_go_even_if_another_is_down(shared: Client) -> None:
    shared.page.mouse.move(*shared.place(100, 300))
    shared.page.mouse.down()
    shared.page.mouse.down(button="right")
    shared.page.mouse.up()
    shared.page.mouse.move(*shared.place(110, 300))
    shared.wait(lambda: shared.sent[-1:] in ([], [(0, 0)]))
    shared.sent.clear()
    shared.page.mouse.move(*shared.place(700, 300))
    shared.page.wait_for_timeout(300)
    assert shared.sent == []
    shared.page.mouse.up(button="right")


def test_a_finger_on_the_page_neither_scrolls_nor_selects(shared: Client) -> None:
    style = "getComputedStyle(document.body)"
    assert shared.evaluate(f"[{style}.touchAction, {style}.userSelect]") == ["none", "none"]
