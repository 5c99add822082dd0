"""Texts as vectors: by the base model's input embedding, its hidden states, or a sentence encoder (paper, section 3.3).

Hidden states and sentence encoder run a model over padded batches and take the mean over each text's tokens.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shared.contracts.training_settings import RepresentationSettings
from shared.errors import Invalid
from shared.model.features import EmbeddingTable
from shared.model.tokens import encode_text

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Floats = NDArray[np.float32]
Check = Callable[[], None]
Embed = Callable[[Sequence[str]], Floats]
"""Texts -> `[n, hidden]` float32."""

BATCH_TOKENS = 4096
"""Tokens of a batch, padding included; the states of all layers are in memory at once."""


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
        return _hidden_state(base_folder, tokenizer, settings.hidden_layer, settings.max_tokens, check)
    if settings.embedder == "sentence-transformers":
        return _sentence_encoder(encoder_folder, settings.max_tokens, check)
    table = EmbeddingTable.from_folder(base_folder)
    return lambda texts: table.vectors([encode_text(tokenizer, text) for text in texts], settings.pooling)


def _hidden_state(
    folder: Path, tokenizer: "PreTrainedTokenizerBase", layer: int, max_tokens: int, check: Check
) -> Embed:
    from shared.model.base import load_model

    model = load_model(folder, "float32").base_model  # without logits, which are larger than all hidden states together
    config = model.config.get_text_config()
    if not -config.num_hidden_layers - 1 <= layer <= config.num_hidden_layers:
        raise Invalid(
            "hidden_layer_unknown", f"the base model has the hidden states 0 to {config.num_hidden_layers}, not {layer}"
        )
    room = min(max_tokens, config.max_position_embeddings)

    def embed(texts: Sequence[str]) -> Floats:
        return mean_states(model, [encode_text(tokenizer, text)[:room] for text in texts], layer, check)

    return embed


def _sentence_encoder(folder: Path | None, max_tokens: int, check: Check) -> Embed:
    from services.trainer.data.sentence_encoder import load_encoder

    if folder is None or not (folder / "config.json").is_file():
        raise Invalid(
            "encoder_missing", "the trainer has no sentence encoder: set SIGNALBOX_ENCODER to the folder of one"
        )
    encoder = load_encoder(folder, max_tokens)

    def embed(texts: Sequence[str]) -> Floats:
        return encoder.finish(mean_states(encoder.model, encoder.token_ids(texts), -1, check))

    return embed


def mean_states(
    model: "PreTrainedModel", token_ids: Sequence[Sequence[int]], layer: int, check: Check = lambda: None
) -> Floats:
    """Return `[n, hidden]` float32: the mean of a layer's states over each row's own tokens; no tokens give zeros."""
    import torch

    found = np.zeros((len(token_ids), model.config.get_text_config().hidden_size), dtype=np.float32)
    with torch.inference_mode():
        for rows in _batches([len(ids) for ids in token_ids]):
            check()
            found[rows] = _batch_means(model, [token_ids[row] for row in rows], layer)
    return found


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Batches of rows of similar length, within `BATCH_TOKENS` each; rows without tokens are left out."""
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[row] > BATCH_TOKENS:
            yield batch
            batch = []
        if lengths[row]:
            batch.append(row)
    if batch:
        yield batch


def _batch_means(model: Any, token_ids: Sequence[Sequence[int]], layer: int) -> Floats:
    ids, mask = _padded(token_ids)
    ids, mask = ids.to(model.device), mask.to(model.device)
    states = model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states[layer].float()
    weights = mask[..., None].float()  # [rows, tokens, 1]
    means: Floats = ((states * weights).sum(1) / weights.sum(1)).cpu().numpy()
    return means


def _padded(token_ids: Sequence[Sequence[int]]) -> tuple["Tensor", "Tensor"]:
    """Ids and mask `[rows, tokens]`, padded on the right."""
    import torch

    longest = max(map(len, token_ids))
    ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in token_ids])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in token_ids])
    return ids, mask
