"""Wait for a condition, and say what is missing on this machine."""

import os
import time
from collections.abc import Callable
from typing import NoReturn, TypeVar

import pytest

PATIENCE = 20  # seconds to wait for something that must happen; the machine may be busy

T = TypeVar("T")


def wait_until(condition: Callable[[], T], timeout: float = PATIENCE) -> T:
    """Return the first true value of the condition. Fail if there is none before the timeout."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
    return value


def missing(what: str) -> NoReturn:
    """Skip a test because something isn't installed. With CI set, fail instead."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)
