"""What a training was asked for in OpenAI's format: shown again as it was, and decided by nowhere else."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

FileId = Annotated[str, Field(min_length=1, max_length=64)]
Auto = Literal["auto"]
Metadata = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=64)], Annotated[str, Field(max_length=512)]],
    Field(max_length=16),
]


class Hyperparameters(BaseModel):
    """OpenAI's names of settings; `auto` is our default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_epochs: Annotated[int, Field(ge=1, le=50)] | Auto = "auto"
    batch_size: Annotated[int, Field(ge=1, le=256)] | Auto = "auto"
    learning_rate_multiplier: Annotated[float, Field(gt=0, le=100)] | Auto = "auto"
    """Of our default learning rate."""


class FineTuning(BaseModel):
    """A request for a fine-tuning job."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Annotated[str, Field(max_length=128)]
    training_file: FileId
    validation_file: FileId | None = None
    hyperparameters: Hyperparameters = Hyperparameters()
    metadata: Metadata | None = None
    selector_job: Annotated[str, Field(max_length=64)] = ""
    """The training that brings the label into the selector, where that was asked for."""
