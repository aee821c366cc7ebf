"""README's examples, applied to the real files and played."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.harness.game_server import ROOT, Server
from tests.harness.readme import block
from tests.harness.waiting import PATIENCE, wait_until

TEXTS = """
    window.texts = new Set(); // everything that was ever written on the squares
    const { fillText } = CanvasRenderingContext2D.prototype;
    CanvasRenderingContext2D.prototype.fillText = function (text, ...place) {
        texts.add(String(text));
        fillText.call(this, text, ...place);
    };
"""


def apply(changes: str, folder: Path) -> None:
    """Write server.py and client.html with these changes into a folder."""
    sections = dict(re.findall(r"^--- (\S+)\n(.*?)(?=^--- |\Z)", changes, re.M | re.S))
    for name in ("server.py", "client.html"):
        text = (ROOT / name).read_text("utf-8")
        for part in filter(None, sections.pop(name, "").split("@@\n")):
            lines = part.splitlines(keepends=True)
            old = "".join(line[1:] for line in lines if line[0] in " -")
            new = "".join(line[1:] for line in lines if line[0] in " +")
            assert text.count(old) == 1, f"{name} has {text.count(old)} times:\n{old}"
            text = text.replace(old, new)
        (folder / name).write_text(text, "utf-8")
    assert not sections, f"README changes {list(sections)}"


@pytest.fixture
def start_example(start_server: Callable[..., Server], tmp_path: Path) -> Callable[[str], Server]:
    """Start a server that one of the examples changes."""

    def start(heading: str) -> Server:
        apply(block("diff", after=f"**{heading}**"), tmp_path)
        return start_server(program=tmp_path / "server.py")

    return start


def test_another_field_of_a_player(start_example: Callable[[str], Server]) -> None:
    player = start_example("Another field of a player").join()
    color = player.state()[player.id][2]
    assert color != "#808080"
    player.wait_for(lambda players: players[player.id][2] == "#808080")
    player.move(1, 0)
    player.wait_for(lambda players: players[player.id][2] == color)


def test_another_message(start_example: Callable[[str], Server], page: Page) -> None:
    server = start_example("Another message")
    player = server.join()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.add_init_script(TEXTS)
    page.goto(server.page_url)

    def wait_for_text(text: str) -> None:
        page.wait_for_function("(text) => texts.has(text)", arg=text, timeout=PATIENCE * 1000)

    wait_for_text("2")
    assert not page.evaluate("texts.has('👋')")
    page.keyboard.press("KeyH")
    wait_for_text("👋")
    wait_until(lambda: player.receive() == {"type": "wave", "ids": [2]})
    page.keyboard.down("ArrowLeft")  # still moves
    wait_until(lambda: player.receive().get("players", {}).get("2", [None])[0] == 0)
    assert errors == []
