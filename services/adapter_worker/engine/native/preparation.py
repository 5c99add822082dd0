"""Makes a request ready for the engine, in the thread that asks: its prompt's tokens, its constraint's masks."""

import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from llguidance import LLTokenizer

from services.adapter_worker.engine.base import GenerationRequest, OnPiece
from services.adapter_worker.engine.matchers import Matchers
from services.adapter_worker.engine.native.prompt_pages import check_room, shared_prefix
from services.adapter_worker.engine.native.token_mask import TokenMask
from services.adapter_worker.engine.request_state import RequestState
from services.adapter_worker.engine.token_texts import TokenTexts
from services.adapter_worker.engine.tokenize import NO_LIMIT, Encode, check_bias, prompt_ids
from shared.errors import Invalid
from shared.model.servable import context_length


class Preparation:
    """What a model's requests are made ready by; called by any thread."""

    def __init__(
        self,
        config: Any,
        tokenizer: Any,
        encode: Encode,
        *,
        max_prompt_tokens: int,
        page_count: int,
        end_ids: frozenset[int],
        texts: TokenTexts,
        masks: Executor,
    ) -> None:
        self._tokenizer = tokenizer
        self._encode = encode
        self._vocabulary = int(config.get_text_config().vocab_size)
        self._context_length = context_length(config.to_dict()) or NO_LIMIT
        self._max_prompt_tokens = max_prompt_tokens
        self._page_count = page_count
        self._texts = texts
        self._masks = masks
        self._matchers = Matchers(lambda: _constraint_tokenizer(tokenizer, self._vocabulary, end_ids))

    def state(self, request: GenerationRequest, on_piece: OnPiece) -> RequestState:
        """Return the request in the form that joins the batch; raises `Invalid` for what this model cannot answer."""
        started = time.monotonic()
        check_bias(request, self._vocabulary)
        ids, is_shortened = prompt_ids(
            self._encode,
            self._tokenizer,
            request,
            max_prompt_tokens=self._max_prompt_tokens,
            context_length=self._context_length,
        )
        check_room(request, len(ids), self._page_count)
        return RequestState(
            request,
            ids,
            prefix=shared_prefix(request, ids, lambda part: self._encode(self._tokenizer, part, NO_LIMIT)),
            prompt_shortened=is_shortened,
            on_piece=on_piece,
            texts=self._texts,
            started=started,
            make_mask=self._mask_maker(request),
        )

    def _mask_maker(self, request: GenerationRequest) -> Callable[[], TokenMask | None]:
        if request.constraint is None:
            return lambda: None
        matcher = self._matchers.of(request.constraint)
        return lambda: TokenMask(matcher.deep_copy(), self._vocabulary, request.end_ids, self._masks)


def _constraint_tokenizer(tokenizer: Any, vocabulary: int, end_ids: frozenset[int]) -> LLTokenizer:
    from llguidance.hf import from_tokenizer

    try:
        return from_tokenizer(tokenizer, n_vocab=vocabulary, eos_token=sorted(end_ids))
    except ValueError as error:
        raise Invalid(
            "constraint_unsupported", f"this base model's tokenizer takes no constraints: {error}; leave them out"
        ) from error
