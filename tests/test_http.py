"""The page over HTTP, who may connect, and a link for friends."""

import http.client
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from conftest import (
    PATIENCE,
    PROBE,
    ROOT,
    Server,
    find_browser,
    in_chromium,
    missing,
    wait_until,
    with_open_files,
)
from playwright.sync_api import Browser, expect
from websockets.exceptions import InvalidStatus

StartServer = Callable[..., Server]


def request(server: Server, path: str, method: str = "GET") -> http.client.HTTPResponse:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)) as client:
        client.request(method, path)
        response = client.getresponse()
        response.body = response.read()  # type: ignore[attr-defined]
        return response


def read_all(raw: socket.socket) -> bytes:
    with raw:
        return b"".join(iter(lambda: raw.recv(4096), b""))


# --- The page ---


@pytest.mark.parametrize("path", ["/", "/?server=ws://localhost:1"])
def test_the_page_is_served_as_it_is(server: Server, path: str) -> None:
    response = request(server, path)
    assert response.status == 200
    assert response.body == (ROOT / "client.html").read_bytes()  # type: ignore[attr-defined]
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.headers["Cache-Control"] == "no-store"


def test_the_page_may_ask_nobody_else_for_anything(server: Server, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{server.port}/")
    refused = page.evaluate(
        """async (elsewhere) => {
            const refused = [];
            document.addEventListener("securitypolicyviolation", (event) => {
                refused.push(event.effectiveDirective);
            });
            await fetch(elsewhere).catch(() => {});
            for (const kind of ["img", "script"]) {
                const asked = document.createElement(kind);
                const answered = new Promise((answer) => (asked.onload = asked.onerror = answer));
                asked.src = elsewhere;
                document.body.append(asked);
                await answered;
            }
            return refused;
        }""",
        f"http://127.0.0.1:{server.port}/elsewhere",
    )
    page.close()
    assert refused == ["connect-src", "img-src", "script-src-elem"]


@pytest.mark.parametrize("path", ["/favicon.ico", "/server.py", "/client.html", "//", "/../"])
def test_there_is_nothing_else(server: Server, path: str) -> None:
    assert request(server, path).status == 404
    assert len(server.log().splitlines()) == 1


@pytest.mark.parametrize("method", ["POST", "PUT", "OPTIONS"])
def test_other_methods_are_not_for_the_page(server: Server, method: str) -> None:
    assert request(server, "/", method).status in (404, 405)
    assert len(server.log().splitlines()) == 1


def test_a_head_request_gets_the_headers_of_the_page_alone(server: Server) -> None:
    page = request(server, "/")
    answer = read_all(server.connect_raw(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n"))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    for name in ("Content-Type", "Content-Length", "Cache-Control"):
        assert f"{name}: {page.headers[name]}".encode() in head
    assert body == b""


def test_nobody_is_told_which_versions_run(server: Server) -> None:
    handshake_answer = server.join().connection.response
    assert handshake_answer
    for path in ("/", "/nothing"):
        assert "Server" not in request(server, path).headers
    assert "Server" not in handshake_answer.headers


@pytest.mark.skipif(sys.platform == "win32", reason="needs a system with a limit on open files")
def test_without_a_file_left_the_page_says_why_it_cannot_be_read(start_server: StartServer) -> None:
    server = start_server(prefix=with_open_files(50))
    server.join().state()
    crowd = []
    while psutil.Process(server.process.pid).num_fds() < 49:  # so that the request gets the last
        crowd.append(server.connect_raw())
        crowd[-1].recv(1)
    answer = read_all(server.connect_raw(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
    for raw in crowd:
        raw.close()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"open files" in answer


def test_an_edit_shows_on_reload_and_a_missing_page_is_no_disaster(
    start_server: StartServer, tmp_path: Path
) -> None:
    shutil.copy(ROOT / "server.py", tmp_path)
    server = start_server(program=tmp_path / "server.py")
    response = request(server, "/")
    assert response.status == 503
    assert b"No such file" in response.body  # type: ignore[attr-defined]
    page = tmp_path / "client.html"
    for text in ("first", "second é"):
        page.write_text(text, "utf-8")
        response = request(server, "/")
        assert response.body.decode() == text  # type: ignore[attr-defined]
    assert server.join().state()


def test_the_served_page_plays_on_the_server_it_came_from(browser: Browser, server: Server) -> None:
    page = browser.new_page()
    requests, troubles = [], []
    page.add_init_script(path=PROBE)
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.goto(f"http://127.0.0.1:{server.port}/?friend=1#now")
    expect(page.locator("#status")).to_have_text("You are player 1 · 1 online")
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_text("arrow keys")).to_be_hidden()
    assert page.evaluate("sockets.map(({ url }) => url)") == [f"ws://127.0.0.1:{server.port}/"]
    assert {url for url in requests if not url.startswith("data:")} - {
        f"http://127.0.0.1:{server.port}/"  # for Firefox, a connection is a request as well
    } == {f"http://127.0.0.1:{server.port}/?friend=1"}
    assert troubles == []  # nor has the policy forbidden anything that the page does
    page.close()


def test_a_slow_reader_gets_the_whole_page(server: Server) -> None:
    raw = server.connect_raw(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    time.sleep(3)
    assert read_all(raw).endswith((ROOT / "client.html").read_bytes())


# --- Who may connect ---


def test_without_the_option_every_origin_may_connect(server: Server) -> None:
    for origin in (None, "null", "https://elsewhere.example"):
        assert server.join(origin=origin).state()


def test_an_origin_may_be_given_with_a_slash_at_its_end_and_in_capitals(
    start_server: StartServer,
) -> None:
    server = start_server("--origin", "https://Game.Example/")
    assert server.join(origin="https://game.example").state()


def test_a_long_origin_is_cut_in_the_log(start_server: StartServer) -> None:
    server = start_server("--origin", "https://game.example")
    with pytest.raises(InvalidStatus):
        server.join(origin="https://" + "x" * 3000)
    wait_until(lambda: "refused" in server.log())
    assert max(map(len, server.log().splitlines())) < 250


def test_with_the_option_only_those_origins_may(start_server: StartServer) -> None:
    allowed = ("https://game.example", "http://localhost:8000")
    server = start_server("--origin", allowed[0], "--origin", allowed[1])
    for origin in allowed:
        assert server.join(origin=origin).state()
    for origin in (None, "null", "https://elsewhere.example", "https://game.example.evil.example"):
        with pytest.raises(InvalidStatus) as refusal:
            server.join(origin=origin)
        assert refusal.value.response.status_code == 403
    wait_until(lambda: server.log().count("refused") == 4)
    assert "https://elsewhere.example" in server.log()
    assert request(server, "/").status == 200


# --- Friends on the same network ---


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def two_hosts() -> Iterator[tuple[str, str]]:
    """Two hosts on a network of their own: the names of their network namespaces."""
    names = (f"server-{os.getpid()}", f"friend-{os.getpid()}")
    try:
        for name in names:
            ip("netns", "add", name)
        ip(
            "link",
            "add",
            "veth0",
            "netns",
            names[0],
            "type",
            "veth",
            "peer",
            "veth0",
            "netns",
            names[1],
        )
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


@in_chromium
def test_a_friend_on_the_network_needs_only_the_link_that_the_server_prints(
    browser: Browser, start_server: StartServer, two_hosts: tuple[str, str], tmp_path: Path
) -> None:
    here, there = two_hosts
    server = start_server("--host", "0.0.0.0", prefix=("ip", "netns", "exec", here))
    link = re.search(r"open (http://\S+)", server.log())
    assert link
    assert link[1] == f"http://10.203.0.1:{server.port}/"
    # A browser that runs on the other host.
    path = find_browser() or browser.browser_type.executable_path
    wrapper = tmp_path / "browser"
    wrapper.write_text(f'#!/bin/sh\nexec ip netns exec {there} "{path}" "$@"\n')
    wrapper.chmod(0o755)
    distant = browser.browser_type.launch(executable_path=wrapper, args=["--no-sandbox"])
    page = distant.new_page()
    page.goto(link[1])
    expect(page.locator("#status")).to_have_text("You are player 1 · 1 online")
    page.keyboard.press("ArrowLeft")
    distant.close()
    wait_until(lambda: "10.203.0.2: player 1 joined" in server.log())


def test_without_a_network_the_link_is_still_one_line(
    start_server: StartServer, two_hosts: tuple[str, str]
) -> None:
    ip("-n", two_hosts[0], "route", "delete", "default")
    server = start_server("--host", "0.0.0.0", prefix=("ip", "netns", "exec", two_hosts[0]))
    assert len(server.log().splitlines()) == 1
    assert f":{server.port}/" in server.log()
