"""Other routing methods on the rows of `benchmarks.selectors`: nearest prototypes, TF-IDF, `semantic-router`.

`semantic-router` pins its own libraries and needs its own environment (`make peers`), or its rows are missing.
"""

import argparse
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline, make_union

from benchmarks.common import Row, print_table, row, write_results
from benchmarks.selector_data import Benchmark, Texts, as12, clinc150, need_data
from services.trainer.data.embedders import embedder
from services.trainer.data.representation import representation_set
from shared.contracts.labels import BACKGROUND
from shared.contracts.training_settings import RepresentationSettings
from shared.model.base import load_tokenizer, resolve_base_model
from shared.settings import Settings

PROTOTYPES = 20
SCRIPT = Path(__file__).parent / "peers" / "semantic_router_rows.py"
Predictions = list[tuple[str, float]]
"""The label of each test row, and the peer's confidence in it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500, help="training rows for each of the 12 tasks")
    parser.add_argument("--python", type=Path, default=Path(".venv-peers/bin/python"), help="with semantic-router")
    args = parser.parse_args()
    need_data()
    rows = []
    for benchmark in (clinc150(), as12(args.rows)):
        train = {label: own for label, own in benchmark.train.items() if label != BACKGROUND}
        texts = [text for text, _ in benchmark.test]
        rows += peer_rows("tfidf_linear", benchmark, tfidf_linear(train), texts)
        rows += peer_rows("knn_prototypes", benchmark, knn_prototypes(train), texts)
        if args.python.is_file():
            rows += peer_rows("semantic_router", benchmark, semantic_router(train, args.python), texts)
        else:
            print(f"semantic-router is skipped: {args.python} is not there; run `make peers`")
        print_table(rows)
    write_results("selector_peers", rows)


def peer_rows(
    name: str, benchmark: Benchmark, answer: Callable[[list[str]], tuple[Predictions, float]], texts: list[str]
) -> list[Row]:
    predictions, ms = answer(texts)
    inside = [label != BACKGROUND for _, label in benchmark.test]
    right = [
        found == label
        for (found, _), (_, label) in zip(predictions, benchmark.test, strict=True)
        if label != BACKGROUND
    ]
    rows = [
        row(f"{name}_{benchmark.name}_acc", sum(right) / len(right), "share", spread=f"n={len(right)}"),
        row(f"{name}_{benchmark.name}_ms", ms, "CPU ms"),
    ]
    if not all(inside):
        area = roc_auc_score(inside, [confidence for _, confidence in predictions])
        rows.append(row(f"{name}_{benchmark.name}_auroc", float(area), ""))
    return rows


def timed(one: Callable[[str], tuple[str, float]], texts: list[str]) -> tuple[Predictions, float]:
    """Answers to rows one after the other, and the mean CPU milliseconds per row."""
    started = time.process_time()
    predictions = [one(text) for text in texts]
    return predictions, (time.process_time() - started) * 1000 / len(texts)


def tfidf_linear(train: Texts) -> Callable[[list[str]], tuple[Predictions, float]]:
    """The usual baseline: logistic regression on TF-IDF of words and characters."""
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, max_features=50_000)
    model = make_pipeline(make_union(words, letters), LogisticRegression(C=10, max_iter=200))
    rows = [(text, label) for label, own in train.items() for text in own]
    model.fit([text for text, _ in rows], [label for _, label in rows])

    def one(text: str) -> tuple[str, float]:
        probabilities = model.predict_proba([text])[0]
        return str(model.classes_[probabilities.argmax()]), float(probabilities.max())

    return lambda texts: timed(one, texts)


def knn_prototypes(train: Texts) -> Callable[[list[str]], tuple[Predictions, float]]:
    """The paper's own data selection as a classifier: the label of the nearest k-means prototype, by cosine."""
    base = resolve_base_model(Settings())
    selection = RepresentationSettings(rows_per_label=PROTOTYPES, distance="cos", pooling="mean")
    embed = embedder(selection, base, load_tokenizer(base))
    kept = representation_set(train, embed, selection)
    labels = [label for label, own in kept.items() for _ in own]

    def vectors(texts: list[str]) -> Any:
        found = embed(texts)
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)

    prototypes = vectors([text for own in kept.values() for text in own])

    def one(text: str) -> tuple[str, float]:
        near = prototypes @ vectors([text])[0]
        return labels[int(near.argmax())], float(near.max())

    return lambda texts: timed(one, texts)


def semantic_router(train: Texts, python: Path) -> Callable[[list[str]], tuple[Predictions, float]]:
    """The package `semantic-router` with a local sentence encoder (all-MiniLM-L6-v2), in its own environment."""

    def answer(texts: list[str]) -> tuple[Predictions, float]:
        request = json.dumps({"train": train, "test": texts})
        done = subprocess.run([python, SCRIPT], input=request, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        return [(name or "", confidence) for name, confidence in found["predictions"]], found["ms"]

    return answer


if __name__ == "__main__":
    main()
