"""The fixtures of all tests, and which tests run on which worker."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Error

from tests.harness.browser import INSTALL, launch_arguments
from tests.harness.game_server import PLACED, Server, edited_server, running
from tests.harness.relay import Link, Relay
from tests.harness.waiting import missing, wait_until

StartServer = Callable[..., Server]


def pytest_configure(config: pytest.Config) -> None:
    # In addopts, these two would be added to the --browser of the command line.
    config.option.browser = config.option.browser or list(INSTALL)


@pytest.hookimpl(tryfirst=True)  # before xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group tests for `--dist loadgroup`, and start the groups that take longest first.

    Two workers share the tests in Chromium. One has those in Firefox, which takes long to start.
    Other tests share the server of their module, except slow ones.
    """
    numbers: Counter[str] = Counter()
    for item in items:
        callspec = getattr(item, "callspec", None)
        browser_name = callspec.params.get("browser_name") if callspec else None
        if browser_name:
            numbers[browser_name] += 1
            workers = 2 if browser_name == "chromium" else 1
            group = f"{browser_name}-{numbers[browser_name] % workers}"
            item.add_marker(pytest.mark.xdist_group(group))
        elif not item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))

    def order(item: pytest.Item) -> tuple[bool, bool]:
        in_browser = "browser_name" in getattr(item, "fixturenames", ())
        return not in_browser, item.get_closest_marker("slow") is None

    items.sort(key=order)


# --- Servers ---


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """Start servers with options of the test. None of them may log a traceback."""
    with ExitStack() as stack:

        def start(*arguments: str, **options: Any) -> Server:
            folder = tmp_path / f"server{len(list(tmp_path.iterdir()))}"
            folder.mkdir()
            return stack.enter_context(running(Server(folder, *arguments, **options)))

        yield start


@pytest.fixture
def server(start_server: StartServer) -> Server:
    """The server as `python server.py --port 0` starts it."""
    return start_server()


@pytest.fixture(scope="module")
def module_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server that the tests of a module share. Players appear at known places; see PLACED."""
    folder = tmp_path_factory.mktemp("module")
    with running(Server(folder, program=edited_server(folder, insert=PLACED))) as server:
        yield server


@pytest.fixture
def game(module_server: Server) -> Iterator[Server]:
    """The server of the module, without players before and after the test."""
    yield module_server
    module_server.disconnect_all()
    wait_until(lambda: module_server.online() == 0)


@pytest.fixture
def start_relay() -> Iterator[Callable[[Server, Link], Relay]]:
    """Start relays to a server."""
    with ExitStack() as stack:

        def start(server: Server, link: Link) -> Relay:
            relay = Relay(server.port, link)
            stack.callback(relay.stop)
            return relay

        yield start


@pytest.fixture
def server_on_default_port(start_server: StartServer) -> Server:
    """A server on port 8765, where one test at a time can have it."""

    def start() -> Server | None:
        server = start_server(port=8765)
        return server if server.process.poll() is None else None

    server = wait_until(start)
    assert server
    return server


# --- Browsers ---


@pytest.fixture(scope="session")
def browser_type_launch_args(
    browser_type_launch_args: dict[str, Any], browser_name: str
) -> dict[str, Any]:
    """Launch the installed browsers, with the options of pytest-playwright."""
    return {**launch_arguments(browser_name), **browser_type_launch_args}


@pytest.fixture(scope="session")
def launch_browser(
    launch_browser: Callable[..., Browser], browser_name: str
) -> Callable[..., Browser]:
    """Say what to install where a browser is missing."""

    def launch(**options: Any) -> Browser:
        try:
            return launch_browser(**options)
        except Error as error:
            missing(f"{INSTALL[browser_name]}: {error.message.splitlines()[0]}")

    return launch
