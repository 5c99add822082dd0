import pytest

from services.api.console.thresholds import Traffic, steps
from shared.contracts.judged import JudgedRow, report_at
from shared.contracts.labels import BACKGROUND
from shared.contracts.manifests import ReleaseSelector

SELECTOR = ReleaseSelector(light="d", labels=("a.a", "b.b", BACKGROUND), threshold=0.4321)


def row(confidence, label="a.a", best_label="a.a"):
    return JudgedRow(text="", text_hash="", label=label, best_label=best_label, probability=0.5, confidence=confidence)


ROWS = [row(0.9), row(0.4321), row(0.3), row(0.8, "b.b"), row(0.2, BACKGROUND), row(0.7, BACKGROUND)]


def test_every_threshold_gives_what_a_judgement_at_it_gives():
    for step in steps(SELECTOR, None, ROWS):
        report = report_at(ROWS, step.threshold)
        assert step.accuracy == pytest.approx(report["accuracy"])
        assert step.false_reject == pytest.approx(report["threshold"]["false_reject"])
        assert step.background_reject == pytest.approx(report["threshold"]["background_reject"])


def test_the_selectors_own_threshold_is_among_those_that_are_shown():
    found = [step.threshold for step in steps(SELECTOR, None, [])]

    assert SELECTOR.threshold in found
    assert found == sorted(set(found))
    assert (found[0], found[-1]) == (0.0, 1.0)


def test_a_job_is_rejected_below_the_threshold_and_one_between_two_labels_always():
    traffic = Traffic(9, [0.2, 0.5, 0.9], ambiguous=1, of_others=5)

    assert [traffic.rejected(threshold) for threshold in (0.0, 0.5, 0.51, 1.0)] == [0.25, 0.5, 0.75, 1.0]


def test_without_jobs_or_rows_nothing_is_known():
    assert Traffic(3, [], 0, 3).rejected(0.5) is None
    assert steps(SELECTOR, Traffic(0, [], 0, 0), [])[0][1:] == (None, None, None, None)
