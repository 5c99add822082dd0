"""Waiting for what another process does."""

import asyncio
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


async def eventually_async(check, what, seconds=30):
    """The first true answer of the coroutine function `check`; fails with `what` when there is none in time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if answer := await check():
            return answer
        await asyncio.sleep(0.02)
    pytest.fail(f"not within {seconds} s: {what}")
