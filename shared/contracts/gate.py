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
) -> Verdict:
    """Compare accuracies per label, both measured on the same validation rows; `current` is None for a first release.

    Passes when no kept label loses more than `max_loss`, each new label reaches `min_accuracy`, and no label is `lost`:
    had by the release before, and neither kept nor dropped by name. Of a new label with few rows, `at_best` is what its
    accuracy may be in truth; a label that is `unmeasured` has no rows.
    """
    before, best = current or {}, {**candidate, **(at_best or {})}
    labels = sorted(set(candidate) - {BACKGROUND})
    faults = [
        _fault(label, before.get(label), candidate[label], best[label], (min_accuracy, max_loss)) for label in labels
    ]
    sentences = [fault for fault in faults if fault] + [_gone(label) for label in sorted(lost)]
    if not labels and not unmeasured:
        sentences = ["The candidate has no labels."]
    return Verdict(not sentences, sentences or [_praise(labels, before), *_unknown(unmeasured)])


class Loss(NamedTuple):
    """The largest loss of accuracy of a kept label, and that label; an empty label and 0 where no label is kept."""

    label: str
    accuracy: float

    def is_within(self, max_loss: float) -> bool:
        """Whether the gate allows a kept label this loss."""
        return self.accuracy <= max_loss + _ROUNDING


def largest_loss(current: Mapping[str, float] | None, candidate: Mapping[str, float]) -> Loss:
    """The largest loss by the comparison of `judge`; it is negative where every kept label gained."""
    before = current or {}
    kept = sorted((set(before) & set(candidate)) - {BACKGROUND})
    losses = [Loss(label, before[label] - candidate[label]) for label in kept]
    return max(losses, key=lambda loss: loss.accuracy, default=Loss("", 0.0))


def _fault(label: str, before: float | None, after: float, best: float, limits: tuple[float, float]) -> str | None:
    min_accuracy, max_loss = limits
    if before is None and best < min_accuracy - _ROUNDING:
        return f"The new label {label} reaches {after:.3f} on validation; {min_accuracy:.3f} is needed."
    if before is not None and not Loss(label, before - after).is_within(max_loss):
        points = (before - after) * 100
        return f"The kept label {label} falls from {before:.3f} to {after:.3f} on validation: {points:.1f} points lost."
    return None


def _gone(label: str) -> str:
    return f"The label {label} of the release before is gone: train it again, add to that release, or name it in drop."


def _unknown(unmeasured: Collection[str]) -> list[str]:
    return [f"{len(unmeasured)} labels have no rows to be measured on."] if unmeasured else []


def _praise(labels: list[str], before: Mapping[str, float]) -> str:
    new = [label for label in labels if label not in before]
    kept = len(labels) - len(new)
    return f"{kept} kept labels hold and {len(new)} new labels reach the mark."
