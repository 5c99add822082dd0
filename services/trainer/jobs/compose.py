"""The job `adapter.compose`: several adapters made one, measured beside its parts, published where it is no worse."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from services.trainer.context import TrainingContext
from services.trainer.cost import announce
from services.trainer.data.task_rows import rows_to_count
from services.trainer.evaluation.arms import Arm, Measures, Verdict, judge, measures_of
from services.trainer.jobs.parts import Measured, fetched, measure, parts_of, rows_with_answers, slots_of
from shared.adapter_files import AdapterInfo, BaseShapes, check_adapter
from shared.contracts.compose import AdapterCompose
from shared.contracts.manifests import AdapterManifest
from shared.contracts.rows import Row
from shared.contracts.training_cost import Work
from shared.errors import Invalid
from shared.registry.parts import FoundPart

ComposeContext = TrainingContext[AdapterCompose]
UNJUDGED = "composed without validation rows: nobody has measured it"


class _Made(NamedTuple):
    """The composition, and for a merged one the exact stack beside it."""

    folder: Path
    info: AdapterInfo
    stack: Path | None
    lost: float
    """Of the parts' change of the weights, as a share; 0 for a stack."""


class _Outcome(NamedTuple):
    verdict: Verdict
    arms: Sequence[Arm] = ()
    measure: str = ""


def compose_adapters(context: ComposeContext) -> dict[str, Any]:
    """Compose, measure base model, parts and composition on rows, and publish what is no worse than its better part."""
    found = parts_of(context)
    answering = _answering(context, found)
    context = _prompted_as(context.settled(), answering)
    rows = _rows(context)
    measures = measures_of([row.output for row in rows]) if rows else None
    with context.temporary() as folder:
        context.report("composing", method=context.body.method)
        made = _make(context, found, folder)
        outcome = _judged(context, found, made, rows, measures)
        manifest = _register(context, found, answering, made, outcome) if outcome.verdict.published else None
    return {
        "label": context.body.label,
        "published": manifest is not None,
        "why": outcome.verdict.why,
        "adapter": manifest.digest if manifest else "",
        "ref": manifest.ref if manifest else "",
        "method": context.body.method,
        "rank": made.info.rank,
        "slots": slots_of(made.info.rank),
        "lost": round(made.lost, 4),
        "parts": [one.part.model_dump(mode="json", include={"ref", "digest", "weight"}) for one in found],
        "validation_rows": len(rows),
        "measure": outcome.measure,
        "arms": [arm.as_result() for arm in outcome.arms],
    }


def _answering(context: ComposeContext, found: Sequence[FoundPart]) -> AdapterManifest:
    """The part whose prompts the composition has: the last one of its own label, else the last one."""
    own = [one.manifest for one in found if one.manifest.label == context.body.label]
    return (own or [found[-1].manifest])[-1]


def _prompted_as(context: ComposeContext, manifest: AdapterManifest) -> ComposeContext:
    settings = context.body.settings.model_copy(update={"template": manifest.template})
    return context.with_body(context.body.model_copy(update={"settings": settings}))


def _rows(context: ComposeContext) -> list[Row]:
    body = context.body
    if not body.dataset:
        return []
    rows = rows_with_answers(context.rows_of(body.dataset, body.label), body.evaluate_rows)
    if not rows:
        raise Invalid(
            "output_missing", f"no row of {body.label} in {body.dataset} has an output: add the answers that are right"
        )
    read = rows_to_count(rows)
    tokens = read._replace(number=body.arms * read.number).tokens(body.settings.max_length)
    announce(context, Work(read_tokens=tokens, only_reads=True))
    return rows


def _make(context: ComposeContext, found: Sequence[FoundPart], folder: Path) -> _Made:
    from services.trainer.training import compose

    clients, body, parts = context.clients, context.body, fetched(context, found)
    base = BaseShapes.from_folder(clients.base_folder)
    stack = compose.stack(parts, base, clients.base_model, folder / "stack")
    if body.rank is None:
        return _Made(stack, check_adapter(stack, base, clients.adapter_limits), None, 0.0)
    merged = compose.merge(parts, body, base, clients.base_model, folder / "merged")
    info = check_adapter(merged, base, clients.adapter_limits)
    return _Made(merged, info, stack, compose.distance(parts, [compose.Part(merged)]))


def _judged(
    context: ComposeContext, found: Sequence[FoundPart], made: _Made, rows: Sequence[Row], measures: Measures | None
) -> _Outcome:
    if measures is None:
        return _Outcome(Verdict(published=True, why=UNJUDGED))
    weights = context.registry.weights
    parts = [Measured(one.part.name, "part", weights.fetch(one.part.digest)) for one in found]
    stack = [Measured("stack", "stack", made.stack)] if made.stack else []
    arms, _ = measure(
        context, [Measured("base", "base"), *parts, *stack, Measured("composition", "composition", made.folder)], rows,
        measures,
    )  # fmt: skip
    return _Outcome(judge(arms, measures.deciding), arms, measures.deciding)


def _register(
    context: ComposeContext,
    found: Sequence[FoundPart],
    answering: AdapterManifest,
    made: _Made,
    outcome: _Outcome,
) -> AdapterManifest:
    body = context.body
    manifest = AdapterManifest(
        tenant_id=context.job.tenant_id,
        label=body.label,
        version=0,
        digest="",
        base_model=context.clients.base_model,
        template=answering.template,
        instruction=answering.instruction,
        constraint=answering.constraint,
        info=asdict(made.info),
        notes=(UNJUDGED,) if body.unjudged else (),
        report={
            "method": body.method,
            "lost": round(made.lost, 4),
            "judged_by": body.dataset or "",
            "arms": [arm.as_result() for arm in outcome.arms],
        },
        made_by=context.job.id,
        parts=tuple(one.part for one in found),
    )
    return context.registry.adapters.add(made.folder, manifest)
