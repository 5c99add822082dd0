"""The job `adapter.check`: which template an adapter was trained with, judged by examples of right answers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from services.trainer.context import AnyContext, TrainingContext
from services.trainer.data.examples import InstructionRow
from services.trainer.evaluation.template_choice import Choice, TemplateScore, choose, ranked
from shared.contracts.built_in_templates import BUILT_IN
from shared.contracts.conversation import prefixed
from shared.contracts.entries import prefix_of
from shared.contracts.manifests import AdapterManifest
from shared.contracts.training_tasks import AdapterCheck
from shared.errors import Invalid
from shared.registry.adapters import check_same_base

if TYPE_CHECKING:
    from shared.prompts.bound import BoundTemplate

CheckContext = TrainingContext[AdapterCheck]


def check_adapter_template(context: CheckContext) -> dict[str, Any]:
    """Score the examples under every template; a clear winner becomes the label's next version."""
    context = context.settled()
    manifest = context.registry.adapters.get(context.job.tenant_id, context.body.adapter)
    check_same_base(manifest, context.clients.base_model)
    rows = _rows(context, manifest)
    context.report("checking_templates", rows=len(rows))
    scores = _scored(context, manifest, rows)
    choice = choose(scores)
    return {
        "adapter": manifest.digest,
        "label": manifest.label,
        "rows": len(rows),
        **_said(choice, scores, manifest.template),
        "ref": _set(context, manifest, choice).ref,
    }


def fitting_templates(context: AnyContext, names: Sequence[str] = ()) -> "dict[str, BoundTemplate]":
    """Bind the named templates, by default all that there are; one that does not fit the base model is left out."""
    added = [template.name for template in context.registry.templates.list_added(context.job.tenant_id)]
    found = {}
    for name in names or (*BUILT_IN, *added):
        try:
            found[name] = context.template(name)
        except Invalid:
            if names:
                raise
    return found


def _rows(context: CheckContext, manifest: AdapterManifest) -> list[InstructionRow]:
    found = [row for row in context.rows_of(context.body.dataset, manifest.label) if row.output]
    if not found:
        raise Invalid("output_missing", f"no example of {manifest.label} has an output: add the answers that are right")
    return [
        InstructionRow(
            prefixed(prefix_of(manifest.label, manifest), row.instruction or manifest.instruction),
            row.input,
            row.output,
        )
        for row in found[: context.body.rows]
    ]


def _scored(context: CheckContext, manifest: AdapterManifest, rows: Sequence[InstructionRow]) -> list[TemplateScore]:
    from services.trainer.evaluation.template_scores import Scored
    from services.trainer.training.base import load_base
    from shared.model.merge import with_adapter

    clients, body = context.clients, context.body
    templates = fitting_templates(context, body.templates)  # a wrong name is told before a model is loaded
    base = load_base(clients.base_folder, body.settings)
    model = with_adapter(base, context.registry.weights.fetch(manifest.digest))
    scored = Scored(
        model,
        clients.tokenizer,
        rows,
        max_length=body.settings.max_length,
        should_stop=lambda: context.lease.must_stop,
    )
    scores = scored.scores(templates)
    context.check()
    if not scores:
        raise Invalid(
            "template_refuses", "every template refuses conversations of this form: leave the instruction out"
        )
    return scores


def _said(choice: Choice, scores: Sequence[TemplateScore], template: str) -> dict[str, Any]:
    """What the job tells: the verdict, the template before, and the scores, best first."""
    return {
        "verdict": choice.verdict,
        "template": template,
        "best": list(choice.best.names),
        "warnings": [choice.warning] if choice.warning else [],
        "scores": [score.as_result() for score in ranked(scores)],
    }


def _set(context: CheckContext, manifest: AdapterManifest, choice: Choice) -> AdapterManifest:
    """Register the adapter under a clear winner, unless it has that template already, or the job only looks."""
    if choice.verdict != "clear" or choice.names(manifest.template) or not context.body.set_template:
        return manifest
    found = manifest.model_copy(update={"template": choice.best.names[0], "made_by": context.job.id})
    return context.registry.adapters.add(context.registry.weights.fetch(manifest.digest), found)
