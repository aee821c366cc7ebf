"""The fixtures that the tests of the page share."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from tests.harness.game_server import PLACED, Server, edited_server, running
from tests.harness.page import FRAME_GAP, PAGE, PROBE, GamePage, OpenPage
from tests.harness.waiting import PATIENCE, wait_until

WINDOW: dict[str, Any] = {"viewport": {"width": 640, "height": 520}}

expect.set_options(timeout=PATIENCE * 1000)


def new_page(context: BrowserContext, server: Server) -> GamePage:
    context.add_init_script(path=PROBE)
    context.add_init_script(f"window.frameGap = {FRAME_GAP}")
    return GamePage(context.new_page(), server)


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("shared")
    with running(Server(folder, program=edited_server(folder, insert=PLACED))) as server:
        yield server


@pytest.fixture(scope="session")
def shared_page(browser: Browser, shared_server: Server) -> Iterator[GamePage]:
    """A page for one test after the other, because a new one in a new context takes long."""
    context = browser.new_context(**WINDOW)
    yield new_page(context, shared_server)
    context.close()


@pytest.fixture
def game(shared_server: Server) -> Iterator[Server]:
    """A server without players before and after the test. It has PLACED."""
    yield shared_server
    shared_server.disconnect_all()
    wait_until(lambda: shared_server.online() == 0)


@pytest.fixture
def open_page(
    shared_page: GamePage, new_context: Callable[..., BrowserContext], game: Server
) -> Iterator[OpenPage]:
    """Open client.html from its file, or another URL. No script of it may fail.

    It plays on `game` unless the test gives another server. With options, which are those of
    Playwright's new_context(), it is a page in a context of its own.
    """
    opened = []

    def open_page(url: str = "", *, server: Server = game, **options: Any) -> GamePage:
        page = new_page(new_context(**(WINDOW | options)), server) if options else shared_page
        page.server = server
        page.page.goto(url or f"{PAGE.as_uri()}?server={server.url}")
        opened.append(page)
        return page

    shared_page.errors.clear()
    shared_page.requests.clear()
    yield open_page
    for page in opened:
        page.leave()
        assert page.errors == []


@pytest.fixture
def page(open_page: OpenPage) -> GamePage:
    """A page that plays, alone in the game and in the middle of the field."""
    return open_page().playing()
