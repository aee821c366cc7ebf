"""Messages that players send: moves, pings, and everything that isn't part of the protocol."""

import json

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from websockets import Frame, Opcode

from tests.harness.game_server import Server
from tests.harness.player import Player, move_frame
from tests.harness.waiting import wait_until

MOVE = '{"type":"move","dx":1,"dy":0}'
BAD_MESSAGES = [
    "",
    "hello",
    "[" * 256,
    '{"a":' * 51,
    "null",
    "[]",
    "{}",
    '"move"',
    "NaN",
    '{"type":"jump","dx":1,"dy":0}',
    '{"type":"move"}',
    '{"type":["move"],"dx":1,"dy":0}',
    '[{"type":"move","dx":1,"dy":0}]',
    *(
        f'{{"type":"move","dx":{dx},"dy":0}}'
        for dx in (2, -2, 1.5, '"1"', "null", "[1]", "{}", "NaN", "Infinity", "1e400", "9" * 200)
    ),
    MOVE.encode(),
    b"\x00\xff",
]


@pytest.mark.parametrize("message", BAD_MESSAGES)
def test_a_bad_message_ends_the_game_and_the_reason_says_what_was_expected(
    game: Server, message: str | bytes
) -> None:
    stays, offender = game.join(), game.join()
    stays.wait_for_players(2)
    offender.send(message)
    stays.wait_for_players(1)
    code, reason = offender.close_reason()
    assert code == 1008
    assert reason.startswith('expected {"type":"move"')


@pytest.mark.parametrize(
    ("opcode", "data", "code"),
    [
        (Opcode.TEXT, MOVE.encode().ljust(257), 1009),
        (Opcode.TEXT, b"\xff\xfe", 1007),
        (Opcode.CONT, b"", 1002),
    ],
)
def test_a_broken_frame_is_answered_with_its_close_code(
    game: Server, opcode: Opcode, data: bytes, code: int
) -> None:
    stays = game.join()
    with game.connect_raw() as offender:
        stays.wait_for_players(2)
        offender.sendall(Frame(opcode, data).serialize(mask=True))
        answer = b"".join(iter(lambda: offender.recv(4096), b""))
    assert code.to_bytes(2, "big") in answer
    stays.wait_for_players(1)


def test_a_player_who_broke_a_rule_is_gone_before_hanging_up(game: Server) -> None:
    stays = game.join()
    offender = game.connect_raw()
    stays.wait_for_players(2)
    offender.sendall(Frame(Opcode.TEXT, b"nonsense").serialize(mask=True))
    stays.wait_for_players(1, timeout=3)  # seconds; hanging up may take 4


def test_256_bytes_are_not_too_long(game: Server) -> None:
    player = game.join()
    x, _ = player.position()
    player.send(MOVE.ljust(256))
    player.wait_for(lambda state: state[player.id][0] != x)


@pytest.mark.parametrize("one", ["true", "1.0", "1e0"])
def test_values_that_equal_1_count_as_1_and_positions_stay_whole(game: Server, one: str) -> None:
    player = game.join()
    x, y = player.position()
    player.send(f'{{"type":"move","dx":{one},"dy":false}}')
    player.wait_for(lambda state: state[player.id][0] != x)
    for state in player.states(0.3):
        assert [type(part) for part in state[player.id][:2]] == [int, int]
        assert state[player.id][1] == y


def test_a_ping_is_answered_at_once_and_to_its_sender_alone(game: Server) -> None:
    asks, other = game.join(), game.join()
    asks.wait_for_players(2)
    for _ in range(3):
        asks.send('{"type":"ping"}')
        wait_until(lambda: asks.receive() == {"type": "pong"})
    assert len(other.states(1.5)) > 0  # which fails for anything but a state


def test_a_burst_of_moves_after_a_stalled_network_is_no_fault(game: Server) -> None:
    player = game.join()
    player.connection.socket.sendall(300 * move_frame(1, 0))
    player.move(0, 0)
    player.wait_for(lambda state: state[player.id][0] == 770)
    other = game.join()
    other.wait_for_players(2)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
almost_moves = st.fixed_dictionaries(
    {"type": st.just("move") | json_values, "dx": json_values, "dy": json_values}
)


def test_no_message_of_one_player_affects_another(game: Server) -> None:
    watcher = game.join()

    @settings(
        max_examples=30,
        deadline=None,
        phases=(Phase.explicit, Phase.generate),  # shrinking would take minutes of real time
        suppress_health_check=list(HealthCheck),
    )
    @given(st.text() | st.binary() | st.one_of(json_values, almost_moves).map(json.dumps))
    def send(message: str | bytes) -> None:
        with Player(game.url) as offender:
            watcher.wait_for(lambda state: offender.id in state)
            offender.send(message)
        state = watcher.wait_for(lambda state: offender.id not in state)
        assert state == {watcher.id: state[watcher.id]}

    send()
    assert game.process.poll() is None
