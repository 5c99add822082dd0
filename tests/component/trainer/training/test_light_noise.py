"""The light selector on texts unlike its training rows: misspelt ones, near misses, single words, other phrasings."""

import json
import random
import string
from pathlib import Path

import numpy as np
import pytest

from services.trainer.evaluation.calibration import CalibrationTarget
from services.trainer.evaluation.fit_calibration import calibrate
from services.trainer.evaluation.selector import SelectorScores, joined_scores, selections
from services.trainer.training.light import cross_fitted, fit_light
from services.trainer.training.noise import misspelt
from shared.contracts.labels import BACKGROUND
from shared.contracts.manifests import ReleaseSelector

ROOT = Path(__file__).parents[4]
LABELS = ("bank.accounts", "bank.cards", "travel.dining", "travel.driving", "travel.trips", BACKGROUND)


def inputs(file, field="input"):
    return [json.loads(line)[field] for line in (ROOT / file).read_text().splitlines()]


def pairs(part):
    return [(text, label) for label in LABELS for text in inputs(f"examples/data/{label}.{part}.jsonl")]


@pytest.fixture(scope="module")
def select():
    light = fit_light({label: inputs(f"examples/data/{label}.train.jsonl") for label in LABELS})
    seen = pairs("validation")
    scores = SelectorScores(light.score([text for text, _ in seen]), None)
    draft = ReleaseSelector(labels=tuple(light.labels), light="l")
    selector, _ = calibrate(draft, scores, [label for _, label in seen], CalibrationTarget(0.05))
    return lambda texts: selections(selector, SelectorScores(light.score(texts), None))


@pytest.fixture(scope="module")
def held_out():
    return [(text, label) for text, label in pairs("test") if label != BACKGROUND]


def test_misspelt_texts_keep_their_label(select, held_out):
    chance = random.Random(3)
    wrong = [misspelt(text, string.ascii_lowercase, chance, share=0.1) for text, _ in held_out]
    right = [s.best.label == label for s, (_, label) in zip(select(wrong), held_out, strict=True)]
    assert np.mean(right) >= 0.93


def test_near_misses_and_single_words_are_rejected_more_often_than_not(select):
    near, words = (
        inputs("benchmarks/cases/near_misses.seen.jsonl", "text"),
        inputs("benchmarks/cases/one_word.jsonl", "text"),
    )
    assert np.mean([not s.label for s in select(near)]) >= 0.7
    assert np.mean([not s.label for s in select(words)]) >= 0.95


def test_a_text_is_less_sure_the_less_of_it_is_known(select):
    known, half, nothing = (
        select([text])[0].confidence
        for text in ("has my credit card been declined", "has my xxqvz card zzkwj qqqxv", "jjwqx xxqvz zzkwj qqqxv")
    )
    assert known > half > nothing
    assert not select(["jjwqx xxqvz zzkwj qqqxv"])[0].label


def few(seed, count=20):
    """Twenty examples of two labels, a fifth of them for validation."""
    chance = random.Random(seed)
    chosen = {
        label: chance.sample(inputs(f"examples/data/{label}.train.jsonl"), count)
        for label in ("bank.cards", "travel.trips")
    }
    return {label: own[count // 5 :] for label, own in chosen.items()}, [
        (text, label) for label, own in chosen.items() for text in own[: count // 5]
    ]


def test_thresholds_from_twenty_examples_take_other_phrasings(held_out):
    rejected = []
    for seed in range(4):
        training, validation = few(seed)
        light = fit_light(training)
        scores = SelectorScores(light.score([text for text, _ in validation]), None)
        more, gold = cross_fitted(training)
        known = joined_scores(scores, SelectorScores(more, None))
        draft = ReleaseSelector(labels=tuple(light.labels), light="l")
        selector, _ = calibrate(draft, known, [label for _, label in validation] + gold, CalibrationTarget())
        phrasings = [text for text, label in held_out if label in training]
        found = selections(selector, SelectorScores(light.score(phrasings), None))
        rejected.append(np.mean([not selection.label for selection in found]))

    assert np.mean(rejected) <= 0.08


def test_each_text_is_scored_by_a_selector_that_has_not_seen_it():
    texts = {"b.y": ["two words", "three words here"], "a.x": ["card lost", "card gone", "unlike any other"]}

    scores, gold = cross_fitted(texts)

    assert gold == ["a.x", "b.y", "a.x", "b.y", "a.x"]  # fold by fold
    seen = fit_light(texts).score(["unlike any other"])[0, 0]
    assert scores[4, 0] < seen - 0.5
    assert scores.shape == (5, 2)


def test_a_labels_only_text_has_no_score():
    scores, gold = cross_fitted({"a.x": ["card lost"], "b.y": ["a flight", "two flights"]})
    assert (scores.shape, gold) == ((2, 2), ["b.y", "b.y"])
