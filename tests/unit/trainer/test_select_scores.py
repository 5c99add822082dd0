import numpy as np
import pytest

from services.trainer.domain.metrics import Routed
from services.trainer.infra.select_scores import fit_temperature, fit_threshold, route_rows, score_rows, tempered
from shared.attempts import Held
from shared.errors import Cancelled
from shared.jobs import Job
from shared.labels import Label
from shared.model.base import load_model
from shared.model.scoring import LabelScorer

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
    held = Held(Job(id="j", tenant_id="t", kind="train", state="running", queue="train", body={}, timestamps={}))
    batches = []

    def check():
        held.check()
        batches.append(1)
        held.stop("cancel")

    with pytest.raises(Cancelled):
        score_rows(scorer, ["a", "b", "c"], batch_size=1, check=check)
    assert len(batches) == 1


def test_the_temperature_cools_what_is_too_unsure_and_warms_what_is_too_sure():
    unsure = log([[0.6, 0.4]] * 20)
    too_sure = log([[0.999, 0.001]] * 20)

    assert fit_temperature(unsure, [0] * 20) < 0.5
    assert fit_temperature(too_sure, [0] * 15 + [1] * 5) > 2
    assert fit_temperature(unsure, []) == 1.0


def test_a_fitted_temperature_is_as_sure_as_it_is_right():
    scores, gold = log([[0.999, 0.001]] * 20), [0] * 15 + [1] * 5

    assert np.exp(tempered(scores, fit_temperature(scores, gold)))[0, 0] == pytest.approx(0.75, abs=0.02)


def test_tempered_rows_sum_to_one():
    np.testing.assert_allclose(np.exp(tempered(log([[0.7, 0.2, 0.1]]), 3.0)).sum(), 1)


def test_a_row_goes_to_its_best_real_label_unless_that_is_too_unlikely():
    scores = log([[0.8, 0.1, 0.1], [0.5, 0.4, 0.1], [0.1, 0.1, 0.8], [0.2, 0.35, 0.45]])
    gold = ["fin.sa", "fin.ha", "none.none", "fin.ha"]

    strict, lenient = (route_rows(scores, LABELS, gold, temperature=1.0, threshold=t) for t in (0.6, 0.3))

    assert [row.predicted for row in strict] == ["fin.sa", "none.none", "none.none", "none.none"]
    assert [row.predicted for row in lenient] == ["fin.sa", "fin.sa", "none.none", "fin.ha"]
    assert strict[0] == Routed("fin.sa", "fin.sa", pytest.approx(0.8))
    assert strict[2].probability == pytest.approx(0.9)


def test_the_service_decides_as_the_trainer_measured():
    from services.selector.domain.policy import decide
    from shared.registry.manifests import ReleaseSelector

    rows = np.random.default_rng(0).dirichlet([0.5, 0.5, 0.5], size=200)
    selector = ReleaseSelector(digest="d", labels=tuple(map(str, LABELS)), temperature=1.7, threshold=0.55)
    measured = route_rows(log(rows), LABELS, [""] * 200, selector.temperature, selector.threshold)
    decided = [decide(row.tolist(), selector).label or "none.none" for row in log(rows)]
    assert [row.predicted for row in measured] == decided
    assert len(set(decided)) == 3


def test_the_threshold_parts_good_rows_from_background():
    scores = log([[0.9, 0.05, 0.05]] * 10 + [[0.4, 0.35, 0.25]] * 10 + [[0.1, 0.1, 0.8]] * 10)
    gold = ["fin.sa"] * 10 + ["none.none"] * 20

    threshold = fit_threshold(scores, LABELS, gold, temperature=1.0)

    assert 0.4 < threshold.value < 0.9
    assert (threshold.false_reject, threshold.background_reject) == (0.0, 1.0)
