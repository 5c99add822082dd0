"""Selectors on the 12 tasks against the project's goals, from the outcomes of `signalbox reproduce goals`.

That command trains them (hours of one core); this one reads what it left under `--folder`, chooses the kind of each
selector by its validation rows, and prints the figures of the test rows with bootstrap intervals. The last column of a
row in `benchmarks/results` names both commands.
"""

import argparse
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

from benchmarks.common import Row, print_table, row, write_results
from lab.reproduce.results_store import Measured, Outcome, Outcomes
from services.trainer.evaluation.bootstrap import estimate

FIRST = "signalbox reproduce goals --base smollm2 --data ../shared/data/as12 --out docs/reproduction"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("docs/reproduction"), help="`--out` of that command")
    args = parser.parse_args()
    found = {outcome.condition: outcome for outcome in Outcomes(args.folder).of("goals", quick=False)}
    rows = [line | {"command": f"{FIRST}; {line['command']}"} for line in figures(found)]
    if not rows:
        print(f"skipped: {args.folder} has no outcome of the goals; run `{FIRST}` first")
        sys.exit(0)
    print_table(rows)
    write_results("selector_goals", rows)


def figures(found: Mapping[str, Outcome]) -> list[Row]:
    rows: list[Row] = []
    if six := [found[name] for name in ("six", "six-300") if name in found]:
        best = max(six, key=validation_accuracy)
        rows += [accuracy_row("acc6", best, best_kind(best), 0.985)]
    if twelve := [found[name] for name in ("twelve", "twelve-300") if name in found]:
        best = max(twelve, key=validation_accuracy)
        kind = best_kind(best)
        lora = max(twelve, key=lambda outcome: outcome.validation["llm"])
        clear = [label for label in best.measured["llm"].per_label if label not in ("med.ie", "med.qa", "med.tg")]
        rows += [
            accuracy_row("acc12_best", best, kind, 0.89),
            accuracy_row("acc12_lora", lora, "llm", 0.87),
            accuracy_row("acc12_words", best, "light", None),
            accuracy_row("acc9_clear", best, kind, 0.985, clear),
        ]
    if both := found.get("instructions"):
        rows += [accuracy_row("acc12_both", both, best_kind(both), 0.95)]
    if {"add", "twelve", "six"} <= found.keys():
        rows += add_rows(found["six"], found["add"], found["twelve"])
    if "delete" in found:
        rows += delete_rows(found["delete"])
    return rows


def validation_accuracy(outcome: Outcome) -> float:
    """Accuracy of the best kind on the validation rows, which all conditions of one task list share."""
    return max(outcome.validation.values())


def best_kind(outcome: Outcome) -> str:
    """The kind of selector with the highest accuracy on the validation rows."""
    return max(outcome.validation, key=lambda kind: outcome.validation[kind])


def accuracy_row(
    key: str, outcome: Outcome, kind: str, goal: float | None, labels: Collection[str] | None = None
) -> Row:
    measured = of(outcome, kind)
    right = [float(is_right) for label in labels or measured.per_label for is_right in answers(measured, label)]
    value, low, high = estimate([right])
    spread = f"{low:.3f} to {high:.3f} (bootstrap), n={len(right)}, {outcome.condition}, {kind}"
    return row(key, value, "share", spread=spread, goal=goal)


def add_rows(six: Outcome, added: Outcome, twelve: Outcome) -> list[Row]:
    """How far adding labels lies behind training on all at once, and how much the worst old label lost."""
    kind = best_kind(added)
    gap = of(twelve, best_kind(twelve)).accuracy - of(added, kind).accuracy
    before, after = of(six, best_kind(six)).per_label, of(added, kind).per_label
    # Among six labels no other resembles med.ie; later med.tg and med.qa take some of its texts in any training.
    fair = of(twelve, best_kind(twelve)).per_label
    lost = {label: (before[label] - after[label]) * 100 for label in before}
    beside = {label: (fair[label] - after[label]) * 100 for label in before}
    worst, rival = max(lost, key=lambda label: lost[label]), max(beside, key=lambda label: beside[label])
    clear = {label: points for label, points in lost.items() if label != "med.ie"}
    worst_clear = max(clear, key=lambda label: clear[label])
    return [
        row("add_gap_points", gap * 100, "points", spread=kind, goal=1.0, at_least=False),
        row("add_forget_points", lost[worst], "points", spread=f"worst: {worst}", goal=2.0, at_least=False),
        row("add_forget_clear_points", clear[worst_clear], "points", spread=f"worst but med.ie: {worst_clear}"),
        row("add_forget_beside_twelve_points", beside[rival], "points", spread=f"worst against `twelve`: {rival}"),
    ]


def delete_rows(outcome: Outcome) -> list[Row]:
    """Accuracy and rejection after a deletion, with the threshold that the job chose."""
    gone = sum(fate["n"] for fate in outcome.deleted.values())
    rejected = sum(fate["n"] * fate["rejected"] for fate in outcome.deleted.values()) / gone
    return [
        accuracy_row("delete_acc", outcome, "served", 0.985),
        accuracy_row("delete_acc_open", outcome, best_kind(outcome), None),
        row("delete_refused_share", rejected, "share", spread=f"n={gone}", goal=0.5),
    ]


def of(outcome: Outcome, kind: str) -> Measured:
    return next(measured for part, measured in outcome.measured.items() if part == kind)


def answers(measured: Measured, label: str) -> list[bool]:
    own = measured.confusion[label]
    right = own.get(label, 0)
    return [True] * right + [False] * (sum(own.values()) - right)


if __name__ == "__main__":
    main()
