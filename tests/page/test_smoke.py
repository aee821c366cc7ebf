"""The page joins a game."""

from playwright.sync_api import expect

from tests.harness.game_server import Server
from tests.harness.page import OpenPage


def test_the_page_says_who_you_are_and_how_many_are_online(
    open_page: OpenPage, server: Server
) -> None:
    page = open_page(server=server).playing()
    expect(page.status).to_contain_text("You are player 1 · 1 online")
    server.join()
    expect(page.status).to_contain_text("You are player 1 · 2 online")
