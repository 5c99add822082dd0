"""Waiting for what another process does."""

import threading
import time

import pytest


def eventually(check, what, seconds=60):
    """The first true answer of `check`; fails with `what` when there is none in time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        answer = check()
        if answer:
            return answer
        threading.Event().wait(0.05)
    pytest.fail(f"not within {seconds} s: {what}")
