"""Public data for selectors: CLINC150 and the paper's 12 tasks, input only; they lie outside the repository."""

import gzip
import json
import random
import sys
from pathlib import Path
from typing import Any, NamedTuple

from shared.contracts.labels import BACKGROUND

DATA = Path(__file__).parents[2] / "shared" / "data"
Texts = dict[str, list[str]]
Pairs = list[tuple[str, str]]


class Benchmark(NamedTuple):
    """Rows by label for training, and (text, label) pairs; background rows carry `none.none`."""

    name: str
    train: Texts
    validation: Pairs
    test: Pairs
    max_set: float
    """Labels that a conformal set may hold on average."""


def need_data(data: Path = DATA) -> None:
    """End the benchmark with its reason where the data is not there."""
    if not data.is_dir():
        print(f"skipped: {data} is not there")
        sys.exit(0)


def clinc150() -> Benchmark:
    """100 rows an intent, 20 for validation; 100 out-of-scope rows to learn from and 100 to choose thresholds by."""

    def part(name: str) -> Pairs:
        return [(item["text"], f"{item['domain']}.{item['intent']}") for item in read(f"clinc150/{name}.jsonl.gz")]

    def outside(name: str) -> Pairs:
        return [(item["text"], BACKGROUND) for item in read(f"clinc150/oos_{name}.jsonl.gz")]

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


def by_label(pairs: Pairs) -> Texts:
    texts: Texts = {}
    for text, label in pairs:
        texts.setdefault(label, []).append(text)
    return texts


def read(name: str, data: Path = DATA) -> list[dict[str, Any]]:
    with gzip.open(data / name, "rt") as lines:
        return [json.loads(line) for line in lines]
