"""The page loses its server, and finds it again."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.harness.game_server import PLACED, Server, edited_server
from tests.harness.page import OPENING_LIMIT, SILENCE, GamePage, OpenPage
from tests.harness.page_server import greeter, web_server
from tests.harness.relay import Link, Relay

# The longest waits before the next tries, in milliseconds. The shortest are half as long.
WAITS = (0, 500, 1000, 2000, 4000, 5000, 5000)

StartServer = Callable[..., Server]
StartRelay = Callable[[Server, Link], Relay]


def opacity(page: GamePage) -> float:
    return float(page.evaluate("getComputedStyle(document.querySelector('canvas')).opacity"))


def sockets(page: GamePage) -> int:
    """Return how many WebSockets the page has opened."""
    return int(page.evaluate("sockets.length"))


def wait_for_tries(page: GamePage, number: int) -> list[float]:
    """Wait until the page has planned this many tries. Return the milliseconds before each."""
    page.wait(lambda: len(page.reconnection_waits()) >= number)
    return page.reconnection_waits()[:number]


# --- A server that is lost ---


def test_a_restarted_server_is_found_again_and_held_keys_count(
    open_page: OpenPage, server: Server, start_server: StartServer
) -> None:
    page = open_page(server=server).playing()
    page.wait(lambda: opacity(page) == 1)
    page.keyboard.down("ArrowLeft")
    page.wait(lambda: page.position()[0] == 0)
    page.expect_sent((-1, 0))
    assert server.interrupt() == 0
    expect(page.status).to_contain_text("Disconnected: the server has stopped.")
    expect(page.status).to_contain_text("Trying again")
    page.wait(lambda: opacity(page) < 0.5)
    page.evaluate("lastState.players = {}")
    start_server(port=server.port)
    page.playing()
    page.wait(lambda: page.position()[0] == 0)
    page.expect_sent((-1, 0))
    page.wait(lambda: opacity(page) == 1)


def test_nothing_is_left_of_the_last_game(
    open_page: OpenPage, start_server: StartServer, tmp_path: Path
) -> None:
    program = edited_server(tmp_path / "placed", insert=PLACED)
    server = start_server(program=program)
    page = open_page(server=server).playing()
    page.keyboard.down("ArrowUp")
    page.wait(lambda: page.position()[1] == 0)
    page.keyboard.up("ArrowUp")
    page.show_all_frames()
    server.interrupt()
    expect(page.status).to_contain_text("Disconnected")
    page.evaluate("lastState.players = {}; frames.length = 0")
    start_server(program=program, port=server.port)
    page.playing()
    page.wait_for_frames(5)
    # Another player with the same ID doesn't glide here from where the last one was.
    welcome, _ = page.evaluate("messages.findLast(([_, { type }]) => type === 'welcome')")
    places = [(x, y) for time, x, y in page.drawn(page.color) if time > welcome]
    assert all(place == pytest.approx((385, 285), abs=1) for place in places)
    # What an old connection says is ignored.
    page.evaluate(
        """() => {
            const data = JSON.stringify({ ...lastWelcome, id: 99 });
            sockets[0].dispatchEvent(new MessageEvent("message", { data }));
            sockets[0].dispatchEvent(new CloseEvent("close", { code: 1001 }));
        }"""
    )
    page.wait_for_states(1)
    expect(page.status).to_contain_text("You are player 1 · 1 online")


def test_a_silent_server_counts_as_lost_and_is_found_again(
    open_page: OpenPage, server: Server
) -> None:
    page = open_page(server=server).playing()
    server.process.send_signal(signal.SIGSTOP)
    expect(page.status).to_contain_text("Disconnected: the server isn't responding.")
    (last, _), (said, _) = page.evaluate("[messages.at(-1), said.at(-1)]")
    assert SILENCE - 1000 < said - last < SILENCE + 2000
    server.process.send_signal(signal.SIGCONT)
    expect(page.status).to_contain_text("You are player 2 · 1 online")
    assert sockets(page) <= 3


def test_a_page_that_was_blocked_stays_in_the_game(open_page: OpenPage) -> None:
    page = open_page().playing()
    page.evaluate("const end = performance.now() + 4000; while (performance.now() < end);")
    page.wait_for_states(3)
    assert sockets(page) == 1
    assert [text for _, text in page.evaluate("said")][-1] == "You are player 1"


@pytest.mark.only_browser("chromium")
def test_the_reason_is_shown_until_the_game_goes_on(
    open_page: OpenPage, server: Server, start_server: StartServer
) -> None:
    page = open_page(server=server).playing()
    page.evaluate("window.pace = 0.1")
    server.interrupt()
    wait_for_tries(page, 4)
    expect(page.status).to_contain_text("the server has stopped")
    start_server(port=server.port)
    page.playing()
    page.evaluate("sockets.at(-1).close()")
    page.wait(lambda: "the connection was lost" in page.evaluate("said.at(-2)[1]"))


# --- A server that isn't there ---


def test_a_missing_server_is_reported_and_found_once_it_starts(
    open_page: OpenPage, server: Server, start_server: StartServer
) -> None:
    server.stop()
    page = open_page(server=server)
    page.evaluate("window.pace = 0.1")
    expect(page.status).to_contain_text(f"{server.url} can't be reached.")
    expect(page.status).to_contain_text("Is server.py running? Trying again")
    expect(page.page.locator("#hint")).to_be_hidden()
    wait_for_tries(page, 3)
    expect(page.status).not_to_contain_text("Disconnected")
    expect(page.status).not_to_contain_text("0.0 s")
    start_server(port=server.port)
    page.playing()


def test_waits_grow_and_are_random(open_page: OpenPage, server: Server) -> None:
    server.stop()
    page = open_page(server=server)
    page.evaluate("window.pace = 0.1")
    waits = wait_for_tries(page, len(WAITS))
    shares = [wait / longest for wait, longest in zip(waits, WAITS, strict=True) if longest]
    assert waits[0] == 0
    assert all(0.5 <= share <= 1 for share in shares)
    assert max(shares) - min(shares) > 0.01


def test_during_an_outage_few_sockets_are_opened(open_page: OpenPage, server: Server) -> None:
    page = open_page(server=server).playing()
    page.evaluate("window.pace = 0.1")
    server.stop()
    wait_for_tries(page, 8)
    # Firefox delays new ones after failed ones. So the page asks over HTTP first.
    assert sockets(page) <= 3
    assert page.requests.count(server.page_url) >= 4


def test_a_proxy_without_a_game_behind_it_is_no_answer(open_page: OpenPage) -> None:
    page = open_page("?server=none")
    with web_server() as host:
        page.page.goto(f"http://{host}/")
        page.evaluate("window.pace = 0.1")
        wait_for_tries(page, 6)
        assert sockets(page) <= 3


@pytest.mark.only_browser("chromium")
def test_a_slow_connection_gets_in(
    open_page: OpenPage, game: Server, start_relay: StartRelay
) -> None:
    relay = start_relay(game, Link(delay=2.2))  # seconds in each direction
    page = open_page(f"?server={relay.url}").playing()
    assert sockets(page) == 1


@pytest.mark.only_browser("chromium")
def test_a_connection_that_never_opens_is_given_up(open_page: OpenPage, server: Server) -> None:
    server.process.send_signal(signal.SIGSTOP)
    page = open_page(server=server)
    page.wait(lambda: sockets(page) == 2)
    assert page.evaluate("said.at(-1)[0]") > OPENING_LIMIT - 1000
    expect(page.status).to_contain_text("can't be reached")


@pytest.mark.only_browser("chromium")
def test_a_server_that_hangs_up_at_once_is_tried_less_and_less(page_in_game: GamePage) -> None:
    page = page_in_game
    page.evaluate(
        """() => {
            window.pace = 0.1;
            window.Original = WebSocket;
            window.WebSocket = class extends Original {
                constructor(...address) {
                    super(...address);
                    this.addEventListener("message", () => this.close());
                }
            };
            sockets[0].close();
        }"""
    )
    assert wait_for_tries(page, 6)[5] >= 2000
    # A connection that lasts starts from the beginning.
    page.evaluate("void (window.WebSocket = Original)")
    page.playing()
    page.wait_for_states(3)  # nobody moves, so these take two seconds
    page.evaluate("sockets.at(-1).close()")
    page.wait(lambda: page.reconnection_waits()[-1] == 0)


@pytest.mark.parametrize(
    "event",
    [
        "window.dispatchEvent(new Event('online'))",
        "window.dispatchEvent(new Event('pageshow'))",
        "document.dispatchEvent(new Event('visibilitychange'))",
    ],
    ids=["online", "pageshow", "visibilitychange"],
)
@pytest.mark.only_browser("chromium")
def test_a_page_that_comes_back_tries_at_once(
    open_page: OpenPage, server: Server, start_server: StartServer, event: str
) -> None:
    page = open_page(server=server).playing()
    page.evaluate("window.pace = 1000")
    server.interrupt()
    wait_for_tries(page, 2)  # the next try is minutes away
    start_server(port=server.port)
    page.evaluate("Object.defineProperty(document, 'hidden', { value: true, writable: true })")
    page.evaluate(event)
    page.wait_for_frames()
    expect(page.status).to_contain_text("Disconnected")  # a hidden page doesn't try
    page.evaluate("document.hidden = false")
    page.evaluate(event)
    page.playing()


# --- A server that refuses ---


def test_a_full_game_is_reported_and_joined_once_there_is_room(
    open_page: OpenPage, start_server: StartServer
) -> None:
    server = start_server("--max-players", "1")
    first = server.join()
    page = open_page(server=server)
    page.evaluate("window.pace = 0.1")
    expect(page.status).to_contain_text("Disconnected: the game is full. Trying again")
    page.wait(lambda: opacity(page) < 0.5)
    first.close()
    expect(page.status).to_contain_text("You are player 2 · 1 online")


@pytest.mark.only_browser("chromium")
def test_a_full_game_that_is_gone_is_no_longer_full(
    open_page: OpenPage, start_server: StartServer
) -> None:
    server = start_server("--max-players", "1")
    server.join()
    page = open_page(server=server)
    page.evaluate("window.pace = 0.1")
    expect(page.status).to_contain_text("the game is full")
    server.stop()
    expect(page.status).to_contain_text("can't be reached")


def test_a_player_who_was_thrown_out_sees_why_and_stays_out(page_in_game: GamePage) -> None:
    page = page_in_game
    page.evaluate("window.pace = 0.1; sockets[0].send('{}')")
    expect(page.status).to_contain_text("Disconnected: expected")
    expect(page.status).to_contain_text("Reload the page")
    page.evaluate("dispatchEvent(new Event('online'))")
    page.keyboard.press("ArrowLeft")
    page.wait_for_frames(5)
    assert sockets(page) == 1
    expect(page.status).to_contain_text("Disconnected: expected")


@pytest.mark.parametrize("greeting", ["hello", "null", '{"hello": "world"}'])
def test_a_server_that_is_not_a_game_is_reported_and_not_tried_again(
    open_page: OpenPage, greeting: str
) -> None:
    with greeter(greeting) as url:
        page = open_page(f"?server={url}")
        page.evaluate("window.pace = 0.1")
        expect(page.status).to_contain_text(f"{url} is not a game server")
        page.wait_for_frames(5)
        assert sockets(page) == 1
        assert page.reconnection_waits() == []


@pytest.mark.only_browser("chromium")
def test_unknown_messages_are_ignored(page_in_game: GamePage) -> None:
    assert page_in_game.evaluate(
        """() => {
            const before = document.body.outerHTML;
            for (const type of ["weather", ""]) {
                const message = { type, id: 99, width: 1, height: 1, size: 1, players: {} };
                const data = JSON.stringify(message);
                sockets[0].dispatchEvent(new MessageEvent("message", { data }));
            }
            return document.body.outerHTML === before;
        }"""
    )
    page_in_game.wait_for_states(1)
    expect(page_in_game.status).to_contain_text(f"You are player {page_in_game.id} · 1 online")
