"""Texts as vectors: by the base model's input embedding, its hidden states, or a sentence encoder (paper, section 3.3).

Hidden states and sentence encoder run a model over padded batches and take the mean over each text's tokens.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from shared.contracts.training_settings import RepresentationSettings
from shared.model.features import EmbeddingTable
from shared.model.hardware import training_precision
from shared.model.text_vectors import Check, Embed, hidden_states, sentence_vectors
from shared.model.tokens import encode_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def embedder(
    settings: RepresentationSettings,
    base_folder: Path,
    tokenizer: "PreTrainedTokenizerBase",
    *,
    encoder_folder: Path | None = None,
    check: Check = lambda: None,
) -> Embed:
    """Return the embedder that the settings name.

    `check` is called before each batch of a model and may raise. Raises `Invalid` where the layer or the encoder does
    not exist.
    """
    if settings.embedder == "hidden-state":
        layer, longest, dtype = settings.hidden_layer, settings.max_tokens, training_precision()
        return hidden_states(base_folder, tokenizer, layer, longest, dtype=dtype, check=check)
    if settings.embedder == "sentence-transformers":
        return sentence_vectors(encoder_folder, settings.max_tokens, check)
    table = EmbeddingTable.from_folder(base_folder)
    return lambda texts: table.vectors([encode_text(tokenizer, text) for text in texts], settings.pooling)
