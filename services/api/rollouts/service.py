"""Operations on rollouts: begin one, show, list, pause, resume, promote, abort."""

import asyncio
import time
from typing import Literal

from services.api.infra.base_models import served_bases
from services.api.infra.clients import Clients
from services.api.releases.service import check_force
from services.api.rollouts.schemas import RolloutRequest, RolloutView
from shared.contracts.rollouts import Rollout, new_rollout_id
from shared.errors import Conflict, NotFound
from shared.ledger import calls
from shared.ledger.calls import Asked
from shared.registry.releases import check_servable
from shared.security.api_keys import Key

Command = Literal["pause", "resume", "promote", "abort"]


async def begin(clients: Clients, caller: Key, release_id: str, request: RolloutRequest) -> RolloutView:
    """Open a rollout of a candidate.

    Raises `NotFound`; `Conflict` `release_current`, `gate_failed`, `adapter_missing`, `release_not_served`,
    `stale_parent`, `no_selector`, `rollout_open`; `Denied`.
    """
    check_force(caller, force=request.force)
    candidate = await asyncio.to_thread(clients.registry.releases.get, caller.tenant_id, release_id)
    current = await clients.releases.current(caller.tenant_id)
    if candidate.id == current.id:
        raise Conflict(
            "release_current",
            f"release {candidate.id} is current: choose a candidate, since every request runs under it",
        )
    if not (candidate.verdict.passed or request.force):
        raise Conflict("gate_failed", " ".join(candidate.verdict.reasons) + " Use force to overrule it.")
    if request.strategy == "shadow" and candidate.selector is None:
        raise Conflict("no_selector", f"release {candidate.id} has no selector that could read along: use a canary")
    check_servable(candidate)
    if candidate.base_model not in await served_bases(clients):
        raise Conflict(
            "release_not_served",
            f"no live worker serves base model {candidate.base_model}, which release {candidate.id} is made for: "
            "start one",
        )
    now = time.time()
    rollout = Rollout(
        id=new_rollout_id(),
        tenant_id=caller.tenant_id,
        release=candidate.id,
        current=candidate.parent,  # the ledger refuses it unless it is current at that moment
        steps=request.planned,
        key=caller.id,
        key_line=caller.line,
        created_at=now,
        **request.model_dump(include={"strategy", "failure_limit", "stick_by", "force"}),
    ).told(now, "started", f"{request.strategy} of {candidate.id} beside {current.id}", caller.id)
    await clients.ledger.do(calls.begin_rollout(rollout))
    return RolloutView.of(rollout)


async def list_all(clients: Clients, caller: Key) -> list[RolloutView]:
    """Return the tenant's rollouts, newest first."""
    open_one, ended = await clients.ledger.do(calls.rollouts(caller.tenant_id))
    return [RolloutView.of(one) for one in [*([open_one] if open_one else []), *ended[::-1]]]


async def show(clients: Clients, caller: Key, rollout_id: str) -> RolloutView:
    """Return one rollout; raises `NotFound`."""
    for one in await list_all(clients, caller):
        if one.id == rollout_id:
            return one
    raise NotFound("rollout_not_found", f"no rollout {rollout_id!r}; `signalbox rollouts list` shows them")


async def ask(clients: Clients, caller: Key, rollout_id: str, command: Command) -> RolloutView:
    """Ask an open rollout for something, which its controller does within a second; raises `NotFound`, `Conflict`."""
    known = await show(clients, caller, rollout_id)
    if known.state.is_final:
        raise Conflict("rollout_ended", f"rollout {rollout_id} is {known.state}: start another one")
    if command == "resume" and known.state != "paused":
        raise Conflict("rollout_not_paused", f"rollout {rollout_id} is {known.state}: pause it before you resume it")
    stops = command in ("pause", "abort")
    await clients.ledger.do(calls.ask_rollout(caller.tenant_id, rollout_id, Asked(command, caller.id), stops=stops))
    return known
