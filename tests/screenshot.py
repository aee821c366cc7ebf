"""Make client.png anew: the real page in a real game with seven other players.

Run it as `python tests/screenshot.py`.
"""

import random
import tempfile
import time
from pathlib import Path

from conftest import ROOT, Server, launch_browser
from playwright.sync_api import sync_playwright

OTHERS = 7
HEADINGS = [(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1)]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        server = Server(Path(folder, "log"), port=8765)
        browser = launch_browser(playwright)
        others = [server.join() for _ in range(OTHERS)]
        page = browser.new_page(viewport={"width": 880, "height": 700}, device_scale_factor=2)
        page.goto((ROOT / "client.html").as_uri())
        page.keyboard.down("ArrowRight")
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            random.choice(others).move(*random.choice(HEADINGS))
            time.sleep(0.05)
        page.keyboard.down("ArrowDown")
        page.wait_for_timeout(300)
        page.screenshot(path=ROOT / "client.png")
        browser.close()
        server.stop()


if __name__ == "__main__":
    main()
