"""Follows tenants' traffic logs under leases: queues reviews, derives proposals, carries out what policies confirm.

All that it knows stands in the ledger, and each step leads to one job at most: whoever takes the lease next goes on.
"""

import asyncio
import contextlib
import time

import redis
import structlog

from services.api.infra.clients import Clients
from services.api.infra.leased import run_leased
from services.api.infra.tasks import end
from services.api.infra.tenant_keys import acting_key
from services.api.proposals.reviews import followed
from services.api.proposals.steps import Under, advance, write
from shared.contracts.proposals import Proposal, ProposalState
from shared.errors import Conflict, SignalboxError
from shared.ledger import calls
from shared.ledger.calls import Learner, TakenLearner
from shared.security.api_keys import Key, Scope

log = structlog.get_logger()
PAUSE_SECONDS = 2.0
"""Between two looks at a tenant's log."""


async def follow_logs(clients: Clients, stop: asyncio.Event) -> None:
    """Look at each log in turn until `stop`; then give the leases back."""

    async def take() -> Look | None:
        taken = await clients.ledger.do(calls.take_learner(clients.settings.lease_seconds))
        return Look(clients, taken) if taken else None

    await run_leased("log", stop, take, stale=calls.StaleLearner)


class Look:
    """One look at a tenant's proposals and log."""

    def __init__(self, clients: Clients, taken: TakenLearner) -> None:
        self._clients = clients
        self._taken = taken

    @property
    def named(self) -> dict[str, str]:
        """What logs say of it."""
        return {"tenant": self._taken.tenant_id}

    async def run(self) -> None:
        """Take every step that can be taken now; raises `StaleLearner` where another process follows the log."""
        renewing = asyncio.create_task(self._renew())
        try:
            await self._look()
        except calls.StaleLearner:
            raise
        except (SignalboxError, redis.RedisError) as error:
            log.warning("log_waits", **self.named, why=str(error))
        finally:
            await end(renewing)
        await self._clients.ledger.do(calls.write_learner(self._taken, PAUSE_SECONDS))

    async def release(self) -> None:
        """Let another process look at once."""
        await self._clients.ledger.do(calls.write_learner(self._taken, 0))

    async def _renew(self) -> None:
        lease = self._clients.settings.lease_seconds
        while True:
            await asyncio.sleep(lease / 3)
            with contextlib.suppress(SignalboxError, redis.RedisError):
                await self._clients.ledger.do(calls.write_learner(self._taken, lease))

    async def _look(self) -> None:
        clients, tenant_id = self._clients, self._taken.tenant_id
        learner = await clients.ledger.do(calls.learner(tenant_id))
        await clients.releases.refresh(tenant_id)
        try:
            current = await clients.releases.current(tenant_id)
        except Conflict:
            return  # there is no release yet
        under = Under(learner.policy, learner.key, current)
        await self._carry_out(under)
        caller = await acting_key(clients, tenant_id, learner.key)
        if caller is None or not caller.may(Scope.ADMIN):
            await self._note(learner, f"key {learner.key} is revoked or has expired: set the policy with another one")
            return
        await self._confirm(under, caller)
        await followed(clients, self._taken, caller, learner, current)

    async def _carry_out(self, under: Under) -> None:
        """Take each proposal's next steps."""
        for one in await self._clients.ledger.do(calls.proposals(self._taken.tenant_id)):
            proposal, before = one, None
            with contextlib.suppress(calls.ProposalMoved):  # a person decides at this moment: the next look sees it
                while proposal is not before:
                    proposal, before = await advance(self._clients, proposal, under), proposal

    async def _confirm(self, under: Under, caller: Key) -> None:
        """By policy, confirm the next proposal that needs no person, one at a time."""
        known = await self._clients.ledger.do(calls.proposals(self._taken.tenant_id))
        if proposal := next_confirmed(known, under):
            confirmed = proposal.entered(
                ProposalState.CONFIRMED, time.time(), under.policy.decider, " ".join(proposal.why), key=caller.id
            )
            with contextlib.suppress(calls.ProposalMoved):
                await write(self._clients, confirmed)
                await advance(self._clients, confirmed, under)

    async def _note(self, learner: Learner, note: str) -> None:
        if learner.learning.note != note:
            known = learner.learning.model_copy(update={"note": note})
            await self._clients.ledger.do(calls.write_learner(self._taken, self._clients.settings.lease_seconds, known))


def next_confirmed(known: list[Proposal], under: Under) -> Proposal | None:
    """Return the open proposal that the policy confirms now: the oldest, while the system works on none.

    A candidate that `auto` is about to roll out is work, too.
    """
    is_auto = under.policy.mode == "auto"
    for one in known:
        is_offered = one.state is ProposalState.CANDIDATE and one.release == under.current.id and is_auto
        if one.state.is_at_work or (is_offered and one.kind != "add"):
            return None
    waiting = [one for one in known if one.state is ProposalState.OPEN and one.release == under.current.id]
    may = [one for one in waiting if under.policy.confirms(one.kind) and not one.cost.needs_confirmation]
    return may[-1] if may else None
