"""The selector's handler: score a job's text, select the label, route the job."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import structlog

from shared.contracts.dialogue import Kept, Parts, turn_probabilities, turns_read
from shared.contracts.generation import Neighbour, select_body
from shared.contracts.jobs import JobKind
from shared.contracts.manifests import Release, ReleaseSelector
from shared.contracts.selection import Ruling, Selection, decide, most_probable, rule
from shared.errors import Invalid, SignalboxError
from shared.names import BASE_GROUP, generate_queue
from shared.observability import tracing
from shared.worker.attempt import Attempt
from shared.worker.base_model import leave_to_its_base
from shared.worker.retry import retry_unavailable

log = structlog.get_logger()
Prefetch = Callable[[ReleaseSelector], None]
Score = Callable[[ReleaseSelector, str], list[float]]
Near = Callable[[Release, str, Sequence[str]], list[Neighbour]]
"""Takes a release, a text and its most probable labels; returns the rows of these labels that are most like it."""


class Reader(NamedTuple):
    """What reads texts: `light` scores with the light selector or with prototypes, `llm` with the language model."""

    prefetch: Prefetch
    light: Score
    llm: Score
    near: Near
    base_model: Callable[[], str]
    """Returns the pin of the base model of this process."""
    store_patience_seconds: float


class Read(NamedTuple):
    """What a release's selector makes of a job's text."""

    ruling: Ruling
    probabilities: Sequence[float]
    last_turn: str
    score_ms: float


def select(attempt: Attempt, release: Release, reader: Reader) -> Selection:
    """Select the label of a job and route it to that label's group; a `select` job ends with the selection.

    Raises `Suspended` where the base model has to read the text and the release was made for another one.
    """
    found = read(attempt, release, reader)
    explained: dict[str, Any] = {}
    if select_body(attempt.job).explain and release.selector:
        ranked = most_probable(release.selector, found.probabilities)
        near = reader.near(release, found.last_turn, [one.label for one in ranked])
        explained = {"probabilities": ranked, "neighbours": tuple(near)}
    _settle(attempt, release, found.ruling, found.score_ms, explained)
    return found.ruling.selection


def read_along(attempt: Attempt, candidate: Release, selection: Selection, reader: Reader) -> None:
    """Note what a candidate's selector makes of a job that has been selected; it does nothing to the job."""
    try:
        found = read(attempt, candidate, reader)
    except SignalboxError as error:
        log.warning("candidate_reads_nothing", release=candidate.id, code=error.code, detail=error.detail)
        return
    own = found.ruling.selection
    seen = {
        "job": attempt.job.id,
        "release": candidate.id,
        "shadow": own.label,
        "label": selection.label,
        "probability": round(own.best.probability, 6),
        "confidence": own.confidence,
        "score_ms": found.score_ms,
    }
    attempt.note_shadow(seen)


def read(attempt: Attempt, release: Release, reader: Reader) -> Read:
    """Let a release's selector read a job's text; raises `Invalid` where it has none, and `Suspended`."""
    selector = release.selector
    if selector is None:
        raise Invalid("selector_missing", f"release {release.id} has no selector: name a label, or train a selector")
    retry_unavailable(lambda: reader.prefetch(selector), attempt.lease, reader.store_patience_seconds)
    attempt.check()
    started = time.perf_counter()
    body = select_body(attempt.job)
    turns = turns_read(body.messages, body.system_text, selector, release.reading)

    def score(part: Score, text: str, *, on_base: bool) -> list[float]:
        if on_base:
            leave_to_its_base(attempt, release.base_model, reader.base_model())
        return part(selector, text)

    reads_at_once = bool(selector.prototypes) and selector.needs_base
    parts = Parts(
        lambda text: score(reader.light, text, on_base=reads_at_once),
        lambda text: score(reader.llm, text, on_base=True),
    )
    with tracing.span("score"):
        kept = attempt.kept_label() if release.reads_dialogues else None
        probabilities, by = turn_probabilities(selector, release.reading, turns, parts, kept)
        ruling = rule(release, decide(selector, probabilities, by))
        best = ruling.selection.best
        tracing.note(by=ruling.selection.by, best_label=best.label, probability=best.probability)
    return Read(ruling, probabilities, turns[-1], round((time.perf_counter() - started) * 1000, 3))


def _settle(attempt: Attempt, release: Release, ruling: Ruling, score_ms: float, explained: Mapping[str, Any]) -> None:
    """End a `select` job and a rejected one; route any other."""
    selection, outcome = ruling
    assert release.selector is not None
    result = selection.as_result(release.selector, release=attempt.job.release, score_ms=score_ms, outcome=outcome)
    fields = result.model_copy(update=explained).model_dump(mode="json")
    if attempt.job.kind == JobKind.SELECT:
        attempt.succeed(fields, selection=fields)
    elif outcome in ("reject", "choices"):
        attempt.reject(_rejection(ruling), selection=fields)
    else:
        group = release.labels[selection.label].group if selection.label else BASE_GROUP
        chosen = Kept(selection.label, selection.best.probability) if selection.label else None
        kept = chosen if release.reads_dialogues else None
        attempt.route(generate_queue(group), label=selection.label, selection=fields, kept=kept)


def _rejection(ruling: Ruling) -> SignalboxError:
    if ruling.outcome == "choices":
        two = " and ".join(f"{c.label} ({c.probability:.2f})" for c in ruling.selection.two_best)
        return SignalboxError("ambiguous", f"two labels fit, {two}: submit the text again and name one in `label`")
    best = ruling.selection.best
    detail = f"no label fits: the nearest is {best.label} at {best.probability:.2f}; name a label to force one"
    return SignalboxError("rejected", detail)
