"""The environment of README's systemd unit, on a server under attack."""

from collections.abc import Callable
from contextlib import ExitStack

import pytest
from websockets import Frame, Opcode

from tests.harness.attack import attack
from tests.harness.game_server import Server, handshake
from tests.harness.player import assert_others_play_on, walking
from tests.harness.readme import unit_environment
from tests.harness.waiting import wait_until

CONNECTIONS = 200
FIRST_FRAGMENT = Frame(Opcode.TEXT, b"", fin=False).serialize(mask=True)
FRAGMENT = Frame(Opcode.CONT, b"", fin=False).serialize(mask=True)


def memory_of_honest_players(server: Server) -> float:
    """Return how much memory a server takes, in megabytes, when only honest players are online."""
    with ExitStack() as players:
        for _ in range(CONNECTIONS):
            players.enter_context(server.connect_raw())
        wait_until(lambda: server.online() == CONNECTIONS)
        return server.memory()


@pytest.mark.slow
def test_messages_without_end_do_not_fill_the_memory(start_server: Callable[..., Server]) -> None:
    honest_memory = memory_of_honest_players(start_server(env=unit_environment()))
    server = start_server(env=unit_environment())
    walker, watcher = server.join(), server.join()
    endless = attack(
        server.port,
        handshake() + FIRST_FRAGMENT,
        FRAGMENT * 4000,
        connections=CONNECTIONS,
        again=False,
    )
    with walking(walker), endless as report:
        wait_until(lambda: server.log().count("joined") == 2 + CONNECTIONS)
        while server.online() > 2:  # the server disconnects them
            assert server.memory() - honest_memory < 15
            assert_others_play_on(watcher, seconds=1, rate=6, gap=1)
    assert server.log().count("too many fragments") == CONNECTIONS
    assert report.sent > 100_000
