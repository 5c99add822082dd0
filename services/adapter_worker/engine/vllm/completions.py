"""What a vLLM server is asked for, and how its log-probabilities are read."""

from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any

from services.adapter_worker.engine.base import GenerationRequest
from services.adapter_worker.engine.native.sampler import Score
from services.adapter_worker.engine.vllm.server import Tokens
from shared.contracts.constraints import Constraint


def is_one_for_all(request: GenerationRequest) -> bool:
    """Whether the server is asked for one choice that stands for all: several greedy ones, being equal, it refuses."""
    return request.temperature == 0


def completion_body(
    request: GenerationRequest, model: str, prompt_ids: Sequence[int], end_ids: Iterable[int]
) -> dict[str, Any]:
    """The body of `/v1/completions`."""
    body = {
        "model": model,
        "prompt": prompt_ids,
        "n": 1 if is_one_for_all(request) else request.n,
        "max_tokens": request.max_new_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": request.top_k,
        "presence_penalty": request.presence_penalty,
        "frequency_penalty": request.frequency_penalty,
        # Otherwise generation defaults that the model's folder may set would hold.
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "ignore_eos": True,
        "stop_token_ids": sorted(end_ids),
    }
    optional = {
        "seed": request.seed,
        "logprobs": request.top_logprobs if request.logprobs else None,
        "return_tokens_as_token_ids": True if request.top_logprobs else None,
        "logit_bias": {str(token): value for token, value in request.logit_bias.items()} or None,
        "structured_outputs": _structured(request.constraint) if request.constraint else None,
    }
    return body | {name: value for name, value in optional.items() if value is not None}


def _structured(constraint: Constraint) -> dict[str, Any]:
    """A constraint as the server takes it; of which kind its grammars are, its own settings say."""
    names = {"json_schema": "json", "choices": "choice"}
    return {names.get(constraint.kind, constraint.kind): constraint.given[constraint.kind]}


def score_of(part: Tokens, n: int, count: int) -> Score | None:
    """The log-probability of the part's token `n` with its best `count` alternatives; None where it has none.

    The server names the token itself, too, where it is not among the best.
    """
    if not part.logprobs:
        return None
    top = sorted(part.tops[n].items(), key=itemgetter(1), reverse=True)[:count] if part.tops else ()
    return Score(part.logprobs[n], top)
