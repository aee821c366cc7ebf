"""README's nginx configuration, with TLS, in front of worlds started as README's unit does."""

import platform
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, expect
from websockets import InvalidStatus, WebSocketException

from tests.harness.attack import FLOODS, attack
from tests.harness.game_server import has_ipv6
from tests.harness.nginx import NAME, Nginx
from tests.harness.page import PROBE
from tests.harness.player import Player, assert_others_play_on, walking
from tests.harness.readme import block
from tests.harness.waiting import PATIENCE, wait_until

CONNECTION_LIMIT = int(re.findall(r"limit_conn addresses (\d+);", block("nginx"))[0])


@pytest.fixture(scope="module")
def module_nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """The proxy and the two worlds that the tests of this module share."""
    with Nginx(tmp_path_factory.mktemp("nginx")) as nginx:
        nginx.start_world(1)
        nginx.start_world(2)
        yield nginx


@pytest.fixture
def nginx(module_nginx: Nginx) -> Iterator[Nginx]:
    """The proxy and two worlds, without players before and after the test."""
    yield module_nginx
    for world in module_nginx.worlds.values():
        world.disconnect_all()
        wait_until(lambda: world.online() == 0)  # noqa: B023


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
def test_the_page_plays_and_finds_a_restarted_world(
    nginx: Nginx, new_context: Callable[..., BrowserContext]
) -> None:
    page = new_context(ignore_https_errors=True).new_page()
    page.add_init_script(path=PROBE)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))

    def expect_status(text: str) -> None:
        expect(page.locator("#status")).to_contain_text(text, timeout=PATIENCE * 1000)

    watcher, other_world = nginx.join(1), nginx.join(2)
    page.goto(nginx.link(1))
    expect_status("2 online")
    assert page.evaluate("sockets[0].url") == f"wss://{NAME}:{nginx.port}/world/1/"
    (own_id,) = set(watcher.wait_for_players(2)) - {watcher.id}
    page.keyboard.down("ArrowLeft")
    watcher.wait_for(lambda players: players[own_id][0] == 0)
    assert nginx.worlds[1].interrupt() == 0
    assert watcher.close_reason()[0] == 1001
    expect_status("the server has stopped")
    assert nginx.request("/world/1/")[0] == 502
    walk_left(other_world, other_world)
    nginx.start_world(1)
    expect_status("You are player 1 · 1 online")
    page.context.close()
    assert errors == []


def test_links_are_redirected_to_the_page(nginx: Nginx) -> None:
    assert nginx.request("/world/1/") == (200, None)
    assert nginx.request("/world/1") == (301, nginx.link(1))
    assert nginx.request("/") == (302, nginx.link(1))
    assert nginx.request("/world/1/", plain=True) == (301, f"https://{NAME}/world/1/")
    assert nginx.request("/world/1/nothing") == (404, None)
    assert nginx.request("/world/1/", "OPTIONS") == (404, None)
    # What renews a certificate must not be redirected.
    assert nginx.request("/.well-known/acme-challenge/none", plain=True) == (404, None)


def test_only_the_own_origin_may_connect(nginx: Nginx) -> None:
    assert refusal(lambda: nginx.join(origin="https://elsewhere.example")) == 403
    assert refusal(lambda: nginx.join(origin=None)) == 403
    assert nginx.join().state()


def test_8_kb_of_cookies_are_accepted(nginx: Nginx) -> None:
    cookie = "name=" + 8000 * "x"
    assert nginx.request("/world/1/", Cookie=cookie) == (200, None)
    assert nginx.join(additional_headers={"Cookie": cookie}).state()


def test_worlds_are_separate(nginx: Nginx) -> None:
    one, two, other_world = nginx.join(1), nginx.join(1), nginx.join(2)
    one.wait_for_players(2)
    walk_left(one, two)
    assert all(len(state) == 2 for state in one.states(1.5))
    assert all(len(state) == 1 for state in other_world.states(1.5))


def test_reload_disconnects_nobody(nginx: Nginx) -> None:
    before = nginx.join()
    starts = nginx.starts()
    nginx.process.send_signal(signal.SIGHUP)
    wait_until(lambda: nginx.starts() > starts)
    after = nginx.join()
    before.wait_for_players(2)
    walk_left(before, after)


def test_ipv6(nginx: Nginx) -> None:
    if not has_ipv6():
        pytest.skip("this machine has no IPv6")
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


def test_connections_per_address_are_limited(nginx: Nginx) -> None:
    players = [nginx.join(1 + number % 2) for number in range(CONNECTION_LIMIT)]
    assert refusal(lambda: nginx.join(1)) == 429
    assert refusal(lambda: nginx.join(2)) == 429
    assert all(player.state() for player in players)
    if platform.system() == "Linux":  # which has the address 127.0.0.2 as well
        assert nginx.join(source_address=("127.0.0.2", 0)).state()
    players[0].close()
    wait_until(lambda: join_if_possible(nginx))


def test_proxy_protocol(tmp_path: Path) -> None:
    changes = {
        "ssl sndbuf=32k;": "ssl sndbuf=32k proxy_protocol;",
        "$binary_remote_addr": "$proxy_protocol_addr",
    }
    with Nginx(tmp_path, changes) as nginx:
        nginx.start_world(1)

        def join_from(address: str) -> Player:
            connection = socket.create_connection(("127.0.0.1", nginx.port), PATIENCE)
            connection.sendall(f"PROXY TCP4 {address} 192.0.2.9 50000 443\r\n".encode())
            return nginx.join(sock=connection)

        for _ in range(CONNECTION_LIMIT):
            join_from("192.0.2.1")
        assert refusal(lambda: join_from("192.0.2.1")) == 429
        assert join_from("192.0.2.2").state()


@pytest.mark.slow
def test_vanished_player_is_removed(nginx: Nginx) -> None:
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
def test_a_flood_does_not_disturb_others(nginx: Nginx) -> None:
    # They don't come through nginx, whose limit for this address the attack uses up.
    world = nginx.worlds[1]
    walker, watcher = (world.join(origin=nginx.origin) for _ in range(2))
    flood = attack(
        nginx.port,
        nginx.handshake(),
        FLOODS["pings"],
        connections=CONNECTION_LIMIT,
        certificate=str(nginx.certificate),
    )
    with walking(walker), flood as report:
        wait_until(lambda: world.online() >= 2 + CONNECTION_LIMIT)
        assert_others_play_on(watcher, rate=6, gap=1)
    assert report.sent > 100_000


HALVES = {
    "request": b"GET / HTTP/1.1\r\nHost: localhost\r\n",
    "TLS hello": b"\x16\x03\x01\x02\x00\x01",
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", HALVES)
def test_half_requests_block_newcomers_only_briefly(nginx: Nginx, kind: str) -> None:
    port = nginx.plain_port if kind == "request" else nginx.port
    complaints = nginx.log().count("worker_connections are not enough\n")
    # More connections than nginx has. It drops those that have sent nothing yet.
    with attack(port, HALVES[kind], connections=300, rate=100, again=False):
        wait_until(lambda: nginx.log().count("worker_connections are not enough\n") > complaints)
        start = time.monotonic()
        wait_until(lambda: join_if_possible(nginx), timeout=60)
        assert time.monotonic() - start < 30  # 5, and a margin; by default, it is 60
