"""The page over HTTP, which pages may connect, and the links for friends."""

import http.client
import os
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import Playwright, expect
from websockets.exceptions import InvalidStatus

from tests.conftest import StartServer
from tests.harness.browser import launch_arguments
from tests.harness.game_server import ROOT, Server, edited_server, free_ports
from tests.harness.player import Player
from tests.harness.waiting import PATIENCE, missing, wait_until


def request(
    server: Server, path: str, method: str = "GET", headers: dict[str, str] | None = None
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Return the status, the headers and the body of a response."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)) as client:
        client.request(method, path, headers=headers or {})
        response = client.getresponse()
        return response.status, response.headers, response.read()


# --- The page ---


@pytest.mark.parametrize("path", ["/", "/?server=ws://localhost:1"])
def test_the_page_is_client_html(game: Server, path: str) -> None:
    status, headers, body = request(game, path)
    assert status == 200
    assert body == (ROOT / "client.html").read_bytes()
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", ["/favicon.ico", "/server.py", "/client.html", "//", "/../"])
def test_other_paths_are_not_found(game: Server, path: str) -> None:
    assert request(game, path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "OPTIONS"])
def test_other_methods_are_not_found(game: Server, method: str) -> None:
    assert request(game, "/", method)[0] == 404


def test_a_head_request_gets_the_headers_alone(game: Server) -> None:
    _, headers, _ = request(game, "/")
    # On a raw connection, because http.client doesn't read what follows the headers.
    with game.connect_raw(b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n") as raw:
        answer = b"".join(iter(lambda: raw.recv(4096), b""))
    head, _, body = answer.decode().partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    for name in ("Content-Type", "Content-Length", "Cache-Control"):
        assert f"{name}: {headers[name]}" in head
    assert body == ""


def test_a_browser_with_many_cookies_gets_the_page(game: Server) -> None:
    cookies = {"Cookie": "; ".join(f"session{n}={'x' * 90}" for n in range(79))}
    assert 7_800 < len(cookies["Cookie"]) < 8_192
    assert request(game, "/", headers=cookies)[0] == 200


def test_an_edit_shows_on_reload(start_server: StartServer, tmp_path: Path) -> None:
    program = edited_server(tmp_path / "edited")
    server = start_server(program=program)
    for text in ("first", "second é"):
        program.with_name("client.html").write_text(text, "utf-8")
        assert request(server, "/")[2].decode() == text


# --- Which pages may connect ---


def test_without_the_option_pages_from_everywhere_may_connect(game: Server) -> None:
    for origin in (None, "null", "https://elsewhere.example"):
        assert game.join(origin=origin).state()


def test_with_the_option_only_pages_from_there_may_connect(start_server: StartServer) -> None:
    server = start_server("--origin", "https://game.example/", "--origin", "http://localhost:8000")
    for origin in ("https://game.example", "http://localhost:8000"):
        assert server.join(origin=origin).state()
    for refused in (None, "null", "https://elsewhere.example", "https://game.example.evil.example"):
        with pytest.raises(InvalidStatus) as refusal:
            server.join(origin=refused)
        assert refusal.value.response.status_code == 403
    wait_until(lambda: server.log().count("refused, its origin is") == 4)
    assert "https://elsewhere.example" in server.log()
    assert request(server, "/")[0] == 200


def test_a_long_origin_is_cut_in_the_log(start_server: StartServer) -> None:
    server = start_server("--origin", "https://game.example")
    with pytest.raises(InvalidStatus):
        server.join(origin="https://" + "x" * 3000)
    wait_until(lambda: "refused" in server.log())
    assert max(map(len, server.log().splitlines())) < 250


# --- Links ---


def need_ipv6() -> None:
    if not Path("/proc/net/if_inet6").exists():
        pytest.skip("needs IPv6: /proc/net/if_inet6")


@pytest.mark.parametrize("host", ["", "::", "::1", "0.0.0.0", "localhost"])
def test_the_printed_link_can_be_opened(start_server: StartServer, host: str) -> None:
    if ":" in host:
        need_ipv6()
    # With port 0, IPv4 and IPv6 would get ports of their own.
    server = start_server("--host", host, port=free_ports(1)[0])
    links = re.findall(r"http://\S+/", server.log())
    assert links
    for link in links:
        if "<" not in server.log():  # or this machine knows no address of its own
            with urllib.request.urlopen(link, timeout=PATIENCE) as response:
                assert response.status == 200


def test_an_empty_host_listens_on_ipv4_and_ipv6(start_server: StartServer) -> None:
    need_ipv6()
    server = start_server("--host", "", port=free_ports(1)[0])
    for host in ("127.0.0.1", "[::1]"):
        with Player(f"ws://{host}:{server.port}") as player:
            assert player.state()


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def two_hosts() -> Iterator[tuple[str, str]]:
    """Two hosts on a network of their own: the names of their network namespaces."""
    names = (f"server-{os.getpid()}", f"friend-{os.getpid()}")
    try:
        for name in names:
            ip("netns", "add", name)
        link = ["veth0", "netns", names[0], "type", "veth", "peer", "veth0", "netns", names[1]]
        ip("link", "add", *link)
        for name, own, other in (
            (names[0], "10.203.0.1", "10.203.0.2"),
            (names[1], "10.203.0.2", "10.203.0.1"),
        ):
            ip("-n", name, "address", "add", f"{own}/24", "dev", "veth0")
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "set", "veth0", "up")
            ip("-n", name, "route", "add", "default", "via", other)
    except (OSError, subprocess.CalledProcessError) as error:
        missing(f"a second host needs Linux, iproute2 and root: {error}")
    yield names
    for name in names:
        subprocess.run(["ip", "netns", "delete", name], capture_output=True)


def test_a_friend_on_the_network_needs_only_the_printed_link(
    playwright: Playwright,
    start_server: StartServer,
    two_hosts: tuple[str, str],
    tmp_path: Path,
) -> None:
    here, there = two_hosts
    server = start_server("--host", "0.0.0.0", prefix=("ip", "netns", "exec", here))
    link = f"http://10.203.0.1:{server.port}/"
    assert link in server.log()
    # A browser that runs on the other host.
    options = launch_arguments("chromium")
    path = options["executable_path"] or playwright.chromium.executable_path
    wrapper = tmp_path / "browser"
    wrapper.write_text(f'#!/bin/sh\nexec ip netns exec {there} "{path}" "$@"\n')
    wrapper.chmod(0o755)
    browser = playwright.chromium.launch(**{**options, "executable_path": wrapper})
    page = browser.new_page()
    page.goto(link)
    expect(page.locator("#status")).to_contain_text("You are player 1", timeout=PATIENCE * 1000)
    browser.close()
    wait_until(lambda: "10.203.0.2: player 1 joined" in server.log())


def named_host(namespace: str, hosts: Path, *addresses: str) -> tuple[str, ...]:
    """Return the prefix of a command that runs on a host whose name has these addresses."""
    hosts.write_text("".join(f"{address} game-host\n" for address in addresses))
    rename = f'mount --bind "{hosts}" /etc/hosts && hostname game-host && exec "$@"'
    unshare = ("unshare", "--mount", "--uts", "sh", "-c", rename, "sh")
    return ("ip", "netns", "exec", namespace, *unshare)


@pytest.mark.parametrize(
    ("has_way_out", "named", "expected"),
    [
        pytest.param(True, "127.0.1.1", ["10.203.0.1"], id="found by the way out"),
        pytest.param(False, "10.203.0.1", ["10.203.0.1"], id="found by the host name"),
        pytest.param(True, "10.99.0.1", ["10.203.0.1", "10.99.0.1"], id="two, as with a VPN"),
        pytest.param(True, "10.203.0.1", ["10.203.0.1"], id="found twice"),
    ],
)
def test_the_links_for_friends_have_every_known_address(
    start_server: StartServer,
    two_hosts: tuple[str, str],
    tmp_path: Path,
    has_way_out: bool,
    named: str,
    expected: list[str],
) -> None:
    if not has_way_out:
        ip("-n", two_hosts[0], "route", "delete", "default")
    prefix = named_host(two_hosts[0], tmp_path / "hosts", "127.0.0.1", named)
    server = start_server("--host", "0.0.0.0", prefix=prefix)
    links = " or ".join(f"http://{address}:{server.port}/" for address in expected)
    assert server.log().endswith(f"listening: open {links}\n")


def test_without_an_address_for_friends_the_log_says_so_in_words(
    start_server: StartServer, two_hosts: tuple[str, str], tmp_path: Path
) -> None:
    ip("-n", two_hosts[0], "link", "delete", "veth0")
    prefix = named_host(two_hosts[0], tmp_path / "hosts", "127.0.0.1")
    server = start_server("--host", "0.0.0.0", prefix=prefix)
    words = "http://<this machine's address>"
    assert server.log().endswith(f"listening: open {words}:{server.port}/\n")
