"""From label scores to a decision."""

import math

import pytest

from services.selector.domain.policy import decide
from shared.registry.manifests import ReleaseSelector


def selector(**changes):
    return ReleaseSelector(**({"digest": "d", "labels": ("fin.ha", "fin.sa", "none.none"), "threshold": 0.5} | changes))


def logs(*probabilities):
    return [math.log(p) for p in probabilities]


def test_the_most_probable_label_is_taken_with_its_probability_and_runners_up():
    selection = decide(logs(0.2, 0.7, 0.1), selector())
    assert selection.label == "fin.sa"
    assert selection.best.probability == pytest.approx(0.7)
    assert [(c.label, round(c.probability, 6)) for c in selection.runners_up] == [("fin.ha", 0.2)]


def test_under_the_threshold_nothing_is_taken_but_the_best_is_told():
    selection = decide(logs(0.3, 0.45, 0.25), selector())
    assert (selection.label, selection.best.label) == ("", "fin.sa")


def test_the_reject_label_takes_probability_away_and_is_never_named():
    selection = decide(logs(0.2, 0.2, 0.6), selector())
    assert selection.label == ""
    fields = selection.as_fields(selector())
    assert fields["rejected"]
    assert fields["label"] is None
    assert "none.none" not in str(fields)


def test_the_threshold_alone_decides_even_where_the_reject_label_is_ahead():
    assert decide(logs(0.1, 0.4, 0.5), selector(threshold=0.3)).label == "fin.sa"
    assert decide(logs(0.1, 0.4, 0.5), selector(threshold=0.45)).label == ""


def test_a_temperature_above_one_makes_the_selector_less_sure_but_keeps_the_order():
    sharp, soft = decide(logs(0.1, 0.8, 0.1), selector()), decide(logs(0.1, 0.8, 0.1), selector(temperature=3.0))
    assert sharp.best.label == soft.best.label
    assert soft.best.probability < sharp.best.probability


def test_very_small_log_likelihoods_do_not_underflow():
    assert decide([-5000.0, -5001.0, -6000.0], selector()).best.probability == pytest.approx(1 / (1 + math.exp(-1)))
