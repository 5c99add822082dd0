"""What the events of a training come to on its page."""

import json
from itertools import pairwise

import pytest

from services.api.console.training_run import Run, thinned
from services.api.infra.event_feed import Event


def run_of(*told):
    run = Run()
    for at, kind, data in told:
        run.add(Event(f"{at}-0", kind, json.dumps(data)))
    return run


def step(number, **more):
    told = {"stage": "training", "step": number, "steps": 10, "loss": 1.0, "learning_rate": 1e-4, "tokens": 50 * number}
    return "progress", told | more


def test_a_later_attempts_steps_stand_in_place_of_an_earlier_ones():
    run = run_of((1000, *step(1)), (2000, *step(2)), (9000, *step(2, loss=0.5)))
    assert [(number, one.loss) for number, one in run.shown] == [(1, 1.0), (2, 0.5)]
    assert run.position == "9000-0"


def test_the_speed_is_that_of_the_last_steps():
    assert run_of((1000, *step(1))).tokens_per_second is None
    assert run_of((1000, *step(1)), (3000, *step(2)), (5000, *step(3))).tokens_per_second == pytest.approx(25)


def test_stages_states_and_checkpoints_are_lines_of_the_log_and_steps_are_not():
    run = run_of(
        (1, "state", {"state": "running", "attempt": 1}),
        (2, "progress", {"stage": "data_checked", "warnings": ["cut"], "none": []}),
        (3, *step(1)),
        (4, "progress", {"stage": "checkpoint", "step": 1}),
        (5, "restart", {"attempt": 2}),
    )
    assert [line.text for line in run.log] == [
        "running: attempt 1",
        'data checked: warnings ["cut"]',
        "checkpoint: step 1",
        "restart: attempt 2",
    ]
    assert run.checkpoints == [1]


@pytest.mark.parametrize("count", [0, 1, 5, 6, 7, 99, 100, 1001])
def test_a_chart_has_few_points_evenly_and_always_the_last(count):
    numbers = list(range(count))
    shown = thinned(numbers, 6)
    assert len(shown) <= 6
    assert shown[-1:] == numbers[-1:]
    assert shown[:1] == numbers[:1]
    assert len({b - a for a, b in pairwise(shown[:-1])}) <= 1
