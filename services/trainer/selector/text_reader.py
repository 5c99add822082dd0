"""Reads texts for prototypes: with the trainer's sentence encoder, or with the base model."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from services.trainer.context import SelectorContext
from shared.contracts.training import SelectorDelete
from shared.model.features import Floats
from shared.model.prototypes import Reading, read_layer

if TYPE_CHECKING:
    from shared.model.text_vectors import Embed


class TextReader:
    """Reads each text once in a job, with the sentence encoder where there is one, unless the job names the base."""

    def __init__(self, context: SelectorContext) -> None:
        clients, body = context.clients, context.body
        wants_base = not isinstance(body, SelectorDelete) and body.selection.embedder == "hidden-state"
        self._encoder_folder = None if wants_base else clients.encoder_folder
        self._reading = Reading(lambda: clients.base_folder, self._encoder_folder, check=context.check)
        self._known: dict[str, Floats] = {}

    @cached_property
    def layer(self) -> int:
        """The base model's layer that is read; 0 where an encoder reads."""
        return 0 if self._encoder_folder else read_layer(self._reading.base_folder())

    @cached_property
    def encoder(self) -> str:
        """Digest of the sentence encoder, once it has read texts; empty where the base model reads."""
        from shared.model.base import base_model_id

        return base_model_id(self._encoder_folder) if self._encoder_folder else ""

    @cached_property
    def _embed(self) -> "Embed":
        return self._reading.states(self.layer) if self._encoder_folder is None else self._reading.sentences()

    def vectors(self, texts: Sequence[str]) -> Floats:
        """Return `[texts, hidden]` float32."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known |= zip(new, self._embed(new), strict=True)
        return np.stack([self._known[text] for text in texts])
