"""The light selector on texts unlike its training rows: misspelt ones, near misses, single words."""

import json
import random
import string
from pathlib import Path

import numpy as np
import pytest

from services.trainer.evaluation.calibration import CalibrationTarget
from services.trainer.evaluation.selector import SelectorScores, calibrate, selections
from services.trainer.training.light import fit_light
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
