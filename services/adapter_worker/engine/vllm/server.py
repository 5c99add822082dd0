"""The HTTP client of a vLLM server, with its responses turned into our errors."""

import json
import math
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import httpx

from services.adapter_worker.engine.base import EngineAway
from services.adapter_worker.engine.vllm.figures import ServerFigures, read_figures
from shared.errors import Invalid, NotFound, SignalboxError

_CONNECT_SECONDS = 5.0
_IDLE_SECONDS = 2.0
_SILENCE_SECONDS = 300.0
"""A server may queue a request; one that sends nothing for this long counts as unreachable."""
_CHECK_SECONDS = 10.0
_EVENT = "data: "
_LAST_EVENT = "[DONE]"
_BY_ID = "token_id:"


class BaseCard(NamedTuple):
    """The base model of a server: its name in requests, its folder on the server, and its context length in tokens."""

    name: str
    folder: str
    context_length: int


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of one event, which belong to one choice.

    `logprobs` is empty unless requested, and NaN where the server's are not finite; `tops` has for each token the most
    probable ones in its place by id, and is empty without `return_tokens_as_token_ids`.
    """

    ids: list[int]
    logprobs: list[float]
    tops: Sequence[dict[int, float]] = ()
    index: int = 0


class VllmServer:
    """An OpenAI-compatible vLLM server that loads adapters at run time; lives in one event loop.

    Every call raises `EngineAway` if the server does not answer or is broken.
    """

    def __init__(self, url: str, api_key: str = "", transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._http = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx.Timeout(_SILENCE_SECONDS, connect=_CONNECT_SECONDS),
            # One connection per running request; idle ones are closed before the server would close them (after 5 s).
            limits=httpx.Limits(max_connections=None, keepalive_expiry=_IDLE_SECONDS),
            transport=transport,
        )

    async def base(self) -> BaseCard:
        """The base model that the server serves."""
        card = next(card for card in await self._cards() if not card.get("parent"))
        return BaseCard(card["id"], card["root"], card["max_model_len"])

    async def load(self, name: str, path: str) -> None:
        """Load the adapter in the server's folder `path`; a loaded adapter of that name is left as it is.

        Raises `Invalid` if the server cannot read the folder or refuses its content.
        """
        response = await self._post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": path})
        if response.is_success or await self._holds(name):
            return
        if response.status_code == httpx.codes.NOT_FOUND:
            raise Invalid("adapter_not_seen", _why_not_seen(response, path))
        if await self._is_healthy():  # it answers 500 for an adapter that it cannot serve
            raise Invalid(
                "adapter_refused", f"the vLLM server refuses adapter {name}; change what it says: {_message(response)}"
            )
        raise _error(response)

    async def unload(self, name: str) -> None:
        """Unload the adapter; running requests continue, and an unknown name is no error."""
        response = await self._post("/v1/unload_lora_adapter", {"lora_name": name})
        if not response.is_success and response.status_code != httpx.codes.NOT_FOUND:
            raise _error(response)

    async def complete(self, body: dict[str, Any]) -> AsyncGenerator[Tokens, None]:
        """Stream a completion; closing the iterator early also ends it at the server.

        Raises `NotFound` if the model is not loaded (any more), `Invalid` if the server refuses the request.
        """
        with _as_unavailable():
            request = {**body, "stream": True, "return_token_ids": True}
            async with self._http.stream("POST", "/v1/completions", json=request) as response:
                if not response.is_success:
                    await response.aread()
                    raise _error(response)
                async for line in _lines(response):
                    if line.startswith(_EVENT) and line != _EVENT + _LAST_EVENT:
                        yield _tokens(json.loads(line.removeprefix(_EVENT)))

    async def check(self) -> None:
        """Raise `EngineAway` unless the server says within seconds that its engine runs."""
        with _as_unavailable():
            response = await self._http.get("/health", timeout=_CHECK_SECONDS)
        if not response.is_success:
            raise _error(response)

    async def figures(self) -> ServerFigures:
        """What its metrics say; zeros where it shows none."""
        with _as_unavailable():
            response = await self._http.get("/metrics", timeout=_CHECK_SECONDS)
        return read_figures(response.text) if response.is_success else ServerFigures()

    async def close(self) -> None:
        """Close all connections, which ends the requests on them."""
        await self._http.aclose()

    async def _post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        with _as_unavailable():
            response = await self._http.post(path, json=body)
        if response.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            raise _error(response)
        return response

    async def _cards(self) -> list[dict[str, Any]]:
        with _as_unavailable():
            response = await self._http.get("/v1/models")
        if not response.is_success:
            raise _error(response)
        cards: list[dict[str, Any]] = response.json()["data"]
        return cards

    async def _holds(self, name: str) -> bool:
        return any(card["id"] == name for card in await self._cards())

    async def _is_healthy(self) -> bool:
        with _as_unavailable():
            response = await self._http.get("/health")
        return response.is_success


async def _lines(response: httpx.Response) -> AsyncGenerator[str, None]:
    """The lines of an event stream; those of httpx also end at U+2028 and others, which JSON may hold."""
    rest = b""
    async for piece in response.aiter_bytes():
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line.decode()


def _tokens(event: dict[str, Any]) -> Tokens:
    if "error" in event:  # the stream had begun, so the status was 200
        raise EngineAway("vllm_failed", f"the vLLM server gave up on the answer: {event['error'].get('message')}")
    choice = event["choices"][0]
    logprobs = choice.get("logprobs") or {}
    known = [math.nan if value is None else value for value in logprobs.get("token_logprobs") or []]
    tops = [_by_id(top or {}) for top in logprobs.get("top_logprobs") or []]
    return Tokens(choice["token_ids"], known, tops, choice.get("index", 0))


def _by_id(top: dict[str, float]) -> dict[int, float]:
    named = ((name.removeprefix(_BY_ID), value) for name, value in top.items() if name.startswith(_BY_ID))
    return {int(token): value for token, value in named}


@contextmanager
def _as_unavailable() -> Iterator[None]:
    try:
        yield
    except httpx.TransportError as error:
        raise EngineAway(
            "vllm_unreachable", f"the vLLM server does not answer ({type(error).__name__}): see SIGNALBOX_VLLM_URL"
        ) from error


def _why_not_seen(response: httpx.Response, path: str) -> str:
    if "error" not in response.text:  # no such route
        return "the vLLM server loads no adapters: start it with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"
    return f"the vLLM server finds no adapter in {path}: share the folder with it, or set SIGNALBOX_VLLM_ADAPTERS_DIR"


def _error(response: httpx.Response) -> SignalboxError:
    match response.status_code:
        case httpx.codes.UNAUTHORIZED | httpx.codes.FORBIDDEN:
            return EngineAway("vllm_denied", "the vLLM server refuses the key: set SIGNALBOX_VLLM_API_KEY")
        case httpx.codes.NOT_FOUND:
            return NotFound("vllm_model_unknown", f"start the server with SIGNALBOX_BASE_MODEL: {_message(response)}")
        case httpx.codes.BAD_REQUEST | httpx.codes.UNPROCESSABLE_ENTITY:
            return Invalid(
                "vllm_refused", f"the vLLM server refuses the request; change what it says: {_message(response)}"
            )
        case status:
            return EngineAway("vllm_failed", f"the vLLM server answered {status}: {_message(response)}")


def _message(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return response.text[:200]
