"""The engine's interface: many threads send requests, one engine thread computes, text is streamed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from shared.contracts.constraints import Constraint
from shared.contracts.jobs import DEFAULT_NEW_TOKENS
from shared.contracts.logprobs import TokenLogprobs
from shared.contracts.prompts import Segment
from shared.errors import NotFound, ServiceAway, SignalboxError

CANARY = "Signalbox sets the points: one request, one track."
"""A prompt whose logits a new adapter must change; otherwise its weights are zero or of another base model."""


class DeadlineExceeded(SignalboxError):
    """The request's deadline passed before its last token."""

    status = 504

    def __init__(self, job_id: str) -> None:
        super().__init__("deadline_exceeded", f"job {job_id} passed its deadline; allow more time or fewer tokens")


class EngineAway(ServiceAway):
    """The engine can answer nothing now; the requests that it runs are not the cause."""


class EngineLost(EngineAway):
    """The engine will answer nothing any more: only a new process helps."""


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One generation: `adapter` is the digest of a loaded adapter or None for the base model."""

    job_id: str
    attempt: int
    prompt: list[Segment]
    adapter: str | None
    max_new_tokens: int = DEFAULT_NEW_TOKENS  # of each choice
    n: int = 1  # choices
    temperature: float = 0.0  # 0 is greedy
    top_p: float = 1.0
    top_k: int = 0  # 0 is all
    seed: int | None = None  # of the first choice; of the next one it is one more
    presence_penalty: float = 0.0  # for tokens that the choice has already
    frequency_penalty: float = 0.0  # the same, for each time
    logit_bias: Mapping[int, float] = field(default_factory=dict)  # added to the logits of token ids
    stop: tuple[str, ...] = ()
    constraint: Constraint | None = None  # what each choice's text must be, unless it is cut
    deadline: float | None = None  # time.monotonic() seconds
    is_batch: bool = False  # may wait while interactive requests are served
    logprobs: bool = False  # whether the tokens' log-probabilities are wanted: the model's own, before all the above
    top_logprobs: int = 0  # alternatives of each token, which need `logprobs`
    end_ids: frozenset[int] = frozenset()  # tokens that end the answer, besides those of the tokenizer
    shown_ids: frozenset[int] = frozenset()  # control tokens that the answer's text shows by their names
    old_turns: int = 0  # user turns that a prompt which is too long may lose, the oldest first
    shorter: Callable[[int], list[Segment]] | None = None  # the prompt without so many of them

    def without_turns(self, dropped: int) -> list[Segment]:
        """Return the prompt without its oldest user turns and their answers."""
        return self.shorter(dropped) if dropped and self.shorter else self.prompt


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a choice's text as it comes, with the log-probabilities of the tokens that it shows.

    Without text it has the tokens at the end of a choice that show none.
    """

    text: str
    index: int = 0
    logprobs: TokenLogprobs | None = None


OnPiece = Callable[[Piece], None]


@dataclass(frozen=True, slots=True)
class Completion:
    """One finished choice; `token_ids` are all that were generated, without the end token.

    `logprobs`, where they are requested, are those of the tokens that `text` shows: the pieces' together.
    """

    text: str
    token_ids: list[int]
    finish_reason: Literal["stop", "length"]
    logprobs: TokenLogprobs | None = None


@dataclass(frozen=True, slots=True)
class Generation:
    """A finished generation with all its choices; times count from the call of `generate`."""

    choices: tuple[Completion, ...]
    prompt_tokens: int
    first_token_ms: float
    total_ms: float
    prompt_shortened: bool

    @property
    def generated_tokens(self) -> int:
        """The tokens of all choices."""
        return sum(len(choice.token_ids) for choice in self.choices)

    @property
    def text(self) -> str:
        """Of the first choice."""
        return self.choices[0].text

    @property
    def token_ids(self) -> list[int]:
        """Of the first choice."""
        return self.choices[0].token_ids

    @property
    def finish_reason(self) -> Literal["stop", "length"]:
        """Of the first choice."""
        return self.choices[0].finish_reason

    @property
    def logprobs(self) -> TokenLogprobs | None:
        """Of the first choice."""
        return self.choices[0].logprobs


class CacheFigures(NamedTuple):
    """The cache of keys and values: the share that requests hold, and tokens of prompts looked up and found in it."""

    used_ratio: float = 0.0
    looked_up: int = 0
    found: int = 0


class Engine(Protocol):
    """One base model with resident adapters; every method may be called from many threads at once."""

    def load_adapter(self, digest: str, folder: Path) -> None:
        """Make the adapter in `folder` (already checked) resident; a resident digest is left as it is.

        If there is no room, the least recently used adapter that no request uses is evicted. Raises
        `Invalid("adapter_inactive")` when the adapter changes nothing on a canary prompt.
        """
        ...

    def unload_adapter(self, digest: str) -> None:
        """Take no more requests for the adapter; its memory is freed when its last running request ends."""
        ...

    @property
    def resident(self) -> frozenset[str]:
        """Digests that requests may name now."""
        ...

    def generate(self, request: GenerationRequest, on_piece: OnPiece) -> Generation:
        """Block until all choices end; the engine's thread calls `on_piece` with each piece, so keep it cheap.

        A choice that fails fails them all. Raises `NotFound("adapter_not_loaded")`, `Cancelled("cancelled")`,
        `DeadlineExceeded`, `EngineAway`, and whatever `on_piece` raised.
        """
        ...

    def cancel(self, job_id: str, attempt: int) -> bool:
        """End this attempt's generation within one step; False if none runs or waits."""
        ...

    @property
    def running_count(self) -> int:
        """Requests accepted and not ended, waiting ones included."""
        ...

    @property
    def waiting_count(self) -> int:
        """Accepted requests that have not begun, as far as the engine knows."""
        ...

    @property
    def cache(self) -> CacheFigures:
        """The cache as it is, or as it was when the engine was last checked."""
        ...

    def check(self) -> None:
        """Raise `EngineAway` where the engine can answer nothing now, `EngineLost` where it will not any more.

        It may take some seconds. Requests whose answers will not come any more are failed with the same error.
        """
        ...

    @property
    def stuck_seconds(self) -> float:
        """For how long the engine has been at one step."""
        ...

    def close(self) -> None:
        """Fail the running requests with `engine_stopped` and end the engine's thread."""
        ...


def adapter_not_loaded(digest: str) -> NotFound:
    """Make the error for a digest that is not resident."""
    return NotFound("adapter_not_loaded", f"adapter {digest} is not loaded here; load it first")


def engine_stopped() -> EngineAway:
    """Make the error for requests that a closing engine leaves behind."""
    return EngineAway("engine_stopped", "the engine was stopped; another worker can take the job")
