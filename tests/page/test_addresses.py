"""Which server the page connects to, and what else it may ask for."""

import pytest
from playwright.sync_api import expect

from tests.harness.game_server import Server
from tests.harness.page import PAGE, GamePage, OpenPage
from tests.harness.page_server import web_server


def visit(open_page: OpenPage, url: str) -> GamePage:
    """Open the page at an address of its own."""
    page = open_page("?server=none")
    page.page.goto(url)
    return page


def test_a_file_connects_to_this_machine(
    server_on_default_port: Server, open_page: OpenPage
) -> None:
    page = open_page("", server=server_on_default_port).playing()
    assert page.evaluate("sockets[0].url") == "ws://localhost:8765/"
    # Firefox counts connections as requests.
    own = ("file:", "data:", "http://localhost:8765/", "ws://localhost:8765/")
    assert [url for url in page.requests if not url.startswith(own)] == []


def test_client_html_from_a_web_server_connects_to_the_usual_port(
    server_on_default_port: Server, open_page: OpenPage
) -> None:
    with web_server() as host:
        page = visit(open_page, f"http://{host}/folder/client.html").playing()
    assert page.evaluate("sockets[0].url") == "ws://127.0.0.1:8765/"


def test_the_page_from_the_game_server_connects_back(server: Server, open_page: OpenPage) -> None:
    page = visit(open_page, server.page_url).playing()
    assert page.evaluate("sockets[0].url") == f"{server.url}/"


@pytest.mark.only_browser("chromium")
def test_it_connects_back_to_the_path_that_it_came_from(open_page: OpenPage) -> None:
    with web_server() as host:
        page = visit(open_page, f"http://{host}/games/squares/")
        assert page.evaluate("sockets[0].url") == f"ws://{host}/games/squares/"


@pytest.mark.only_browser("chromium")
def test_a_server_in_the_query_overrides_where_the_page_came_from(
    server: Server, open_page: OpenPage
) -> None:
    with web_server() as host:
        page = visit(open_page, f"http://{host}/client.html?server={server.url}").playing()
    assert page.evaluate("sockets[0].url") == f"{server.url}/"


def test_a_malformed_address_is_reported(open_page: OpenPage) -> None:
    page = open_page("?server=hello")
    for address in ("hello", "ws://", "/game", ""):
        page.page.goto(f"{PAGE.as_uri()}?server={address}")
        expect(page.status).to_contain_text("ws://host:port")
        page.wait_for_frames()
        assert page.evaluate("sockets.length") == 0


@pytest.mark.only_browser("chromium")  # Firefox reports each violation as an error of the page
def test_the_page_may_not_load_images_or_scripts_from_elsewhere(
    server: Server, page_in_game: GamePage
) -> None:
    for tag, directive in (("img", "img-src"), ("script", "script-src-elem")):
        violation = page_in_game.evaluate(
            """([tag, url]) => new Promise((resolve) => {
                document.addEventListener("securitypolicyviolation", resolve, { once: true });
                const element = document.createElement(tag);
                element.onload = element.onerror = () => setTimeout(resolve, 1000, {});
                element.src = url;
                document.body.append(element);
            }).then(({ effectiveDirective }) => effectiveDirective)""",
            [tag, f"{server.page_url}?{tag}"],
        )
        assert violation == directive
