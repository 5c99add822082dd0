"""Asks again what a job asked, as a new job: under another label or release, or to have it explained."""

import json

from services.api.infra.clients import Clients
from services.api.jobs.accept import AUTO, accept_hidden
from services.api.jobs.schemas import MAX_METADATA, Accepted, JobRequest, LabelText, ReleaseId, Request
from services.api.jobs.service import find
from shared.contracts.generation import TELLS_TOKENS
from shared.contracts.jobs import CONVERSATION_ID, Job, JobKind
from shared.errors import Invalid
from shared.security.api_keys import Key

MADE_FROM = "made_from"
"""The name in a job's metadata under which it says of which job it is a repetition."""


class AgainRequest(Request):
    """What is to be different; what is left out stays as the job asked it."""

    label: LabelText | None = None
    """A label, `base`, or `auto`: the selector chooses."""
    release: ReleaseId | None = None
    """Left out, the current release."""
    explain: bool | None = None


async def ask_again(
    clients: Clients, caller: Key, job_id: str, wish: AgainRequest, idempotency_key: str | None
) -> tuple[Accepted, bool]:
    """Write a new job that asks what an earlier one asked; returns it, and whether it was created before.

    It stands apart from the conversation of the earlier one, whose label it neither follows nor moves. Raises
    `NotFound`, `Invalid` `again_unsupported`, and what `accept` raises.
    """
    job = await find(clients, caller, job_id)
    return await accept_hidden(clients, caller, repeated(job, wish), idempotency_key)


def repeated(job: Job, wish: AgainRequest) -> JobRequest:
    """Return the request of the new job."""
    if job.kind is not JobKind.GENERATE:
        raise Invalid("again_unsupported", f"job {job.id} asked for no answer; take a job that did")
    left_out = {TELLS_TOKENS, "priority", "release", "explain"}
    asked = {name: value for name, value in job.body.items() if name not in left_out}
    if wish.label is not None:
        asked = {name: value for name, value in asked.items() if name not in ("label", "adapter")}
        asked |= {} if wish.label == AUTO else {"label": wish.label}
    metadata = {name: value for name, value in (asked.get("metadata") or {}).items() if name != CONVERSATION_ID}
    asked["metadata"] = _with_origin(metadata, job.id)
    more = wish.model_dump(include={"release", "explain"}, exclude_none=True)
    return JobRequest.model_validate_json(json.dumps(asked | more))


def _with_origin(metadata: dict[str, str], job_id: str) -> dict[str, str]:
    most = MAX_METADATA - (MADE_FROM not in metadata)
    return dict(list(metadata.items())[:most]) | {MADE_FROM: job_id}
