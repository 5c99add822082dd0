"""Settings of one LoRA training run."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class LoraConfigSettings(BaseModel):
    """How to train; the defaults are the paper's (sections 4 and C)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["lora", "rslora", "dora"] = "lora"
    rank: Annotated[int, Field(ge=1, le=256)] = 8
    alpha: Annotated[float, Field(gt=0, le=1024)] = 16
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    target_modules: tuple[str, ...] | Literal["all-linear"] = ("q_proj", "k_proj", "v_proj", "o_proj")
    top_layers: Annotated[int, Field(ge=1)] | None = None
    """LoRA in the last so many layers alone: the backward pass ends there, too. None means every layer."""

    learning_rate: Annotated[float, Field(gt=0, le=0.1)] = 4e-4
    warmup_share: Annotated[float, Field(ge=0, le=0.5)] = 0.03
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    epochs: Annotated[int, Field(ge=1, le=100)] = 5
    batch_size: Annotated[int, Field(ge=1, le=1024)] = 8
    max_length: Annotated[int, Field(ge=16, le=32768)] = 512
    """Tokens of prompt and answer together; only the input is shortened to fit."""

    precision: Literal["float32", "bfloat16"] = "float32"
    """What the forward pass computes in (autocast); LoRA weights and the optimizer stay in float32."""

    template: Literal["chatml", "plain"] = "chatml"
    checkpoint_steps: Annotated[int, Field(ge=1)] = 50
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
