"""What the playground asks: one job, or the same of the base model, an adapter and its runner-up."""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from starlette.datastructures import FormData

from services.api.console.forms import number
from services.api.infra.clients import Clients
from services.api.jobs.accept import AUTO, BASE, accept
from services.api.jobs.schemas import JobRequest, Message, Selection, SelectRequest
from services.api.models.service import models
from services.api.openai.names import resolve
from services.api.select.service import select
from shared.contracts.generation import SelectionResult
from shared.contracts.manifests import Release
from shared.errors import Conflict, Unavailable
from shared.security.api_keys import Key

OFFERED = 200
"""Models that the page lists; others are named by writing them."""
SELECT_SECONDS = 10.0


class Offer(NamedTuple):
    """What may be asked."""

    models: Sequence[dict[str, Any]]
    more: int
    release: Release | None


class Wish(NamedTuple):
    """What the form says."""

    model: str
    messages: list[Message]
    fields: dict[str, Any]
    """The other fields of a job's request."""


class Column(NamedTuple):
    """A job beside others, and what it is there for."""

    title: str
    job_id: str
    model: str


class Compared(NamedTuple):
    """The jobs of a comparison; `selection` says which adapters fit."""

    columns: list[Column]
    selection: SelectionResult | None


async def offer(clients: Clients, tenant_id: str) -> Offer:
    """Return what the page offers."""
    try:
        release = (await clients.releases.current(tenant_id)).release
    except Conflict:
        return Offer([], 0, None)
    known = [one for one in await models(clients, tenant_id) if one["id"] != release.base_model]
    return Offer(known[:OFFERED], max(0, len(known) - OFFERED), release)


def read_form(form: FormData, *, may_explain: bool) -> Wish:
    """Return what the form says; raises `ValidationError`."""
    turns = zip(form.getlist("role"), form.getlist("turn"), strict=False)
    messages = [{"role": str(role), "content": str(turn)} for role, turn in turns if str(turn).strip()]
    if system := str(form.get("instruction") or "").strip():
        messages.insert(0, {"role": "system", "content": system})
    numbers = {"max_new_tokens": int, "temperature": float, "seed": int}
    params = {name: number(form.get(name), of) for name, of in numbers.items() if form.get(name)}
    fields: dict[str, Any] = {"params": params}
    if may_explain and form.get("explain"):
        fields["explain"] = True
    request = JobRequest.model_validate({"messages": messages, **fields})
    return Wish(str(form.get("model") or AUTO).strip(), list(request.messages or ()), fields)


async def ask(clients: Clients, caller: Key, wish: Wish, model: str = "", title: str = "Answer") -> Column:
    """Write the job; raises what `accept` raises, and `ModelNotFound`."""
    name = model or wish.model
    current = await clients.releases.current(caller.tenant_id)
    named = await resolve(name, current, caller.tenant_id, clients)
    request = JobRequest.model_validate({"messages": wish.messages, **named, **wish.fields})
    job, _ = await accept(clients, caller, request, None)
    return Column(title, job.id, name)


async def compare(clients: Clients, caller: Key, wish: Wish) -> Compared:
    """Write a job for the base model, the chosen adapter and the runner-up; raises what `ask` and `select` raise."""
    release = (await clients.releases.current(caller.tenant_id)).release
    selection = await _selection(clients, caller, wish) if release.selector else None
    ranked = _ranked(selection) if selection else []
    chosen = wish.model if wish.model != AUTO else next(iter(ranked), "")
    others = [label for label in ranked if not _is_same(release, label, chosen)]
    wanted = {"Base model": BASE, "Chosen": chosen, "Runner-up": next(iter(others), "")}
    asked = {title: name for title, name in wanted.items() if name and (title == "Base model" or name != BASE)}
    columns = await asyncio.gather(*(ask(clients, caller, wish, name, title) for title, name in asked.items()))
    return Compared(list(columns), selection)


async def _selection(clients: Clients, caller: Key, wish: Wish) -> SelectionResult:
    explain = wish.fields.get("explain")
    request = SelectRequest(messages=wish.messages, explain=explain, wait_seconds=SELECT_SECONDS)
    found, _ = await select(clients, caller, request, None)
    if not isinstance(found, Selection):
        raise Unavailable(
            "selection_slow", "the selector takes long to name the adapters to compare; try again shortly"
        )
    return found


def _ranked(selection: SelectionResult) -> list[str]:
    """Return the labels, the most probable first."""
    best = [selection.best_label] if selection.best_label else []
    return [*best, *(one.label for one in selection.runners_up)]


def _is_same(release: Release, label: str, name: str) -> bool:
    entry = release.labels.get(label)
    return entry is None or name in (label, entry.ref, entry.adapter)
