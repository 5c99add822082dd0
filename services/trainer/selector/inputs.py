"""What a selector job starts from: the release it would replace, and the adapters of its new labels."""

from typing import Any, Literal, NamedTuple

from services.trainer.context import SelectorContext, TrainingContext
from services.trainer.selector.adapters import known_adapters, named_adapters
from services.trainer.selector.rebase import moved_adapters, moved_body, rebase_of
from shared.contracts.manifests import Release, ReleaseSelector, SelectorKind
from shared.contracts.training import SelectorAdd, SelectorTrain, SelectorUpdate
from shared.errors import Conflict


class Inputs(NamedTuple):
    """What the names in a job referred to when its first attempt began."""

    parent: Release | None
    """The release that the candidate would replace."""
    adapters: dict[str, str]
    """Versions of the new labels' adapters that existed then."""


class Base(NamedTuple):
    """The release that an update starts from, and the selector that it fine-tunes again."""

    release: Release
    selector: ReleaseSelector


def inputs_of(context: SelectorContext) -> Inputs:
    """The parent and the adapter of every new label, the same for all attempts; raises `NotFound`, `Invalid`."""
    body, registry, tenant = context.body, context.registry, context.job.tenant_id

    def resolve() -> dict[str, Any]:
        parent = body.parent or registry.releases.current_id(tenant)
        named = named_adapters(registry.releases.get(tenant, parent)) if parent else {}
        adapters = {}
        if rebase := rebase_of(context):
            adapters = moved_adapters(context, rebase, registry.releases.get(tenant, parent) if parent else None)
        elif isinstance(body, SelectorTrain | SelectorAdd):
            adapters = known_adapters(context.with_body(body), named)
        return {"parent": parent, "adapters": adapters}

    resolved = context.checkpoints().once("inputs", resolve)
    parent = registry.releases.get(tenant, resolved["parent"]) if resolved["parent"] else None
    return Inputs(parent, resolved["adapters"])


def trained_like_parent(context: SelectorContext, inputs: Inputs) -> SelectorContext:
    """The context, with the settings of the parent's training where an update names none of its own.

    A job that moves a release to another base model goes on with the labels that have an adapter.
    """
    body = context.body
    if isinstance(body, SelectorTrain):
        return context.with_body(moved_body(body, inputs.adapters)) if body.rebase else context
    if inputs.parent is None:
        return context
    return context.with_body(body.trained_like(inputs.parent))


def base_of_update(context: TrainingContext[SelectorUpdate], parent: Release | None) -> Base:
    """The parent, as the start of an update; raises `Conflict`, and `Invalid` where the job's labels do not fit it."""
    if parent is None:
        raise Conflict("no_release", "there is no current release to update; run selector.train first")
    if parent.selector is None:
        raise Conflict("selector_missing", "the current release has no selector to update; run selector.train first")
    if parent.base_model != context.clients.base_model:
        raise Conflict(
            "base_model_changed",
            f"release {parent.id} belongs to base model {parent.base_model}, not to {context.clients.base_model}; "
            "run selector.train first",
        )
    lacking = sorted(parent.selected_labels - set(parent.representation))
    if lacking:
        raise Conflict(
            "representation_missing", f"release {parent.id} keeps no rows of {', '.join(lacking)}; train anew"
        )
    context.body.check_against(parent)
    return Base(parent, parent.selector)


def kind_of_update(body: SelectorUpdate, base: Base) -> SelectorKind | Literal["auto"]:
    """The kind of selector that an update makes: by default that of its release; prototypes grow with their rows."""
    if body.selector != "keep":
        return body.selector
    return "auto" if base.selector.prototypes else base.selector.kind
