"""What a training takes of a card, computed from the base model's shapes; checked on processors, measured on no card.

Of n bytes for a number of the precision (4 for float32, 2 for bfloat16), in bytes:

- `weights`: n for each number of the base model; with qlora `FOUR_BITS` for those of the linear layers inside of its
  layers.
- `adapter`: `TRAINED` for each number that learns: weight, gradient, and Adam's two states in float32.
- `activations`, for each token and each layer from the lowest that learns: n for each number that a linear layer reads
  or writes; 8 for each number of the hidden state, which two norms read in float32; with dropout 1 for each number that
  an adapted layer reads. With gradient checkpointing: n for each number of the hidden state, and one layer in full.
- `logits`: `LOGIT` for each position of an answer and token of the vocabulary: logits, log-probabilities and the
  gradients of both. A head's are not counted.

Attention is counted as fused kernels compute it, which keep no scores. Of a mixture of experts, the activations of its
experts are not counted.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, computed_field

from shared.contracts.training_cost import Shapes, layer_of
from shared.contracts.training_settings import LoraSettings

FOUR_BITS = 4.127 / 8
"""With scales that are quantised, too (Dettmers et al. 2023, section 3)."""
TRAINED = 16
LOGIT = 16
ROOM = 0.85
"""The share of a card's free memory that an estimate may fill: the rest is for gaps and for workspace of kernels."""
_NUMBER = {"float32": 4, "bfloat16": 2}


class Batch(NamedTuple):
    """The largest batch of a run: tokens with padding, and positions that predict answers."""

    tokens: int
    answers: int


class Memory(BaseModel):
    """What a training takes, in bytes, by part."""

    model_config = ConfigDict(frozen=True)

    weights: int
    adapter: int
    activations: int
    activations_checkpointed: int
    """In place of `activations`, with gradient checkpointing."""
    logits: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def total(self) -> int:
        """All of it, without gradient checkpointing."""
        return self.weights + self.adapter + self.activations + self.logits

    @computed_field  # type: ignore[prop-decorator]
    @property
    def total_checkpointed(self) -> int:
        """All of it, with gradient checkpointing."""
        return self.weights + self.adapter + self.activations_checkpointed + self.logits

    def fits(self, free_bytes: int) -> bool:
        """Whether it fits into so much of a card without gradient checkpointing."""
        return self.total <= ROOM * free_bytes


def training_memory(
    shapes: Shapes,
    vocabulary: int,
    settings: LoraSettings,
    batch: Batch,
    *,
    head_rows: int = 0,
    experts: float = 1.0,
) -> Memory:
    """Return what a training takes, by the formula above; the settings' precision is settled.

    `head_rows` are the labels of a selector's head, `experts` the LoRA experts of a module, on average.
    """
    number, hidden = _NUMBER[settings.precision], hidden_size(shapes)
    adapted = adapted_modules(shapes, settings)
    learning = sum(settings.rank * (out + into) for out, into in adapted.values()) * experts + head_rows * hidden
    layers = [_layer_bytes(own, adapted, number, hidden, settings) for own in _learning_layers(shapes, settings)]
    kept = batch.tokens * (number * hidden * len(layers) + max(layers, default=0))
    return Memory(
        weights=math.ceil(_weights(shapes, vocabulary * hidden, number, is_quantised=settings.method == "qlora")),
        adapter=math.ceil(TRAINED * learning),
        activations=batch.tokens * sum(layers),
        activations_checkpointed=min(kept, batch.tokens * sum(layers)),
        logits=0 if head_rows else LOGIT * batch.answers * vocabulary,
    )


def hidden_size(shapes: Shapes) -> int:
    """Return the width of the hidden state: what most linear layers read."""
    widths = [into for _, into in shapes.values()]
    return max(sorted(set(widths)), key=widths.count, default=0)


def adapted_modules(shapes: Shapes, settings: LoraSettings) -> dict[str, tuple[int, int]]:
    """Return the modules inside the layers that get a LoRA."""
    learning = {name for layer in _learning_layers(shapes, settings) for name in layer}
    targets = settings.target_modules
    return {
        name: shape
        for name, shape in shapes.items()
        if name in learning and (targets == "all-linear" or name.rpartition(".")[2] in targets)
    }


def _learning_layers(shapes: Shapes, settings: LoraSettings) -> list[dict[str, tuple[int, int]]]:
    """The linear modules of each layer that the backward pass reaches, from below."""
    layers: dict[int, dict[str, tuple[int, int]]] = {}
    for name, shape in shapes.items():
        if layer_of(name):
            own = layers.setdefault(int(layer_of(name.partition(".experts.")[0])), {})
            own[name] = shape
    return [layers[at] for at in sorted(layers)][-(settings.top_layers or len(layers)) :]


def _layer_bytes(
    layer: Mapping[str, tuple[int, int]],
    adapted: Mapping[str, tuple[int, int]],
    number: int,
    hidden: int,
    settings: LoraSettings,
) -> int:
    """What a layer keeps of a token for its backward pass."""
    through = sum(out + into for name, (out, into) in layer.items() if ".experts." not in name)
    dropped = sum(into for name, (_, into) in layer.items() if name in adapted and settings.dropout)
    return number * through + 8 * hidden + dropped


def _weights(shapes: Shapes, embedding: int, number: int, *, is_quantised: bool) -> float:
    inner = sum(out * into for name, (out, into) in shapes.items() if layer_of(name))
    outer = sum(out * into for name, (out, into) in shapes.items() if not layer_of(name))
    return inner * (FOUR_BITS if is_quantised else number) + (outer + embedding) * number
