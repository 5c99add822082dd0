"""The client for programs on asyncio: the methods of `Signalbox`, awaited."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Concatenate, ParamSpec, TypeVar

import httpx

from signalbox import batches as _batches
from signalbox import calls, chat, exports, prompt_templates, stored, uploads
from signalbox import corpora as _corpora
from signalbox import feedback as _feedback
from signalbox import proposals as _proposals
from signalbox import rebases as _rebases
from signalbox import rollouts as _rollouts
from signalbox import traffic as _traffic
from signalbox import usage as _usage
from signalbox import webhooks as hooks
from signalbox.call import Call
from signalbox.calls import path_of
from signalbox.chat import Messages
from signalbox.chat_results import ChatChunk
from signalbox.client import documented
from signalbox.errors import SignalboxError
from signalbox.evaluation import Evaluation, evaluation_of
from signalbox.requests import Request, answer, api_error, made, pause_before_retry, target_of
from signalbox.results import Event, Job, Selection
from signalbox.sse import EventStream, Stream

P = ParamSpec("P")
T = TypeVar("T")


def method(build: Callable[P, Call[T]]) -> "Callable[Concatenate[AsyncSignalbox, P], Coroutine[Any, Any, T]]":
    """A method that sends one call; the call is built in a thread, since uploads read files."""

    async def send(self: "AsyncSignalbox", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._send(await asyncio.to_thread(build, *args, **kwargs))

    documented(send, build)
    return send


class AsyncSignalbox:
    """One API and one key, as `Signalbox`."""

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 60.0,
        max_retries: int = 2,
        http_client: httpx.AsyncClient | None = None,
    ) -> None:
        self._target = target_of(base_url, api_key, timeout)
        self._max_retries = max_retries
        self._http = http_client or made(httpx.AsyncClient)
        self._owns_http = http_client is None

    submit = method(calls.submit)
    chat = method(chat.chat)
    train = method(calls.train)
    compose = method(calls.compose)
    estimate = method(calls.estimate)
    job = method(calls.job)
    jobs = method(calls.jobs)
    cancel = method(calls.cancel)
    dead = method(calls.dead)
    again = method(calls.again)
    replay = method(calls.replay)
    feedback = method(_feedback.feedback)
    delete_feedback = method(_feedback.delete_feedback)
    take_back_feedback = method(_feedback.take_back_feedback)
    feedback_dataset = method(_feedback.feedback_dataset)
    feedback_conflicts = method(_feedback.feedback_conflicts)
    forget_user = method(calls.forget_user)
    replay_dead = method(calls.replay_dead)
    drop = method(calls.drop)
    releases = method(stored.releases)
    release = method(stored.release)
    edit_release = method(stored.edit_release)
    promote = method(stored.promote)
    rollback = method(stored.rollback)
    rebuild = method(stored.rebuild)
    delete_release = method(stored.delete_release)
    begin_rollout = method(_rollouts.begin_rollout)
    rollouts = method(_rollouts.rollouts)
    rollout = method(_rollouts.rollout)
    pause_rollout = method(_rollouts.pause_rollout)
    resume_rollout = method(_rollouts.resume_rollout)
    promote_rollout = method(_rollouts.promote_rollout)
    abort_rollout = method(_rollouts.abort_rollout)
    proposals = method(_proposals.proposals)
    proposal = method(_proposals.proposal)
    confirm_proposal = method(_proposals.confirm_proposal)
    dismiss_proposal = method(_proposals.dismiss_proposal)
    proposal_policy = method(_proposals.proposal_policy)
    set_proposal_policy = method(_proposals.set_proposal_policy)
    audit = method(_proposals.audit)
    plan_rebase = method(_rebases.plan_rebase)
    begin_rebase = method(_rebases.begin_rebase)
    rebases = method(_rebases.rebases)
    rebase = method(_rebases.rebase)
    cancel_rebase = method(_rebases.cancel_rebase)
    models = method(stored.models)
    model = method(stored.model)
    base_model = method(stored.base_model)
    aliases = method(stored.aliases)
    set_alias = method(stored.set_alias)
    delete_alias = method(stored.delete_alias)
    usage = method(_usage.usage)
    traffic = method(_traffic.traffic)
    traffic_policy = method(_traffic.traffic_policy)
    set_traffic_policy = method(_traffic.set_traffic_policy)
    traffic_sketches = method(_traffic.traffic_sketches)
    adapter = method(stored.adapter)
    adapters = method(stored.adapters)
    retire_adapter = method(stored.retire_adapter)
    delete_adapter = method(stored.delete_adapter)
    datasets = method(stored.datasets)
    delete_dataset = method(stored.delete_dataset)
    corpora = method(_corpora.corpora)
    corpus = method(_corpora.corpus)
    add_corpus_file = method(_corpora.add_corpus_file)
    delete_corpus = method(_corpora.delete_corpus)
    template = method(prompt_templates.template)
    templates = method(prompt_templates.templates)
    add_template = method(prompt_templates.add_template)
    delete_template = method(prompt_templates.delete_template)
    webhooks = method(hooks.webhooks)
    webhook = method(hooks.webhook)
    create_webhook = method(hooks.create_webhook)
    update_webhook = method(hooks.update_webhook)
    delete_webhook = method(hooks.delete_webhook)
    rotate_webhook_secret = method(hooks.rotate_webhook_secret)
    try_webhook = method(hooks.try_webhook)
    webhook_deliveries = method(hooks.webhook_deliveries)
    replay_delivery = method(hooks.replay_delivery)
    upload_adapter = method(uploads.upload_adapter)
    upload_dataset = method(uploads.upload_dataset)
    check_dataset = method(uploads.check_dataset)
    upload_file = method(_batches.upload_file)
    file_content = method(_batches.file_content)
    create_batch = method(_batches.create_batch)
    batch = method(_batches.batch)
    batches = method(_batches.batches)
    cancel_batch = method(_batches.cancel_batch)
    readiness = method(calls.readiness)
    get = method(calls.get)
    post = method(calls.post)
    delete = method(calls.delete)

    async def select(
        self,
        input: Messages,  # noqa: A002
        *,
        instruction: str = "",
        wait_seconds: float = 10.0,
        explain: bool | None = None,
    ) -> Selection:
        """Name the label of a text without generating; raises `JobFailed`."""
        found = await self._send(
            calls.select(input, instruction=instruction, wait_seconds=wait_seconds, explain=explain)
        )
        return found if isinstance(found, Selection) else calls.selection_of(await self.wait(found))

    async def wait(self, job: Job | str, *, timeout: float | None = None) -> Job:
        """The job once it has ended, whatever became of it; raises `WaitTimeout`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            async for _ in self._told(EventStream(f"{path_of(job)}/events", deadline=deadline)):
                pass
            if (ended := await self.job(job)).is_final:
                return ended

    def chat_stream(
        self, messages: Messages, *, model: str = "auto", idempotency_key: str | None = None, **params: Any
    ) -> AsyncIterator[ChatChunk]:
        """The pieces of an answer as they come, each text once; the arguments are those of `chat`."""
        return self._told(chat.chat_stream(messages, model, params, idempotency_key))

    async def evaluate(self, rows: Sequence[Mapping[str, str]]) -> Evaluation:
        """Name the label of each row's `input`, and compare it with its `label` (`none.none`: to be rejected)."""
        return evaluation_of(rows, [await self.select(row["input"]) for row in rows])

    def stream(self, job: Job | str, *, after: str = "") -> AsyncIterator[Event]:
        """The job's events, past and live, until it has ended; lost connections are opened again.

        `after` is the `id` of the last event that is known already.
        """
        return self.events(f"{path_of(job)}/events", after=after)

    def events(self, path: str, *, after: str = "") -> AsyncIterator[Event]:
        """The events of a path that has no method of its own yet."""
        return self._told(EventStream(path, after))

    async def _told(self, stream: Stream[T]) -> AsyncIterator[T]:
        while not stream.is_over:
            try:
                async with self._http.stream(**self._target.arguments(stream.open())) as response:
                    if response.is_error:
                        await response.aread()
                        raise api_error(response)
                    async for text in response.aiter_text():
                        for event in stream.feed(text):
                            yield event
                stream.close()
            except httpx.RequestError as error:
                stream.fail(self._target.unreachable(error))
            except SignalboxError as error:
                stream.fail(error)
            if not stream.is_over:
                await asyncio.sleep(stream.pause_seconds)

    async def export_adapter(self, ref: str, folder: Path | str) -> Path:
        """Write an adapter into a new folder as PEFT stores it, with a model card; `ref` as for `adapter`."""
        place = await asyncio.to_thread(exports.new_folder, folder)
        with exports.new_file(place) as tar:
            await self._repeated(exports.request_of(ref), lambda request: self._receive(request, tar))
            return await asyncio.to_thread(exports.unpack, tar, place)

    async def save_corpus(self, ref: str, to: Path | str, *, file: str = "") -> Path:
        """Write a corpus' file, which has to be named where it has several; of a cleaned corpus its JSON lines."""
        with exports.whole_file(Path(to)) as out:
            await self._repeated(_corpora.content_of(ref, file), lambda request: self._receive(request, out))
        return Path(to)

    async def _receive(self, request: Request, into: IO[bytes]) -> None:
        into.seek(0)
        into.truncate()
        async with self._http.stream(**self._target.arguments(request)) as response:
            if response.is_error:
                await response.aread()
                raise api_error(response)
            async for piece in response.aiter_bytes():
                await asyncio.to_thread(into.write, piece)

    async def _send(self, call: Call[T]) -> T:
        return call.result(await self._repeated(call.request, self._answer))

    async def _answer(self, request: Request) -> object:
        return answer(request, await self._http.request(**self._target.arguments(request)))

    async def _repeated(self, request: Request, send: Callable[[Request], Awaitable[T]]) -> T:
        retries = 0
        while True:
            try:
                return await send(request)
            except httpx.RequestError as error:
                pause = pause_before_retry(request, self._target.unreachable(error), retries, self._max_retries)
            except SignalboxError as error:
                pause = pause_before_retry(request, error, retries, self._max_retries)
            await asyncio.sleep(pause)
            retries += 1

    async def close(self) -> None:
        """Close the connections, unless they are those of a client that was brought."""
        if self._owns_http:
            await self._http.aclose()

    async def __aenter__(self) -> "AsyncSignalbox":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
