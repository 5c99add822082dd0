"""One rollout under a lease: golden rows, then step by step, each look at new trials decides.

All that it knows stands in the record, which it writes with every change: whoever takes the lease next goes on there.
"""

import asyncio
import time

import redis
import structlog

from services.api.infra.clients import Clients
from services.api.rollouts import golden
from services.api.rollouts.decision import Move, decide, stepped
from services.api.rollouts.trials import counted, new_trials
from shared.contracts.manifests import Release
from shared.contracts.rollouts import Golden, Rollout, RolloutState
from shared.errors import Conflict, SignalboxError
from shared.ledger import calls
from shared.ledger.calls import Asked
from shared.ledger.keys import LedgerKey

log = structlog.get_logger()
TICK_SECONDS = 0.5
_NOBODY = Asked()
_WEBHOOKS = frozenset({"completed", "failed", "aborted", "holding"})


class RolloutRun:
    """Brings a leased rollout to its end."""

    def __init__(self, clients: Clients, taken: calls.TakenRollout) -> None:
        self.rollout = taken.rollout
        self._clients = clients
        self._fence = taken.fence
        self._asked = taken.asked
        self._releases: tuple[Release, Release] | None = None

    @property
    def named(self) -> dict[str, str]:
        """What logs say of it."""
        return {"rollout": self.rollout.id}

    async def run(self) -> None:
        """Work until the rollout has ended; raises `StaleRollout` where another process has it."""
        while not self.rollout.state.is_final:
            try:
                await self._tick()
            except calls.StaleRollout:
                raise
            except (SignalboxError, redis.RedisError) as error:
                if isinstance(error, SignalboxError) and not error.retryable:
                    await self._write(self._failed(error.detail))
                    continue
                log.warning("rollout_waits", rollout=self.rollout.id, why=str(error))
            await asyncio.sleep(TICK_SECONDS)
        log.info("rollout_ended", rollout=self.rollout.id, state=self.rollout.state, why=self.rollout.why)

    async def release(self) -> None:
        """Give the lease back, so that another process goes on at once."""
        await self._clients.ledger.do(calls.write_rollout(self.rollout, self._fence, 0, is_changed=False))

    async def _tick(self) -> None:
        if self._asked.command:
            await self._answer(self._asked)
        elif await self._pointer_moved():
            await self._write(self._failed("another release was promoted meanwhile: build the candidate anew on it"))
        else:
            await self._write(await self._next())

    async def _next(self) -> Rollout:
        match self.rollout.state:
            case RolloutState.CHECKING:
                return await self._checked()
            case RolloutState.RUNNING | RolloutState.HOLDING:
                return await self._looked(counted(self.rollout, await new_trials(self._clients, self.rollout)))
        return self.rollout

    async def _pointer_moved(self) -> bool:
        current = await self._clients.ledger.redis.get(LedgerKey.RELEASE.of(self.rollout.tenant_id))
        return current not in (self.rollout.current, self.rollout.release)

    async def _answer(self, asked: Asked) -> None:
        """Do what a key asked for, where the state allows it; else nothing."""
        now, record, state = time.time(), self.rollout, self.rollout.state
        match asked.command:
            case "abort":
                record = record.entered(RolloutState.ABORTED, now, "aborted by hand", asked.by)
            case "pause" if state is not RolloutState.PAUSED:
                record = record.entered(RolloutState.PAUSED, now, "paused by hand", asked.by, paused_in=state)
            case "resume" if state is RolloutState.PAUSED:
                record = record.entered(record.paused_in, now, "resumed by hand", asked.by, step_began_at=now)
            case "promote":
                record = await self._promoted(record, "promoted by hand", asked.by)
        await self._write(record, asked)

    async def _checked(self) -> Rollout:
        """Wait for workers, then let changed adapters answer golden rows, label after label; then begin."""
        record = self.rollout
        candidate, current = await self._both()
        if record.strategy == "canary":
            if missing := await self._unserved(candidate):
                return self._waiting(f"no live worker serves {', '.join(missing)}: start one")
            changed = golden.changed_labels(candidate, current)
            for label in changed[: golden.MAX_LABELS]:
                if label not in record.golden:
                    return await self._asked_golden(label, candidate, current)
            if len(changed) > golden.MAX_LABELS:
                left = f"golden rows of {golden.MAX_LABELS} of {len(changed)} changed labels were answered"
                record = record.told(time.time(), "checked", left)
        why = f"step 1: {record.steps[0].percent} % of the requests"
        return record.entered(RolloutState.RUNNING, time.time(), why, step_began_at=time.time())

    async def _asked_golden(self, label: str, candidate: Release, current: Release) -> Rollout:
        record = self.rollout
        asked = await asyncio.to_thread(golden.questions, self._clients, record, candidate, current, label)
        if not asked:
            return record.model_copy(update={"golden": {**record.golden, label: Golden(0, 0.0, 0.0)}})
        answers = await golden.ask(self._clients, asked)
        if answers.fault:
            return self._failed(answers.fault)
        if answers.golden is None:
            return self._waiting(f"golden rows of {label} are being answered")
        return record.model_copy(update={"golden": {**record.golden, label: answers.golden}})

    async def _looked(self, record: Rollout) -> Rollout:
        """Do what the requests so far decide."""
        now = time.time()
        move, why = decide(record, now)
        if move is Move.PROMOTE:
            return await self._promoted(record, why, "")
        match move:
            case Move.TAKE_BACK:
                record = record.entered(RolloutState.FAILED, now, why, failures=record.failures + 1)
            case Move.NOTE:
                record = record.told(now, "failed look", why, failures=record.failures + 1)
            case Move.HOLD if record.state is not RolloutState.HOLDING:
                record = record.entered(RolloutState.HOLDING, now, why)
            case Move.STEP:
                record = stepped(record, now, why)
            case Move.END:
                record = record.entered(RolloutState.COMPLETED, now, why)
            case _ if record.failures:
                record = record.model_copy(update={"failures": 0})
        return record

    async def _promoted(self, record: Rollout, why: str, by: str) -> Rollout:
        """Move the pointer; a move repeated by this rollout is no conflict."""
        try:
            await asyncio.to_thread(
                self._clients.registry.releases.promote,
                record.tenant_id,
                record.release,
                force=record.force,
                by=by or record.id,
            )
        except Conflict as error:
            if error.code not in ("group_without_worker", "base_model_mismatch"):
                return self._failed(error.detail)
            is_known = record.state is RolloutState.HOLDING and record.why == error.detail
            return record if is_known else record.entered(RolloutState.HOLDING, time.time(), error.detail)
        return record.entered(RolloutState.COMPLETED, time.time(), why, by)

    async def _both(self) -> tuple[Release, Release]:
        if self._releases is None:
            get, record = self._clients.registry.releases.get, self.rollout
            self._releases = (
                await asyncio.to_thread(get, record.tenant_id, record.release),
                await asyncio.to_thread(get, record.tenant_id, record.current),
            )
        return self._releases

    async def _unserved(self, candidate: Release) -> list[str]:
        """The candidate's queues that no live worker with its base model serves."""
        gauges: calls.Gauges = await self._clients.ledger.do(calls.gauges())
        served = {gauge.queue for gauge in gauges.queues if gauge.consumers}
        return [
            queue
            for queue, bases in candidate.bases_of_queues.items()
            if queue not in served or (gauges.bases.get(queue) and not set(bases) <= set(gauges.bases[queue]))
        ]

    def _waiting(self, why: str) -> Rollout:
        return self.rollout if self.rollout.why == why else self.rollout.told(time.time(), "waiting", why, why=why)

    def _failed(self, why: str) -> Rollout:
        return self.rollout.entered(RolloutState.FAILED, time.time(), why)

    async def _write(self, record: Rollout, answered: Asked = _NOBODY) -> None:
        moved = record.state != self.rollout.state
        if moved:
            log.info("rollout_moves", rollout=record.id, state=record.state, why=record.why)
        call = calls.write_rollout(
            record,
            self._fence,
            self._clients.settings.lease_seconds,
            answered=answered,
            event=f"rollout.{record.state}" if moved and record.state in _WEBHOOKS else "",
            is_changed=record is not self.rollout or bool(answered.command),
        )
        self._asked = await self._clients.ledger.do(call)
        self.rollout = record
