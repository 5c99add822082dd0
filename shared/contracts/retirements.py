"""From when on requests may no longer name an adapter."""

from datetime import UTC, datetime

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from shared.contracts.labels import LabelText
from shared.contracts.times import utc_now


class Retirement(BaseModel):
    """The date from which on requests that name an adapter's version are refused."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    tenant_id: str
    ref: LabelText
    """`label@n`."""
    at: AwareDatetime
    key: str = ""
    """Id of the API key that set it."""
    created_at: str = Field(default_factory=utc_now)

    @property
    def is_over(self) -> bool:
        """Whether the date has come."""
        return self.at <= datetime.now(UTC)
