"""Label sets of the light selector on the demo's held-out rows, over 20 splits of its training rows.

Each split fits and calibrates a selector as the demo's job does. The held-out rows come from the published test file,
the validation rows from the training file: they are less alike than the statement assumes.
"""

import numpy as np

from benchmarks import demo_data
from benchmarks.common import Row, median_row, print_table, row, write_results
from benchmarks.selector_data import Pairs
from benchmarks.selector_outside import trained
from services.trainer.evaluation.label_sets import LabelSets, measure_sets
from services.trainer.evaluation.selector import selections
from shared.contracts.labels import BACKGROUND

SPLITS = 20


def main() -> None:
    test = demo_data.rows("test")
    rows = figures([sets_of(seed, test) for seed in range(SPLITS)])
    print_table(rows)
    write_results("selector_sets", rows)


def sets_of(seed: int, test: Pairs) -> tuple[LabelSets, float]:
    """The sets of one split's selector, and the coverage that its threshold alone would have."""
    train, validation = demo_data.split(seed)
    selector, score = trained(train, validation, demo_data.target())
    gold = [label for _, label in test]
    found = selections(selector, score(test))
    likely = [
        (s.best.label == label and s.best.probability >= selector.conformal_threshold)
        or label in [c.label for c in s.runners_up if c.probability >= selector.conformal_threshold]
        for s, label in zip(found, gold, strict=True) if label != BACKGROUND
    ]  # fmt: skip
    return measure_sets(found, gold, selector.coverage), float(np.mean(likely))


def figures(measured: list[tuple[LabelSets, float]]) -> list[Row]:
    sets = [of for of, _ in measured]
    coverage = [of.coverage for of in sets]
    spread = f"{min(coverage):.3f} to {max(coverage):.3f}, {SPLITS} splits, stated 0.95"
    size, inside = float(np.mean([of.mean_size for of in sets])), float(np.mean([of.taken_inside for of in sets]))
    return [
        row("conformal_coverage_demo", float(np.mean(coverage)), "share", spread=spread, goal=0.94),
        row("conformal_set_size", size, "labels", goal=1.3, at_least=False),
        row("conformal_taken_inside", inside, "share", goal=1.0),
        median_row("conformal_coverage_without_taken", [alone for _, alone in measured], "share"),
        median_row("conformal_empty_sets", [float(of.empty) for of in sets], "sets"),
    ]


if __name__ == "__main__":
    main()
