"""In what two releases differ: facts, labels, accuracy, and where validation rows go."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from shared.contracts.judged import JudgedRow
from shared.contracts.labels import BACKGROUND
from shared.contracts.manifests import Release, ReleaseLabel

MOST_MOVED = 100
"""Rows whose route changes that are shown."""
_OF_LABEL = ("ref", "group", "template", "instruction", "description", "constraint")


class Change(NamedTuple):
    """One fact in which two releases differ; `label` is empty for what concerns the whole release."""

    label: str
    what: str
    one: Any
    other: Any


class Accuracy(NamedTuple):
    """What both releases reach on a label that both were judged on."""

    label: str
    one: float
    other: float

    @property
    def gain(self) -> float:
        """By how much the other is better."""
        return self.other - self.one


class Pair(NamedTuple):
    """The differences between two releases."""

    facts: list[Change]
    added: list[str]
    removed: list[str]
    changed: list[Change]
    accuracies: list[Accuracy]
    """The largest loss first."""

    @property
    def adapters(self) -> list[Change]:
        """The labels whose adapter changes."""
        return [change for change in self.changed if change.what == "ref"]


class Moved(NamedTuple):
    """A validation row that the two releases route differently."""

    text: str
    label: str
    one: str
    other: str

    @property
    def is_better(self) -> bool:
        """Whether only the other release routes it to where it belongs."""
        return self.other == self.label

    @property
    def is_worse(self) -> bool:
        """Whether only the one release routes it to where it belongs."""
        return self.one == self.label


@dataclass(frozen=True)
class Routes:
    """Where the rows go that both releases were judged on."""

    compared: int
    moved: list[Moved]
    """The first of them, those that get worse before all others."""
    changed: int
    """All that moved."""
    better: int
    worse: int


def pair(one: Release, other: Release) -> Pair:
    """Return what changes from one release to another."""
    both = sorted(set(one.labels) & set(other.labels))
    before, after = one.accuracy_of, other.accuracy_of
    accuracies = [Accuracy(label, before[label], after[label]) for label in sorted(set(before) & set(after))]
    return Pair(
        list(_facts(one, other)),
        sorted(set(other.labels) - set(one.labels)),
        sorted(set(one.labels) - set(other.labels)),
        [change for label in both for change in _of_label(label, one.labels[label], other.labels[label])],
        sorted(accuracies, key=lambda accuracy: (accuracy.gain, accuracy.label)),
    )


def routes(one: Release, other: Release, rows: tuple[Sequence[JudgedRow], Sequence[JudgedRow]]) -> Routes:
    """Compare where rows go that both releases were judged on; `rows` are those that each keeps."""
    before, after = (release.selector.threshold if release.selector else 0.0 for release in (one, other))
    known = {(row.text_hash, row.label): row for row in rows[0]}
    both = [(same, row) for row in rows[1] if (same := known.get((row.text_hash, row.label)))]
    routed = [Moved(row.text, row.label, same.route(before), row.route(after)) for same, row in both]
    moved = sorted((row for row in routed if row.one != row.other), key=lambda row: (not row.is_worse, row.is_better))
    return Routes(
        len(both),
        moved[:MOST_MOVED],
        len(moved),
        sum(row.is_better for row in moved),
        sum(row.is_worse for row in moved),
    )


def _facts(one: Release, other: Release) -> Iterator[Change]:
    for (what, before), (_, after) in zip(_values(one), _values(other), strict=True):
        if before != after:
            yield Change("", what, before, after)


def _values(release: Release) -> list[tuple[str, Any]]:
    selector, report = release.selector, release.report
    rounded = {name: round(report[name], 4) for name in ("accuracy", "ece") if name in report}
    return [
        ("gate", "passed" if release.verdict.passed else "failed"),
        ("base model", release.base_model),
        ("selector", selector and selector.kind),
        ("selector's digest", selector and selector.digest[:16]),
        ("threshold", selector and round(selector.threshold, 6)),
        ("labels to choose from", len(release.selected_labels - {BACKGROUND})),
        ("reading", release.reading and release.reading.mode),
        ("rejected texts", release.reject_policy),
        ("texts between two labels", release.ambiguous),
        ("accuracy", rounded.get("accuracy")),
        ("calibration error", rounded.get("ece")),
    ]


def _of_label(label: str, one: ReleaseLabel, other: ReleaseLabel) -> Iterator[Change]:
    for name in _OF_LABEL:
        before, after = getattr(one, name), getattr(other, name)
        if before != after:
            yield Change(label, name, before, after)
    if one.adapter != other.adapter and one.ref == other.ref:
        yield Change(label, "adapter", one.adapter[:16], other.adapter[:16])
