"""What is wrong with a request on several tasks is said in a sentence that tells what to do."""

import pytest
from pydantic import ValidationError

from shared.contracts.multitask import MultitaskSettings, is_qualified, overhead
from shared.contracts.training import parse_training

TWO = {"bank.cards": "cards", "bank.loans": "loans"}
TRAIN = {"kind": "multitask.train", "labels": TWO, "high_resource": ["bank.cards"]}
PROPOSE = {"kind": "multitask.propose", "validation": TWO}


def test_the_defaults_are_those_of_table_6():
    body = parse_training(TRAIN)
    settings = body.settings
    assert (settings.learning_rate, settings.batch_size, settings.accumulate, settings.epochs) == (3e-5, 1, 8, 10)
    assert (body.cap, body.tau, body.max_steps, body.sampler) == (20_000, 2, 15_000, "capped-temperature")
    kept = parse_training({**TRAIN, "settings": {"rank": 4}}).settings
    assert (kept.rank, kept.learning_rate) == (4, 3e-5)  # what is not named stays that of table 6
    assert parse_training(body.model_dump(mode="json")) == body
    assert isinstance(kept, MultitaskSettings)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"kind": "multitask.plan", "labels": {"bank.cards": "cards"}}, "name two labels or more"),
        ({**TRAIN, "labels": {"bank.cards": "cards"}}, "name two labels or more"),
        ({**TRAIN, "prefixes": {"bank.cards": "Sort", "bank.loans": "sort"}}, "give each its own"),
        ({**TRAIN, "prefixes": {"bank.cards": "Task: bank.loans"}}, "give each its own"),
        ({**TRAIN, "cap": 0}, "take 1 or more"),
        ({**TRAIN, "tau": 0}, "take one above 0"),
        ({**TRAIN, "tau": float("nan")}, "take one above 0"),
        ({**TRAIN, "max_steps": 0}, "trains nothing"),
        ({**TRAIN, "high_resource": None}, "name a plan's job in `plan`"),
        ({**TRAIN, "plan": "job_1"}, "name one of them"),
        ({**TRAIN, "high_resource": ["bank.other"]}, "name them in `labels` too"),
        ({**TRAIN, "validation": {"bank.other": "x"}}, "name them in `labels` too"),
        ({"kind": "multitask.plan", "labels": TWO, "overrides": {"bank.other": {}}}, "name them in `labels` too"),
        ({"kind": "multitask.plan", "labels": TWO, "settings": {"epochs": 2}}, "set settings.epochs to 4 or more"),
        ({"kind": "multitask.plan", "labels": TWO, "settings": {"method": "pissa"}}, "take lora"),
        (PROPOSE, "name the shared adapter"),
        ({**PROPOSE, "adapter": "bank.cards", "job": "job_1"}, "name the shared adapter"),
        ({**TRAIN, "surprise": 1}, "Extra inputs are not permitted"),
    ],
)
def test_a_request_that_cannot_work_is_refused(body, says):
    with pytest.raises(ValidationError, match=says.replace("(", r"\(")):
        parse_training(body)


def test_a_task_qualifies_at_99_percent_of_its_own_adapter_and_the_overhead_is_of_the_best_model():
    # LLaMA's CWSC in table 1: 70.06 of 70.22 is qualified, 69.12 is not.
    assert is_qualified(70.06, 70.22)
    assert not is_qualified(69.12, 70.22)
    assert overhead([5]) == 0.2
    assert overhead([3, 2]) == pytest.approx(1 / 3)  # two models, as in table 9
    assert overhead([0]) is None
