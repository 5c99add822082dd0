"""Settings of training, and of the choice of a selector's training rows."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.contracts.templates import TemplateName

ModuleName = Annotated[str, Field(min_length=1, max_length=128)]
Embedder = Literal["embedding-layer", "hidden-state", "sentence-transformers"]
Pooling = Literal["sum", "mean"]
Distance = Literal["l2", "ip", "cos"]
Clustering = Literal["by-distance", "paper-code"]
Shortfall = Literal["top-up", "report"]


class LoraSettings(BaseModel):
    """How to train; the defaults are the paper's (sections 4 and C)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["lora", "rslora", "dora", "pissa", "qlora"] = "lora"
    """`pissa` starts from the principal components of the base weights and is stored as plain LoRA of twice the rank;
    `qlora` keeps the base model in 4 bits during the training, and needs the package bitsandbytes on the trainer."""
    rank: Annotated[int, Field(ge=1, le=256)] = 8
    alpha: Annotated[float, Field(gt=0, le=1024)] = 16
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    target_modules: Annotated[tuple[ModuleName, ...], Field(min_length=1, max_length=256)] | Literal["all-linear"] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
    )
    top_layers: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Number of last layers that get a LoRA; the backward pass ends at the first of them. None means every layer."""

    learning_rate: Annotated[float, Field(gt=0, le=0.1)] = 4e-4
    warmup_share: Annotated[float, Field(ge=0, le=0.5)] = 0.03
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    epochs: Annotated[int, Field(ge=1, le=100)] = 5
    batch_size: Annotated[int, Field(ge=1, le=1024)] = 8
    accumulate: Annotated[int, Field(ge=1, le=1024)] = 1
    """Gradient accumulation: batches per optimizer step."""
    gradient_checkpointing: bool | Literal["auto"] = "auto"
    """Recompute the forward pass during the backward pass instead of storing it: less memory, a third more time. `auto`
    does so on a card where else the estimate is above its free memory, and never on CPUs."""
    packing: bool = False
    """Concatenate the rows of a batch instead of padding them to the longest; each row attends only to itself. Where a
    model caps the scores of its attention (Gemma 2), it is computed over the whole batch, which is slow. It requires a
    model whose layers mix tokens by attention only. A selector with a head cannot use it: it reads each sequence's
    end."""
    max_length: Annotated[int, Field(ge=16, le=32768)] = 512
    """Most tokens of prompt and answer together; only the input is shortened to fit."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of the forward pass (autocast); LoRA weights and the optimizer stay in float32. `auto` is bfloat16 on a card
    that multiplies it, else float32; the first attempt at a job settles it."""

    template: TemplateName = "chatml"
    """The prompt template, built in or added by an operator; `model` is the base model's own chat template. A job that
    names none gets the base model's usual one."""
    checkpoint_steps: Annotated[int, Field(ge=1, le=1_000_000)] = 50
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0


class RepresentationSettings(BaseModel):
    """How the representation set is chosen (paper, section 3.3)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows_per_label: Annotated[int, Field(ge=1, le=100_000)] = 100
    """k of the k-means. A label with fewer distinct inputs gives all of them, and the report names it."""
    embedder: Embedder = "embedding-layer"
    """Source of a text's vector: the base model's input embeddings (no forward pass), its hidden states (minutes to
    hours without a GPU), or the sentence encoder in the folder that the trainer's setting `SIGNALBOX_ENCODER` names."""
    pooling: Pooling = "sum"
    """How the token vectors of the `embedding-layer` are pooled; the other embedders take the mean."""
    hidden_layer: Annotated[int, Field(ge=-1000, le=1000)] = -1
    """Layer of the `hidden-state`: 0 is the input embedding, 1 the output of the first layer, -1 that of the last."""
    max_tokens: Annotated[int, Field(ge=1, le=32768)] = 512
    """Tokens that an embedder with a forward pass reads of a text; later tokens are ignored."""
    distance: Distance = "l2"
    """Distance in the clustering and in the search for a centroid's nearest row: Euclidean, inner product, cosine."""
    clustering: Clustering = "by-distance"
    """`paper-code` always clusters by Euclidean distance, as the authors' program does; `distance` then applies only to
    the search."""
    shortfall: Shortfall = "top-up"
    """Where centroids share their nearest row: `top-up` adds the next nearest rows until there are k; `report` keeps
    fewer rows and reports that."""
    validation_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
