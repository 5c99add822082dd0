"""Converts a request's text to token ids and back, for every engine that has a tokenizer."""

import copy
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
    """Ids of the prompt, and whether its input was shortened; raises `Invalid` if no prompt fits or it is empty."""
    limit = min(max_prompt_tokens, context_length - request.max_new_tokens)
    if limit < 1:
        raise Invalid("max_new_tokens_too_large", f"the model's context holds {context_length} tokens in all")
    ids = encode(tokenizer, request.prompt, NO_LIMIT)
    is_shortened = len(ids) > limit
    if is_shortened:
        ids = encode(tokenizer, request.prompt, limit)
    if not ids:
        raise Invalid("prompt_empty", "the prompt has no tokens")
    return ids, is_shortened


def text_decoder(tokenizer: Any) -> Callable[[list[int]], str]:
    """A function that decodes ids to text without control tokens."""
    # A copy, because encoding in another thread may change the tokenizer's state temporarily.
    decode = copy.deepcopy(tokenizer).decode
    return lambda ids: decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
