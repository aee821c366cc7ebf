"""The protocol, over real connections to a real `python server.py`."""

import itertools
import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from conftest import PATIENCE, ROOT, Player, Server, edited_server, free_port, wait_until
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

StartServer = Callable[..., Server]


# --- Joining and leaving ---


def test_welcome_comes_first_and_then_a_state_with_the_player_in_it(server: Server) -> None:
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


def test_everyone_sees_everyone(server: Server) -> None:
    players = [server.join() for _ in range(5)]
    for player in players:
        state = player.wait_for(lambda players: len(players) == 5)
        assert list(state) == ["1", "2", "3", "4", "5"]
        assert len({color for _, _, color in state.values()}) == 5


def test_one_who_leaves_is_gone_and_its_id_is_not_used_again(server: Server) -> None:
    stays, leaves = server.join(), server.join()
    stays.wait_for(lambda players: "2" in players)
    leaves.connection.close()
    stays.wait_for(lambda players: "2" not in players)
    assert server.join().id == "3"


def test_one_who_breaks_off_is_gone(server: Server) -> None:
    stays, breaks_off = server.join(), server.join()
    stays.wait_for(lambda players: "2" in players)
    breaks_off.connection.socket.shutdown(socket.SHUT_RDWR)
    stays.wait_for(lambda players: "2" not in players)


def test_one_who_says_goodbye_but_does_not_hang_up_is_gone(server: Server) -> None:
    stays, lingers = server.join(), server.connect_raw()
    stays.wait_for(lambda players: "2" in players)
    lingers.sendall(Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=True))
    stays.wait_for(lambda players: "2" not in players, timeout=4)
    lingers.close()


def test_a_full_world_says_so_and_lets_in_again_when_there_is_room(
    start_server: StartServer,
) -> None:
    server = start_server("--max-players", "2")
    server.join()
    second = server.join()
    third = server.join_refused()
    assert third == (1013, "the game is full")
    wait_until(lambda: "the game is full" in server.log())
    second.connection.close()
    wait_until(lambda: "player 2 left" in server.log())
    assert server.join().id == "3"


def test_one_who_has_just_left_takes_neither_a_place_nor_a_color(
    start_server: StartServer, tmp_path: Path
) -> None:
    slow = edited_server(tmp_path, "\nTICK_RATE = 30 ", "\nTICK_RATE = 1 ")
    server = start_server("--max-players", "2", program=slow)
    first, second = server.join(), server.join()
    color = first.wait_for(lambda players: second.id in players)[second.id][2]
    # This was a tick, so there is a second until the next one.
    second.connection.close()
    third = server.join()
    assert first.wait_for(lambda players: third.id in players)[third.id][2] == color


# --- Moving ---


def test_a_held_key_moves_the_player_for_everyone_until_it_is_released(server: Server) -> None:
    mover, watcher = server.join(), server.join()
    x, y = mover.position()
    mover.move(mover.inward(), 0)
    state = watcher.wait_for(lambda players: abs(players["1"][0] - x) >= 100)
    assert state["1"][1] == y
    assert (state["1"][0] - x) % 10 == 0
    mover.move(0, 0)
    resting = mover.states(1.2)[-1]
    assert mover.states(1.2)[-1] == resting


def test_a_tap_moves_one_step_however_fast_and_many(server: Server) -> None:
    player = server.join()
    x, y = player.position()
    inward = player.inward()
    for taps in (1, 1, 3, 10):
        for _ in range(taps):
            player.tap(inward, 0)
        x += 10 * taps * inward
        player.wait_for(lambda players, x=x: players["1"][0] == x)
        assert all(tuple(state["1"][:2]) == (x, y) for state in player.states(1.2))


def test_moves_sent_more_often_make_nobody_faster(server: Server) -> None:
    player = server.join()
    x, inward = player.position()[0], player.inward()
    for _ in range(30):
        player.move(inward, 0)
        player.move(inward, 1)
        time.sleep(0.03)
    columns = [x, *(state["1"][0] for state in player.states(0.1))]
    assert {abs(b - a) for a, b in itertools.pairwise(columns)} <= {0, 7, 10}
    assert abs(columns[-1] - x) > 100


def test_nobody_leaves_the_world(server: Server) -> None:
    player = server.join()
    for dx, dy, corner in ((-1, -1, (0, 0)), (1, 1, (770, 570))):
        player.move(dx, dy)
        player.wait_for(lambda players, corner=corner: tuple(players["1"][:2]) == corner)
        assert all(tuple(state["1"][:2]) == corner for state in player.states(0.3))


def test_a_state_on_every_tick_with_a_change_and_one_a_second_without(server: Server) -> None:
    player = server.join()
    player.states(0.2)
    assert 2 <= len(player.states(3.5)) <= 4
    player.move(player.inward(), 0)
    columns = [state["1"][0] for state in player.states(1)]
    assert {abs(b - a) for a, b in itertools.pairwise(columns)} == {10}
    assert len(columns) > 15


def test_an_empty_world_does_no_work(server: Server) -> None:
    process = psutil.Process(server.process.pid)

    def wake_ups() -> int:
        before = process.num_ctx_switches().voluntary
        time.sleep(1)
        return process.num_ctx_switches().voluntary - before

    wait_until(lambda: wake_ups() < 5)
    player = server.join()
    wait_until(lambda: wake_ups() > 20)
    player.connection.close()
    wait_until(lambda: wake_ups() < 5)


# --- Bad messages ---

GOOD = '{"type":"move","dx":1,"dy":0}'
BAD_MESSAGES = [
    "",
    "hello",
    "{",
    "[" * 256,
    '{"a":' * 51,
    "null",
    "1",
    "[]",
    "{}",
    '"move"',
    "NaN",
    '{"type":"jump","dx":1,"dy":0}',
    '{"type":"move"}',
    '{"type":"move","dy":0}',
    '{"type":["move"],"dx":1,"dy":0}',
    '[{"type":"move","dx":1,"dy":0}]',
    *(
        f'{{"type":"move","dx":{dx},"dy":0}}'
        for dx in (2, -2, 1.5, '"1"', "null", "[1]", "{}", "NaN", "Infinity", "1e400", "9" * 200)
    ),
    GOOD.encode(),
    b"\x00\xff",
]


@pytest.mark.parametrize("message", BAD_MESSAGES)
def test_a_bad_message_is_answered_with_what_was_expected(
    lasting_server: Server, message: str | bytes
) -> None:
    with Player(lasting_server.url) as stays, Player(lasting_server.url) as offender:
        stays.wait_for(lambda players: offender.id in players)
        offender.send(message)
        stays.wait_for(lambda players: offender.id not in players)
        code, reason = offender.closed()
    assert code == 1008
    assert "expected" in reason
    assert '{"type":"move"' in reason
    wait_until(lambda: f"player {stays.id} left" in lasting_server.log())
    (line,) = re.findall(rf".* player {offender.id} left.*", lasting_server.log())
    assert "expected" in line


@pytest.mark.parametrize(
    ("opcode", "data", "expected_code"),
    [
        (Opcode.TEXT, GOOD.encode().ljust(257), 1009),
        (Opcode.TEXT, b"nonsense", 1008),
        (Opcode.TEXT, b"\xff\xfe", 1007),
        (Opcode.CONT, b"", 1002),
    ],
)
def test_a_broken_frame_ends_the_game_at_once_even_for_one_who_does_not_hang_up(
    server: Server, opcode: Opcode, data: bytes, expected_code: int
) -> None:
    stays, offender = server.join(), server.connect_raw()
    stays.wait_for(lambda players: "2" in players)
    offender.sendall(Frame(opcode, data).serialize(mask=True))
    stays.wait_for(lambda players: "2" not in players, timeout=4)
    answer = b"".join(iter(lambda: offender.recv(4096), b""))
    offender.close()
    assert expected_code.to_bytes(2, "big") in answer
    wait_until(lambda: server.log().count("player 2 left") == 1)


def test_256_bytes_are_not_too_long(server: Server) -> None:
    player = server.join()
    x, _ = player.position()
    player.send(GOOD.replace("1", str(player.inward())).ljust(256))
    player.wait_for(lambda players: players["1"][0] != x)


@pytest.mark.parametrize("one", ["true", "1.0", "1e0"])
def test_what_equals_one_counts_as_one_and_positions_stay_whole(server: Server, one: str) -> None:
    player = server.join()
    x, y = player.position()
    sign = "-" if player.inward() < 0 and one != "true" else ""
    player.send(f'{{"type":"move","dx":{sign}{one},"dy":false}}')
    player.wait_for(lambda players: players["1"][0] != x or x == 770)
    for state in player.states(0.3):
        assert [type(part) for part in state["1"][:2]] == [int, int]
        assert state["1"][1] == y


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
almost_moves = st.fixed_dictionaries(
    {"type": st.just("move") | json_values, "dx": json_values, "dy": json_values}
)


def test_whatever_anyone_sends_others_go_on_and_see_nothing(server: Server) -> None:
    watcher = server.join()
    watcher.state()

    @settings(
        max_examples=100,
        deadline=None,
        phases=(Phase.explicit, Phase.generate),  # shrinking would take minutes of real time
        suppress_health_check=list(HealthCheck),
    )
    @given(st.text() | st.binary() | st.one_of(json_values, almost_moves).map(json.dumps))
    def send(message: str | bytes) -> None:
        with Player(server.url) as offender:
            watcher.wait_for(lambda players: offender.id in players)
            offender.send(message)
        state = watcher.wait_for(lambda players: offender.id not in players)
        assert state == {watcher.id: state[watcher.id]}

    send()
    assert server.process.poll() is None


# --- Bugs in somebody's own code ---


@pytest.mark.parametrize("error", ["KeyError", "FileNotFoundError", "UnicodeError"])
def test_a_bug_in_the_rules_ends_the_server_with_its_traceback(tmp_path: Path, error: str) -> None:
    bug = f"""
def step(self):
    raise {error}("my own bug")

World.step = step

if __name__ == "__main__":
"""
    program = edited_server(tmp_path, '\nif __name__ == "__main__":\n', bug)
    server = Server(tmp_path / "log", program=program)
    try:
        with suppress(ConnectionClosed, ConnectionError, EOFError):
            server.join()
        assert server.process.wait(PATIENCE) == 1
        assert "Traceback (most recent call last):" in server.log()
        assert "my own bug" in server.log()
        assert "--port" not in server.log()
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("method", "error"),
    [
        ("steer(self, player_id, heading)", "KeyError"),
        ("steer(self, player_id, heading)", "ValueError"),
        ("join(self)", "ValueError"),
    ],
)
def test_a_bug_in_what_a_player_does_shows_its_traceback_and_ends_that_player_only(
    tmp_path: Path, method: str, error: str
) -> None:
    name = method.partition("(")[0]
    bug = f"""
right = World.{name}

def {method}:
    if self.last_id == 2:
        raise {error}("my own bug")
    return right{method.removeprefix(name)}

World.{name} = {name}

if __name__ == "__main__":
"""
    program = edited_server(tmp_path, '\nif __name__ == "__main__":\n', bug)
    server = Server(tmp_path / "log", program=program)
    try:
        stays, second = server.join(), server.join()
        stays.wait_for(lambda players: second.id in players)
        if name == "steer":
            second.move(1, 0)
            assert second.closed()[0] == 1011
        else:
            assert server.join_refused()[0] == 1011
        wait_until(lambda: "my own bug" in server.log())
        assert "Traceback (most recent call last):" in server.log()
        assert stays.state()
    finally:
        server.stop()


def test_a_bug_in_a_callback_shows_its_traceback(tmp_path: Path) -> None:
    bug = """
right = World.join

def join(self):
    asyncio.get_running_loop().call_soon(lambda: 1 / 0)
    return right(self)

World.join = join

if __name__ == "__main__":
"""
    program = edited_server(tmp_path, '\nif __name__ == "__main__":\n', bug)
    server = Server(tmp_path / "log", program=program)
    try:
        assert server.join().state()
        wait_until(lambda: "ZeroDivisionError" in server.log())
        assert "Traceback (most recent call last):" in server.log()
    finally:
        server.stop()


# --- Stopping ---


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_server_says_goodbye_to_all_and_exits_soon(
    start_server: StartServer, number: int
) -> None:
    times = []
    for _ in range(3):  # on a busy machine, any of them may take longer
        server = start_server()
        players = [server.join() for _ in range(3)]
        # One client that never answers, and one that has not even finished its handshake.
        deaf = server.connect_raw()
        with deaf, server.connect_raw(b"GET / HTTP/1.1\r\n"):
            players[0].wait_for(lambda state: len(state) == 4)
            start = time.monotonic()
            assert server.interrupt(number) == 0
            times.append(time.monotonic() - start)
        assert [player.closed()[0] for player in players] == [1001] * 3
        if times[-1] < 3.5:
            return
    raise AssertionError(f"seconds until the server had stopped: {times}")


def test_impatient_further_interrupts_are_no_trouble(server: Server) -> None:
    for _ in range(10):
        server.join()
    numbers = itertools.cycle((signal.SIGINT, signal.SIGTERM))

    def ended() -> bool:
        server.process.send_signal(next(numbers))
        return server.process.poll() is not None

    wait_until(ended)
    assert server.process.returncode == 0


# --- The command line and the log ---


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "server.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=20,
    )


def test_help_names_every_option() -> None:
    result = run("--help")
    assert result.returncode == 0
    for option in ("--host", "--port", "--max-players", "--origin", "localhost", "8765", "1000"):
        assert option in result.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--port", "99999"), "--port"),
        (("--port", "0"), "--port"),
        (("--port", "http"), "http"),
        (("--max-players", "0"), "--max-players"),
        (("--max-players", "-5"), "--max-players"),
        (("--host", "no-such-host.invalid"), "--host"),
        (("--host", "a..b"), "--host"),
        (("--host", "x" * 70), "--host"),
        (("--speed", "9"), "--speed"),
        (("--origin", "x"), "--origin"),
        (("--origin", ""), "--origin"),
        (("--origin", "game.example.org"), "--origin"),
        (("--origin", "https://"), "--origin"),
        (("--origin", "https://game.example.org/world/1"), "--origin"),
    ],
)
def test_a_bad_option_is_one_line_and_a_failure(arguments: tuple[str, ...], complaint: str) -> None:
    result = run(*arguments)
    assert result.returncode not in (0, None)
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert complaint in result.stderr
    assert "Traceback" not in result.stderr


def test_a_taken_port_is_one_line_that_says_what_to_do(server: Server) -> None:
    result = run("--port", str(server.port))
    assert result.returncode not in (0, None)
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert str(server.port) in result.stderr
    assert "--port" in result.stderr


def test_the_log_has_a_line_for_each_event_and_nothing_else(server: Server) -> None:
    first, second = server.join(), server.join()
    first.wait_for(lambda players: len(players) == 2)
    second.connection.close()
    first.wait_for(lambda players: len(players) == 1)
    first.send("nonsense")
    first.closed()
    wait_until(lambda: "player 1 left" in server.log())
    server.interrupt()
    patterns = [
        rf"listening: open http://localhost:{server.port}/",
        r"127\.0\.0\.1: player 1 joined, 1 online",
        r"127\.0\.0\.1: player 2 joined, 2 online",
        r"127\.0\.0\.1: player 2 left, 1 online",
        r"127\.0\.0\.1: player 1 left \('expected .*'\), 0 online",
    ]
    lines = server.log().splitlines()
    assert len(lines) == len(patterns), lines
    for line, pattern in zip(lines, patterns, strict=True):
        assert re.fullmatch(rf"\S+ \S+ {pattern}", line), line


def test_a_goodbye_with_control_characters_cannot_forge_log_lines(server: Server) -> None:
    player = server.join()
    player.connection.close(1000, "bye\n2026-01-01 00:00:00 player 99 joined \x1b[31m")
    wait_until(lambda: "player 1 left" in server.log())
    assert len(server.log().splitlines()) == 3
    assert "\x1b" not in server.log()


def need_ipv6() -> None:
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists():
        pytest.skip("needs a machine with IPv6: /proc/net/if_inet6")


@pytest.mark.parametrize("host", ["", "::", "0.0.0.0", "127.0.0.1", "localhost"])
def test_the_link_that_the_server_prints_can_be_opened(
    start_server: StartServer, host: str
) -> None:
    if host == "::":
        need_ipv6()
    server = start_server("--host", host)
    link = re.search(r"open (http://\S+/)$", server.log().strip())
    assert link
    assert "//[::]" not in link[1]  # for a browser does not open that
    with urllib.request.urlopen(link[1], timeout=PATIENCE) as response:
        assert response.status == 200


def test_the_server_listens_on_ipv6_too(start_server: StartServer) -> None:
    need_ipv6()
    port = free_port()
    server = start_server("--host", "::1", port=port)
    assert f"http://[::1]:{port}/" in server.log()
    with Player(f"ws://[::1]:{port}") as player:
        assert player.state()
