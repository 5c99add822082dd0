"""While a process can do no job its threads wait, and they take none when it ends."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.worker.turnstile import Turnstile
from tests.support.eventually import eventually


@pytest.fixture
def threads():
    with ThreadPoolExecutor(3) as pool:
        yield pool


def waiting(turnstile, threads):
    """Three threads that wait at it."""
    found = [threads.submit(turnstile.passes) for _ in range(3)]
    eventually(lambda: len(turnstile._change._waiters) == 3, "all of them wait")
    return found


def test_who_comes_passes_until_it_is_closed(threads):
    turnstile = Turnstile()
    assert turnstile.passes()
    turnstile.close("the engine is away")
    held = waiting(turnstile, threads)
    assert turnstile.why == "the engine is away"
    turnstile.open()
    assert [one.result(10) for one in held] == [True] * 3
    assert turnstile.passes()
    assert turnstile.why == ""


def test_the_end_sends_away_who_waits(threads):
    turnstile = Turnstile()
    turnstile.close("the engine is away")
    held = waiting(turnstile, threads)
    turnstile.end()
    assert [one.result(10) for one in held] == [False] * 3
    assert not turnstile.is_broken


def test_a_process_that_ends_well_does_what_it_has_taken_messages_for():
    turnstile = Turnstile()
    turnstile.end()
    assert turnstile.passes()
    turnstile.close("too late")
    assert turnstile.passes()


def test_a_broken_process_takes_nothing_more_and_stays_broken():
    turnstile = Turnstile()
    turnstile.end("the device failed", is_broken=True)
    turnstile.open()
    turnstile.end()
    assert (turnstile.passes(), turnstile.why, turnstile.is_broken) == (False, "the device failed", True)
