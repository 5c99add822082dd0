"""Rejection of texts outside all labels, trained without background: one of the 12 tasks' domains left out at a time.

Also 77 intents of one bank (banking77), where every label has similar neighbours. Both use the light selector, which
trains in seconds; thresholds and weights are chosen on validation rows, all figures are of test rows.
"""

import argparse
import random
from collections.abc import Callable

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.common import Row, print_table, row, write_results
from benchmarks.selector_data import Benchmark, Pairs, Texts, as12, by_label, need_data, read
from services.trainer.evaluation.calibration import CalibrationTarget
from services.trainer.evaluation.fit_calibration import calibrate
from services.trainer.evaluation.selector import SelectorScores, route_rows, selections
from services.trainer.traffic.window import Request
from services.trainer.training.light import fit_light
from shared.contracts.labels import parse_label
from shared.contracts.manifests import ReleaseSelector
from shared.contracts.routing import calibration_error

FALSE_REJECTS = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500, help="training rows for each of the 12 tasks")
    args = parser.parse_args()
    need_data()
    rows = [*left_out(as12(args.rows)), *banking()]
    print_table(rows)
    write_results("selector_outside", rows)


def left_out(benchmark: Benchmark) -> list[Row]:
    """How well confidence separates a domain that the selector has never seen from the others."""
    rows = []
    for domain in sorted({parse_label(label).domain for label in benchmark.train}):

        def is_inside(label: str, domain: str = domain) -> bool:
            return parse_label(label).domain != domain

        train = {label: texts for label, texts in benchmark.train.items() if is_inside(label)}
        validation = [(text, label) for text, label in benchmark.validation if is_inside(label)]
        selector, score = trained(train, validation, CalibrationTarget(FALSE_REJECTS))
        selected = selections(selector, score(benchmark.test))
        inside = np.array([is_inside(label) for _, label in benchmark.test])
        area = float(roc_auc_score(inside, [selection.confidence for selection in selected]))
        rejected = np.array([not selection.label for selection in selected])
        spread = f"false rejects {rejected[inside].mean():.3f}, line chosen on validation rows for {FALSE_REJECTS}"
        rows.append(row(f"without_{domain}_auroc", area, ""))
        rows.append(row(f"without_{domain}_recall", float(rejected[~inside].mean()), "share", spread=spread))
    return rows


def banking() -> list[Row]:
    """Accuracy, calibration and label sets over 77 similar labels; a tenth of the training rows is for validation."""
    pairs = [(item["text"], f"bank.{item['intent']}") for item in read("banking77/train.jsonl.gz")]
    random.Random(0).shuffle(pairs)
    validation, train = pairs[: len(pairs) // 10], by_label(pairs[len(pairs) // 10 :])
    test = [(item["text"], f"bank.{item['intent']}") for item in read("banking77/test.jsonl.gz")]
    selector, score = trained(train, validation, CalibrationTarget(0.0))
    routed = route_rows(selector, score(test), [label for _, label in test])
    selected = selections(selector, score(test))
    held = [label in selection.label_set for (_, label), selection in zip(test, selected, strict=True)]
    right = [r.gold == s.best.label for r, s in zip(routed, selected, strict=True)]
    size = f"n={len(test)}"
    return [
        row("banking77_light_acc", float(np.mean(right)), "share", spread=size),
        row("banking77_light_ece", calibration_error(routed), "", spread=size),
        row("banking77_light_coverage", float(np.mean(held)), "share", spread="stated 0.95"),
        row("banking77_light_mean_size", float(np.mean([len(s.label_set) for s in selected])), "labels", spread=size),
    ]  # fmt: skip


def trained(
    train: Texts, validation: Pairs, target: CalibrationTarget
) -> tuple[ReleaseSelector, Callable[[Pairs], SelectorScores]]:
    """A calibrated light selector, and a function that scores rows with it."""
    light = fit_light(train)

    def score(pairs: Pairs) -> SelectorScores:
        return SelectorScores(light.score([text for text, _ in pairs]), None)

    draft = ReleaseSelector(labels=tuple(light.labels), light="benchmark")
    selector, _ = calibrate(draft, score(validation), [label for _, label in validation], target)
    return selector, score


def selected(
    texts: list[str], selector: ReleaseSelector, score: Callable[[Pairs], SelectorScores]
) -> list[Request | None]:
    """What traffic shows of texts that a selector has read."""
    made = selections(selector, score([(text, "") for text in texts]))
    results = (selection.as_result(selector, release="", score_ms=0) for selection in made)
    return [Request.of(text, result) for text, result in zip(texts, results, strict=True)]


if __name__ == "__main__":
    main()
