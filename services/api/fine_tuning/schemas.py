"""Requests for fine-tuning jobs, in OpenAI's format."""

from typing import Annotated

from pydantic import AfterValidator, Field

from services.api.jobs.schemas import Metadata, Request
from services.api.openai import fields
from shared.contracts.fine_tuning import FileId, Hyperparameters

ModelName = Annotated[str, Field(min_length=1, max_length=128)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Suffix = Annotated[str, Field(min_length=1, max_length=65)]


def _is_supervised(method: str) -> str:
    if method != "supervised":
        raise ValueError(f"the method {method} is not offered: take supervised")
    return method


class Supervised(Request):
    """Settings of supervised training."""

    hyperparameters: Hyperparameters | None = None


class Method(Request):
    """How to train."""

    type: Annotated[str, Field(max_length=32), AfterValidator(_is_supervised)] = "supervised"
    supervised: Supervised | None = None
    dpo: fields.NoDpo = None
    reinforcement: fields.NoReinforcement = None


class CreateFineTuning(Request):
    """A fine-tuning job: an adapter for one label, of the rows of a file."""

    model: ModelName
    """The base model, as `GET /v1/models` shows it, or `base`."""
    training_file: FileId
    validation_file: FileId | None = None
    method: Method | None = None
    hyperparameters: Hyperparameters | None = None
    """The older place of those of `method`."""
    seed: Seed | None = None
    suffix: Suffix | None = None
    """The label, such as `bank.cards`; `metadata.label` goes before it."""
    metadata: Metadata | None = None
    """Beside what you note: `label`, `route` (`auto` brings the label into the selector), `confirm_cost` (`true`)."""
    integrations: fields.NoIntegrations = None

    @property
    def asked(self) -> Hyperparameters:
        """The hyperparameters, wherever they stand."""
        of_method = self.method and self.method.supervised and self.method.supervised.hyperparameters
        return of_method or self.hyperparameters or Hyperparameters()

    @property
    def notes(self) -> dict[str, str]:
        """The metadata."""
        return self.metadata or {}
