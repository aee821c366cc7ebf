"""The page loses its server, and finds it again."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.harness.game_server import PLACED, Server, edited_server
from tests.harness.page import OPENING_LIMIT, SILENCE, GamePage, OpenPage
from tests.harness.page_server import web_server

# The longest waits before the next tries, in milliseconds. The shortest are half as long.
WAITS = (0, 500, 1000, 2000, 4000, 5000, 5000)

StartServer = Callable[..., Server]


def sockets(page: GamePage) -> int:
    """Return how many WebSockets the page has opened."""
    return int(page.evaluate("sockets.length"))


def wait_for_tries(page: GamePage, number: int) -> list[float]:
    """Wait until the page has planned this many tries. Return the milliseconds before each."""
    page.wait(lambda: len(page.evaluate("waits")) >= number)
    waits: list[float] = page.evaluate("waits")
    return waits[:number]


# --- A server that is lost ---


def test_a_restarted_server_is_found_again_and_held_keys_count(
    open_page: OpenPage, start_server: StartServer, tmp_path: Path
) -> None:
    program = edited_server(tmp_path / "placed", insert=PLACED)
    server = start_server(program=program)
    page = open_page(server=server).playing()
    canvas = page.page.locator("canvas")
    page.evaluate("window.pace = 0.1")
    expect(canvas).to_have_css("opacity", "1")
    page.keyboard.down("ArrowUp")
    page.wait(lambda: page.position()[1] < 200)
    page.keyboard.up("ArrowUp")
    page.keyboard.down("ArrowLeft")
    page.expect_sent((0, -1), (0, 0), (-1, 0))

    assert server.interrupt() == 0
    expect(page.status).to_contain_text("Disconnected: the server has stopped.")
    expect(page.status).to_contain_text("Trying again")
    expect(canvas).not_to_have_css("opacity", "1")
    wait_for_tries(page, 8)
    expect(page.status).to_contain_text("the server has stopped")
    # Firefox delays new sockets after failed ones. So the page asks over HTTP first.
    assert sockets(page) <= 3
    assert page.requests.count(server.page_url) >= 4

    page.show_all_frames()
    page.evaluate("lastState.players = {}")
    start_server(program=program, port=server.port)
    page.playing()
    page.wait(lambda: page.position()[0] < 300)
    page.expect_sent((-1, 0))
    expect(canvas).to_have_css("opacity", "1")
    # Another player with the same ID doesn't glide here from where the last one was.
    welcome, _ = page.evaluate("messages.findLast(([_, { type }]) => type === 'welcome')")
    assert all(abs(y - 285) <= 1 for time, _, y in page.drawn(page.color) if time > welcome)
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


def test_a_page_that_was_blocked_stays_in_the_game(page: GamePage) -> None:
    page.evaluate("const end = performance.now() + 3400; while (performance.now() < end);")
    page.wait_for_states(3)
    assert sockets(page) == 1
    assert page.evaluate("said.at(-1)[1]") == f"You are player {page.id}"


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
    waits = wait_for_tries(page, len(WAITS))
    expect(page.status).not_to_contain_text("Disconnected")
    shares = [wait / longest for wait, longest in zip(waits, WAITS, strict=True) if longest]
    assert waits[0] == 0
    assert all(0.5 <= share <= 1 for share in shares)
    assert max(shares) - min(shares) > 0.01  # they are random
    start_server(port=server.port)
    page.playing()


@pytest.mark.only_browser("chromium")
def test_a_proxy_without_a_game_behind_it_is_no_answer(open_page: OpenPage) -> None:
    with web_server() as host:
        page = open_page(f"http://{host}/")
        page.evaluate("window.pace = 0.001")
        page.wait(lambda: sockets(page) >= 3)
        # Only the first two tries and every 30th don't ask over HTTP whether the server is back.
        assert len(page.evaluate("waits")) >= 30


@pytest.mark.only_browser("chromium")
def test_a_connection_that_never_opens_is_given_up(open_page: OpenPage, server: Server) -> None:
    server.process.send_signal(signal.SIGSTOP)
    page = open_page(server=server)
    page.wait(lambda: sockets(page) == 2)
    assert page.evaluate("said.at(-1)[0]") > OPENING_LIMIT - 1000
    expect(page.status).to_contain_text("can't be reached")


@pytest.mark.only_browser("chromium")
def test_a_server_that_hangs_up_at_once_is_tried_less_and_less(page: GamePage) -> None:
    page.evaluate("window.pace = 0.1")
    page.evaluate("window.hangUp = setInterval(() => sockets.at(-1).close(), 50)")
    assert wait_for_tries(page, 6)[5] >= 2000
    # A connection that lasts starts from the beginning.
    page.evaluate("clearInterval(hangUp)")
    page.playing()
    page.wait_for_states(2)  # nobody moves, so the second comes a second after the first
    page.evaluate("sockets.at(-1).close()")
    page.wait(lambda: page.evaluate("waits")[-1] == 0)


@pytest.mark.only_browser("chromium")
def test_a_page_that_comes_back_tries_at_once(open_page: OpenPage, server: Server) -> None:
    page = open_page(server=server).playing()
    page.evaluate("window.pace = 1000")
    server.stop()
    wait_for_tries(page, 2)  # the next try is minutes away
    events = (
        "window.dispatchEvent(new Event('online'))",
        "window.dispatchEvent(new Event('pageshow'))",
        "document.dispatchEvent(new Event('visibilitychange'))",
    )
    page.evaluate("Object.defineProperty(document, 'hidden', { value: true, writable: true })")
    for event in events:
        page.evaluate(event)
    page.wait_for_frames()
    assert len(page.evaluate("waits")) == 2  # a hidden page doesn't try
    page.evaluate("document.hidden = false")
    for number, event in enumerate(events, 3):
        page.evaluate(event)
        wait_for_tries(page, number)


# --- A server that refuses ---


@pytest.mark.only_browser("chromium")
def test_a_full_game_is_reported_and_joined_once_there_is_room(
    open_page: OpenPage, start_server: StartServer
) -> None:
    server = start_server("--max-players", "1")
    server.join()
    page = open_page(server=server)
    page.evaluate("window.pace = 0.1")
    expect(page.status).to_contain_text("Disconnected: the game is full. Trying again")
    server.stop()
    expect(page.status).to_contain_text("can't be reached")  # so it is no longer full
    start_server("--max-players", "1", port=server.port)
    page.playing()


def test_a_player_who_was_thrown_out_sees_why_and_stays_out(page: GamePage) -> None:
    page.evaluate("window.pace = 0.1; sockets[0].send('{}')")
    expect(page.status).to_contain_text("Disconnected: expected")
    expect(page.status).to_contain_text("Reload the page")
    page.evaluate("dispatchEvent(new Event('online'))")
    page.keyboard.press("ArrowLeft")
    page.wait_for_frames(5)
    assert sockets(page) == 1
    expect(page.status).to_contain_text("Disconnected: expected")


@pytest.mark.only_browser("chromium")
@pytest.mark.parametrize("data", ["hello", "null", '{"hello": "world"}'])
def test_a_server_that_is_not_a_game_is_reported_and_not_tried_again(
    page: GamePage, data: str
) -> None:
    page.evaluate("(data) => sockets[0].onmessage({ data })", data)
    expect(page.status).to_contain_text(f"{page.server.url} is not a game server")
    page.wait_for_frames(5)
    assert sockets(page) == 1


@pytest.mark.only_browser("chromium")
def test_unknown_messages_are_ignored(page: GamePage) -> None:
    data = '{ "type": "weather", "id": 99, "width": 1, "players": {} }'
    page.evaluate("(data) => sockets[0].onmessage({ data })", data)
    page.wait_for_states(1)
    expect(page.status).to_contain_text(f"You are player {page.id} · 1 online")
