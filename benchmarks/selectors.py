"""The light selector on public data: accuracy, calibration, rejection and label sets, beside simpler peers.

CLINC150 (150 intents with out-of-scope rows) and the paper's 12 tasks, input only; both lie outside the repository
(`../shared/data`), and without them there is nothing to measure. Thresholds and weights are chosen on validation rows;
every figure is of test rows.
"""

import argparse
import gzip
import json
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline, make_union

from benchmarks.common import Row, print_table, row, write_results
from services.trainer.domain.calibration import Aim
from services.trainer.domain.metrics import Routed, calibration_error
from services.trainer.infra.fit_light import fit_light
from services.trainer.infra.select_scores import Opinions, calibrated, readings
from shared.labels import REJECT
from shared.registry import ReleaseSelector

DATA = Path(__file__).parents[2] / "shared" / "data"
FALSE_REJECTS = 0.05
Texts = dict[str, list[str]]
Pairs = list[tuple[str, str]]


class Benchmark(NamedTuple):
    """Rows by label for training, and (text, label) pairs; background rows carry `none.none`."""

    name: str
    train: Texts
    validation: Pairs
    test: Pairs
    max_set: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500, help="training rows for each of the 12 tasks")
    args = parser.parse_args()
    if not DATA.is_dir():
        print(f"skipped: {DATA} is not there")
        sys.exit(0)
    rows = [line for bench in (clinc150(), as12(args.rows)) for line in measure(bench)]
    print_table(rows)
    write_results("selectors", rows)


def clinc150() -> Benchmark:
    """100 rows an intent, 20 for validation; 100 out-of-scope rows to learn from and 100 to choose thresholds by."""

    def part(name: str) -> Pairs:
        return [(item["text"], f"{item['domain']}.{item['intent']}") for item in read(f"clinc150/{name}.jsonl.gz")]

    def outside(name: str) -> Pairs:
        return [(item["text"], REJECT) for item in read(f"clinc150/oos_{name}.jsonl.gz")]

    train = by_label(part("train") + outside("train"))
    return Benchmark("clinc", train, part("val") + outside("val"), part("test") + outside("test"), max_set=1.5)


def as12(count: int) -> Benchmark:
    """As many distinct inputs of each task as there are, up to `count`, a tenth of them more for validation."""
    train: Texts = {}
    validation: Pairs = []
    test: Pairs = []
    for file in sorted((DATA / "as12").glob("*.train.jsonl.gz")):
        label = ".".join(file.name.split(".")[:2])
        texts = list(dict.fromkeys(item["input"] for item in read(f"as12/{file.name}")))
        random.Random(0).shuffle(texts)
        held_out = texts[: max(len(texts) // 10, 1)]
        validation += [(text, label) for text in held_out]
        train[label] = texts[len(held_out) :][:count]
        test += [(item["input"], label) for item in read(f"as12/{label}.test.jsonl.gz")]
    return Benchmark("as12", train, validation, test, max_set=1.6)


def measure(bench: Benchmark) -> list[Row]:
    started = time.process_time()
    light = fit_light(bench.train)
    fit_seconds = time.process_time() - started
    draft = ReleaseSelector(light="benchmark", labels=tuple(light.labels))
    seen = Opinions(light.score([text for text, _ in bench.validation]), None)
    selector, _ = calibrated(draft, seen, [label for _, label in bench.validation], Aim(FALSE_REJECTS))
    started = time.process_time()
    scores = light.score([text for text, _ in bench.test])
    score_ms = (time.process_time() - started) * 1000 / len(bench.test)
    found = np.array([probabilities for probabilities, _ in readings(selector, Opinions(scores, None))])
    real = [column for column, label in enumerate(selector.labels) if label != REJECT]
    labels, found = [selector.labels[column] for column in real], found[:, real]
    inside = [n for n, (_, label) in enumerate(bench.test) if label != REJECT]
    gold = [bench.test[n][1] for n in inside]
    top = found.max(axis=1)
    said = [labels[column] for column in found.argmax(axis=1)]
    routed = [Routed(g, said[n], float(top[n])) for n, g in zip(inside, gold, strict=True)]
    sets = found[inside] >= selector.floor
    held = float(np.mean([sets[n, labels.index(g)] for n, g in enumerate(gold)]))
    mean_size = float(sets.sum(axis=1).mean())
    size, name = f"n={len(inside)}", bench.name
    return [
        row(f"{name}_acc", right(said, bench.test), "share", spread=size, goal=0.96 if name == "clinc" else None),
        row(f"ece_{name}", calibration_error(routed), "", spread=size, goal=0.03, at_least=False),
        row(f"conformal_coverage_{name}", held, "share", spread="stated 0.95; 0.94 to 0.96 wanted", goal=0.94),
        row(f"conformal_mean_size_{name}", mean_size, "labels", goal=bench.max_set, at_least=False),
        *rejection(top, inside, selector.threshold),
        row(f"light_ms_{name}", score_ms, "CPU ms"),
        row(f"light_fit_s_{name}", fit_seconds, "CPU s", spread=f"{sum(map(len, bench.train.values()))} rows"),
        row(f"tfidf_linear_acc_{name}", right(words_alone(bench), bench.test), "share", spread="peer"),
    ]  # fmt: skip


def rejection(top: "np.ndarray[Any, Any]", inside: Sequence[int], threshold: float) -> list[Row]:
    """How well the best label's probability tells out-of-scope rows, where there are any."""
    is_inside = np.isin(np.arange(len(top)), inside)
    if is_inside.all():
        return []
    rejected = top < threshold
    spread = f"false rejects {rejected[is_inside].mean():.3f}, line chosen on validation rows for {FALSE_REJECTS}"
    return [
        row("clinc_auroc", float(roc_auc_score(is_inside, top)), "", goal=0.975),
        row("clinc_oos_recall", float(rejected[~is_inside].mean()), "share", spread=spread, goal=0.88),
    ]


def words_alone(bench: Benchmark) -> list[str]:
    """The usual baseline: TF-IDF of words and letters, logistic regression."""
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, max_features=50_000)
    model = make_pipeline(make_union(words, letters), LogisticRegression(C=10, max_iter=200))
    rows = [(text, label) for label, own in bench.train.items() if label != REJECT for text in own]
    model.fit([text for text, _ in rows], [label for _, label in rows])
    return list(model.predict([text for text, _ in bench.test]))


def right(said: Sequence[str], test: Pairs) -> float:
    """Share of the rows that belong somewhere which go there, nothing being rejected."""
    inside = [a == label for a, (_, label) in zip(said, test, strict=True) if label != REJECT]
    return sum(inside) / len(inside)


def by_label(pairs: Pairs) -> Texts:
    texts: Texts = {}
    for text, label in pairs:
        texts.setdefault(label, []).append(text)
    return texts


def read(name: str) -> list[dict[str, Any]]:
    with gzip.open(DATA / name, "rt") as lines:
        return [json.loads(line) for line in lines]


if __name__ == "__main__":
    main()
