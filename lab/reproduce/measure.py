"""Measures the result of a finished job on test rows."""

from collections.abc import Collection, Mapping, Sequence
from statistics import fmean
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from lab.reproduce.grid import Case, Grid
from lab.reproduce.results_store import Measured, Part
from lab.reproduce.task_data import HeldOutRows
from services.cli.evaluate.labelled_rows import LabelledRow
from shared.contracts import routing
from shared.contracts.manifests import Release, ReleaseSelector
from shared.contracts.selection import selection_text

if TYPE_CHECKING:
    from lab.reproduce.session import Session
    from services.trainer.evaluation.selector import SelectorScorer

MAX_NEW_TOKENS = 128


class Measurement(NamedTuple):
    """Figures by part, and the measure by which each label's answers were judged, if they were."""

    by_part: dict[Part, Measured]
    measures: Mapping[str, str] = MappingProxyType({})
    deleted: Mapping[str, Any] = MappingProxyType({})
    """How the texts of deleted labels are routed."""


def measure(
    case: Case,
    result: Mapping[str, Any],
    release: Release | None,
    max_tokens: int,
    grid: Grid,
    session: "Session",
) -> Measurement:
    """The figures of a job's result: a comparison model reports its own, an adapter has none by itself."""
    if release is None:
        return _answers_of_result(result, grid.overlapping) if "score" in result else Measurement({})
    assert release.selector is not None
    rows, scorer = session.rows.test(case), session.scorer(max_tokens)
    is_deletion = case.condition.kind == "selector.delete"
    routed = measure_parts(release.selector, rows, grid.overlapping, scorer, as_served=is_deletion)
    if is_deletion:
        return Measurement(
            routed, deleted=_fates(release.selector, session.rows.test_of(case.job["labels"], case), scorer)
        )
    if not case.condition.adapters:
        return Measurement(routed)
    answered = _answers_of_release(case, release, rows, grid, session)
    return Measurement({**routed, **answered.by_part}, answered.measures)


def measure_parts(
    selector: ReleaseSelector,
    rows: HeldOutRows,
    overlapping: Collection[str],
    scorer: "SelectorScorer",
    *,
    as_served: bool = False,
) -> dict[Part, Measured]:
    """Joint accuracy and confusion of the selector and of each of its parts, from one scoring of the rows.

    The parts reject nothing, as in the paper; `served` is the selector with its rejection threshold.
    """
    from services.trainer.evaluation.selector import parts_of, route_rows

    parts: dict[Part, ReleaseSelector] = dict(parts_of(selector).items())
    if as_served:
        parts["served"] = selector
    scores = scorer.score(selector, _texts(selector, rows))
    return {
        part: _measured(routing.measure(route_rows(own, scores, rows.gold)).confusion, overlapping)
        for part, own in parts.items()
    }


def _fates(selector: ReleaseSelector, rows: HeldOutRows, scorer: "SelectorScorer") -> dict[str, Any]:
    from services.trainer.evaluation.selector import route_rows

    routed = route_rows(selector, scorer.score(selector, _texts(selector, rows)), rows.gold)
    return {label: fate._asdict() for label, fate in routing.fates(routed).items()}


def _texts(selector: ReleaseSelector, rows: HeldOutRows) -> list[str]:
    return [selection_text(selector.text, row.input, row.instruction) for row in rows.rows]


def _answers_of_result(result: Mapping[str, Any], overlapping: Collection[str]) -> Measurement:
    rows = sum(result["validation_rows"].values())
    return Measurement({"answers": _scored(result["score"], rows, overlapping)}, result["measure"])


def _answers_of_release(case: Case, release: Release, rows: HeldOutRows, grid: Grid, session: "Session") -> Measurement:
    """Score every row's answer by its own label's adapter, and by the adapter of the label that the selector names."""
    from services.cli.evaluate.system import answer_rows, judge
    from services.trainer.evaluation.answers import lines, task_kinds
    from services.trainer.evaluation.reference import Reference
    from services.trainer.evaluation.text_scores import scorers_of

    settings = session.settings
    scorers = scorers_of(task_kinds(session.rows.outputs(case), grid.classification), settings.encoder)
    reference = Reference(
        release, session.registry.weights, session.base_folder, max_prompt_tokens=settings.max_prompt_tokens
    )
    labelled = [LabelledRow(label, row) for row, label in zip(rows.rows, rows.gold, strict=True)]
    judged = judge(answer_rows(reference, labelled, MAX_NEW_TOKENS), scorers)
    values = lines([row for own in judged.values() for row in own])
    parts: tuple[Literal["oracle", "routed"], ...] = ("oracle", "routed")
    return Measurement(
        {
            part: _scored({label: fmean(own) for label, own in values[part].items()}, len(labelled), grid.overlapping)
            for part in parts
        },
        {label: scorer.name for label, scorer in scorers.items()},
    )


def _scored(per_label: Mapping[str, float], rows: int, overlapping: Collection[str]) -> Measured:
    clear = [score for label, score in per_label.items() if label not in overlapping]
    ambiguous = [score for label, score in per_label.items() if label in overlapping]
    return Measured(
        accuracy=fmean(per_label.values()),
        n=rows,
        clear=fmean(clear) if clear else None,
        overlapping=fmean(ambiguous) if ambiguous else None,
        per_label=dict(per_label),
        confusion={},
    )


def _measured(confusion: Mapping[str, Mapping[str, int]], overlapping: Collection[str]) -> Measured:
    clear = [label for label in confusion if label not in overlapping]
    ambiguous = [label for label in confusion if label in overlapping]
    return Measured(
        accuracy=_share_right(confusion, list(confusion)) or 0.0,
        n=sum(sum(own.values()) for own in confusion.values()),
        clear=_share_right(confusion, clear),
        overlapping=_share_right(confusion, ambiguous),
        per_label={label: _share_right(confusion, [label]) or 0.0 for label in confusion},
        confusion={gold: dict(own) for gold, own in confusion.items()},
    )


def _share_right(confusion: Mapping[str, Mapping[str, int]], labels: Sequence[str]) -> float | None:
    count = sum(sum(confusion[label].values()) for label in labels)
    return sum(confusion[label].get(label, 0) for label in labels) / count if count else None
