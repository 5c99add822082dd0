"""A review: what the newest windows of the log show against a release's reference, and what in them is unknown."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, TypeVar

import numpy as np

from services.trainer.traffic.clusters import LEAST_SIZE
from services.trainer.traffic.cut import Cut
from services.trainer.traffic.drift import LEAST_REQUESTS, Finding, findings
from services.trainer.traffic.readers import Reader, best_reader
from services.trainer.traffic.unknown import Proposal, propose, unknown_rows
from services.trainer.traffic.unknown import Rows as KnownRows
from services.trainer.traffic.vectors import NgramSpace
from services.trainer.traffic.window import LEAST_FIRST, Reference, Request, Window, reference_of, window_of
from shared.contracts.labels import BACKGROUND
from shared.contracts.reviews import (
    MAX_TASK_ENTRIES,
    ChangedLabel,
    ChangeKind,
    NearestLabel,
    ReviewResult,
    TrafficChange,
    UnknownTask,
)
from shared.contracts.rows import Row
from shared.contracts.traffic import TrafficRow

_Item = TypeVar("_Item")
MOST_KNOWN = 20_000
"""Texts of known labels that vectors are fitted on, evenly many of each label."""
JUDGED_KINDS: frozenset[ChangeKind] = frozenset({"probability", "confidence", "rejection"})
"""Changes that can be told against validation rows: their mix of labels is not that of traffic, their texts are not
redacted, and whether the selector's parts were at odds is not kept of them."""


class Known(NamedTuple):
    """What a release was made of."""

    representation: Mapping[str, Sequence[Row]]
    validation: Mapping[str, Sequence[Row]]
    judged: Sequence[Request]


def review(
    release: str,
    rows: Cut,
    known: Known,
    windows_a_month: int,
    *,
    models: Callable[[], Iterable[Reader]] = tuple,
    check: Callable[[], None] = lambda: None,
) -> ReviewResult:
    """Compare the windows one by one, and look for unknown tasks in the newest rows; `check` is called in between.

    There is one row at least. `models` loads what may read texts besides words.
    """
    texts = [text for _, text in _texts(known.representation)] or [row.text for row in rows.recent]
    space = NgramSpace(_some(texts))
    reference = reference_of(_window(known.judged, space), [_of_log(rows.first, space)])
    last: list[Finding] = []
    windows: list[Window] = []
    for own in rows.windows:
        check()
        windows.append(_of_log(own, space))
        last = findings(reference, windows[-1], own[0].at, last, windows_a_month=windows_a_month)
        last = last if rows.first else [one for one in last if one.kind in JUDGED_KINDS]
    check()
    recent = _window_of_sure(_logged(rows.recent))
    return ReviewResult(
        release=release,
        first=rows.recent[0].entry,
        last=rows.recent[-1].entry,
        windows=len(windows),
        rows=len(rows.recent),
        reference_rows=len(reference.requests),
        reference=_kind_of(reference, rows),
        changes=tuple(_change(one, rows.windows[-1]) for one in last),
        tasks=_tasks(rows.recent, recent, known, models),
        labels=dict(Counter(row.label for row in rows.recent if row.label).most_common()),
        rejected=_rejected(windows or [recent]),
        rejected_before=_rejected([reference.requests]),
        notes=tuple(_notes(reference, rows, known)),
    )


def _kind_of(reference: Reference, rows: Cut) -> Literal["traffic", "validation", "none"]:
    if len(reference.requests) < LEAST_REQUESTS:
        return "none"
    return "traffic" if rows.first else "validation"


def _notes(reference: Reference, rows: Cut, known: Known) -> Iterator[str]:
    if not known.judged:
        yield "the release keeps no rows that it was judged on, so changed texts are not found: train a new release"
    if not rows.first:
        yield (
            f"fewer than {LEAST_FIRST} requests are logged since the release, so the windows are compared with "
            "validation rows, by how sure the selector is alone: review again when there are more"
        )
    if not rows.windows:
        yield (
            f"changes are looked for when there are {rows.window} requests after the first {LEAST_FIRST} of the "
            "release, and only new tasks before: review again then"
        )
    if _kind_of(reference, rows) == "none":
        yield f"there are under {LEAST_REQUESTS} requests to compare with: let the log fill, then review again"
    if not known.representation:
        yield "the release keeps no rows of its labels, so unknown tasks are compared with none: train a new release"


def _of_log(rows: Sequence[TrafficRow], space: NgramSpace) -> Window:
    return _window(_logged(rows), space)


def _logged(rows: Sequence[TrafficRow]) -> list[Request]:
    return [one for one in map(Request.logged, rows) if one]


def _window(requests: Sequence[Request], space: NgramSpace) -> Window:
    return window_of(requests, space.vectors([one.text for one in requests]))


def _rejected(windows: Sequence[Window]) -> float:
    flags = np.concatenate([one.is_rejected for one in windows])
    return float(flags.mean()) if len(flags) else 0.0


def _change(found: Finding, rows: Sequence[TrafficRow]) -> TrafficChange:
    return TrafficChange(
        kind=found.kind,
        statistic=found.statistic,
        p_value=found.p_value,
        since=found.since,
        labels=tuple(ChangedLabel(label=one.label, before=one.before, after=one.after) for one in found.labels),
        examples=tuple(rows[at].entry for at in found.examples),
        remedy=found.remedy,
    )


def _tasks(
    rows: Sequence[TrafficRow], window: Window, known: Known, models: Callable[[], Iterable[Reader]]
) -> tuple[UnknownTask, ...]:
    """Propose tasks for the unknown rows; words that no known label has are part of their space."""
    validation = _window_of_sure(known.judged)
    unknown = [rows[row] for row in unknown_rows(window, validation)]
    texts = [row.text for row in unknown]
    if len(texts) < LEAST_SIZE:
        return ()
    pairs = _some([*_texts(known.representation), *_texts(known.validation)])
    pairs = [(label, text) for label, text in pairs if label != BACKGROUND]
    known_texts = [text for _, text in pairs]
    labels = [label for label, _ in pairs]
    read = best_reader([NgramSpace([*known_texts, *_some(texts)]).vectors, *models()], known_texts, labels)
    of_labels = KnownRows(known_texts, labels, read(known_texts))
    return tuple(_task(one, unknown) for one in propose(texts, read(texts), of_labels))


def _task(found: Proposal, rows: Sequence[TrafficRow]) -> UnknownTask:
    return UnknownTask(
        name=found.name,
        terms=found.terms,
        entries=tuple(rows[at].entry for at in found.rows[:MAX_TASK_ENTRIES]),
        nearest=tuple(NearestLabel(label=one.label, similarity=one.similarity) for one in found.nearest),
        stability=found.stability,
        least_rows=found.needs.least_rows,
        advised_rows=found.needs.advised_rows,
        texts=found.needs.texts_without_answers,
    )


def _window_of_sure(requests: Sequence[Request]) -> Window:
    return window_of(requests, np.zeros((len(requests), 0), dtype=np.float32))


def _texts(rows: Mapping[str, Sequence[Row]]) -> list[tuple[str, str]]:
    return [(label, row.input) for label, own in rows.items() for row in own]


def _some(found: Sequence[_Item]) -> list[_Item]:
    return list(found[:: -(-len(found) // MOST_KNOWN)]) if found else []
