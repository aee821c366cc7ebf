"""The blocks of README.md that tests run as they stand."""

import os
import re

from tests.harness.game_server import ROOT

README = (ROOT / "README.md").read_text("utf-8")


def block(language: str, after: str = "") -> str:
    """Return the first block in this language after a text."""
    _, found, rest = README.partition(after) if after else ("", "README", README)
    match = re.search(rf"^```{language}\n(.+?)^```", rest, re.M | re.S)
    assert found, f"README has no {after}"
    assert match, f"README has no {language} block after {after!r}"
    return match[1]


def unit_environment() -> dict[str, str]:
    """Return the environment of this process, with what README's systemd unit adds."""
    lines = re.findall(r"^Environment=(\S+)$", block("ini"), re.M)
    return {**os.environ, **dict(line.split("=", 1) for line in lines)}
