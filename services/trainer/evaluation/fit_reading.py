"""Fits what a release's reading of dialogues needs: which turns say little, and what a switch of the label costs."""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression

from services.trainer.evaluation.dialogues import ELLIPTIC_TURNS, Dialogue, DialogueKind, make_dialogues
from shared.contracts.dialogue import Parts, Score, most_turns, turn_probabilities, words_in
from shared.contracts.labels import BACKGROUND
from shared.contracts.manifests import ReleaseSelector
from shared.contracts.reading import RequestReading
from shared.contracts.selection import decide, label_probabilities

DIALOGUES = 100
"""Of each kind."""
FEWEST = 30
"""The same where a language model reads them, or where labels are many."""
MOST_PROBABILITIES = 20_000
"""Labels times dialogues of a kind."""
STAY = (0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
OFF_TOPIC = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
LIKELIHOOD = 0.02
"""What a nat counts beside a dialogue that is routed rightly: it tells readings apart that route alike."""


class _Task(NamedTuple):
    """Dialogues, and the label scores of their texts by the part of the selector that reads them all."""

    selector: ReleaseSelector
    dialogues: Sequence[Dialogue]
    parts: Parts


def fit_reading(
    selector: ReleaseSelector, reading: RequestReading, validation: Mapping[str, Sequence[str]], score: Score, seed: int
) -> RequestReading:
    """Return the reading with its numbers fitted on dialogues of validation texts; as it is where these make none.

    `score` returns a text's label scores by the selector's part that costs least: of a cascade the light one, whose
    calibrated probabilities stand for both. What is maximised is the share that is routed rightly.
    """
    alone = selector.model_copy(update={"llm": ""}) if selector.light else selector
    dialogues = make_dialogues(validation, ELLIPTIC_TURNS, _count(alone), seed)
    if not {"switch", "elliptic"} <= {dialogue.kind for dialogue in dialogues}:
        return reading
    dialogues = [dialogue._replace(turns=dialogue.turns[-most_turns(alone) :]) for dialogue in dialogues]
    known = cache(score)
    task = _Task(alone, dialogues, Parts(known, known))
    return _with_prior(task, _with_little(task, reading))


def _count(selector: ReleaseSelector) -> int:
    """The number of dialogues of each kind: fewer where each costs more."""
    cheap = max(FEWEST, min(DIALOGUES, MOST_PROBABILITIES // len(selector.labels)))
    return cheap if selector.light else FEWEST


def _with_little(task: _Task, reading: RequestReading) -> RequestReading:
    """Tell elliptic turns from others by their words and by the probability of their best label."""
    features = [_features(task, dialogue.turns[-1]) for dialogue in task.dialogues]
    model = LogisticRegression(C=10.0)
    model.fit(features, [dialogue.kind == "elliptic" for dialogue in task.dialogues])
    words, evidence = model.coef_[0].tolist()
    little = {"little_bias": float(model.intercept_[0]), "little_words": words, "little_evidence": evidence}
    return reading.model_copy(update={name: round(value, 4) for name, value in little.items()})


def _features(task: _Task, text: str) -> tuple[float, float]:
    found, _ = label_probabilities(task.selector, lambda: task.parts.light(text), lambda: task.parts.llm(text))
    real = (p for label, p in zip(task.selector.labels, found, strict=True) if label != BACKGROUND)
    best = min(max(*real, 1e-6), 1 - 1e-6)
    return math.log(words_in(text)), math.log(best / (1 - best))


def _with_prior(task: _Task, reading: RequestReading) -> RequestReading:
    """Choose the probability of staying, then that of a turn that belongs to no label, then that of staying again."""

    def best(name: str, values: Sequence[float], start: RequestReading) -> RequestReading:
        tried = [start.model_copy(update={name: value}) for value in values]
        return max(tried, key=lambda one: _worth(task, one))

    reading = best("stay", STAY, reading)
    if BACKGROUND in task.selector.labels:
        reading = best("stay", STAY, best("off_topic", OFF_TOPIC, reading))
    return reading


def _worth(task: _Task, reading: RequestReading) -> float:
    """The share of dialogues that are routed rightly, each kind counting the same, and a little of their likelihood."""
    by_kind: dict[DialogueKind, list[float]] = {}
    for dialogue in task.dialogues:
        found, by = turn_probabilities(task.selector, reading, dialogue.turns, task.parts)
        likelihood = math.log(max(found[task.selector.labels.index(dialogue.gold)], 1e-9))
        is_right = (decide(task.selector, found, by).label or BACKGROUND) == dialogue.gold
        by_kind.setdefault(dialogue.kind, []).append(is_right + LIKELIHOOD * likelihood)
    return float(np.mean([np.mean(own) for own in by_kind.values()]))
