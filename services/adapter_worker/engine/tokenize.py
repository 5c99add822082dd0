"""Converts a request's text to token ids, for every engine that has a tokenizer."""

from bisect import bisect_left
from collections.abc import Callable
from typing import Any

from services.adapter_worker.engine.base import GenerationRequest
from shared.contracts.prompts import Segment
from shared.errors import Invalid

Encode = Callable[[Any, list[Segment], int], list[int]]
NO_LIMIT = 1 << 30


def prompt_ids(
    encode: Encode, tokenizer: Any, request: GenerationRequest, *, max_prompt_tokens: int, context_length: int
) -> tuple[list[int], bool]:
    """Ids of the prompt, and whether it was shortened; raises `Invalid` if no prompt fits or it is empty.

    A conversation that is too long loses as many of its oldest turns as it must; what is still too long loses the
    middle of its last user turn.
    """
    limit = min(max_prompt_tokens, context_length - request.max_new_tokens)
    if limit < 1:
        raise Invalid(
            "max_new_tokens_too_large", f"the model's context holds {context_length} tokens in all: ask for fewer"
        )

    def of(dropped: int) -> list[int]:
        return encode(tokenizer, request.without_turns(dropped), NO_LIMIT)

    ids = of(0)
    is_shortened = len(ids) > limit
    if is_shortened:
        fewest = bisect_left(range(1, request.old_turns + 1), True, key=lambda dropped: len(of(dropped)) <= limit) + 1
        ids = encode(tokenizer, request.without_turns(min(fewest, request.old_turns)), limit)
    if not ids:
        raise Invalid("prompt_empty", "the prompt has no tokens: write a text")
    return ids, is_shortened


def check_bias(request: GenerationRequest, vocabulary: int) -> None:
    """Raise `Invalid` where the bias names a token that the model, of `vocabulary` tokens, has not."""
    unknown = next((token for token in request.logit_bias if not 0 <= token < vocabulary), None)
    if unknown is not None:
        raise Invalid(
            "token_unknown",
            f"logit_bias names token {unknown}, but the base model's tokens end at {vocabulary - 1}: leave it out",
        )
