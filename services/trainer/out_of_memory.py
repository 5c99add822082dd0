"""A lack of memory, of a card or of the machine, as an error that says what to do."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import Invalid
from shared.model.memory import is_out_of_memory, return_free_memory


@contextmanager
def explaining_memory(what: str) -> Iterator[None]:
    """Give back what the block held and raise `Invalid` `out_of_memory` where it had too little memory."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)  # they hold the model until the error is forgotten
        return_free_memory()
        raise Invalid(
            "out_of_memory",
            f"{what} does not fit in memory: lower batch_size or max_length, set gradient_checkpointing to true, or "
            "take method qlora",
        ) from error
