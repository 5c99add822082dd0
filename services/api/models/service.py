"""The models that a client may name."""

import asyncio
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from services.api.infra.base_models import served_bases
from services.api.infra.clients import Clients
from services.api.jobs.accept import AUTO, BASE
from services.api.openai.names import known_name, model_not_found
from shared.contracts.aliases import ModelAlias
from shared.contracts.labels import short_form
from shared.contracts.manifests import Release, ReleaseLabel
from shared.errors import Conflict, Invalid

View = dict[str, Any]


async def models(clients: Clients, tenant_id: str) -> list[View]:
    """List what may be named: base model, `auto`, labels, their adapters' versions, aliases.

    Without a release only the base models that are served now are known.
    """
    release = await _release(clients, tenant_id)
    if release is None:
        return [_view(pin, 0, "base", base_model=pin) for pin in await served_bases(clients)]
    aliases = await asyncio.to_thread(clients.registry.aliases.list_all, tenant_id)
    views = [*_of_release(release), *_of_aliases(release, aliases)]
    return [view for view in views if not _is_retired(clients, tenant_id, release, view)]


def _is_retired(clients: Clients, tenant_id: str, release: Release, view: View) -> bool:
    """Whether a model may not be named any more; notes the date of one that soon may not."""
    facts = view["signalbox"]
    named = short_form(facts.get("model") or view["id"])
    entries = release.labels.items()
    ref = next((entry.ref for label, entry in entries if named in (label, entry.ref, entry.adapter)), None)
    retirement = clients.retiring.of(tenant_id, ref)
    if retirement and not retirement.is_over:
        view["shutdown_date"] = retirement.at.isoformat()
    return retirement is not None and retirement.is_over


async def model(clients: Clients, tenant_id: str, name: str) -> View:
    """Return one model by any of its names; raises `ModelNotFound`."""
    for view in await models(clients, tenant_id):
        if {name, short_form(name)} & {view["id"], view["signalbox"].get("digest")}:
            return view | {"id": name}
    raise model_not_found(name)


async def set_alias(clients: Clients, alias: ModelAlias) -> None:
    """Add an alias, or point it to another model; raises `Invalid` where its name is taken or its model unknown."""
    current = await clients.releases.current(alias.tenant_id)
    if known_name(alias.name, current.release) is not None:
        raise Invalid("alias_taken", f"{alias.name!r} is a model of the current release: choose another name")
    if known_name(alias.model, current.release) is None:
        raise Invalid(
            "model_unknown", f"the current release has no model {alias.model!r}: GET /v1/models lists those it has"
        )
    await asyncio.to_thread(clients.registry.aliases.set, alias)


async def _release(clients: Clients, tenant_id: str) -> Release | None:
    try:
        return (await clients.releases.current(tenant_id)).release
    except Conflict:
        return None


def _of_release(release: Release) -> Iterator[View]:
    created = int(datetime.fromisoformat(release.created_at).timestamp())
    known = {"base_model": release.base_model, "release": release.id}
    yield _view(release.base_model, created, "base", **known)
    yield _view(BASE, created, "base", **known)
    if release.selector:
        metrics = {"accuracy": accuracy} if (accuracy := release.report.get("accuracy")) is not None else {}
        yield _view(AUTO, created, "auto", **known, selector=release.selector.kind, metrics=metrics)
    for label, entry in sorted(release.labels.items()):
        facts = known | _facts(label, entry, release)
        yield _view(label, created, "label", **facts)
        if entry.adapter:
            yield _view(entry.ref, created, "adapter", **facts)


def _facts(label: str, entry: ReleaseLabel, release: Release) -> View:
    accuracy = release.accuracy_of.get(label)
    return {
        "label": label,
        "version": int(entry.ref.partition("@")[2] or 0),
        "digest": entry.adapter,
        "template": entry.template,
        "selected": label in release.selected_labels,
        "metrics": {} if accuracy is None else {"accuracy": accuracy},
    }


def _of_aliases(release: Release, aliases: list[ModelAlias]) -> Iterator[View]:
    """The aliases that stand for something: no other may be named."""
    for alias in aliases:
        is_taken = known_name(alias.name, release) is not None
        if known_name(alias.model, release) is not None and not is_taken:
            created = int(datetime.fromisoformat(alias.created_at).timestamp())
            known = {"base_model": release.base_model, "release": release.id}
            yield _view(alias.name, created, "alias", **known, model=alias.model)


def _view(name: str, created: int, kind: str, **facts: Any) -> View:
    known = {name: value for name, value in facts.items() if value not in ("", None)}
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "signalbox",
        "shutdown_date": None,
        "signalbox": {"kind": kind, **known},
    }
