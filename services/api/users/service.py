"""Forgets what is kept of a person: jobs, rows made of them (feedback, traffic log), files and batches of a key."""

import asyncio
from typing import NamedTuple

from services.api.files import service as files
from services.api.infra.clients import Clients
from services.api.infra.tenant_keys import keys_of
from services.api.traffic import upkeep as traffic
from services.api.users.schemas import ForgetRequest, Forgotten, HeldRows
from shared.contracts.batches import folder_of
from shared.contracts.files import StoredFile
from shared.contracts.jobs import conversation_hash
from shared.contracts.rows import RowSource
from shared.contracts.traffic import TrafficRow
from shared.errors import NotFound
from shared.ledger import calls
from shared.ledger.keys import LedgerKey
from shared.security.api_keys import Key, Scope

_AT_ONCE = 100


class Person(NamedTuple):
    """Who is meant: one of a job, a user's hash, a line of keys, a conversation's hashes; and the line to be seen."""

    seen_line: str
    job: str = ""
    user: str = ""
    line: str = ""
    conversations: tuple[str, ...] = ()

    @property
    def facts(self) -> list[str]:
        """The facts by which the ledger finds the jobs."""
        if self.conversations:
            return [fact for one in self.conversations for fact in calls.facts_of(conversation=one)]
        return calls.facts_of(line=self.line, user=self.user)

    def owns(self, source: RowSource | TrafficRow) -> bool:
        """Whether a row comes from one of these jobs."""
        is_seen = self.seen_line in ("", source.line)
        if self.job:
            return is_seen and source.job == self.job
        if self.conversations:
            return is_seen and source.conversation in self.conversations
        return is_seen and bool((self.user and source.user == self.user) or (self.line and source.line == self.line))


async def forget(clients: Clients, caller: Key, request: ForgetRequest) -> Forgotten:
    """Forget a person, or count what is kept; a key without the scope `admin` forgets the jobs of its own line.

    Raises `NotFound` `key_not_found`.
    """
    person = await _person(clients, caller, request)
    rows = await _rows(clients, caller.tenant_id, person)
    if not request.dry_run:
        for job_id in rows:
            await clients.ledger.do(calls.forget_feedback(job_id, caller.tenant_id))
    forgotten, cancelled = await _jobs(clients, caller.tenant_id, person, is_dry=request.dry_run)
    ended, opened = await _batches(clients, caller.tenant_id, person.line, is_dry=request.dry_run)
    return Forgotten(
        user=person.user or None,
        job_id=request.job_id,
        key=request.key,
        conversation_id=request.conversation_id,
        dry_run=request.dry_run,
        forgotten=forgotten,
        cancelled=cancelled,
        feedback=len(rows),
        traffic=await traffic.forget(clients, caller.tenant_id, person.owns, is_dry=request.dry_run),
        files=await asyncio.to_thread(_files, clients, caller, person.line, is_dry=request.dry_run),
        batches=ended,
        open_batches=opened,
        datasets=await asyncio.to_thread(_datasets, clients, caller.tenant_id, person),
    )


async def _person(clients: Clients, caller: Key, request: ForgetRequest) -> Person:
    own = "" if caller.may(Scope.ADMIN) else caller.line
    if request.job_id:
        return Person(own, job=request.job_id)
    if request.user or request.user_hash:
        return Person(
            own, user=request.user_hash or await clients.user_ids.hidden(caller.tenant_id, request.user or "")
        )
    keys = await keys_of(clients, caller.tenant_id)
    if request.conversation_id:
        lines = {own} if own else {key.line for key in keys}
        hashes = (conversation_hash(request.conversation_id, line) for line in sorted(lines))
        return Person(own, conversations=tuple(hashes))
    found = next((key for key in keys if key.id == request.key and own in ("", key.line)), None)
    if found is None:
        raise NotFound("key_not_found", f"no key {request.key!r} of this tenant; `signalbox keys list` shows them")
    return Person(own, line=found.line)


async def _rows(clients: Clients, tenant_id: str, person: Person) -> list[str]:
    """The jobs, expired ones too, whose feedback is a row of the data set."""
    kept = clients.ledger.redis.hscan_iter(LedgerKey.FEEDBACK_SOURCES.of(tenant_id), count=1000)
    return [job_id async for job_id, stored in kept if person.owns(RowSource.read(job_id, stored))]


async def _jobs(clients: Clients, tenant_id: str, person: Person, *, is_dry: bool) -> tuple[int, int]:
    if person.job:
        one = await clients.ledger.do(calls.forget_one(tenant_id, person.job, person.seen_line, is_dry=is_dry))
        return one.forgotten, one.cancelled
    forgotten, cancelled = 0, 0
    for fact in person.facts:
        before = "+inf"
        while before:
            part = await clients.ledger.do(
                calls.forget_found(tenant_id, fact, person.seen_line, before=before, limit=_AT_ONCE, is_dry=is_dry)
            )
            forgotten, cancelled, before = forgotten + part.forgotten, cancelled + part.cancelled, part.next
    return forgotten, cancelled


async def _batches(clients: Clients, tenant_id: str, line: str, *, is_dry: bool) -> tuple[int, int]:
    """Forget a line's ended batches and cancel the others; returns how many of each there were."""
    ended, opened, after = 0, 0, ""
    while line:
        page = await clients.ledger.do(calls.list_batches(tenant_id, line, after=after, limit=_AT_ONCE))
        for batch in (known.batch for known in page[:_AT_ONCE]):
            is_ended = batch.state.is_final
            ended, opened = ended + is_ended, opened + (not is_ended)
            if not is_dry and is_ended:
                await asyncio.to_thread(_clear, clients, tenant_id, batch.id)
                await clients.ledger.do(calls.forget_batch(batch.id, tenant_id))
            elif not is_dry:
                await clients.ledger.do(calls.cancel_batch(batch.id, tenant_id))
        if len(page) <= _AT_ONCE:
            break
        after = page[_AT_ONCE - 1].batch.id
    return ended, opened


def _clear(clients: Clients, tenant_id: str, batch_id: str) -> None:
    for key in list(clients.registry.store.keys(folder_of(tenant_id, batch_id))):
        clients.registry.store.delete(key)


def _files(clients: Clients, caller: Key, line: str, *, is_dry: bool) -> int:
    """Delete a line's files, those that the caller may delete; returns how many there were."""
    found: list[StoredFile] = clients.registry.files.list_all(caller.tenant_id, line) if line else []
    found = [file for file in found if files.may_change(caller, file.purpose)]
    for file in found if not is_dry else ():
        clients.registry.files.remove(file)
    return len(found)


def _datasets(clients: Clients, tenant_id: str, person: Person) -> list[HeldRows]:
    """The data sets made of feedback or of the traffic log that hold rows of the person."""
    datasets = clients.registry.datasets
    versions = (one for one in datasets.list_all(tenant_id) if one.sources)
    counts = ((one, sum(map(person.owns, datasets.sources(one)))) for one in versions)
    return [HeldRows(id=one.id, created_at=one.created_at, rows=count) for one, count in counts if count]
