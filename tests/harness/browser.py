"""Where the browsers of a Linux distribution are, for Playwright."""

import shutil
from typing import Any

INSTALL = {
    "chromium": "install Chromium or Chrome, or run `playwright install chromium`",
    "firefox": "install Firefox ESR",
}


def find_program(*names: str) -> str | None:
    """Return the path of the first of these programs that is installed."""
    return next(filter(None, map(shutil.which, names)), None)


def launch_arguments(browser_name: str) -> dict[str, Any]:
    """Return what launches the installed browser. Without a path, it is Playwright's own."""
    if browser_name == "firefox":
        return {
            "channel": "moz-firefox",
            "executable_path": find_program("firefox-esr", "firefox"),
            # Firefox delays new connections after failed ones. A test sees the page's own delays.
            "firefox_user_prefs": {"network.websocket.delay-failed-reconnects": False},
        }
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    return {
        "executable_path": find_program(*names),
        "args": [
            "--no-sandbox",
            "--disable-background-networking",
            "--disable-component-update",
            # Each page would load the address bar's popups, which costs more than the page itself.
            "--disable-features=WebUIOmniboxPopup,WebUIOmniboxAimPopup",
        ],
    }
