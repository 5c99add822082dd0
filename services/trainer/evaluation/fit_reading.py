"""Fits what a release's reading of dialogues needs: which turns say little, and what a switch of the label costs."""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression

from services.trainer.evaluation.dialogues import ELLIPTIC_TURNS, Dialogue, DialogueKind, make_dialogues
from shared.contracts.dialogue import Parts, most_turns, turn_probabilities, words_in
from shared.contracts.labels import BACKGROUND
from shared.contracts.manifests import ReleaseSelector
from shared.contracts.reading import RequestReading
from shared.contracts.selection import decide, label_probabilities

DIALOGUES = 100
"""Of each kind."""
DIALOGUES_OF_LLM = 60
"""The same where a language model reads their ends."""
FEWEST = 30
"""The same where labels are many."""
MOST_PROBABILITIES = 20_000
"""Labels times dialogues of a kind."""
STAY = (0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
OFF_TOPIC = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
WEIGHTS: Mapping[DialogueKind, float] = {"outside": 0.5}
"""What a kind of dialogue counts; any other counts 1. Requests outside all labels are rarer than the others."""
LIKELIHOOD = 0.02
"""What a nat counts beside a dialogue that is routed rightly: it tells readings apart that route alike."""


class _Task(NamedTuple):
    """Dialogues, and what scores their texts."""

    selector: ReleaseSelector
    dialogues: Sequence[Dialogue]
    parts: Parts


def fit_reading(
    selector: ReleaseSelector, reading: RequestReading, validation: Mapping[str, Sequence[str]], parts: Parts, seed: int
) -> RequestReading:
    """Return the reading with its numbers fitted on dialogues of validation texts; as it is where these make none.

    `parts` score a text with the selector's parts, of which the language model reads what it would read in service.
    What is maximised is the share that is routed rightly.
    """
    dialogues = make_dialogues(validation, ELLIPTIC_TURNS, _count(selector), seed)
    if not {"switch", "elliptic"} <= {dialogue.kind for dialogue in dialogues}:
        return reading
    dialogues = [dialogue._replace(turns=dialogue.turns[-most_turns(selector) :]) for dialogue in dialogues]
    task = _Task(selector, dialogues, Parts(cache(parts.light), cache(parts.llm)))
    return _with_prior(task, _with_little(task, reading))


def _count(selector: ReleaseSelector) -> int:
    """The number of dialogues of each kind: fewer where each costs more."""
    if selector.llm:
        return DIALOGUES_OF_LLM
    return max(FEWEST, min(DIALOGUES, MOST_PROBABILITIES // len(selector.labels)))


def _with_little(task: _Task, reading: RequestReading) -> RequestReading:
    """Tell elliptic turns from others, which count as much, by their words and the probability of their best label."""
    features = [_features(task, dialogue.turns[-1]) for dialogue in task.dialogues]
    model = LogisticRegression(C=10.0, class_weight="balanced")
    model.fit(features, [dialogue.kind == "elliptic" for dialogue in task.dialogues])
    words, evidence = model.coef_[0].tolist()
    little = {"little_bias": float(model.intercept_[0]), "little_words": words, "little_evidence": evidence}
    return reading.model_copy(update={name: round(value, 4) for name, value in little.items()})


def _features(task: _Task, text: str) -> tuple[float, float]:
    cheap = task.selector.model_copy(update={"llm": ""}) if task.selector.light else task.selector
    found, _ = label_probabilities(cheap, lambda: task.parts.light(text), lambda: task.parts.llm(text))
    real = (p for label, p in zip(task.selector.labels, found, strict=True) if label != BACKGROUND)
    best = min(max(*real, 1e-6), 1 - 1e-6)
    return math.log(words_in(text)), math.log(best / (1 - best))


def _with_prior(task: _Task, reading: RequestReading) -> RequestReading:
    """Choose, by turns, what a switch costs, and how often a turn belongs to no label."""

    def best(name: str, values: Sequence[float], start: RequestReading) -> RequestReading:
        tried = [start.model_copy(update={name: value}) for value in values]
        return max(tried, key=lambda one: _worth(task, one))

    reading = best("stay", STAY, reading)
    if BACKGROUND in task.selector.labels:
        reading = best("off_topic", OFF_TOPIC, reading)
    return best("stay", STAY, reading)


def _worth(task: _Task, reading: RequestReading) -> float:
    """The share of dialogues that are routed rightly, by the weights of the kinds, and a little of their likelihood."""
    by_kind: dict[DialogueKind, list[float]] = {}
    for dialogue in task.dialogues:
        found, by = turn_probabilities(task.selector, reading, dialogue.turns, task.parts)
        likelihood = math.log(max(found[task.selector.labels.index(dialogue.gold)], 1e-9))
        is_right = (decide(task.selector, found, by).label or BACKGROUND) == dialogue.gold
        by_kind.setdefault(dialogue.kind, []).append(is_right + LIKELIHOOD * likelihood)
    weights = [WEIGHTS.get(kind, 1.0) for kind in by_kind]
    return float(np.average([np.mean(own) for own in by_kind.values()], weights=weights))
