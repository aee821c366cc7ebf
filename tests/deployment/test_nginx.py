"""README's nginx configuration, with TLS, in front of worlds started as README's unit does."""

import platform
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect
from websockets import ConnectionClosed, InvalidStatus, WebSocketException

from tests.harness.attack import FLOODS, attack
from tests.harness.game_server import Server, has_ipv6
from tests.harness.nginx import NAME, Nginx
from tests.harness.page import PROBE
from tests.harness.player import Player, assert_others_play_on, walking
from tests.harness.readme import block, unit_environment
from tests.harness.waiting import PATIENCE, wait_until

StartWorld = Callable[..., Server]
StartNginx = Callable[..., Nginx]


@pytest.fixture
def start_nginx(tmp_path: Path) -> Iterator[StartNginx]:
    """Start nginx, with changes to README's block. Its worlds don't run yet."""
    started: list[Nginx] = []

    def start(changes: dict[str, str] | None = None) -> Nginx:
        folder = tmp_path / "nginx"
        folder.mkdir()
        started.append(Nginx(folder, changes or {}))
        return started[-1]

    yield start
    for nginx in started:
        nginx.stop()


@pytest.fixture
def nginx(start_nginx: StartNginx) -> Nginx:
    return start_nginx()


@pytest.fixture
def start_world(nginx: Nginx, start_server: Callable[..., Server]) -> StartWorld:
    """Start world 1 or 2 behind nginx."""

    def start(world: int = 1, *arguments: str) -> Server:
        port = nginx.world_ports[world - 1]
        options = ("--origin", nginx.origin, *arguments)
        return start_server(*options, port=port, env=unit_environment())

    return start


@pytest.fixture
def page(new_context: Callable[..., BrowserContext]) -> Iterator[Page]:
    """A page that accepts the certificate. Its scripts may not fail."""
    page = new_context(ignore_https_errors=True).new_page()
    page.add_init_script(path=PROBE)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    # Firefox reports each failed connection as an error, whatever the page does about it.
    assert [error for error in errors if "wss://" not in error] == []


def expect_status(page: Page, text: str) -> None:
    expect(page.locator("#status")).to_contain_text(text, timeout=PATIENCE * 1000)


def refusal(join: Callable[[], Player]) -> int:
    """Return the HTTP status with which joining is refused."""
    with pytest.raises(InvalidStatus) as refused:
        join()
    return refused.value.response.status_code


def walk_left(walker: Player, watcher: Player) -> None:
    """Let a player walk to the left wall, until another player has seen it."""
    walker.move(-1, 0)
    watcher.wait_for(lambda players: players[walker.id][0] == 0)
    walker.move(0, 0)


# --- Playing ---


@pytest.mark.only_browser("chromium")
def test_page_plays_under_its_prefix(nginx: Nginx, start_world: StartWorld, page: Page) -> None:
    start_world()
    watcher = nginx.join()
    page.goto(nginx.link(1))
    expect_status(page, "You are player 2 · 2 online")
    address = f"wss://{NAME}:{nginx.port}/world/1/"
    assert page.evaluate("sockets.map(({ url }) => url)") == [address]
    page.keyboard.down("ArrowLeft")
    watcher.wait_for(lambda players: "2" in players and players["2"][0] == 0)


@pytest.mark.only_browser("chromium")
def test_page_finds_a_restarted_world(nginx: Nginx, start_world: StartWorld, page: Page) -> None:
    world = start_world(1)
    start_world(2)
    other_world = nginx.join(2)
    page.goto(nginx.link(1))
    expect_status(page, "You are player 1")
    world.process.kill()
    expect_status(page, "Disconnected")
    assert nginx.request("/world/1/")[0] == 502
    walk_left(other_world, other_world)
    start_world(1)
    expect_status(page, "You are player 1 · 1 online")


@pytest.mark.only_browser("chromium")
def test_stopped_world_says_goodbye(nginx: Nginx, start_world: StartWorld, page: Page) -> None:
    world = start_world()
    player = nginx.join()
    page.goto(nginx.link(1))
    expect_status(page, "2 online")
    assert world.interrupt() == 0
    assert player.close_reason()[0] == 1001
    expect_status(page, "the server has stopped")


def test_links_are_redirected_to_the_page(nginx: Nginx, start_world: StartWorld) -> None:
    start_world()
    assert nginx.request("/world/1/") == (200, None)
    assert nginx.request("/world/1") == (301, nginx.link(1))
    assert nginx.request("/") == (302, nginx.link(1))
    assert nginx.request("/world/1/", plain=True) == (301, f"https://{NAME}/world/1/")
    assert nginx.request("/world/1/nothing") == (404, None)
    assert nginx.request("/world/1/", "OPTIONS") == (404, None)
    # What renews a certificate must not be redirected.
    assert nginx.request("/.well-known/acme-challenge/none", plain=True) == (404, None)


def test_only_the_own_origin_may_connect(nginx: Nginx, start_world: StartWorld) -> None:
    start_world()
    assert refusal(lambda: nginx.join(origin="https://elsewhere.example")) == 403
    assert refusal(lambda: nginx.join(origin=None)) == 403
    assert nginx.join().id == "1"


def test_8_kb_of_cookies_are_accepted(nginx: Nginx, start_world: StartWorld) -> None:
    start_world()
    cookie = "name=" + 8000 * "x"
    assert nginx.request("/world/1/", Cookie=cookie) == (200, None)
    assert nginx.join(additional_headers={"Cookie": cookie}).state()


def test_worlds_are_separate(nginx: Nginx, start_world: StartWorld) -> None:
    start_world(1)
    start_world(2)
    one, two, other_world = nginx.join(1), nginx.join(1), nginx.join(2)
    assert [one.id, two.id, other_world.id] == ["1", "2", "1"]
    one.wait_for_players(2)
    walk_left(one, two)
    assert all(len(state) == 2 for state in one.states(1.5))
    assert all(len(state) == 1 for state in other_world.states(1.5))


def test_reload_disconnects_nobody(nginx: Nginx, start_world: StartWorld) -> None:
    start_world()
    before = nginx.join()
    nginx.process.send_signal(signal.SIGHUP)
    wait_until(lambda: nginx.starts() == 2)
    after = nginx.join()
    before.wait_for_players(2)
    walk_left(before, after)


def test_ipv6(nginx: Nginx, start_world: StartWorld) -> None:
    if not has_ipv6():
        pytest.skip("this machine has no IPv6")
    start_world()
    connection = socket.create_connection(("::1", nginx.port), PATIENCE)
    assert nginx.join(sock=connection).state()
    with socket.create_connection(("::1", nginx.plain_port), PATIENCE) as plain:
        plain.sendall(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert plain.recv(100).startswith(b"HTTP/1.1 301")


# --- Limits ---


def join_if_possible(nginx: Nginx) -> Player | None:
    with suppress(OSError, WebSocketException):
        return nginx.join(open_timeout=3)
    return None


def connection_limit() -> int:
    (limit,) = re.findall(r"limit_conn addresses (\d+);", block("nginx"))
    return int(limit)


def test_full_world_says_so(nginx: Nginx, start_world: StartWorld) -> None:
    start_world(1, "--max-players", "1")
    nginx.join()
    with pytest.raises(ConnectionClosed) as closed:
        nginx.join()
    assert closed.value.rcvd
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1013, "the game is full")


def test_connections_per_address_are_limited(nginx: Nginx, start_world: StartWorld) -> None:
    start_world(1)
    start_world(2)
    players = [nginx.join(1 + number % 2) for number in range(connection_limit())]
    assert refusal(lambda: nginx.join(1)) == 429
    assert refusal(lambda: nginx.join(2)) == 429
    assert all(player.state() for player in players)
    if platform.system() == "Linux":  # which has the address 127.0.0.2 as well
        assert nginx.join(source_address=("127.0.0.2", 0)).state()
    players[0].close()
    wait_until(lambda: join_if_possible(nginx))


def test_proxy_protocol(start_nginx: StartNginx, start_server: Callable[..., Server]) -> None:
    changes = {
        "ssl sndbuf=32k;": "ssl sndbuf=32k proxy_protocol;",
        "$binary_remote_addr": "$proxy_protocol_addr",
    }
    nginx = start_nginx(changes)
    start_server("--origin", nginx.origin, port=nginx.world_ports[0])

    def join_from(address: str) -> Player:
        connection = socket.create_connection(("127.0.0.1", nginx.port), PATIENCE)
        connection.sendall(f"PROXY TCP4 {address} 192.0.2.9 50000 443\r\n".encode())
        return nginx.join(sock=connection)

    for _ in range(connection_limit()):
        join_from("192.0.2.1")
    assert refusal(lambda: join_from("192.0.2.1")) == 429
    assert join_from("192.0.2.2").state()


@pytest.mark.slow
def test_vanished_player_is_removed(nginx: Nginx, start_world: StartWorld) -> None:
    start_world()
    idle = nginx.join()
    connection = socket.create_connection(("127.0.0.1", nginx.port), timeout=PATIENCE)
    with nginx.tls.wrap_socket(connection, server_hostname=NAME) as vanished:
        vanished.sendall(nginx.handshake())
        idle.wait_for_players(2)
        # It stays connected, but doesn't answer pings.
        assert set(idle.wait_for_players(1, timeout=2 * PATIENCE)) == {idle.id}
        while vanished.recv(4096):  # until nginx closes the connection
            pass


# --- Attacks ---


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pings", "fragments"])
def test_floods_do_not_disturb_others(nginx: Nginx, start_world: StartWorld, kind: str) -> None:
    connections = connection_limit()
    world = start_world()
    # They don't come through nginx, whose limit for this address the attack uses up.
    walker, watcher = (world.join(origin=nginx.origin) for _ in range(2))
    flood = attack(
        nginx.port,
        nginx.handshake(),
        FLOODS[kind],
        connections=connections,
        certificate=str(nginx.certificate),
    )
    with walking(walker), flood as report:
        wait_until(lambda: world.log().count("joined") >= 2 + connections)
        assert_others_play_on(watcher, rate=6, gap=1)
    assert report.connected >= connections
    assert report.sent > 100_000


HALF_REQUESTS = """
import socket, sys, time
held = []
for _ in range(300):  # more connections than nginx has
    held.append(socket.create_connection(("127.0.0.1", int(sys.argv[1]))))
    held[-1].sendall(bytes.fromhex(sys.argv[2]))
    time.sleep(0.001)  # until nginx has read it; it drops connections that have sent nothing
sys.stdin.read()
"""
HALVES = {
    "request": b"GET / HTTP/1.1\r\nHost: localhost\r\n",
    "TLS hello": b"\x16\x03\x01\x02\x00\x01",
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", HALVES)
def test_half_requests_block_newcomers_only_briefly(
    nginx: Nginx, start_world: StartWorld, kind: str
) -> None:
    start_world()
    port = nginx.plain_port if kind == "request" else nginx.port
    command = [sys.executable, "-c", HALF_REQUESTS, str(port), HALVES[kind].hex()]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as attacker:
        try:
            wait_until(lambda: "worker_connections are not enough\n" in nginx.log())
            start = time.monotonic()
            wait_until(lambda: join_if_possible(nginx), timeout=60)
            assert time.monotonic() - start < 30  # 5, and a margin; by default, it is 60
            assert attacker.poll() is None
        finally:
            attacker.kill()
