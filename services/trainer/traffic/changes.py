"""What has changed where a test finds a difference: which requests, of which labels, and what would help."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from services.trainer.traffic.statistics import label_counts
from services.trainer.traffic.window import Window
from shared.contracts.reviews import ChangeKind, Remedy

EXAMPLES = 10
MOST_LABELS = 5
SURE = 3.0
"""Standard errors by which a label's share has changed where it is named."""
_NEWEST = 0.9
"""Quantile of the reference's scores from which a text counts as new."""

Mask = NDArray[np.bool_]


class LabelShare(NamedTuple):
    """A label's share of all requests: for the mix of those accepted with it, else of those that changed."""

    label: str
    before: float
    after: float
    errors: float
    """By how many standard errors it has changed."""


class Change(NamedTuple):
    """What has changed, with the rows nearest to it."""

    labels: tuple[LabelShare, ...]
    """The most certain first; empty where it belongs to no label."""
    examples: tuple[int, ...]
    """Rows of the window, of different texts."""
    remedy: Remedy


class Seen(NamedTuple):
    """Requests, and how much each is like the window's rather than the reference's."""

    requests: Window
    newness: NDArray[np.float64]
    """A classifier's held-out scores; those of requests that it has not seen are infinitely low."""


class _Part(NamedTuple):
    """The requests that there are more of now, of each sample."""

    before: Mask
    after: Mask
    sizes: tuple[int, int]
    """The requests of each sample that they are a part of."""
    is_more: bool = True
    """Whether they are those that the test is about, or there are fewer of these and the part is the others."""


def change_of(kind: ChangeKind, before: Seen, after: Seen) -> Change:
    """Return what has changed between two samples that a test of this kind tells apart."""
    part = _PARTS[kind](before, after)
    labels = _label_shares(before.requests.labels[part.before], after.requests.labels[part.after], part.sizes)
    return Change(labels, _examples(kind, labels, part, after), _remedy(kind, labels, is_more=part.is_more))


def _label_shares(was: Iterable[str], now: Iterable[str], sizes: tuple[int, int]) -> tuple[LabelShare, ...]:
    """The labels whose shares have changed for sure, at least the one that has changed most."""
    shares = [
        LabelShare(label, one / sizes[0], other / sizes[1], _errors(one, other, *sizes))
        for label, (one, other) in label_counts(was, now).items()
    ]
    ranked = sorted(shares, key=lambda share: -abs(share.errors))
    return tuple(share for at, share in enumerate(ranked[:MOST_LABELS]) if at == 0 or abs(share.errors) >= SURE)


def _errors(one: int, other: int, size: int, other_size: int) -> float:
    share = (one + other) / (size + other_size)
    error = np.sqrt(share * (1 - share) * (1 / size + 1 / other_size))
    return float((other / other_size - one / size) / max(error, 1e-12))


def _examples(kind: ChangeKind, labels: Sequence[LabelShare], part: _Part, after: Seen) -> tuple[int, ...]:
    chosen = part.after
    grown = [share.label for share in labels if share.errors > 0]
    if kind == "label_mix" and grown:
        chosen = chosen & np.isin(after.requests.labels, grown)
    ranked = sorted(np.flatnonzero(chosen), key=lambda row: -after.newness[row])
    firsts: dict[str, int] = {}
    for row in ranked:
        firsts.setdefault(after.requests.texts[row], int(row))
    return tuple(firsts.values())[:EXAMPLES]


def _remedy(kind: ChangeKind, labels: Sequence[LabelShare], *, is_more: bool) -> Remedy:
    if kind == "label_mix":
        return "delete" if labels and not labels[0].after else "balance"
    return (_WHERE_MORE if is_more else _WHERE_LESS)[kind]


_WHERE_MORE: Mapping[ChangeKind, Remedy] = MappingProxyType(
    {
        "probability": "retrain",
        "confidence": "retrain",
        "rejection": "add",
        "disagreement": "balance",
        "classifier": "retrain",
        "discrepancy": "retrain",
    }
)
_WHERE_LESS: Mapping[ChangeKind, Remedy] = MappingProxyType(
    dict.fromkeys(("probability", "confidence", "rejection", "disagreement"), "threshold")
)


def _accepted(before: Seen, after: Seen) -> _Part:
    was, now = ~before.requests.is_rejected, ~after.requests.is_rejected
    return _Part(was, now, (int(was.sum()), int(now.sum())))


def _flagged(name: Literal["is_rejected", "is_disputed"]) -> Callable[[Seen, Seen], _Part]:
    def part(before: Seen, after: Seen) -> _Part:
        was, now = getattr(before.requests, name), getattr(after.requests, name)
        is_more = bool(now.mean() >= was.mean())
        return _Part(was == is_more, now == is_more, (len(was), len(now)), is_more)

    return part


def _lower(name: Literal["probability", "confidence"]) -> Callable[[Seen, Seen], _Part]:
    """The requests on the side with more of them, of the number where the distributions are farthest apart."""

    def part(before: Seen, after: Seen) -> _Part:
        was, now = getattr(before.requests, name), getattr(after.requests, name)
        gap = ks_2samp(was, now, method="asymp")
        is_more = gap.statistic_sign < 0  # more of the window's lie below
        line = gap.statistic_location
        return _Part((was <= line) == is_more, (now <= line) == is_more, (len(was), len(now)), is_more)

    return part


def _new(before: Seen, after: Seen) -> _Part:
    was, now = before.newness[np.isfinite(before.newness)], after.newness[np.isfinite(after.newness)]
    line = np.quantile(was, _NEWEST)
    return _Part(before.newness > line, after.newness > line, (len(was), len(now)))


_PARTS: Mapping[ChangeKind, Callable[[Seen, Seen], _Part]] = MappingProxyType(
    {
        "label_mix": _accepted,
        "probability": _lower("probability"),
        "confidence": _lower("confidence"),
        "rejection": _flagged("is_rejected"),
        "disagreement": _flagged("is_disputed"),
        "classifier": _new,
        "discrepancy": _new,
    }
)
