"""Whether a candidate release may replace the current one."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from shared.contracts.labels import BACKGROUND

MAX_LOSS = 0.01
MIN_ACCURACY = 0.8
_ROUNDING = 1e-9


class Verdict(NamedTuple):
    """Whether the gate passes, with its reasons: one sentence for each label that fails, or one for all."""

    passed: bool
    sentences: list[str]


def judge(
    current: Mapping[str, float] | None,
    candidate: Mapping[str, float],
    *,
    min_accuracy: float = MIN_ACCURACY,
    max_loss: float = MAX_LOSS,
    lost: Collection[str] = (),
    at_best: Mapping[str, float] | None = None,
    unmeasured: Collection[str] = (),
    rows: Mapping[str, int] | None = None,
) -> Verdict:
    """Compare accuracies per label, both measured on the same validation rows; `current` is None for a first release.

    Passes when no kept label loses more than it may (`losses`), each new label reaches `min_accuracy`, and no label is
    `lost`: had by the release before, and neither kept nor dropped by name. Of a new label with few rows, `at_best` is
    what its accuracy may be in truth; a label that is `unmeasured` has no rows. `rows` counts the rows of each label.
    """
    before, best = current or {}, {**candidate, **(at_best or {})}
    labels = sorted(set(candidate) - {BACKGROUND})
    weak = [label for label in labels if label not in before and best[label] < min_accuracy - _ROUNDING]
    sentences = [_weak(label, candidate[label], min_accuracy) for label in weak]
    sentences += [*losses(before, candidate, max_loss, rows), *(_gone(label) for label in sorted(lost))]
    if not labels and not unmeasured:
        sentences = ["The candidate has no labels."]
    return Verdict(not sentences, sentences or [_praise(labels, before), *_unknown(unmeasured)])


def losses(
    current: Mapping[str, float] | None,
    candidate: Mapping[str, float],
    max_loss: float,
    rows: Mapping[str, int] | None = None,
) -> list[str]:
    """Return one sentence for each kept label that loses more than it may, and one if all together do.

    A label may lose `max_loss`. Of few rows one is more than that, and chance: where `rows` counts them, a label may
    lose one row, as long as all rows of kept labels together lose no more than `max_loss`.
    """
    before, counts = current or {}, rows or {}
    kept = sorted((set(before) & set(candidate)) - {BACKGROUND})

    def may_lose(label: str) -> float:
        one_row = 1 / counts[label] if max_loss and counts.get(label) else 0.0
        return max(max_loss, one_row) + _ROUNDING

    found = [
        _fallen(f"The kept label {label} falls", before[label], candidate[label])
        for label in kept
        if before[label] - candidate[label] > may_lose(label)
    ]
    number = sum(counts.get(label, 0) for label in kept)
    if number and not found:
        then, now = (sum(counts.get(label, 0) * of[label] for label in kept) / number for of in (before, candidate))
        if then - now > max_loss + _ROUNDING:
            found = [_fallen(f"The {len(kept)} kept labels together fall", then, now)]
    return found


class Loss(NamedTuple):
    """The largest loss of accuracy of a kept label, and that label; an empty label and 0 where no label is kept."""

    label: str
    accuracy: float


def largest_loss(current: Mapping[str, float] | None, candidate: Mapping[str, float]) -> Loss:
    """The largest loss by the comparison of `judge`; it is negative where every kept label gained."""
    before = current or {}
    kept = sorted((set(before) & set(candidate)) - {BACKGROUND})
    found = [Loss(label, before[label] - candidate[label]) for label in kept]
    return max(found, key=lambda loss: loss.accuracy, default=Loss("", 0.0))


def _weak(label: str, accuracy: float, least: float) -> str:
    return f"The new label {label} reaches {accuracy:.3f} on validation; {least:.3f} is needed."


def _fallen(what: str, before: float, after: float) -> str:
    return f"{what} from {before:.3f} to {after:.3f} on validation: {(before - after) * 100:.1f} points lost."


def _gone(label: str) -> str:
    return f"The label {label} of the release before is gone: train it again, add to that release, or name it in drop."


def _unknown(unmeasured: Collection[str]) -> list[str]:
    return [f"{len(unmeasured)} labels have no rows to be measured on."] if unmeasured else []


def _praise(labels: list[str], before: Mapping[str, float]) -> str:
    new = [label for label in labels if label not in before]
    kept = len(labels) - len(new)
    return f"{kept} kept labels hold and {len(new)} new labels reach the mark."
