"""The rows that the log keeps of jobs: what their selectors read, redacted, and what they made of it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, Self

import structlog

from services.api.traffic.redaction import redactor_of
from shared.contracts.dialogue import turns_read
from shared.contracts.generation import select_body, selection_of
from shared.contracts.jobs import Job
from shared.contracts.manifests import Release
from shared.contracts.traffic import Seen, TrafficRow, iso, position_of
from shared.errors import NotFound, SignalboxError
from shared.ledger.keys import LedgerKey
from shared.registry import Registry

log = structlog.get_logger()
_READ = (
    *("id", "tenant_id", "kind", "state", "stage", "queue", "attempt", "body", "selection", "release"),
    *("key_line", "cancel_requested"),
)


class Entry(NamedTuple):
    """A selection as the stream has it."""

    id: str
    tenant_id: str
    job_id: str
    seen: Seen

    @classmethod
    def read(cls, entry_id: str, fields: Mapping[str, str]) -> Self:
        """Read an entry of the stream."""
        return cls(entry_id, fields["tenant"], fields["job"], Seen(*json.loads(fields["seen"])))


def logged_rows(
    registry: Registry, entries: Sequence[Entry], policies: Mapping[str, str]
) -> Iterator[tuple[str, TrafficRow]]:
    """Yield the tenant and the row of each entry, by the policies as they are kept.

    A job that is gone, is told to end, or cannot be read has none. Raises `Unavailable`.
    """
    release_of = cache(lambda tenant_id, release: _release(registry, tenant_id, release))
    for entry, fields in zip(entries, _jobs(registry, entries), strict=True):
        if fields.get("tenant_id") != entry.tenant_id or fields.get("cancel_requested") == "1":
            continue
        try:
            job = Job.from_hash(fields)
            text = _text(job, release_of(entry.tenant_id, job.release))
            yield entry.tenant_id, _row(entry, job, redactor_of(policies[entry.tenant_id]).redact(text))
        except ValueError as error:  # pydantic's, too
            log.warning("traffic_row_left_out", job=entry.job_id, why=str(error)[:300])
        except SignalboxError as error:
            if error.retryable:
                raise
            log.warning("traffic_row_left_out", job=entry.job_id, why=error.detail)


def _jobs(registry: Registry, entries: Sequence[Entry]) -> list[dict[str, str]]:
    with registry.ledger.redis.pipeline(transaction=False) as pipe:
        for entry in entries:
            pipe.hmget(LedgerKey.JOB.of(entry.job_id), _READ)
        found: list[Any] = pipe.execute()
    return [{name: value for name, value in zip(_READ, values, strict=True) if value is not None} for values in found]


def _release(registry: Registry, tenant_id: str, release_id: str) -> Release | None:
    try:
        return registry.releases.get(tenant_id, release_id)
    except NotFound:  # it was deleted since
        return None


def _text(job: Job, release: Release | None) -> str:
    body = select_body(job)
    if release is None or release.selector is None:
        return body.last_user_text
    return turns_read(body.messages, body.system_text, release.selector, release.reading)[-1]


def _row(entry: Entry, job: Job, text: str) -> TrafficRow:
    selection = selection_of(job)
    assert selection is not None
    return TrafficRow(
        entry=entry.id,
        job=job.id,
        at=iso(position_of(entry.id)[0]),
        text=text,
        label=selection.label or "",
        best_label=selection.best_label or "",
        probability=selection.probability,
        confidence=selection.confidence,
        rejected=selection.rejected,
        disputed=entry.seen.disputed,
        by=selection.by or "",
        release=job.release,
        selector=selection.selector or "",
        line=job.key_line,
        user=job.body.get("user") or "",
        conversation=job.conversation,
    )
