"""Which server the page connects to, and what else it may ask for."""

import pytest
from playwright.sync_api import expect

from tests.harness.game_server import Server
from tests.harness.page import PAGE, GamePage, OpenPage
from tests.harness.page_server import web_server


def test_a_file_connects_to_this_machine(
    server_on_default_port: Server, open_page: OpenPage
) -> None:
    page = open_page(PAGE.as_uri(), server=server_on_default_port).playing()
    assert page.evaluate("sockets[0].url") == "ws://localhost:8765/"
    # Firefox counts connections as requests.
    own = ("file:", "data:", "http://localhost:8765/", "ws://localhost:8765/")
    assert [url for url in page.requests if not url.startswith(own)] == []


def test_the_page_from_the_game_server_connects_back(game: Server, open_page: OpenPage) -> None:
    page = open_page(game.page_url).playing()
    assert page.evaluate("sockets[0].url") == f"{game.url}/"


@pytest.mark.only_browser("chromium")
def test_a_page_from_a_web_server(open_page: OpenPage) -> None:
    with web_server() as host:
        for path, address in (
            ("folder/client.html", "ws://127.0.0.1:8765/"),  # the usual port
            ("games/squares/", f"ws://{host}/games/squares/"),  # the path that it came from
            ("games/squares/?server=ws://localhost:1/game", "ws://localhost:1/game"),
        ):
            page = open_page(f"http://{host}/{path}")
            assert page.evaluate("sockets[0].url") == address


def test_a_malformed_address_is_reported(open_page: OpenPage) -> None:
    for address in ("hello", "ws://", ""):
        page = open_page(f"{PAGE.as_uri()}?server={address}")
        expect(page.status).to_contain_text("ws://host:port")
        page.wait_for_frames()
        assert page.evaluate("sockets.length") == 0


@pytest.mark.only_browser("chromium")  # Firefox reports each violation as an error of the page
def test_the_page_may_not_load_images_or_scripts_from_elsewhere(page: GamePage) -> None:
    for tag, directive in (("img", "img-src"), ("script", "script-src-elem")):
        violation = page.evaluate(
            """([tag, url]) => new Promise((resolve) => {
                document.addEventListener("securitypolicyviolation", resolve, { once: true });
                const element = document.createElement(tag);
                element.onload = element.onerror = () => setTimeout(resolve, 1000, {});
                element.src = url;
                document.body.append(element);
            }).then(({ effectiveDirective }) => effectiveDirective)""",
            [tag, f"{page.server.page_url}?{tag}"],
        )
        assert violation == directive
