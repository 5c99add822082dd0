"""The manifest of a stored data set."""

from pydantic import BaseModel, ConfigDict, Field

from shared.contracts.labels import LabelText
from shared.contracts.times import utc_now


class DatasetManifest(BaseModel):
    """A stored data set: equal rows have the same id, whatever the name; `labels` counts the rows that have one."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    tenant_id: str
    id: str
    name: str
    rows: int
    labels: dict[LabelText, int]
    size_bytes: int
    input_bytes: int = 0
    """UTF-8 of all inputs; 0 in data sets stored before it was noted."""
    sources: str = ""
    """Id of what tells where each row comes from (`RowSource`), in the rows' order; empty where that is not noted."""
    created_at: str = Field(default_factory=utc_now)

    def count_for(self, label: str) -> int:
        """Count the rows that a training job for this label uses: rows with this label, and rows without a label."""
        return self.rows - sum(count for other, count in self.labels.items() if other != label)
