"""What a request needs of the key/value cache."""

from collections.abc import Callable
from itertools import takewhile

from services.adapter_worker.engine.base import GenerationRequest
from services.adapter_worker.engine.native.kv_cache import Prefix, pages_for_choices
from shared.contracts.prompts import Segment
from shared.errors import Invalid


def check_room(request: GenerationRequest, prompt: int, pages: int) -> None:
    """Raise `Invalid` where a cache of so many pages never has room for a prompt of `prompt` tokens and its answers."""
    if pages_for_choices(prompt, request.max_new_tokens, request.n) > pages:
        less = ", or ask for fewer choices" if request.n > 1 else ""
        raise Invalid("prompt_too_large", f"the key/value cache is too small for this: raise SIGNALBOX_CACHE_MIB{less}")


def shared_prefix(request: GenerationRequest, ids: list[int], encode: Callable[[list[Segment]], list[int]]) -> Prefix:
    """The prompt before the input, which requests with the same adapter and instruction share."""
    before = list(takewhile(lambda segment: not segment.is_input, request.prompt))
    return Prefix(request.adapter, tuple(ids[: min(len(encode(before)), len(ids) - 1)]))
