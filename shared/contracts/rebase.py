"""What a selector's training says of a release that it moves to another base model (decision 53)."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.contracts.training_tasks import LabelName

JobId = Annotated[str, Field(min_length=1, max_length=64)]


class Rebase(BaseModel):
    """Where the adapter of each label of the parent comes from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    jobs: dict[LabelName, JobId] = Field(default_factory=dict, max_length=1000)
    """The job that trains a label's adapter on the new base model; the selector is trained when all have ended."""
    kept: Annotated[tuple[LabelName, ...], Field(max_length=1000)] = ()
    """Labels that keep the adapter of the parent, and its base model."""
    failed: Literal["leave_out", "keep"] = "leave_out"
    """What becomes of a label whose job fails: the candidate lacks it, or keeps the parent's adapter of it."""

    @model_validator(mode="after")
    def _names_each_once(self) -> Self:
        if both := sorted(set(self.jobs) & set(self.kept)):
            raise ValueError(f"trained and kept at once: {', '.join(both)}")
        return self
