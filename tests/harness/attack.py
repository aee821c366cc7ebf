"""Attacks from a process of their own; see attacker.py."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from websockets import Frame, Opcode

from tests.harness.game_server import ROOT
from tests.harness.player import move
from tests.harness.waiting import PATIENCE

BEGINNING = Frame(Opcode.TEXT, b"", fin=False).serialize(mask=True)
MIDDLE = Frame(Opcode.CONT, b"", fin=False).serialize(mask=True)
END = Frame(Opcode.CONT, move(1, 0).encode()).serialize(mask=True)
FLOODS = {
    "pings": Frame(Opcode.PING, b"").serialize(mask=True) * 5000,
    "pongs": Frame(Opcode.PONG, b"").serialize(mask=True) * 5000,
    "fragments": BEGINNING + MIDDLE * 4000 + END,
    "moves": Frame(Opcode.TEXT, move(1, 0).encode()).serialize(mask=True) * 1000,
}


@dataclass
class Report:
    """What an attack did. It is known when the attack is over."""

    connected: int = 0
    sent: int = 0
    answers: dict[str, int] = field(default_factory=dict)


@contextmanager
def attack(port: int, first: bytes, flood: bytes = b"", **options: Any) -> Iterator[Report]:
    """Attack a port meanwhile. The options are those of Attack in attacker.py."""
    options |= {"port": port, "first": first.hex(), "flood": flood.hex()}
    report = Report()
    with subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "harness" / "attacker.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdin
            assert process.stdout
            process.stdin.write(json.dumps(options) + "\n")
            process.stdin.flush()
            process.stdout.readline()  # when it has begun
            yield report
            assert process.poll() is None, "the attack was over too soon"
            output, _ = process.communicate(timeout=PATIENCE)
            vars(report).update(json.loads(output))
        finally:
            process.kill()
