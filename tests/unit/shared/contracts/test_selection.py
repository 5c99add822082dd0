"""From label scores to a decision."""

import math

import pytest
from pydantic import ValidationError

from shared.contracts.manifests import Release, ReleaseLabel, ReleaseSelector, Verdict
from shared.contracts.selection import rule, select


def selector(**changes):
    return ReleaseSelector(**({"llm": "d", "labels": ("fin.ha", "fin.sa", "none.none"), "threshold": 0.5} | changes))


def logs(*probabilities):
    return [math.log(p) for p in probabilities]


def never():
    raise AssertionError("asked in vain")


def by_llm(row, **changes):
    return select(selector(**changes), never, lambda: row)


def test_the_most_probable_label_is_taken_with_its_probability_and_runners_up():
    selection = by_llm(logs(0.2, 0.7, 0.1))
    assert (selection.label, selection.by) == ("fin.sa", "llm")
    assert selection.best.probability == pytest.approx(0.7)
    assert [(c.label, round(c.probability, 6)) for c in selection.runners_up] == [("fin.ha", 0.2)]


def test_under_the_threshold_nothing_is_taken_but_the_best_is_told():
    selection = by_llm(logs(0.3, 0.45, 0.25))
    assert (selection.label, selection.best.label) == ("", "fin.sa")


def test_the_reject_label_takes_probability_away_and_is_never_named():
    selection = by_llm(logs(0.2, 0.2, 0.6))
    assert selection.label == ""
    result = selection.as_result(selector(), release="rel_1", score_ms=1.5)
    assert result.rejected
    assert result.label is None
    assert "none.none" not in str(result)


def test_a_selection_is_written_down_with_all_that_decided_it():
    result = by_llm(logs(0.2, 0.7, 0.1)).as_result(selector(), release="rel_1", score_ms=1.5)
    assert result.model_dump(mode="json") == {
        "label": "fin.sa",
        "probability": 0.7,
        "confidence": pytest.approx(0.7),
        "best_label": "fin.sa",
        "runners_up": [{"label": "fin.ha", "probability": 0.2}],
        "label_set": ["fin.sa", "fin.ha"],
        "coverage": 0.95,
        "rejected": False,
        "ambiguous": False,
        "choices": [],
        "threshold": 0.5,
        "selector": selector().digest,
        "by": "llm",
        "release": "rel_1",
        "score_ms": 1.5,
    }


def test_the_threshold_alone_decides_even_where_the_reject_label_is_ahead():
    assert by_llm(logs(0.1, 0.4, 0.5), threshold=0.3).label == "fin.sa"
    assert by_llm(logs(0.1, 0.4, 0.5), threshold=0.45).label == ""


@pytest.mark.parametrize(
    ("probabilities", "is_between"),
    [
        ((0.48, 0.46, 0.06), True),
        ((0.31, 0.59, 0.1), True),
        ((0.29, 0.61, 0.1), False),  # the second has less than half of the best one's
        ((0.25, 0.24, 0.51), False),  # none of the labels has more than the two together
    ],
)
def test_a_text_lies_between_two_labels_that_share_most_of_the_probability(probabilities, is_between):
    assert by_llm(logs(*probabilities)).is_ambiguous is is_between


def release(**says):
    entry = ReleaseLabel(adapter="a", ref="r", group="fin", template="chatml", instruction="")
    labels, verdict = dict.fromkeys(("fin.ha", "fin.sa"), entry), Verdict(passed=True, reasons=())
    return Release(tenant_id="t", base_model="b", labels=labels, selector=selector(), verdict=verdict, **says)


@pytest.mark.parametrize(
    ("says", "probabilities", "outcome", "label"),
    [
        ({}, (0.41, 0.51, 0.08), "adapter", "fin.sa"),
        ({"ambiguous": "base"}, (0.41, 0.51, 0.08), "base", ""),
        ({"ambiguous": "choices"}, (0.41, 0.51, 0.08), "choices", ""),
        ({"ambiguous": "choices"}, (0.1, 0.8, 0.1), "adapter", "fin.sa"),
        ({"ambiguous": "choices"}, (0.1, 0.1, 0.8), "base", ""),
        ({"ambiguous": "base", "reject_policy": "error"}, (0.1, 0.1, 0.8), "reject", ""),
    ],
)
def test_a_release_says_what_rejected_texts_and_those_between_two_labels_get(says, probabilities, outcome, label):
    ruling = rule(release(**says), by_llm(logs(*probabilities)))
    assert (ruling.outcome, ruling.selection.label) == (outcome, label)


def test_prototypes_decide_alone_and_stand_beside_no_other_part():
    alone = selector(llm="", prototypes="p", threshold=0.3)
    selection = select(alone, lambda: logs(0.35, 0.4, 0.25), never)
    assert (selection.label, selection.by, alone.kind, alone.digest) == ("fin.sa", "prototypes", "prototypes", "p")
    with pytest.raises(ValidationError, match="a selector of their own"):
        selector(prototypes="p")


def test_without_a_weight_for_none_confidence_is_probability():
    assert by_llm(logs(0.2, 0.7, 0.1)).confidence == pytest.approx(0.7)
    assert by_llm(logs(0.3, 0.7), labels=("fin.ha", "fin.sa"), none_weight=1.0).confidence == pytest.approx(0.7)


def test_of_two_texts_as_unsure_the_one_that_may_be_none_is_rejected():
    between_labels, between_label_and_none = logs(0.38, 0.6, 0.02), logs(0.02, 0.6, 0.38)
    selections = [by_llm(row, none_weight=1.0, threshold=0.9) for row in (between_labels, between_label_and_none)]
    assert [selection.confidence for selection in selections] == [
        pytest.approx(0.6 / (0.6 + 0.4 * 0.02)), pytest.approx(0.6 / (0.6 + 0.4 * 0.38))
    ]  # fmt: skip
    assert [selection.label for selection in selections] == ["fin.sa", ""]
    assert [selection.best.probability for selection in selections] == [pytest.approx(0.6)] * 2


def test_confidence_stays_between_nothing_and_one_where_probabilities_vanish():
    assert by_llm([0.0, -5000.0, -6000.0], none_weight=1.0).confidence == 1.0
    assert by_llm([-5000.0, -6000.0, 0.0], none_weight=1.0).confidence == 0.0


def test_a_weight_below_one_makes_the_selector_less_sure_but_keeps_the_order():
    sharp, soft = by_llm(logs(0.1, 0.8, 0.1)), by_llm(logs(0.1, 0.8, 0.1), llm_weight=1 / 3)
    assert sharp.best.label == soft.best.label
    assert soft.best.probability < sharp.best.probability


def test_very_small_log_likelihoods_do_not_underflow():
    assert by_llm([-5000.0, -5001.0, -6000.0]).best.probability == pytest.approx(1 / (1 + math.exp(-1)))


def test_where_the_light_selector_is_sure_the_language_model_is_not_asked():
    selection = select(selector(light="l", cascade_threshold=0.8), lambda: logs(0.1, 0.85, 0.05), never)
    assert (selection.label, selection.by) == ("fin.sa", "light")


def test_it_may_be_sure_that_no_label_fits():
    selection = select(selector(light="l", cascade_threshold=0.8), lambda: logs(0.1, 0.05, 0.85), never)
    assert (selection.label, selection.by) == ("", "light")


def test_where_it_is_not_sure_the_product_of_both_decides():
    cascade = selector(light="l", cascade_threshold=0.8, light_weight=1.0, llm_weight=2.0)
    selection = select(cascade, lambda: logs(0.6, 0.3, 0.1), lambda: logs(0.2, 0.7, 0.1))
    assert (selection.label, selection.by) == ("fin.sa", "both")
    assert selection.best.probability == pytest.approx(0.3 * 0.49 / (0.3 * 0.49 + 0.6 * 0.04 + 0.1 * 0.01))


def test_how_sure_it_is_alone_is_calibrated_apart():
    cascade = selector(light="l", cascade_threshold=0.8, light_alone_weight=0.1, light_weight=5.0)
    assert select(cascade, lambda: logs(0.1, 0.85, 0.05), lambda: logs(0.2, 0.7, 0.1)).by == "both"


def test_a_light_selector_alone_decides_however_unsure():
    selection = select(selector(llm="", light="l", threshold=0.3), lambda: logs(0.35, 0.4, 0.25), never)
    assert (selection.label, selection.by) == ("fin.sa", "light")


def test_a_selector_of_nothing_is_refused_and_both_parts_give_it_its_name():
    with pytest.raises(ValidationError, match="light part"):
        selector(llm="")
    assert selector().digest == "d"
    assert selector(light="l").digest not in ("d", "l", selector(light="m").digest)


def test_the_label_set_holds_every_real_label_that_is_probable_enough():
    row = logs(0.15, 0.5, 0.35)
    assert by_llm(row, conformal_threshold=0.1).label_set == ["fin.sa", "fin.ha"]
    assert by_llm(row, conformal_threshold=0.2).label_set == ["fin.sa"]
    assert by_llm(row, conformal_threshold=0.6, threshold=0.55).label_set == []


def test_the_label_set_holds_the_chosen_label_however_improbable():
    row = logs(0.15, 0.5, 0.35)
    assert by_llm(row, conformal_threshold=0.99, threshold=0.5).label_set == ["fin.sa"]
    assert by_llm(row, conformal_threshold=0.99, threshold=0.51).label_set == []
