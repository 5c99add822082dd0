"""The pace of a run, taken from its steps."""

from collections import namedtuple

import pytest

from services.trainer import speed

Progress = namedtuple("Progress", "step steps tokens")


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(speed.time, "monotonic", lambda: now[0])

    def run(steps, *, start=0, seconds=2.0, first=60.0, tokens=100):
        watch, paces = speed.RunClock(), []
        for step in range(start + 1, steps + 1):
            now[0] += first if step == start + 1 else seconds
            paces.append(watch.after(Progress(step, steps, step * tokens)))
        return paces

    return run


def test_a_pace_comes_with_the_last_step_and_leaves_out_the_first_which_prepares(clock):
    *before, last = clock(10)
    assert before == [None] * 9
    assert last == (100, 2.0)


def test_a_resumed_run_counts_its_own_steps(clock):
    assert clock(10, start=4)[-1] == (100, 2.0)


def test_a_few_steps_tell_no_pace(clock):
    assert clock(5)[-1] is None
    assert clock(6)[-1] == (100, 2.0)
