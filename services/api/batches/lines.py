"""One line of a batch's input: the request that it holds, as a job like any other, or what is wrong with it."""

import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from services.api.http.problems import fields_of
from services.api.infra.clients import Clients
from services.api.infra.current_release import CurrentRelease
from services.api.jobs.accept import check_constraint, check_sizes, check_template, generation_job, untold
from services.api.jobs.schemas import JobRequest, SelectRequest
from services.api.openai.answers import Asked, ChatForm, Form, TextForm
from services.api.openai.names import Fields, resolve
from services.api.openai.schemas import ChatRequest, CompletionRequest
from services.api.openai.service import job_request
from services.api.select.service import selection_job
from shared.contracts.batches import LineError, job_id_of
from shared.contracts.generation import GenerationBody, SelectBody
from shared.contracts.jobs import NewJob
from shared.contracts.json_objects import unique_keys
from shared.errors import Invalid, SignalboxError
from shared.security.api_keys import Key

CHATS, TEXTS, SELECTIONS = "/v1/chat/completions", "/v1/completions", "/v1/select"
Endpoint = Literal["/v1/chat/completions", "/v1/completions", "/v1/select"]
FORMS: dict[str, Form] = {CHATS: ChatForm(), TEXTS: TextForm()}
_BODIES: dict[str, type[ChatRequest] | type[CompletionRequest]] = {CHATS: ChatRequest, TEXTS: CompletionRequest}


class Envelope(BaseModel):
    """A line as OpenAI's clients write it."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    custom_id: Annotated[str, StringConstraints(min_length=1, max_length=512)]
    method: Literal["POST"]
    url: str
    body: dict[str, Any]


class Line(NamedTuple):
    """A line that can be run: `build` makes its job under a release."""

    number: int
    custom_id: str
    job_id: str
    asked: Asked
    texts: tuple[str, ...]
    new_tokens: int
    build: Callable[[CurrentRelease], NewJob]


class BadLine(SignalboxError):
    """A line that cannot be run; `custom_id` is empty where it has none."""

    status = 400

    def __init__(self, errors: Sequence[LineError], custom_id: str = "") -> None:
        super().__init__(errors[0].code, "; ".join(error.message for error in errors))
        self.errors = errors
        self.custom_id = custom_id
        self.param = errors[0].param


class StreamAsked(Invalid):
    """A line asks for a stream."""

    param = "stream"


class SeveralPrompts(Invalid):
    """A line has several prompts, which would be several jobs."""

    param = "prompt"


class LineReader:
    """Reads the lines of one batch, each by the code that reads the same request at its endpoint."""

    def __init__(self, clients: Clients, caller: Key, batch_id: str, endpoint: str) -> None:
        self._clients = clients
        self._caller = caller
        self._batch_id = batch_id
        self._endpoint = endpoint
        self._names: dict[tuple[str, str], Fields] = {}

    async def read(self, number: int, raw: bytes) -> Line:
        """Return what a line asks for; raises `BadLine`, and `Unavailable` where that cannot be told now."""
        envelope = self._envelope(number, raw)
        try:
            if self._endpoint == SELECTIONS:
                return await self._selection(number, envelope)
            return await self._generation(number, envelope)
        except (ValidationError, RequestValidationError) as error:
            raise BadLine(_errors(number, error, "body."), envelope.custom_id) from error
        except SignalboxError as error:
            if error.retryable:
                raise
            param = f"body.{error.param}" if hasattr(error, "param") else None
            raise BadLine([_wrong(number, error.code, error.detail, param)], envelope.custom_id) from error

    def _envelope(self, number: int, raw: bytes) -> Envelope:
        try:
            given = json.loads(raw, object_pairs_hook=unique_keys)
        except (ValueError, RecursionError) as error:
            raise BadLine([_wrong(number, "invalid_json_line", f"this line is no JSON: {error}")]) from error
        if not isinstance(given, dict):
            raise BadLine(
                [_wrong(number, "invalid_json_line", "this line is no JSON object: write one request a line")]
            )
        try:
            envelope = Envelope.model_validate(given)
        except ValidationError as error:
            raise BadLine(_errors(number, error)) from error
        if envelope.url != self._endpoint:
            detail = f"this batch is for {self._endpoint}: make another one for lines with another url"
            raise BadLine([_wrong(number, "mismatched_endpoint", detail, "url")], envelope.custom_id)
        return envelope

    async def _generation(self, number: int, envelope: Envelope) -> Line:
        body = _BODIES[self._endpoint].model_validate(envelope.body)
        if body.stream:
            raise StreamAsked("stream_in_batch", "a batch has no streams: leave stream out")
        if isinstance(body, CompletionRequest) and len(body.prompts) > 1:
            raise SeveralPrompts("several_prompts", "a line has one prompt: write a line for each")
        current = await self._clients.releases.current(self._caller.tenant_id)
        request = job_request(body, await self._name(body.model, current), self._clients.settings, priority="batch")
        request = await self._clients.user_ids.without_id(self._caller.tenant_id, request)
        job_body = GenerationBody.model_validate(request.body)
        check_sizes(self._clients.settings, job_body, request.params.max_new_tokens)
        await check_constraint(self._clients, self._caller, job_body)
        line = Line(
            number=number,
            custom_id=envelope.custom_id,
            job_id=job_id_of(self._batch_id, number),
            asked=Asked(body.model, "flex", body.metadata, self._shutdown_date),
            texts=job_body.texts,
            new_tokens=job_body.params.new_tokens,
            build=lambda under: self._job(number, request, job_body, under),
        )
        line.build(current)
        return line

    async def _selection(self, number: int, envelope: Envelope) -> Line:
        request = SelectRequest.model_validate(envelope.body)
        request = await self._clients.user_ids.without_id(self._caller.tenant_id, request)
        body = SelectBody.model_validate(request.body)
        check_sizes(self._clients.settings, body)
        job_id = job_id_of(self._batch_id, number)

        def build(under: CurrentRelease) -> NewJob:
            return _batched(selection_job(job_id, self._caller, request, under))

        build(await self._clients.releases.current(self._caller.tenant_id))
        return Line(number, envelope.custom_id, job_id, Asked("", "flex"), body.texts, 0, build)

    def _job(self, number: int, request: JobRequest, body: GenerationBody, under: CurrentRelease) -> NewJob:
        job_id = job_id_of(self._batch_id, number)
        job = generation_job(job_id, self._caller, request, under, self._clients.settings)
        check_template(under.release, job.label, body)
        self._clients.retiring.check(self._caller.tenant_id, under.release, job.label)
        return _batched(job)

    def _shutdown_date(self, ref: str | None) -> str | None:
        return self._clients.retiring.shutdown_date(self._caller.tenant_id, ref)

    async def _name(self, model: str, current: CurrentRelease) -> Fields:
        known = self._names.get((current.id, model))
        if known is None:
            known = self._names[current.id, model] = await resolve(
                model, current, self._caller.tenant_id, self._clients
            )
        return known


def _batched(job: NewJob) -> NewJob:
    """The job as one that may wait, and whose pieces nobody reads."""
    return untold(job.model_copy(update={"body": {**job.body, "priority": "batch"}}))


_CODES = {"missing": "missing_required_parameter", "extra_forbidden": "unknown_parameter"}


def _errors(number: int, error: ValidationError | RequestValidationError, within: str = "") -> list[LineError]:
    """What is wrong with the fields of a line, or of its body."""
    found: Sequence[Any] = error.errors()
    if isinstance(error, ValidationError):  # it does not say of what its fields are
        found = [one | {"loc": ("line", *one["loc"])} for one in found]
    return [
        _wrong(
            number,
            _CODES.get(field["code"], "invalid_request"),
            f"{field['field']}: {field['message']}",
            within + field["field"],
        )
        for field in fields_of(found)
    ]


def _wrong(number: int, code: str, message: str, param: str | None = None) -> LineError:
    return LineError(code=code, message=message[:500], line=number, param=param)
