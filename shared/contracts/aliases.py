"""Other names for models."""

from pydantic import BaseModel, ConfigDict, Field

from shared.contracts.times import utc_now


class ModelAlias(BaseModel):
    """Another name for a model, so that code which asks for somebody else's runs unchanged."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    tenant_id: str
    name: str
    model: str
    """What it stands for: `auto`, `base`, a label, `label@n` or a digest."""
    key: str = ""
    """Id of the API key that set it."""
    created_at: str = Field(default_factory=utc_now)
