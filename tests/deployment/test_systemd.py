"""The environment of README's systemd unit, on a server under attack."""

import pytest

from tests.conftest import StartServer
from tests.harness.attack import BEGINNING, MIDDLE, attack
from tests.harness.game_server import handshake
from tests.harness.player import assert_others_play_on, walking
from tests.harness.readme import unit_environment
from tests.harness.waiting import wait_until

CONNECTIONS = 50


@pytest.mark.slow
def test_messages_without_end_do_not_fill_the_memory(start_server: StartServer) -> None:
    server = start_server(env=unit_environment())
    walker, watcher = server.join(), server.join()
    before = server.memory()
    first, flood = handshake() + BEGINNING, MIDDLE * 4000
    endless = attack(server.port, first, flood, connections=CONNECTIONS, again=False)
    with walking(walker), endless as report:
        wait_until(lambda: server.log().count("joined") == 2 + CONNECTIONS)
        while server.online() > 2:  # the server disconnects them
            assert server.memory() - before < 10  # megabytes; without the limit, it is over 30
            assert_others_play_on(watcher, seconds=1, rate=6, gap=1)
    assert server.log().count("too many fragments") == CONNECTIONS
    assert report.sent > 100_000
