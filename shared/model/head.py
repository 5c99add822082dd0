"""P(label | text) by a linear head on the last hidden state; the prompt is only the text, without the labels."""

import json
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shared.contracts.labels import Label
from shared.contracts.prompts import Part, Segment
from shared.errors import Invalid
from shared.model.base import default_device, device_map, placed
from shared.model.hardware import rounded, width_step
from shared.model.masks import additive_mask
from shared.model.precision import float32_weights
from shared.model.servable import check_head
from shared.model.tokens import encode, end_id

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import BitsAndBytesConfig, PreTrainedModel, PreTrainedTokenizerBase

Scores = NDArray[np.float32]

HEAD_TASK = "SEQ_CLS"
"""PEFT's task type, in `adapter_config.json`, for a LoRA with a head."""
HEAD_WEIGHT = "base_model.model.score.weight"
"""Name of the head in `adapter_model.safetensors`: `[labels, hidden]`, in the order of the selector's labels."""
HEAD_PARAMETER = "score.weight"
"""Name of the head in the model."""

PACKED_TOKENS = 1024
"""Texts are concatenated up to this many tokens, so that nothing is padded and the mask stays small."""


def has_head(weights: Path) -> bool:
    """Whether a selector's PEFT folder has a head; a selector without one scores the names of its labels."""
    task: str = json.loads((weights / "adapter_config.json").read_text()).get("task_type", "")
    return task == HEAD_TASK


def head_rows(weights: Path) -> int:
    """Return how many labels the head of a PEFT folder scores; raises `Invalid` where it holds none."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(weights / "adapter_model.safetensors", framework="numpy") as tensors:
            return int(tensors.get_slice(HEAD_WEIGHT).get_shape()[0])
    except (OSError, SafetensorError) as error:
        raise Invalid("selector_invalid", f"the selector's weights hold no head: {error}") from error


def head_ids(tokenizer: "PreTrainedTokenizerBase", text: str, max_tokens: int) -> list[int]:
    """Return the ids of a text, shortened in its middle, with the end token, whose state the head reads."""
    ids = encode(tokenizer, [Segment(Part.USER, text, is_input=True)], max_tokens - 1)
    return [*ids, end_id(tokenizer, "chatml")]


def load_classifier(
    base_folder: Path,
    labels: int,
    device: str | None = None,
    quantization: "BitsAndBytesConfig | None" = None,
    dtype: str = "float32",
) -> "PreTrainedModel":
    """Load the base model in eval mode and frozen, with a head of zeros that reads the last column.

    Raises `Invalid` where the folder does not load or its model family has no such form.
    """
    import torch
    from transformers import AutoModelForSequenceClassification
    from transformers.utils import logging

    check_head(base_folder)
    device = device or default_device()
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # the library warns that the base model's weights have no head, which is intended
    logging.disable_progress_bar()
    try:
        model = AutoModelForSequenceClassification.from_pretrained(
            base_folder,
            dtype=getattr(torch, dtype),
            num_labels=labels,
            quantization_config=quantization,
            device_map=device_map(device),
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except (OSError, ValueError) as error:
        raise Invalid("base_model_invalid", f"{base_folder.name!r} does not load with a head: {error}") from error
    finally:
        logging.set_verbosity(verbosity)
    torch.nn.init.zeros_(model.score.weight)
    _read_last_column(model)
    model.requires_grad_(False)
    return placed(model.eval(), device)


def empty_classifier(base_folder: Path, labels: int) -> "PreTrainedModel":
    """Return the same model without its weights; raises `Invalid` as `load_classifier`."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    check_head(base_folder)
    try:
        config = AutoConfig.from_pretrained(
            base_folder, num_labels=labels, local_files_only=True, trust_remote_code=False
        )
        with torch.device("meta"):
            model = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise Invalid("base_model_invalid", f"{base_folder.name!r} does not load with a head: {error}") from error
    return _read_last_column(model)


def _read_last_column(model: "PreTrainedModel") -> "PreTrainedModel":
    # Rows are padded on the left. Without a padding token, the model reads the last column.
    model.config.get_text_config().pad_token_id = -1
    return model


class HeadScorer:
    """Scores every label of a release for a batch of texts; the model has the selector's LoRA and head."""

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        labels: Sequence[Label],
        max_tokens: int,
        *,
        in_float32: bool = False,
    ) -> None:
        """Raises `Invalid` where the head was trained for another number of labels."""
        import torch

        if model.num_labels != len(labels):
            raise Invalid("selector_invalid", f"the head has {model.num_labels} labels, the release {len(labels)}")
        self.labels = list(labels)
        self._weights = partial(float32_weights, model) if in_float32 else nullcontext
        self._dtype = torch.float32 if in_float32 else model.dtype
        self._model = model
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens

    def score(self, texts: Sequence[str]) -> Scores:
        """Return `[batch, labels]` float32: the log-probability of each label among those of the release."""
        import torch

        if not texts:
            return np.zeros((0, len(self.labels)), dtype=np.float32)
        prompts = [head_ids(self._tokenizer, text, self._max_tokens) for text in texts]
        with torch.inference_mode(), self._weights():
            scores = torch.cat([self._score_pack(pack) for pack in _packs(prompts)])
        found: Scores = scores.cpu().numpy()
        return found

    def _score_pack(self, prompts: list[list[int]]) -> "Tensor":
        import torch

        ends = torch.tensor([len(prompt) for prompt in prompts]).cumsum(0)
        device = self._model.device
        filling = rounded(int(ends[-1]), width_step(device.type)) - int(ends[-1])
        prompts = [*prompts, [0] * filling] if filling else prompts
        ids = torch.tensor([[token for prompt in prompts for token in prompt]])
        positions = torch.cat([torch.arange(len(prompt)) for prompt in prompts])[None]
        hidden = self._model.base_model(
            input_ids=ids.to(device),
            position_ids=positions.to(device),
            attention_mask=self._apart(prompts, positions),
            use_cache=False,
        ).last_hidden_state
        return self._model.score(hidden[0, ends.to(device) - 1]).float().log_softmax(-1)

    def _apart(self, prompts: list[list[int]], positions: "Tensor") -> Any:
        """Return the mask of `[1, tokens, tokens]`: a token attends only to earlier tokens of its own text."""
        import torch

        if len(prompts) == 1:
            return None
        allowed = torch.block_diag(*(torch.ones(len(prompt), len(prompt)).tril() for prompt in prompts)).bool()
        return additive_mask(self._model, allowed[None], positions, positions, self._dtype)


def _packs(prompts: Sequence[list[int]]) -> Iterator[list[list[int]]]:
    pack: list[list[int]] = []
    for prompt in prompts:
        if pack and sum(map(len, pack)) + len(prompt) > PACKED_TOKENS:
            yield pack
            pack = []
        pack.append(prompt)
    yield pack
