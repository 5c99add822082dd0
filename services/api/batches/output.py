"""Lines of a batch's output file and error file, rendered by what answers the same request at its endpoint."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from services.api.batches.lines import FORMS, SELECTIONS, Line
from services.api.http.envelope import envelope, status_of
from services.api.jobs.schemas import Accepted
from services.api.openai.answers import whole
from services.api.openai.ending import answered
from services.api.select import service as selecting
from shared.contracts.jobs import Job
from shared.errors import SignalboxError


class Answer(NamedTuple):
    """A line of one of the two files."""

    is_output: bool
    text: bytes
    prompt_tokens: int = 0
    completion_tokens: int = 0


def answer(endpoint: str, line: Line, job: Job) -> Answer:
    """Return what a job that has ended says of its line."""
    try:
        body, prompt, completion = _selection(job) if endpoint == SELECTIONS else _generation(endpoint, line, job)
    except SignalboxError as error:
        return failure(line.custom_id, line.job_id, error)
    return Answer(True, _text(line.custom_id, line.job_id, _response(line.job_id, 200, body)), prompt, completion)


def failure(custom_id: str, job_id: str, error: SignalboxError) -> Answer:
    """Return what is told of a line that was refused, or whose job ended without an answer."""
    return Answer(False, _text(custom_id, job_id, _response(job_id, status_of(error), envelope(error))))


def not_run(line: Line, why: str) -> Answer:
    """Return what is told of a line that was not run to its end, because the batch was `cancelled` or has `expired`."""
    told = {
        "code": f"batch_{why}",
        "message": f"this request was not executed: the batch {_WHY[why]} before; send it in a new one",
    }
    return Answer(False, _text(line.custom_id, line.job_id, None, told))


_WHY = {"cancelled": "was cancelled", "expired": "expired"}


def _generation(endpoint: str, line: Line, job: Job) -> tuple[dict[str, Any], int, int]:
    result = answered(job)
    body = whole(FORMS[endpoint], line.asked, job, result)
    return body, result.usage.prompt_tokens, result.usage.completion_tokens


def _selection(job: Job) -> tuple[dict[str, Any], int, int]:
    found = selecting.answer(job)
    assert not isinstance(found, Accepted)  # the job has ended
    return found.model_dump(mode="json"), 0, 0


def _response(job_id: str, status: int, body: Mapping[str, Any]) -> dict[str, Any]:
    return {"status_code": status, "request_id": job_id, "body": body}


def _text(
    custom_id: str, job_id: str, response: Mapping[str, Any] | None, error: Mapping[str, str] | None = None
) -> bytes:
    name = f"batch_req_{job_id.removeprefix('job_')}"
    told = {"id": name, "custom_id": custom_id, "response": response, "error": error}
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
