"""README's nginx configuration, in a real nginx with real TLS, in front of real worlds."""

import http.client
import os
import platform
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import (
    PATIENCE,
    PROBE,
    ROOT,
    Player,
    Server,
    assert_others_play_on,
    end_process,
    free_port,
    handshake,
    missing,
    start_process,
    wait_until,
    walking,
)
from playwright.sync_api import Browser, Page, expect
from test_attacks import FLOODS, GET, attack, request_with_a_list
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

StartServer = Callable[..., Server]
NAME = "localhost"  # in place of README's game.example.org

# What Debian's nginx.conf has around README's file, as far as it matters here.
AROUND = """
daemon off;
pid nginx.pid;
worker_processes 1;
events {{ worker_connections 768; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    scgi_temp_path scgi;
    uwsgi_temp_path uwsgi;
    {}
}}
"""


def readme_config() -> str:
    """Return README's nginx configuration."""
    (config,) = re.findall(
        r"^```nginx\n(.+?)^```", (ROOT / "README.md").read_text("utf-8"), re.M | re.S
    )
    return str(config)


def make_certificate(openssl: str, folder: Path) -> None:
    """Make a throw-away certificate, cert.pem and key.pem in the folder."""
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}"),
            *("-keyout", folder / "key.pem", "-out", folder / "cert.pem"),
        ],
        check=True,
        capture_output=True,
        timeout=PATIENCE,
    )


class Proxy:
    """README's nginx, in front of worlds that may or may not run, on ports of this test's own."""

    def __init__(self, nginx: str, folder: Path) -> None:
        self.port, self.plain_port = free_port(), free_port()
        self.world_ports = {1: free_port(), 2: free_port()}
        self.origin = f"https://{NAME}:{self.port}"
        self.tls = ssl.create_default_context(cafile=folder / "cert.pem")
        self.players: list[Player] = []
        config = readme_config()
        for old, new in {
            "listen 80;": f"listen 127.0.0.1:{self.plain_port};",
            "listen 443 ssl": f"listen 127.0.0.1:{self.port} ssl",
            "/etc/letsencrypt/live/game.example.org/fullchain.pem": str(folder / "cert.pem"),
            "/etc/letsencrypt/live/game.example.org/privkey.pem": str(folder / "key.pem"),
            "server_name game.example.org;": f"server_name {NAME};",
            "http://127.0.0.1:8001": f"http://127.0.0.1:{self.world_ports[1]}",
            "http://127.0.0.1:8002": f"http://127.0.0.1:{self.world_ports[2]}",
        }.items():
            assert old in config, f"README's configuration has no {old}"
            config = config.replace(old, new)
        (folder / "nginx.conf").write_text(AROUND.format(config))
        self.log_file = folder / "error.log"
        with self.log_file.open("wb") as stderr:
            self.process = start_process(
                [nginx, "-p", f"{folder}/", "-c", "nginx.conf", "-g", "error_log stderr notice;"],
                stderr=stderr,
            )
        wait_until(lambda: self.starts() or self.process.poll() is not None)
        assert self.process.poll() is None, self.log_file.read_text()

    def starts(self) -> int:
        """Return how often nginx has begun to work with its configuration."""
        return self.log_file.read_text().count("start worker process ")

    def link(self, world: int) -> str:
        return f"{self.origin}/world/{world}/"

    def join(self, world: int, **options: Any) -> Player:
        """Let a new player into a world, through the proxy."""
        url = self.link(world).replace("https", "wss")
        self.players.append(Player(url, **{"ssl": self.tls, "origin": self.origin, **options}))
        return self.players[-1]

    def get(self, path: str, plain: bool = False) -> tuple[int, str | None]:
        """Return the status and the redirection of a GET."""
        connection = (
            http.client.HTTPConnection(NAME, self.plain_port, timeout=PATIENCE)
            if plain
            else http.client.HTTPSConnection(NAME, self.port, context=self.tls, timeout=PATIENCE)
        )
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.getheader("Location")
        finally:
            connection.close()

    def stop(self) -> None:
        for player in self.players:
            player.connection.close()
        self.process.terminate()
        self.process.wait(PATIENCE)
        end_process(self.process)


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    """A proxy whose worlds are yet to be started."""
    # A user's PATH need not have sbin, where Debian has nginx.
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    nginx, openssl = shutil.which("nginx", path=path), shutil.which("openssl")
    if not nginx or not openssl:
        missing("install nginx and openssl, on Debian `apt install nginx-light openssl`")
    assert nginx
    assert openssl
    make_certificate(openssl, tmp_path)
    proxy = Proxy(nginx, tmp_path)
    yield proxy
    proxy.stop()


@pytest.fixture
def start_world(proxy: Proxy, start_server: StartServer) -> StartServer:
    """Start a world of the proxy's, as README does: on this machine only, for its own page only."""

    def start(world: int, *arguments: str) -> Server:
        port = proxy.world_ports[world]
        return start_server("--origin", proxy.origin, *arguments, port=port)

    return start


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that takes the certificate as it is, and whose scripts never fail."""
    context = browser.new_context(ignore_https_errors=True)
    page = context.new_page()
    page.add_init_script(path=PROBE)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    # Firefox calls it one when a connection fails, whatever the page does about it.
    assert [error for error in errors if "wss://" not in error] == []


def refusal(join: Callable[[], Player]) -> int:
    """Return the HTTP status with which joining is refused."""
    with pytest.raises(InvalidStatus) as refused:
        join()
    return refused.value.response.status_code


def test_the_page_loads_over_https_and_plays_over_wss_under_its_own_path(
    proxy: Proxy, start_world: StartServer, page: Page
) -> None:
    start_world(1)
    watcher = proxy.join(1)
    page.goto(proxy.link(1))
    status = page.locator("#status")
    expect(status).to_have_text("You are player 2 · 2 online", timeout=PATIENCE * 1000)
    address = f"wss://{NAME}:{proxy.port}/world/1/"
    assert page.evaluate("sockets.map(({ url }) => url)") == [address]
    page.keyboard.down("ArrowLeft")
    watcher.wait_for(lambda players: "2" in players and players["2"][0] == 0)
    page.keyboard.up("ArrowLeft")


def test_links_without_https_the_slash_or_the_path_lead_to_the_page(
    proxy: Proxy, start_world: StartServer
) -> None:
    start_world(1)
    assert proxy.get("/world/1/") == (200, None)
    assert proxy.get("/world/1") == (301, proxy.link(1))
    assert proxy.get("/") == (302, proxy.link(1))
    assert proxy.get("/world/1/", plain=True) == (301, f"https://{NAME}/world/1/")
    assert proxy.get("/world/1/nothing") == (404, None)
    # Where a certificate is renewed, what is there must be told without https.
    assert proxy.get("/.well-known/acme-challenge/none", plain=True) == (404, None)


def test_pages_from_elsewhere_are_kept_out_and_the_own_one_is_let_in(
    proxy: Proxy, start_world: StartServer
) -> None:
    start_world(1)
    assert refusal(lambda: proxy.join(1, origin="https://elsewhere.example")) == 403
    assert refusal(lambda: proxy.join(1, origin=None)) == 403
    assert proxy.join(1).id == "1"


def test_two_worlds_do_not_see_each_other(proxy: Proxy, start_world: StartServer) -> None:
    start_world(1)
    start_world(2)
    one, other, elsewhere = proxy.join(1), proxy.join(1), proxy.join(2)
    assert [one.id, other.id, elsewhere.id] == ["1", "2", "1"]
    assert set(one.wait_for(lambda players: len(players) == 2)) == {"1", "2"}
    here, there = one.states(1.5), elsewhere.states(1.5)
    assert here
    assert there
    assert all(set(state) == {"1", "2"} for state in here)
    assert all(set(state) == {"1"} for state in there)
    assert here[-1]["1"][:2] != there[-1]["1"][:2]  # at random, so one in 400,000 is the same


def test_a_world_that_dies_and_comes_back_is_found_again_and_the_other_never_notices(
    proxy: Proxy, start_world: StartServer, page: Page
) -> None:
    world = start_world(1)
    start_world(2)
    elsewhere = proxy.join(2)
    x, inward = elsewhere.position()[0], elsewhere.inward()
    page.goto(proxy.link(1))
    status = page.locator("#status")
    expect(status).to_contain_text("You are player 1", timeout=PATIENCE * 1000)
    world.process.kill()
    expect(status).to_contain_text("Disconnected", timeout=PATIENCE * 1000)
    assert proxy.get("/world/1/")[0] == 502
    for _ in range(10):
        elsewhere.tap(inward, 0)
    elsewhere.wait_for(lambda players: players["1"][0] == x + 100 * inward)
    start_world(1)
    expect(status).to_have_text("You are player 1 · 1 online", timeout=PATIENCE * 1000)
    elsewhere.tap(-inward, 0)
    elsewhere.wait_for(lambda players: players["1"][0] == x + 90 * inward)


def test_a_reload_for_a_new_certificate_or_world_cuts_nobody_off(
    proxy: Proxy, start_world: StartServer
) -> None:
    start_world(1)
    before = proxy.join(1)
    proxy.process.send_signal(signal.SIGHUP)
    wait_until(lambda: proxy.starts() == 2)
    after = proxy.join(1)
    before.wait_for(lambda players: after.id in players)
    x, inward = before.position()[0], before.inward()
    before.tap(inward, 0)
    after.wait_for(lambda players: players[before.id][0] == x + 10 * inward)


def test_a_stopped_world_says_goodbye_through_the_proxy(
    proxy: Proxy, start_world: StartServer, page: Page
) -> None:
    world = start_world(1)
    behind, direct = proxy.join(1), world.join(origin=proxy.origin)
    page.goto(proxy.link(1))
    status = page.locator("#status")
    expect(status).to_contain_text("3 online", timeout=PATIENCE * 1000)
    assert world.interrupt(signal.SIGTERM) == 0
    assert behind.closed() == direct.closed()
    assert behind.closed()[0] == 1001
    expect(status).to_contain_text("the server has stopped", timeout=PATIENCE * 1000)


def test_a_full_world_says_so_through_the_proxy(proxy: Proxy, start_world: StartServer) -> None:
    start_world(1, "--max-players", "1")
    proxy.join(1)
    with pytest.raises(ConnectionClosed) as closed:
        proxy.join(1)
    assert closed.value.rcvd
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1013, "the game is full")


@pytest.mark.waits
def test_one_who_vanishes_behind_the_proxy_is_gone_and_one_who_idles_is_not(
    proxy: Proxy, start_world: StartServer
) -> None:
    start_world(1)
    idles = proxy.join(1)
    wire = socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE)
    with proxy.tls.wrap_socket(wire, server_hostname=NAME) as vanishes:
        request = handshake(f"Origin: {proxy.origin}")
        vanishes.sendall(request.replace(b"GET / ", b"GET /world/1/ "))
        idles.wait_for(lambda players: len(players) == 2)
        # It stays connected, but not even its pings are answered from now on.
        assert set(idles.wait_for(lambda players: len(players) == 1, timeout=25)) == {idles.id}
        while vanishes.recv(4096):  # until the proxy hangs up as well
            pass


def test_an_address_gets_as_many_connections_as_it_may_have_and_not_one_more(
    proxy: Proxy, start_world: StartServer
) -> None:
    start_world(1)
    start_world(2)
    (limit,) = map(int, re.findall(r"limit_conn addresses (\d+);", readme_config()))
    players = [proxy.join(1 + number % 2) for number in range(limit)]
    assert refusal(lambda: proxy.join(1)) == 429
    assert refusal(lambda: proxy.join(2)) == 429
    assert all(player.state() for player in players)
    if platform.system() == "Linux":  # where this machine has 127.0.0.2 as well
        assert proxy.join(1, source_address=("127.0.0.2", 0)).state()
    players[0].connection.close()

    def join_again() -> bool:
        try:
            return bool(proxy.join(1).state())
        except InvalidStatus:
            return False

    wait_until(join_again)


# --- Attacks ---


@pytest.mark.parametrize(
    ("kind", "connections", "rate", "gap"),
    [
        ("pings", 20, 6, 1),
        ("pongs", 20, 6, 1),
        ("fragments", 20, 6, 1),
        ("pings", 60, 3, 1.5),
    ],
)
def test_floods_of_what_is_no_message_through_the_proxy(
    proxy: Proxy,
    start_world: StartServer,
    tmp_path: Path,
    kind: str,
    connections: int,
    rate: float,
    gap: float,
) -> None:
    world = start_world(1)
    walker, watcher = world.join(origin=proxy.origin), world.join(origin=proxy.origin)
    request = handshake(f"Origin: {proxy.origin}").replace(b"GET / ", b"GET /world/1/ ")
    flood = attack(
        proxy.port,
        request,
        FLOODS[kind],
        connections=connections,
        for_each_address=20,
        certificate=str(tmp_path / "cert.pem"),
    )
    with walking(walker), flood as report:
        wait_until(lambda: world.log().count("joined") > connections)
        assert_others_play_on(watcher, rate=rate, gap=gap)
    assert report.connected >= connections
    assert report.sent > 100_000


def test_requests_with_long_lists_through_the_proxy(
    proxy: Proxy,
    start_world: StartServer,
    tmp_path: Path,
) -> None:
    world = start_world(1)
    walker, watcher = world.join(origin=proxy.origin), world.join(origin=proxy.origin)
    request = request_with_a_list("Sec-WebSocket-Extensions", 3).replace(
        b"GET / ", b"GET /world/1/ "
    )
    request = request.replace(b"Host", f"Origin: {proxy.origin}\r\nHost".encode())
    certificate = str(tmp_path / "cert.pem")
    long = attack(proxy.port, request, hold=False, connections=20, certificate=certificate)
    with walking(walker), long as report:
        assert_others_play_on(watcher)
    assert "HTTP/1.1 431 Request Header Fields Too Large" in report.answers


HALF_REQUESTS = """
import socket, sys, time
held = []
for _ in range(1000):  # more than nginx has connections, in AROUND
    held.append(socket.create_connection(("127.0.0.1", int(sys.argv[1]))))
    held[-1].sendall(bytes.fromhex(sys.argv[2]))
    time.sleep(0.001)  # for nginx to read it: who has not even begun is turned out for the next
sys.stdin.read()
"""


@pytest.mark.waits
@pytest.mark.parametrize("half", [GET, b"\x16\x03\x01\x02\x00\x01"], ids=["request", "TLS hello"])
def test_half_requests_keep_newcomers_out_for_seconds_only(
    proxy: Proxy, start_world: StartServer, half: bytes
) -> None:
    start_world(1)
    port = proxy.plain_port if half == GET else proxy.port

    def join() -> Player | None:
        try:
            return proxy.join(1, open_timeout=3)
        except (OSError, InvalidHandshake):
            return None

    command = [sys.executable, "-c", HALF_REQUESTS, str(port), half.hex()]
    attacker = start_process(command, stdin=subprocess.PIPE)
    try:
        wait_until(lambda: "worker_connections are not enough\n" in proxy.log_file.read_text())
        assert not join()
        start = time.monotonic()
        wait_until(join, timeout=30)
        assert time.monotonic() - start < 20  # 10, and a margin for a busy machine
        assert attacker.poll() is None
    finally:
        end_process(attacker)
