"""The fixtures that the tests of the page share."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.harness.game_server import PLACED, Server, edited_server, running
from tests.harness.page import FRAME_GAP, PAGE, PROBE, GamePage
from tests.harness.waiting import PATIENCE, wait_until

KEYS = ("ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "KeyW", "KeyA", "KeyS", "KeyD", "Meta")

expect.set_options(timeout=PATIENCE * 1000)


@pytest.fixture(scope="session")
def shared_page(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GamePage]:
    """A page and a server for one test after the other, because opening a page takes long."""
    folder = tmp_path_factory.mktemp("shared")
    with running(Server(folder, program=edited_server(folder, insert=PLACED))) as server:
        context = browser.new_context(viewport={"width": 640, "height": 520})
        context.add_init_script(path=PROBE)
        context.add_init_script(f"window.frameGap = {FRAME_GAP}")
        yield GamePage(context.new_page(), server)
        context.close()


@pytest.fixture
def page_in_game(shared_page: GamePage) -> Iterator[GamePage]:
    """A page that plays, alone in the game and in the middle of the field.

    It is loaded for each test. At the end, no script of it may have failed.
    """
    wait_until(lambda: shared_page.server.online() == 0)
    shared_page.errors.clear()
    shared_page.page.goto(f"{PAGE.as_uri()}?server={shared_page.server.url}")
    yield shared_page.playing()
    for key in KEYS:
        shared_page.keyboard.up(key)
    shared_page.page.mouse.up()
    errors = list(shared_page.errors)
    shared_page.page.goto("about:blank")  # disconnects
    shared_page.server.disconnect_players()
    assert errors == []
