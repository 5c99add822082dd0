"""Chunks of a job's answer as its events tell it: each text once, also where a worker dies and another goes on."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from services.api.infra.event_feed import Event
from services.api.openai.answers import Asked, Form, called, facts, fingerprint, head, usage
from services.api.openai.ending import answered
from shared.contracts.jobs import Job
from shared.contracts.logprobs import TokenLogprobs
from shared.errors import Unavailable

Chunk = dict[str, Any]


class _Choice:
    """One choice: what was sent of it, and what the present try has told."""

    def __init__(self) -> None:
        self.sent = ""
        self.told = ""
        self.sent_calls: list[Chunk] = []
        self.told_calls = 0

    def restart(self) -> None:
        self.told = ""
        self.told_calls = 0

    def news(self, text: str) -> str:
        """Take what the try tells next, and return what of it was not sent before.

        A job draws its tokens from its own random stream, so another try tells the same again. Raises `Unavailable`
        where it does not.
        """
        self.told += text
        common = min(len(self.told), len(self.sent))
        if self.told[:common] != self.sent[:common]:
            raise _answers_otherwise()
        news = self.told[len(self.sent) :]
        self.sent += news
        return news

    def is_news(self, call: Chunk) -> bool:
        """Take the call that the try tells next; whether it was not sent before. Raises `Unavailable`, too."""
        number, self.told_calls = self.told_calls, self.told_calls + 1
        if number < len(self.sent_calls):
            if call != self.sent_calls[number]:
                raise _answers_otherwise()
            return False
        self.sent_calls.append(call)
        return True


def _answers_otherwise() -> Unavailable:
    return Unavailable(
        "stream_restarted",
        "the worker was lost in the middle of this answer, and the next one answers otherwise; ask again",
        retry_after_seconds=1,
    )


class Chunks:
    """Turns events of one job into chunks."""

    def __init__(self, form: Form, asked: Asked, job: Job, *, count: int, with_usage: bool) -> None:
        self._form = form
        self._asked = asked
        self._choices = [_Choice() for _ in range(count)]
        self._with_usage = with_usage
        self._head = head(form, asked, job.id, job.timestamps, form.chunk_object)
        self._head["system_fingerprint"] = fingerprint(job.release, None)

    async def of(self, events: AsyncIterator[Event], ended: Callable[[], Awaitable[Job]]) -> AsyncIterator[Chunk]:
        """Yield the chunks of the events, then those of the job that `ended` returns; raises what ended it badly."""
        for index in range(len(self._choices)):
            yield self._chunk(self._form.begin(index))
        async for event in events:
            if event.type == "restart":
                for choice in self._choices:
                    choice.restart()
            elif event.type in ("token", "tool_call") and (chunk := self._told(json.loads(event.data))):
                yield chunk
        for chunk in self._last(await ended()):
            yield chunk

    def _told(self, data: dict[str, Any]) -> Chunk | None:
        index = data.get("index", 0)
        if call := data.get("tool_call"):
            return self._called(index, {name: value for name, value in call.items() if name != "index"})
        choice = self._choices[index]
        offset = len(choice.sent)
        news, found = choice.news(data["text"]), data.get("logprobs")
        if not news and not (found and not data["text"]):  # the tokens at an answer's end may show no text
            return None
        return self._piece(index, news, TokenLogprobs.model_validate(found) if found else None, offset)

    def _called(self, index: int, call: Chunk) -> Chunk | None:
        known = self._choices[index]
        number = known.told_calls
        return self._chunk(called(index, number, call)) if known.is_news(call) else None

    def _last(self, job: Job) -> list[Chunk]:
        """What no event told, how each choice ended, and what is known of the whole."""
        result = answered(job)
        chunks = []
        for choice, known in zip(result.choices, self._choices, strict=False):
            offset = len(known.sent)
            known.restart()
            if rest := known.news(choice.text):
                chunks.append(self._piece(choice.index, rest, None if offset else choice.logprobs, offset))
            calls = (self._called(choice.index, call.model_dump(mode="json")) for call in choice.tool_calls)
            chunks += [chunk for chunk in calls if chunk]
            chunks.append(self._chunk(self._form.end(choice.index, choice.finish_reason)))
        chunks[-1]["signalbox"] = facts(self._asked, job, result)
        if self._with_usage:
            chunks.append(self._head | {"choices": [], "usage": usage(result.usage)})
        return chunks

    def _piece(self, index: int, text: str, logprobs: TokenLogprobs | None, offset: int) -> Chunk:
        return self._chunk(self._form.piece(index, text, logprobs, offset))

    def _chunk(self, choice: dict[str, Any]) -> Chunk:
        chunk = self._head | {"choices": [choice]}
        return chunk | {"usage": None} if self._with_usage else chunk
