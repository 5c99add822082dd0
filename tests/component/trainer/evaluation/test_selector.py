import numpy as np
import pytest

from services.trainer.evaluation.calibration import CalibrationTarget
from services.trainer.evaluation.fit_calibration import calibrate, fit_weights, folds
from services.trainer.evaluation.selector import (
    SelectorScores,
    curve,
    parts_of,
    route_rows,
    score_rows,
    selections,
)
from shared.contracts.jobs import Job
from shared.contracts.labels import Label
from shared.contracts.manifests import ReleaseSelector
from shared.contracts.routing import Routed
from shared.errors import Cancelled
from shared.model.base import load_model
from shared.model.scoring import LabelScorer
from shared.worker.leases import HeldJob

LABELS = [Label("fin", "sa"), Label("fin", "ha"), Label("none", "none")]


def log(rows):
    return np.log(np.asarray(rows, dtype=np.float32))


def test_rows_keep_their_order_whatever_their_length(tiny_folder, tiny_tokenizer):
    scorer = LabelScorer(load_model(tiny_folder, "float32", device="cpu"), tiny_tokenizer, LABELS, 400)
    texts = ["x" * 50, "a", "some text", "b" * 20]

    scores = score_rows(scorer, texts, batch_size=2)

    np.testing.assert_allclose(scores, np.concatenate([scorer.score([text]) for text in texts]), atol=1e-4)


def test_scoring_can_be_stopped_before_each_batch(tiny_folder, tiny_tokenizer):
    scorer = LabelScorer(load_model(tiny_folder, "float32", device="cpu"), tiny_tokenizer, LABELS, 400)
    held = HeldJob(
        Job(id="j", tenant_id="t", kind="train", stage="train", state="running", queue="train", body={}, timestamps={})
    )
    batches = []

    def check():
        held.check()
        batches.append(1)
        held.stop("cancel")

    with pytest.raises(Cancelled):
        score_rows(scorer, ["a", "b", "c"], batch_size=1, check=check)
    assert len(batches) == 1


def llm(**changes):
    return ReleaseSelector(**({"llm": "d", "labels": tuple(map(str, LABELS))} | changes))


def test_the_weight_sharpens_what_is_too_unsure_and_softens_what_is_too_sure():
    unsure = log([[0.6, 0.4]] * 20)
    too_sure = log([[0.999, 0.001]] * 20)

    assert fit_weights([unsure], [0] * 20)[0] > 2
    assert fit_weights([too_sure], [0] * 15 + [1] * 5)[0] < 0.5
    assert fit_weights([unsure], []) == [1.0]


def test_the_probability_after_calibration_is_the_share_that_is_right():
    scores, gold = log([[0.999, 0.001, 1e-30]] * 200), ["fin.sa"] * 150 + ["fin.ha"] * 50

    selector, _ = calibrate(llm(), SelectorScores(None, scores), gold, CalibrationTarget())

    assert route_rows(selector, SelectorScores(None, scores), gold)[0].probability == pytest.approx(0.75, abs=0.02)


def test_of_two_parts_the_one_that_knows_weighs_more():
    chance = np.random.default_rng(0)
    gold = chance.integers(0, 2, 200)
    knows = log([[0.8, 0.2] if g == 0 else [0.2, 0.8] for g in gold])
    guesses = log(chance.dirichlet([1, 1], 200))

    good, bad = fit_weights([knows, guesses], gold.tolist())

    assert good > 1
    assert abs(bad) < 0.3


def test_a_row_goes_to_its_best_real_label_unless_that_is_too_unlikely():
    scores = log([[0.8, 0.1, 0.1], [0.5, 0.4, 0.1], [0.1, 0.1, 0.8], [0.2, 0.35, 0.45]])
    gold = ["fin.sa", "fin.ha", "none.none", "fin.ha"]

    strict, lenient = (route_rows(llm(threshold=t), SelectorScores(None, scores), gold) for t in (0.6, 0.3))

    assert [row.predicted for row in strict] == ["fin.sa", "none.none", "none.none", "none.none"]
    assert [row.predicted for row in lenient] == ["fin.sa", "fin.sa", "none.none", "fin.ha"]
    assert strict[0] == Routed("fin.sa", "fin.sa", pytest.approx(0.8))
    assert strict[2].probability == pytest.approx(0.9)


def test_the_threshold_parts_good_rows_from_background():
    scores = log([[0.9, 0.05, 0.05]] * 10 + [[0.4, 0.35, 0.25]] * 10 + [[0.1, 0.1, 0.8]] * 10)
    gold = ["fin.sa"] * 10 + ["none.none"] * 20

    selector, threshold = calibrate(llm(), SelectorScores(None, scores), gold, CalibrationTarget())

    assert (threshold.false_reject, threshold.background_reject) == (0.0, 1.0)
    assert selector.threshold == threshold.value


def test_background_that_is_as_unsure_as_good_rows_is_told_from_them_by_its_own_label():
    scores = log([[0.6, 0.38, 0.02]] * 20 + [[0.62, 0.02, 0.36]] * 10)
    gold = ["fin.sa"] * 20 + ["none.none"] * 10

    selector, threshold = calibrate(llm(), SelectorScores(None, scores), gold, CalibrationTarget())

    assert selector.none_weight > 0
    assert (threshold.false_reject, threshold.background_reject) == (0.0, 1.0)
    assert [row.predicted for row in route_rows(selector, SelectorScores(None, scores), gold)] == gold


def test_none_weighs_nothing_where_that_gains_nothing():
    scores = log([[0.9, 0.05, 0.05]] * 10 + [[0.3, 0.3, 0.4]] * 10)
    parted, _ = calibrate(
        llm(), SelectorScores(None, scores), ["fin.sa"] * 10 + ["none.none"] * 10, CalibrationTarget()
    )
    without_background, _ = calibrate(llm(), SelectorScores(None, scores), ["fin.sa"] * 20, CalibrationTarget())

    assert (parted.none_weight, without_background.none_weight) == (0.0, 0.0)


def test_a_cascade_asks_the_language_model_only_where_the_light_selector_errs():
    right, unsure = [0.95, 0.03, 0.02], [0.45, 0.4, 0.15]
    light = log([right] * 50 + [unsure] * 50)
    exact = log([[0.9, 0.05, 0.05]] * 50 + [[0.05, 0.9, 0.05]] * 50)
    gold = ["fin.sa"] * 50 + ["fin.ha"] * 50

    selector, _ = calibrate(llm(light="l"), SelectorScores(light, exact), gold, CalibrationTarget())
    selected = selections(selector, SelectorScores(light, exact))

    assert [s.by for s in selected] == ["light"] * 50 + ["both"] * 50
    assert [s.label for s in selected] == gold

    always, _ = calibrate(llm(light="l"), SelectorScores(light, exact), gold, CalibrationTarget(min_llm_share=1.0))
    assert {s.by for s in selections(always, SelectorScores(light, exact))} == {"both"}


def test_a_light_selector_alone_is_calibrated_too():
    scores, gold = log([[0.6, 0.3, 0.1]] * 20), ["fin.sa"] * 20

    selector, _ = calibrate(llm(llm="", light="l"), SelectorScores(scores, None), gold, CalibrationTarget())

    assert selections(selector, SelectorScores(scores, None))[0].best.probability > 0.8


def test_label_sets_cover_new_rows_as_stated_although_few_rows_fitted_the_weights():
    chance = np.random.default_rng(0)
    covered = []
    for _ in range(60):
        gold = chance.choice(["fin.sa", "fin.ha"], 80)
        evidence = chance.normal(np.where(gold == "fin.sa", 1.0, -1.0), 1.0)
        scores = log(np.stack([1 / (1 + np.exp(-2 * evidence)), 1 / (1 + np.exp(2 * evidence)), np.full(80, 1e-9)], 1))
        seen, new = slice(0, 40), slice(40, 80)
        selector, _ = calibrate(llm(), SelectorScores(None, scores[seen]), gold[seen].tolist(), CalibrationTarget())
        found = selections(selector.model_copy(update={"threshold": 1.0}), SelectorScores(None, scores[new]))
        covered += [label in selection.label_set for selection, label in zip(found, gold[new], strict=True)]

    assert np.mean(covered) == pytest.approx(0.96, abs=0.02)


def test_each_row_is_held_out_once_and_every_fold_has_rows_of_each_label():
    held_out = folds(23)
    assert (np.sum(held_out, axis=0) == 1).all()
    assert [part[:10].sum() for part in held_out] == [2] * 5
    assert len(folds(3)) == 3
    assert folds(0) == []


def test_the_curve_goes_from_never_asking_the_language_model_to_asking_it_always():
    light = log([[0.9, 0.05, 0.05]] * 50 + [[0.45, 0.4, 0.15]] * 50)
    exact = log([[0.9, 0.05, 0.05]] * 50 + [[0.05, 0.9, 0.05]] * 50)
    gold = ["fin.sa"] * 50 + ["fin.ha"] * 50

    points = curve(llm(light="l", threshold=0.2), SelectorScores(light, exact), gold, steps=4)

    assert [(p.llm_share, p.accuracy) for p in (points[0], points[-1])] == [(0.0, 0.5), (1.0, 1.0)]
    assert [p.llm_share for p in points] == sorted(p.llm_share for p in points)


def test_the_parts_of_a_cascade_are_its_selectors_alone_and_none_of_them_rejects():
    whole = ReleaseSelector(labels=("fin.ha", "fin.sa"), light="a", llm="b", threshold=0.9)
    parts = parts_of(whole)
    assert {kind: (part.light, part.llm, part.threshold) for kind, part in parts.items()} == {
        "llm": ("", "b", 0), "light": ("a", "", 0), "cascade": ("a", "b", 0),
    }  # fmt: skip
    assert {kind: part.kind for kind, part in parts.items()} == {kind: kind for kind in parts}
    assert list(parts_of(whole.model_copy(update={"llm": ""}))) == ["light"]
