"""Chats: answers in OpenAI's format, whole, or as a stream that survives lost connections."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from signalbox.call import Call, given, posted
from signalbox.chat_results import Chat, ChatChunk
from signalbox.errors import SignalboxError, error_type
from signalbox.requests import Request
from signalbox.sse import EventParser, Stream

Messages = str | Sequence[Mapping[str, Any]]
_DONE = "[DONE]"


def chat(messages: Messages, *, model: str = "auto", idempotency_key: str | None = None, **params: Any) -> Call[Chat]:
    """Answer a conversation, or one text of a user.

    `model` is `auto`, `base`, a label, `label@n` or an alias; `params` are OpenAI's: `max_completion_tokens`,
    `temperature`, `tools`, `user`, …
    """
    return Call(_request(messages, model, params, idempotency_key), Chat.from_dict)


def chat_stream(messages: Messages, model: str, params: Mapping[str, Any], idempotency_key: str | None) -> "ChatStream":
    """The stream of an answer."""
    return ChatStream(_request(messages, model, {**params, "stream": True}, idempotency_key))


def _request(messages: Messages, model: str, params: Mapping[str, Any], idempotency_key: str | None) -> Request:
    turns = [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)
    body = given({"model": model, "messages": turns, **params})
    return posted("/v1/chat/completions", body, idempotency_key)


class ChatStream(Stream[ChatChunk]):
    """Where an answer's stream stands; asked again under its key it tells all of it, of which the rest is news."""

    def __init__(self, request: Request, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        self._request = request
        self._parser = EventParser()
        self._known: dict[int, int] = {}
        self._called: set[str] = set()
        self._told: dict[int, int] = {}
        """By choice, how many characters were told by any connection, and by this one."""

    def open(self) -> Request:
        """The request of the next connection."""
        self._parser, self._told = EventParser(), {}
        return self._request

    def feed(self, text: str) -> Iterator[ChatChunk]:
        """The chunks of a piece of text; raises the error that ends the stream."""
        for fields in self._parser.fields(text):
            if fields["data"] == _DONE:
                self.is_over = True
                return
            chunk = ChatChunk.from_dict(json.loads(fields["data"]))
            if "error" in chunk.raw:
                raise _error_of(chunk.raw)
            self._failing_since = None
            if (news := self._news(chunk)) is not None:
                yield news

    def close(self) -> None:
        """The server ended the connection in order; before the end of the stream it is asked again."""

    def fail(self, error: SignalboxError) -> None:
        """The connection was lost or refused; raises the error where another one would not help."""
        if error.code == "stream_restarted":  # the answer is another one now: what was told cannot be taken back
            raise error
        super().fail(error)

    def _news(self, chunk: ChatChunk) -> ChatChunk | None:
        """The chunk without what was told before; None where nothing is left of a text or of calls."""
        if chunk.tool_calls:
            ids = {call.id for call in chunk.tool_calls}  # the same at every connection
            is_known, self._called = ids <= self._called, self._called | ids
            return None if is_known else chunk
        at, known = self._told.get(chunk.index, 0), self._known.get(chunk.index, 0)
        self._told[chunk.index] = at + len(chunk.text)
        self._known[chunk.index] = max(known, self._told[chunk.index])
        return chunk.without(known - at) if chunk.text else chunk


def _error_of(body: Mapping[str, Any]) -> SignalboxError:
    status = int(body.get("status", 500))
    return error_type(status)(
        str(body.get("code", "stream_failed")),
        str(body.get("detail", "the stream ended with an error")),
        status=status,
        retryable=bool(body.get("retryable")),
        retry_after_seconds=body.get("retry_after_seconds"),
        body=body,
    )
