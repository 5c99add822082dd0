"""How to train, and how to choose what a selector is trained on."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

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
    """`pissa` starts from the base weights' principal part and is stored as plain LoRA of twice the rank; `qlora` holds
    the base model in 4 bits while it trains, and needs the package bitsandbytes on the trainer."""
    rank: Annotated[int, Field(ge=1, le=256)] = 8
    alpha: Annotated[float, Field(gt=0, le=1024)] = 16
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    target_modules: Annotated[tuple[ModuleName, ...], Field(max_length=256)] | Literal["all-linear"] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
    )
    top_layers: Annotated[int, Field(ge=1, le=1000)] | None = None
    """LoRA in the last so many layers alone: the backward pass ends there, too. None means every layer."""

    learning_rate: Annotated[float, Field(gt=0, le=0.1)] = 4e-4
    warmup_share: Annotated[float, Field(ge=0, le=0.5)] = 0.03
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    epochs: Annotated[int, Field(ge=1, le=100)] = 5
    batch_size: Annotated[int, Field(ge=1, le=1024)] = 8
    accumulate: Annotated[int, Field(ge=1, le=1024)] = 1
    """Batches whose gradients make one step."""
    gradient_checkpointing: bool = False
    """Compute the forward pass again on the way back instead of keeping it: less memory, a third more time."""
    packing: bool = False
    """Lay the rows of a batch end to end, each seeing itself alone, instead of padding them to the longest. Attention
    spans the whole batch then: on CPUs a quarter of the speed. For models that are attention alone, and not for a
    selector with a head, which reads the end of each sequence."""
    max_length: Annotated[int, Field(ge=16, le=32768)] = 512
    """Tokens of prompt and answer together; only the input is shortened to fit."""

    precision: Literal["float32", "bfloat16"] = "float32"
    """What the forward pass computes in (autocast); LoRA weights and the optimizer stay in float32."""

    template: Literal["chatml", "plain"] = "chatml"
    checkpoint_steps: Annotated[int, Field(ge=1, le=1_000_000)] = 50
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0


class RepresentationSettings(BaseModel):
    """How the representation set is chosen (paper, section 3.3)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows_per_label: Annotated[int, Field(ge=1, le=100_000)] = 100
    """k of the k-means. A label with fewer different inputs gives all it has, and the report names it."""
    embedder: Embedder = "embedding-layer"
    """What a text's vector is made of: the base model's input embeddings (no forward pass), its hidden states (minutes
    to hours without a GPU), or the sentence encoder whose folder the trainer's setting `SIGNALBOX_ENCODER` names."""
    pooling: Pooling = "sum"
    """Over the tokens of a text, for the `embedding-layer`; the others take the mean."""
    hidden_layer: Annotated[int, Field(ge=-1000, le=1000)] = -1
    """Of the `hidden-state`: 0 is the input embedding, 1 what comes out of the first layer; -1 is the last one."""
    max_tokens: Annotated[int, Field(ge=1, le=32768)] = 512
    """That a model reads of a text, for the two embedders that run one; what comes after them is left out."""
    distance: Distance = "l2"
    """Of the clustering and of the search for the row nearest to a centroid: Euclidean, inner product, or cosine."""
    clustering: Clustering = "by-distance"
    """`paper-code` clusters by Euclidean distance always, as the authors' program does; `distance` then holds for the
    search alone."""
    shortfall: Shortfall = "top-up"
    """Where centroids share their nearest row: take the next nearest ones until there are k, or let the label have
    fewer and `report` it."""
    validation_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
