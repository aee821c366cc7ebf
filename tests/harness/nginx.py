"""README's nginx configuration in a real nginx, with a certificate made for the test."""

import http.client
import os
import shutil
import ssl
import subprocess
from contextlib import ExitStack
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Self

import trustme

from tests.harness.game_server import Server, free_ports, handshake, has_ipv6, running
from tests.harness.player import Player
from tests.harness.readme import block, unit_environment
from tests.harness.waiting import PATIENCE, missing, wait_until

NAME = "localhost"  # in place of README's game.example.org
CONNECTIONS = 200  # fewer than Debian has, so that an attack on a busy machine uses them up

# What Debian's nginx.conf has around README's file, where it matters here.
AROUND = """
daemon off;
pid nginx.pid;
worker_processes 1;
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    scgi_temp_path scgi;
    uwsgi_temp_path uwsgi;
    {config}
}}
"""


def find_nginx() -> str:
    # On Debian, nginx is in /usr/sbin, which is not in every user's PATH.
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    return shutil.which("nginx", path=path) or missing("install nginx (Debian: nginx-light)")


class Nginx:
    """README's nginx in front of two worlds, which a test may start."""

    def __init__(self, folder: Path, changes: dict[str, str] | None = None) -> None:
        """Start it with changes to README's block, and with ports and a name for the test."""
        self.folder = folder
        self.stack = ExitStack()
        self.worlds: dict[int, Server] = {}
        self.port, self.plain_port, *self.world_ports = free_ports(4)
        self.origin = f"https://{NAME}:{self.port}"
        self.certificate = folder / "ca.pem"
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.certificate)
        key_and_certificate = folder / "server.pem"
        issued = authority.issue_cert(NAME, "127.0.0.1", "::1")
        issued.private_key_and_cert_chain_pem.write_to_path(key_and_certificate)
        self.tls = ssl.create_default_context(cafile=self.certificate)
        config = block("nginx")
        live = "/etc/letsencrypt/live/game.example.org"
        ipv6 = "[::1]" if has_ipv6() else "127.0.0.3"
        replacements = {
            **(changes or {}),
            "listen 80;": f"listen 127.0.0.1:{self.plain_port};",
            "listen [::]:80;": f"listen {ipv6}:{self.plain_port};",
            "listen 443 ssl": f"listen 127.0.0.1:{self.port} ssl",
            "listen [::]:443 ssl": f"listen {ipv6}:{self.port} ssl",
            f"{live}/fullchain.pem": str(key_and_certificate),
            f"{live}/privkey.pem": str(key_and_certificate),
            "server_name game.example.org;": f"server_name {NAME};",
            "http://127.0.0.1:8001": f"http://127.0.0.1:{self.world_ports[0]}",
            "http://127.0.0.1:8002": f"http://127.0.0.1:{self.world_ports[1]}",
        }
        for old, new in replacements.items():
            assert old in config, f"README's nginx block has no {old}"
            config = config.replace(old, new)
        (folder / "nginx.conf").write_text(AROUND.format(connections=CONNECTIONS, config=config))
        self.log_file = folder / "error.log"
        command = [find_nginx(), "-p", f"{folder}/", "-c", "nginx.conf"]
        with self.log_file.open("wb") as stderr:
            self.process = subprocess.Popen(
                [*command, "-g", "error_log stderr notice;"], stderr=stderr
            )
        wait_until(lambda: self.starts() or self.process.poll() is not None)
        assert self.process.poll() is None, self.log()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            self.stack.close()

    def start_world(self, world: int) -> Server:
        """Start a world as README's unit does."""
        folder = Path(mkdtemp(dir=self.folder))
        port = self.world_ports[world - 1]
        server = Server(folder, "--origin", self.origin, port=port, env=unit_environment())
        self.worlds[world] = self.stack.enter_context(running(server))
        return server

    def log(self) -> str:
        return self.log_file.read_text()

    def starts(self) -> int:
        """Return how often nginx has started to use its configuration."""
        return self.log().count("start worker process ")

    def link(self, world: int) -> str:
        return f"{self.origin}/world/{world}/"

    def handshake(self, world: int = 1) -> bytes:
        """Return the request that opens a WebSocket connection to a world."""
        request = handshake(f"Origin: {self.origin}")
        return request.replace(b"GET / ", b"GET /world/%d/ " % world)

    def join(self, world: int = 1, **options: Any) -> Player:
        """Add a player to a world, through the proxy. The options are those of connect()."""
        url = self.link(world).replace("https", "wss")
        options = {"ssl": self.tls, "origin": self.origin, **options}
        return self.worlds[world].join(url, **options)

    def request(
        self, path: str, method: str = "GET", *, plain: bool = False, **headers: str
    ) -> tuple[int, str | None]:
        """Return the status and the Location header of the answer to a request."""
        connection = (
            http.client.HTTPConnection(NAME, self.plain_port, timeout=PATIENCE)
            if plain
            else http.client.HTTPSConnection(NAME, self.port, context=self.tls, timeout=PATIENCE)
        )
        try:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            return response.status, response.getheader("Location")
        finally:
            connection.close()
