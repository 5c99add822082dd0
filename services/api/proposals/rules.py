"""What is worth doing about what a review found: each rule returns wishes, with its numbers in sentences."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any, NamedTuple

from services.api.proposals.thresholds import Judged, Judgement, Moved, lowered, raised
from shared.contracts.labels import BACKGROUND, parse_label, proposed_label
from shared.contracts.manifests import Release
from shared.contracts.proposals import Act, NewTask, Proposal, Wish
from shared.contracts.reviews import ReviewResult, TrafficChange, UnknownTask
from shared.contracts.traffic import OTHERS, TrafficSketch

SKETCHED_DAYS = 30
"""Days whose counts are looked at: a label without a selection in them is proposed for deletion."""
LEAST_SELECTIONS = 1_000
"""Selections of these days without which no label is missed and no group is crowded."""
LEAST_FEEDBACK = 10
"""Rows of feedback without which a changed label has nothing to learn from."""
MUCH_REJECTED = 2.0
"""Times as many rejections as before, and at least 5 points more, are much more."""
MUCH_REJECTED_POINTS = 0.05
CROWDED = 0.6
"""Share of all selections above which a group of several labels is proposed to be split."""
SAME_TASK = 0.5
"""Share of rows in common, of the smaller one, from which on two unknown tasks are the same."""
_CHANGED = {
    "label_mix": "The mix of labels",
    "probability": "The probability of the best label",
    "confidence": "The selector's confidence",
    "rejection": "The share of rejected requests",
    "disagreement": "How often the selector's parts disagree",
    "classifier": "What the texts say",
    "discrepancy": "What the texts say",
}
_REMEDIES = frozenset({"balance", "retrain"})


class OwnData(NamedTuple):
    """The newest version of the data set that an operator gave for a label, and whether the release knows an older."""

    dataset: str
    is_newer: bool


class Evidence(NamedTuple):
    """All that rules look at."""

    release: Release
    review: ReviewResult
    sketches: Sequence[TrafficSketch] = ()
    """Of the last 30 days, of every release."""
    named: Mapping[str, int] = {}
    """Requests of these days by the label that answered, also those that named it themselves."""
    dataset: str = ""
    """The version of feedback that is safe to train on without a person."""
    feedback: Mapping[str, int] = {}
    """Its rows by label."""
    own_data: Mapping[str, OwnData] = {}
    """By label; those that only traffic gave rows to are not there."""
    judgements: Sequence[Judgement] = ()
    judged: Judged = Judged((), 0.5, 0.01)
    known: Sequence[Proposal] = ()
    """Proposals about this release."""

    @property
    def selected(self) -> Counter[str]:
        """Selections of these days by label."""
        total: Counter[str] = Counter()
        for sketch in self.sketches:
            total.update(sketch.labels)
        return total


def wishes(seen: Evidence) -> list[Wish]:
    """Return what is worth doing, by each rule."""
    rules = (learnt, thresholds, split, added, deleted)
    return [wish for rule in rules for wish in rule(seen)] if seen.release.selector else []


def learnt(seen: Evidence) -> Iterator[Wish]:
    """Train the selector anew where most labels changed and newer data is there, else balance with feedback."""
    changes = [change for change in seen.review.changes if change.remedy in _REMEDIES]
    known = seen.release.selected_labels
    changed = {one.label for change in changes for one in change.labels} & known
    if not changes:
        return
    why = tuple(map(told, changes))
    examples = tuple(dict.fromkeys(entry for change in changes for entry in change.examples))
    is_whole = seen.release.selector is not None and set(seen.own_data) >= set(seen.release.selector.labels)
    newer = sorted(label for label, own in seen.own_data.items() if own.is_newer)
    if 2 * len(changed) > len(known) and newer and is_whole:
        said = f"{len(changed)} of {len(known)} labels changed; there are newer rows of {', '.join(newer)}."
        numbers = {"changed_labels": len(changed), "labels": len(known), "newer_datasets": len(newer)}
        yield Wish("retrain", tuple(sorted(changed)), (*why, said), _retrain(seen), numbers, examples)
        return
    rows = {label: seen.feedback.get(label, 0) for label in sorted(changed or known)}
    enough = {label: count for label, count in rows.items() if count >= LEAST_FEEDBACK}
    if enough:
        said = f"Reviewers gave {_counted(enough)}: they join the training rows, none of them is judged by."
        body = {
            "kind": "selector.balance",
            "labels": dict.fromkeys(enough, seen.dataset),
            "parent": seen.release.id,
        }
        numbers = {f"feedback {label}": count for label, count in enough.items()}
        yield Wish("balance", tuple(enough), (*why, said), Act(trainings=(body,)), numbers, examples)


def _retrain(seen: Evidence) -> Act:
    release = seen.release
    assert release.selector is not None
    kept = sorted(release.selected_labels)
    described = {label: release.labels[label].description for label in kept if release.labels[label].description}
    body: dict[str, Any] = {
        "kind": "selector.train",
        "labels": {label: seen.own_data[label].dataset for label in kept},
        "parent": release.id,
        "text": release.selector.text,
        "reject_policy": release.reject_policy,
        "groups": {label: release.labels[label].group for label in kept},
    }
    if BACKGROUND in release.selector.labels:
        body["background"] = seen.own_data[BACKGROUND].dataset
    if described:
        body["descriptions"] = described
    if release.ambiguous:
        body["ambiguous"] = release.ambiguous
    if release.reading:
        body |= {"reading": release.reading.mode, "harness_tags": list(release.reading.harness_tags)}
    return Act(trainings=(body,))


def thresholds(seen: Evidence) -> Iterator[Wish]:
    """Lower the threshold where much is rejected that reviewers find a label for, raise it where they find none."""
    review = seen.review
    is_much = review.rejected >= MUCH_REJECTED * review.rejected_before
    is_much = is_much and review.rejected - review.rejected_before >= MUCH_REJECTED_POINTS
    if is_much and (moved := lowered(seen.judged, seen.judgements)):
        more = f"{review.rejected:.1%} of the requests were rejected, {review.rejected_before:.1%} before."
        yield _threshold(seen, "lower_threshold", moved, "rejected, and reviewers gave them the best label", more)
    elif moved := raised(seen.judged, seen.judgements):
        yield _threshold(seen, "raise_threshold", moved, "let in, and reviewers found the label wrong", "")


def _threshold(seen: Evidence, kind: Any, moved: Moved, how: str, more: str) -> Wish:
    own, now = moved.figures, seen.judged.threshold
    why = (
        f"{moved.of} requests were {how}; at {moved.threshold:g} instead of {now:g} {moved.mended} come right.",
        f"On the release's own rows accuracy goes from {own['accuracy_before']:.3f} to {own['accuracy']:.3f}.",
        f"Of these with a label, {own['false_reject']:.1%} are rejected, {own['false_reject_before']:.1%} before.",
    )
    numbers = {"threshold_before": now, "threshold": moved.threshold, "mended": moved.mended, "wrong": moved.of, **own}
    act = Act(edit={"start_from": seen.release.id, "threshold": moved.threshold})
    return Wish(kind, (), (*((more,) if more else ()), *why), act, numbers, moved.entries)


def split(seen: Evidence) -> Iterator[Wish]:
    """Give half of a crowded group's traffic to a group of its own."""
    selected, release = seen.selected, seen.release
    groups = {entry.group for entry in release.labels.values()}
    total = sum(selected.values())
    for group in sorted(groups) if len(groups) > 1 and total >= LEAST_SELECTIONS else ():
        own = {label: selected[label] for label, entry in release.labels.items() if entry.group == group}
        share = sum(own.values()) / total
        if share > CROWDED and len(own) > 1:
            moved, name = _lighter_half(own), _free_name(group, groups)
            why = (
                f"The group {group} answers {share:.0%} of {total} selections, with {len(own)} labels.",
                f"{', '.join(moved)}, with {sum(own[one] for one in moved) / total:.0%} of them, would move to {name}.",
                f"A worker has to serve the group {name}, or all groups.",
            )
            act = Act(edit={"start_from": release.id, "groups": dict.fromkeys(moved, name)})
            numbers = {"share": round(share, 4), "selections": total, "labels": len(own)}
            yield Wish("split_group", tuple(moved), why, act, numbers)


def _lighter_half(own: Mapping[str, int]) -> list[str]:
    """The labels to move so that both halves have about the same traffic, the busiest stays."""
    stay, go = 0, 0
    moved = []
    for label, count in sorted(own.items(), key=lambda one: (-one[1], one[0])):
        if go < stay:
            moved.append(label)
            go += count
        else:
            stay += count
    return sorted(moved)


def _free_name(group: str, groups: set[str]) -> str:
    return next(name for number in range(2, 1000) if (name := f"{group[:28]}-{number}") not in groups)


def added(seen: Evidence) -> Iterator[Wish]:
    """Make a label of each unknown task."""
    taken = set(seen.release.labels)
    for task in seen.review.tasks:
        label = _same_task(task, seen.known) or _new_label(task, taken)
        if not label or task.texts < task.least_rows:
            continue
        taken.add(label)
        near = ", ".join(f"{one.label} ({one.similarity:.2f})" for one in task.nearest[:3]) or "none"
        why = (
            f"{len(task.entries)} rejected or unsure requests, {task.texts} texts, share {', '.join(task.terms[:5])}.",
            f"A subsample finds {task.stability:.0%} of them again.",
            f"The nearest labels are {near}.",
            f"An adapter needs answers to at least {task.least_rows} of them, better {task.advised_rows}.",
        )
        needs = NewTask(**task.model_dump(include=set(NewTask.model_fields)))
        numbers = {"requests": len(task.entries), "texts": task.texts, "stability": round(task.stability, 4)}
        yield Wish("add", (label,), why, Act(), numbers, task.entries, needs)


def _same_task(task: UnknownTask, known: Sequence[Proposal]) -> str:
    """The label under which the task is proposed already."""
    now = set(task.entries)
    for one in known:
        before = set(one.entries)
        least = min(len(now), len(before))
        if one.kind == "add" and least and len(now & before) >= SAME_TASK * least:
            return one.labels[0]
    return ""


def _new_label(task: UnknownTask, taken: set[str]) -> str:
    domain = parse_label(task.nearest[0].label).domain if task.nearest else ""
    label = proposed_label(f"{domain}.{task.name}" if domain else task.name)
    if label not in taken:
        return label
    return next(name for number in range(2, 1000) if (name := f"{label}-{number}") not in taken)


def deleted(seen: Evidence) -> Iterator[Wish]:
    """Delete labels that nothing was routed to for 30 days of counts, and that no request named."""
    selected = seen.selected
    total, hours = sum(selected.values()), {sketch.hour[:10] for sketch in seen.sketches if sketch.selections}
    spans = len(hours) > 0 and _days_between(min(hours), max(hours)) >= SKETCHED_DAYS - 1
    if total < LEAST_SELECTIONS or not spans or selected[OTHERS]:
        return
    unused = [one for one in sorted(seen.release.selected_labels) if not selected[one] and not seen.named.get(one)]
    for label in unused:
        why = (
            f"None of {total} selections of the last {SKETCHED_DAYS} days chose {label}, and no request named it.",
            "Texts like its rows would be rejected from then on.",
        )
        body = {"kind": "selector.delete", "labels": [label], "parent": seen.release.id}
        yield Wish("delete", (label,), why, Act(trainings=(body,)), {"selections": total, "days": SKETCHED_DAYS})


def _days_between(first: str, last: str) -> int:
    return (date.fromisoformat(last) - date.fromisoformat(first)).days


def told(change: TrafficChange) -> str:
    """Return a change as a sentence with its numbers."""
    shares = ", ".join(f"{one.label} {one.before:.1%} before, {one.after:.1%} now" for one in change.labels[:5])
    return (
        f"{_CHANGED[change.kind]} changed since {change.since[:16].replace('T', ' ')}"
        f"{f': {shares}' if shares else ''} (p = {change.p_value:.2g})."
    )


def _counted(rows: Mapping[str, int]) -> str:
    return ", ".join(f"{count} rows of {label}" for label, count in rows.items())
