"""README's own examples, done to the real files and played."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import PATIENCE, ROOT, Server, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

StartServer = Callable[..., Server]

README = (ROOT / "README.md").read_text("utf-8")
TEXTS = """
    window.texts = new Set(); // all that was ever written on squares
    const { fillText } = CanvasRenderingContext2D.prototype;
    CanvasRenderingContext2D.prototype.fillText = function (text, ...place) {
        texts.add(String(text));
        fillText.call(this, text, ...place);
    };
"""


def test_the_readme_is_short() -> None:
    words = [word for word in README.split() if any(letter.isalnum() for letter in word)]
    assert len(words) <= 1700


def example(heading: str) -> str:
    """Return the changes under a heading in bold."""
    _, _, rest = README.partition(f"**{heading}**")
    changes = re.search(r"^```diff\n(.+?)^```", rest, re.M | re.S)
    assert changes
    return changes[1]


def change(changes: str, folder: Path) -> None:
    """Write server.py and client.html with these changes into a folder."""
    for name in ("server.py", "client.html"):
        text = (ROOT / name).read_text("utf-8")
        _, _, rest = changes.partition(f"--- {name}\n")
        for part in filter(None, rest.partition("\n--- ")[0].split("@@\n")):
            lines = part.splitlines()
            old = "".join(f"{line[1:]}\n" for line in lines if line[0] in " -")
            new = "".join(f"{line[1:]}\n" for line in lines if line[0] in " +")
            assert text.count(old) == 1, f"{name} has {text.count(old)} times:\n{old}"
            text = text.replace(old, new)
        (folder / name).write_text(text, "utf-8")


@pytest.fixture
def start_example(start_server: StartServer, tmp_path: Path) -> Callable[[str], Server]:
    """Start the server that one of the examples makes."""

    def start(heading: str) -> Server:
        change(example(heading), tmp_path)
        return start_server(program=tmp_path / "server.py")

    return start


@pytest.fixture
def open_page(browser: "Browser", tmp_path: Path) -> Iterator[Callable[[Server], "Page"]]:
    """Open the page of an example, which notes what it writes on the squares."""
    pages: list[Page] = []

    def open_page(server: Server) -> "Page":
        pages.append(browser.new_page())
        pages[-1].add_init_script(TEXTS)
        pages[-1].goto(f"{(tmp_path / 'client.html').as_uri()}?server={server.url}")
        return pages[-1]

    yield open_page
    for page in pages:
        page.close()


def wait_for_text(page: "Page", text: str) -> None:
    page.wait_for_function("(text) => texts.has(text)", arg=text, timeout=PATIENCE * 1000)


def test_another_field_of_a_player(start_example: Callable[[str], Server]) -> None:
    player = start_example("Another field of a player").join()
    color = player.state()[player.id][2]
    assert color != "#808080"
    player.wait_for(lambda players: players[player.id][2] == "#808080")
    player.tap(player.inward(), 0)
    player.wait_for(lambda players: players[player.id][2] == color)


def test_another_message(
    start_example: Callable[[str], Server], open_page: Callable[[Server], "Page"]
) -> None:
    server = start_example("Another message")
    player = server.join()
    page = open_page(server)
    wait_for_text(page, "2")
    assert not page.evaluate("texts.has('👋')")
    page.keyboard.press("KeyH")
    wait_for_text(page, "👋")
    wait_until(lambda: player.receive() == {"type": "wave", "ids": [2]})
    # And a move is still a move.
    x, inward = player.position()[0], player.inward()
    player.tap(inward, 0)
    player.wait_for(lambda players: players[player.id][0] == x + 10 * inward)
