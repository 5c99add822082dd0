"""The budget of steps goes to two stages, alike for every sampler, and losses tell a task's resource."""

import pytest

from services.trainer.multitask.stages import overfits_at, resource_of, stages_of
from shared.contracts.multitask import MultitaskTrain, Sampler
from shared.errors import Invalid

SIZES = {"a.big": 800, "a.middle": 160, "a.small": 40}


def body(**fields):
    labels = dict.fromkeys(SIZES, "rows")
    return MultitaskTrain(labels=labels, **{"high_resource": ["a.big"], **fields})


def test_stage_1_is_an_epoch_of_high_resource_tasks_and_stage_2_ten_of_all():
    first, second = stages_of(SIZES, ["a.big"], body())
    assert (first.labels, first.steps, first.sampling.sampler) == (("a.big",), 100, "instance")
    assert (second.labels, second.steps) == (tuple(SIZES), 1250)  # ten times 1,000 rows, 8 a step
    assert second.draws(body()) == 10_000


@pytest.mark.parametrize("two_stages", [True, False])
def test_every_sampler_gets_the_same_steps_within_the_cap(two_stages):
    totals = set()
    for sampler in Sampler.__args__:
        one = body(sampler=sampler, max_steps=500, two_stages=two_stages)
        totals.add(tuple(stage.steps for stage in stages_of(SIZES, ["a.big"], one)))
    assert totals == {(100, 400) if two_stages else (500,)}


def test_without_high_resource_tasks_there_is_one_stage():
    (only,) = stages_of(SIZES, [], body(high_resource=[]))
    assert only.name == "stage-2"


def test_a_budget_that_leaves_the_second_stage_nothing_is_refused():
    with pytest.raises(Invalid, match="raise max_steps"):
        stages_of(SIZES, ["a.big"], body(max_steps=100))


@pytest.mark.parametrize(
    ("losses", "epoch", "resource"),
    [
        ([], None, None),
        ([1.0], None, None),
        ([1.0, 0.9, 0.8], None, None),
        ([1.0, 0.9, 0.8, 0.7], None, "high"),
        ([1.0, 1.1], 2, "low"),
        ([1.0, 0.9, 0.8, 0.85], 4, "low"),
        ([1.0, 1.0, 1.0, 1.0], None, "high"),  # what stays alike does not rise
    ],
)
def test_a_task_whose_validation_loss_rises_before_epoch_5_is_low_resource(losses, epoch, resource):
    assert overfits_at(losses) == epoch
    assert resource_of(losses) == resource


def test_the_report_names_each_tasks_probability():
    (_, second) = stages_of(SIZES, ["a.big"], body())
    report = second.as_report(SIZES, body())
    shares = {label: SIZES[label] ** 0.5 / sum(size**0.5 for size in SIZES.values()) for label in SIZES}
    assert report["probabilities"] == pytest.approx(shares, abs=1e-6)
