"""Take client.png, a picture of ten players: `python -m tests.tools.screenshot`."""

import random
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.harness.browser import launch_arguments
from tests.harness.game_server import ROOT, Server, running
from tests.harness.page import PAGE

OTHERS = 9
HEADINGS = [(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1)]


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        running(Server(Path(folder))) as server,
        sync_playwright() as playwright,
        playwright.chromium.launch(**launch_arguments("chromium")) as browser,
    ):
        others = [server.join() for _ in range(OTHERS)]
        page = browser.new_page(viewport={"width": 880, "height": 700}, device_scale_factor=2)
        page.goto(f"{PAGE.as_uri()}?server={server.url}")
        page.get_by_text("You are player").wait_for()
        # Walk to the middle of the field, so that the whole outline is in the picture.
        page.mouse.move(440, 320)
        page.mouse.down()
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            random.choice(others).move(*random.choice(HEADINGS))
            page.wait_for_timeout(50)
        page.screenshot(path=ROOT / "client.png")


if __name__ == "__main__":
    main()
