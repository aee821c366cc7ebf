"""Joining and leaving, over real connections."""

import re

from tests.harness.game_server import Server


def test_the_welcome_comes_first_and_then_a_state_with_the_player(server: Server) -> None:
    player = server.join()
    assert player.welcome == {
        "type": "welcome",
        "id": 1,
        "width": 800,
        "height": 600,
        "size": 30,
        "step": 10,
        "tick_rate": 30,
    }
    x, y, color = player.state()["1"]
    assert 0 <= x <= 770
    assert 0 <= y <= 570
    assert re.fullmatch("#[0-9a-f]{6}", color)
