"""Sequential tests of a rollout: when a candidate is worse, and how rarely an equal one is said to be."""

import math
import random

import pytest

from services.api.rollouts.analysis import Fault, findings, sequence
from services.api.rollouts.golden import likeness
from shared.contracts.rollouts import FALSE_ALARMS, OpenRollout, RolloutStep, StepCounts, Tally, falling_step


def counts(current, candidate, fault=Fault.FAILED):
    return StepCounts(current={fault: Tally(*current)}, candidate={fault: Tally(*candidate)})


def found(*steps):
    (one,) = findings(steps)
    return one


def test_the_sequence_is_where_the_mixture_ratio_reaches_one_over_alpha():
    low, high = sequence(0.0, 1e-4, 0.05)
    mixed = 1e-4 + 0.01
    ratio = math.sqrt(1e-4 / mixed) * math.exp(0.01 * high**2 / (2 * 1e-4 * mixed))
    assert ratio == pytest.approx(1 / 0.05)
    assert low == -high


def test_a_candidate_that_fails_much_more_is_worse_after_few_requests():
    assert found(counts((1000, 5), (40, 20))).is_worse
    assert not found(counts((1000, 5), (3, 1))).is_worse


def test_what_cannot_be_told_yet_is_unclear():
    one = found(counts((1000, 5), (100, 8)))
    assert one.is_unclear
    assert not one.is_worse


def test_releases_are_compared_within_steps():
    """Both fail alike in each step; pooled over steps, the candidate would seem much worse."""
    quiet, bad_day = counts((9900, 99), (100, 1)), counts((500, 250), (500, 250))
    one = found(quiet, bad_day)
    assert not one.is_worse
    assert one.difference == pytest.approx(0, abs=0.02)
    assert one.candidate.share > 4 * one.current.share


def test_nothing_is_said_where_one_of_the_two_has_no_requests():
    assert findings([counts((100, 1), (0, 0))]) == []
    assert findings([]) == []


def test_an_equal_candidate_is_rarely_taken_back_however_often_one_looks():
    rng = random.Random(1)
    alarms = 0
    for _ in range(100):
        current = candidate = Tally()
        for _ in range(1500):
            current = current.plus(rng.random() < 0.1)
            if rng.random() < 0.3:
                candidate = candidate.plus(rng.random() < 0.1)
                if found(counts(current, candidate)).is_worse:
                    alarms += 1
                    break
    assert alarms <= 100 * FALSE_ALARMS


def test_a_share_holds_its_members_as_it_grows():
    def members(percent):
        rollout = OpenRollout("rol_1", "b", "a", percent, "canary", "job")
        return {unit for unit in map(str, range(5000)) if rollout.picks(unit)}

    assert members(0) == set()
    assert members(5) < members(25) < members(100) == set(map(str, range(5000)))
    assert len(members(5)) == pytest.approx(250, abs=60)


def test_steps_that_fall_are_found():
    steps = [RolloutStep(percent=share) for share in (1, 5, 5, 50)]
    assert falling_step(steps) == 2
    assert falling_step(steps[:2]) is None


@pytest.mark.parametrize(
    ("answer", "wanted", "share"),
    [("yes it did", "Yes it did", 1.0), ("no", "yes", 0.0), ("", "yes", 0.0), ("a b", "a c", 0.5)],
)
def test_answers_are_alike_by_their_words(answer, wanted, share):
    assert likeness(answer, wanted) == share
