"""Texts that differ from the training rows: misspelt ones, and near misses that belong to no label; words alone.

A near miss is counted as rejected where its confidence is under that of 95 % of the held-out rows that have a label.
Those in `cases/` are written by hand; CLINC150's are of intents of a domain that were left out of training.
"""

import random
import time

import numpy as np

from benchmarks import demo_data
from benchmarks.common import Row, print_table, row, write_results
from benchmarks.selector_data import Benchmark, Pairs, Texts, by_label, clinc150, need_data
from benchmarks.selector_outside import trained
from benchmarks.typos import KINDS, LEARNT, misspelt
from services.trainer.evaluation.calibration import CalibrationTarget
from services.trainer.evaluation.selector import SelectorScores, selections
from services.trainer.training.light import fit_light
from shared.contracts.labels import BACKGROUND, parse_label
from shared.contracts.manifests import ReleaseSelector
from shared.model.light import LightSelector

FALSE_REJECTS = 0.05
SEEDS = 5
LEFT_OUT = 5
"""Intents of the 15 of each domain."""


def main() -> None:
    rows = near_misses_of_the_demo()
    print_table(rows)
    need_data()
    clinc = clinc150()
    rows += [*typos_of_clinc(clinc), *intents_left_out(clinc)]
    print_table(rows)
    write_results("selector_noise", rows)


def near_misses_of_the_demo() -> list[Row]:
    test = demo_data.rows("test")
    selector, score = trained(by_label(demo_data.rows("train")), demo_data.rows("validation"), target())
    inside = [(text, label) for text, label in test if label != BACKGROUND]
    found = selections(selector, score(inside))
    line = float(np.quantile([selection.confidence for selection in found], FALSE_REJECTS))

    def rejected(texts: list[str]) -> float:
        return float(np.mean(confidences(selector, score([(text, "") for text in texts])) < line))

    sealed, seen = rejected(demo_data.cases("near_misses.sealed")), rejected(demo_data.cases("near_misses.seen"))
    wrong = misspelt([text for text, _ in inside], 0.1)
    taken = selections(selector.model_copy(update={"threshold": line}), score([(text, "") for text in wrong]))
    routed = [selection.label for selection in taken]
    accuracy = float(np.mean([s.best.label == label for s, (_, label) in zip(found, inside, strict=True)]))
    astray = [label not in ("", gold) for label, (_, gold) in zip(routed, inside, strict=True)]
    at = f"at {FALSE_REJECTS} false rejects"
    return [
        row("near_miss_rejected", sealed, "share", spread=f"{at}, sealed, n=100", goal=0.6),
        row("near_miss_rejected_seen", seen, "share", spread=f"{at}, n=100"),
        row("one_word_rejected", rejected(demo_data.cases("one_word")), "share", spread=f"{at}, n=60"),
        row("outside_rejected_demo", rejected([t for t, label in test if label == BACKGROUND]), "share", spread=at),
        row("light_demo_acc", accuracy, "share", spread=f"n={len(inside)}, nothing rejected"),
        row("typo_astray_demo", float(np.mean(astray)), "share", spread="10 % typos, taken by a wrong label"),
    ]


def target() -> CalibrationTarget:
    return CalibrationTarget(FALSE_REJECTS)


def confidences(selector: ReleaseSelector, scores: SelectorScores) -> np.ndarray:
    return np.array([selection.confidence for selection in selections(selector, scores)])


def typos_of_clinc(clinc: Benchmark) -> list[Row]:
    """How far accuracy falls with typos, and the cost of a fit and of a text."""
    started = time.process_time()
    light = fit_light(clinc.train)
    seconds = time.process_time() - started
    texts, gold = zip(*((text, label) for text, label in clinc.test if label != BACKGROUND), strict=True)
    clean = accuracy(light, texts, gold)

    def fall(key: str, share: float, goal: float | None, kinds: tuple[str, ...] = tuple(KINDS)) -> Row:
        with_typos = accuracy(light, misspelt(texts, share, kinds), gold)
        spread = f"{clean:.4f} to {with_typos:.4f}"
        return row(key, (clean - with_typos) * 100, "points", spread=spread, goal=goal, at_least=False)

    unlearnt = tuple(kind for kind in KINDS if kind not in LEARNT)
    rows = [fall("typo_acc_5", 0.05, 5.0), fall("typo_acc_10", 0.10, 12.0)]
    rows += [fall(f"typo_acc_{round(share * 100)}_unlearnt", share, None, unlearnt) for share in (0.05, 0.1)]
    rows += [fall(f"typo_acc_10_{kind}", 0.1, None, (kind,)) for kind in KINDS]
    return [
        *rows,
        row("light_clinc_clean_acc", clean, "share", spread=f"n={len(texts)}, nothing rejected"),
        row("light_fit_clinc_s", seconds, "CPU s"),
        row("light_text_us", microseconds(light, texts), "CPU us"),
    ]


def accuracy(light: LightSelector, texts: tuple[str, ...] | list[str], gold: tuple[str, ...]) -> float:
    """Share of rows whose most probable real label is right."""
    real = [column for column, label in enumerate(light.labels) if label != BACKGROUND]
    best = light.score(texts)[:, real].argmax(axis=1)
    return float(np.mean([light.labels[real[column]] == label for column, label in zip(best, gold, strict=True)]))


def microseconds(light: LightSelector, texts: tuple[str, ...]) -> float:
    started = time.process_time()
    for text in texts:
        light.score([text])
    return (time.process_time() - started) * 1e6 / len(texts)


def intents_left_out(clinc: Benchmark) -> list[Row]:
    """Rejection of texts whose intent, but not whose domain, was left out; with and without background."""
    domains = sorted({parse_label(label).domain for label in clinc.train if label != BACKGROUND})
    rows = []
    for name, extra in (("", {BACKGROUND: clinc.train[BACKGROUND]}), ("_without_background", {})):
        shares = [np.mean([left_out(clinc, d, extra, seed) for d in domains]) for seed in range(SEEDS)]
        spread = (
            f"{min(shares):.3f} to {max(shares):.3f}, {SEEDS} seeds, {LEFT_OUT} of 15 intents of {len(domains)} domains"
        )
        rows.append(row(f"near_intents_rejected{name}", float(np.mean(shares)), "share", spread=spread))
    return rows


def left_out(clinc: Benchmark, domain: str, extra: Texts, seed: int) -> float:
    labels = sorted(label for label in clinc.train if label != BACKGROUND and parse_label(label).domain == domain)
    random.Random(seed).shuffle(labels)
    train = {label: clinc.train[label] for label in labels[LEFT_OUT:]} | extra

    def rows_of(pairs: Pairs, own: list[str] | Texts) -> Pairs:
        return [(text, label) for text, label in pairs if label in own]

    selector, score = trained(train, rows_of(clinc.validation, train), target())
    inside = confidences(selector, score(rows_of(clinc.test, labels[LEFT_OUT:])))
    outside = confidences(selector, score(rows_of(clinc.test, labels[:LEFT_OUT])))
    return float(np.mean(outside < np.quantile(inside, FALSE_REJECTS)))


if __name__ == "__main__":
    main()
