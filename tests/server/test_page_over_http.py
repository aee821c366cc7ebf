"""The page over HTTP, which pages may connect, and the links for friends."""

import http.client
import re
import subprocess
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from tests.conftest import StartServer
from tests.harness.game_server import ROOT, Server, edited_server, free_ports, has_ipv6
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


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/favicon.ico"),
        ("GET", "/server.py"),
        ("GET", "//"),
        ("POST", "/"),
        ("OPTIONS", "/"),
    ],
)
def test_anything_else_is_not_found(game: Server, method: str, path: str) -> None:
    assert request(game, path, method)[0] == 404


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
    long = "https://game.example." + "x" * 3000
    for refused in (None, "null", "https://elsewhere.example", long):
        with pytest.raises(InvalidStatus) as refusal:
            server.join(origin=refused)
        assert refusal.value.response.status_code == 403
    wait_until(lambda: server.log().count("refused, its origin is") == 4)
    assert "https://elsewhere.example" in server.log()
    assert max(map(len, server.log().splitlines())) < 250
    assert request(server, "/")[0] == 200


# --- Links ---


@pytest.mark.parametrize("host", ["", "::", "::1", "0.0.0.0", "localhost"])
def test_the_printed_link_can_be_opened(start_server: StartServer, host: str) -> None:
    if ":" in host and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    # With port 0, IPv4 and IPv6 would get ports of their own.
    server = start_server("--host", host, port=free_ports(1)[0])
    links = re.findall(r"http://\S+/", server.log())
    assert links
    for link in links:
        if "<" not in server.log():  # or this machine knows no address of its own
            with urllib.request.urlopen(link, timeout=PATIENCE) as response:
                assert response.status == 200
    if not host and has_ipv6():  # an empty host listens on both
        for address in ("127.0.0.1", "[::1]"):
            with Player(f"ws://{address}:{server.port}") as player:
                assert player.state()


# A host of its own, with one network. It has the name "game-host", and hosts(5) says which
# addresses this name has.
HOST = """
ip link set lo up
ip link add veth0 type veth peer veth1
ip address add 10.203.0.1/24 dev veth0
ip link set veth0 up
ip link set veth1 up
{change}
mount --bind {hosts} /etc/hosts
hostname game-host
exec "$@"
"""
WAY_OUT = "ip route add default via 10.203.0.2"
UNSHARE = ("unshare", "--net", "--mount", "--uts")


@pytest.mark.parametrize(
    ("change", "named", "expected"),
    [
        pytest.param(WAY_OUT, "127.0.1.1", ["10.203.0.1"], id="found by the way out"),
        pytest.param("", "10.203.0.1", ["10.203.0.1"], id="found by the host name"),
        pytest.param(WAY_OUT, "10.99.0.1", ["10.203.0.1", "10.99.0.1"], id="two, as with a VPN"),
        pytest.param(WAY_OUT, "10.203.0.1", ["10.203.0.1"], id="found twice"),
        pytest.param("ip link delete veth0", "127.0.0.1", ["<this machine's address>"], id="none"),
    ],
)
def test_the_links_for_friends_have_every_known_address(
    start_server: StartServer, tmp_path: Path, change: str, named: str, expected: list[str]
) -> None:
    try:
        subprocess.run([*UNSHARE, "ip", "link"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        missing(f"another host needs Linux, iproute2 and root: {error}")
    hosts = tmp_path / "hosts"
    hosts.write_text(f"127.0.0.1 game-host\n{named} game-host\n")
    script = HOST.format(change=change, hosts=hosts)
    server = start_server("--host", "0.0.0.0", prefix=(*UNSHARE, "sh", "-ec", script, "sh"))
    links = " or ".join(f"http://{address}:{server.port}/" for address in expected)
    assert server.log().endswith(f"listening: open {links}\n")
