"""Make client.png anew: the real page in a real game of ten players.

Run it as `python tests/screenshot.py`.
"""

import random
import tempfile
import time
from pathlib import Path

from conftest import ROOT, Server, launch_browser
from playwright.sync_api import sync_playwright

OTHERS = 9
HEADINGS = [(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1)]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        server = Server(Path(folder, "log"), port=8765)
        browser = launch_browser(playwright)
        others = [server.join() for _ in range(OTHERS)]
        page = browser.new_page(viewport={"width": 880, "height": 700}, device_scale_factor=2)
        page.goto((ROOT / "client.html").as_uri())
        page.get_by_text("You are player").wait_for()
        # To the middle of the field, so that the whole outline is in the picture.
        page.mouse.move(440, 320)
        page.mouse.down()
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            random.choice(others).move(*random.choice(HEADINGS))
            page.wait_for_timeout(50)
        page.screenshot(path=ROOT / "client.png")
        browser.close()
        server.stop()


if __name__ == "__main__":
    main()
