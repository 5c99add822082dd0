"""What the registry stores: immutable, frozen, and addressed by content or by version."""

import hashlib
import json
from datetime import UTC, datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.labels import REJECT, parse_label
from shared.names import BASE_GROUP, generate_queue


def utc_now() -> str:
    """The time of now, as stored in manifests."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


class _Manifest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class AdapterManifest(_Manifest):
    """One version of a label's adapter."""

    tenant_id: str
    label: str
    version: int
    digest: str
    base_model: str
    template: str = "chatml"
    instruction: str = ""
    """Used where a request brings no instruction of its own."""
    info: dict[str, Any] = Field(default_factory=dict)
    report: dict[str, Any] = Field(default_factory=dict)
    """What its training measured."""
    created_at: str = Field(default_factory=utc_now)
    made_by: str = ""
    """The training job, or empty for an upload."""

    @property
    def ref(self) -> str:
        """`label@n`."""
        return f"{self.label}@{self.version}"


class DatasetManifest(_Manifest):
    """A stored data set: the same rows have the same id, under whatever names they came."""

    tenant_id: str
    id: str
    name: str
    rows: int
    labels: dict[str, int]
    """Rows by label, for rows that carry one."""
    size_bytes: int
    created_at: str = Field(default_factory=utc_now)

    def count_for(self, label: str) -> int:
        """Rows that a training job for this label uses: those that carry it, or none."""
        return self.rows - sum(count for other, count in self.labels.items() if other != label)


class ReleaseLabel(_Manifest):
    """What a release does with one label."""

    adapter: str
    """Digest."""
    ref: str
    group: str
    template: str
    instruction: str


class ReleaseSelector(_Manifest):
    """The selector of a release: a LoRA adapter of the base model and how its scores are read."""

    digest: str
    labels: tuple[str, ...]
    """In scoring order; may hold the pseudo-label `none.none`."""
    temperature: float = 1.0
    threshold: float = Field(default=0.5, ge=0, le=1)
    text: Literal["input", "instruction+input"] = "input"


class Verdict(_Manifest):
    """What the gate says of a candidate."""

    passed: bool
    reasons: tuple[str, ...]


class Release(_Manifest):
    """One immutable whole: selector, adapters, groups, prompts, thresholds, base model."""

    tenant_id: str
    parent: str = ""
    base_model: str
    labels: dict[str, ReleaseLabel]
    selector: ReleaseSelector | None = None
    reject_policy: Literal["base", "error"] = "base"
    representation: dict[str, str] = Field(default_factory=dict)
    """Label -> key of its representation set, the pseudo-label `none.none` among them."""
    validation: dict[str, str] = Field(default_factory=dict)
    """Label -> key of the rows that no selector of this line was trained on."""
    report: dict[str, Any] = Field(default_factory=dict)
    verdict: Verdict
    created_at: str = Field(default_factory=utc_now)
    made_by: str = ""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        for label in self.labels:
            parse_label(label)
        if self.selector and set(self.selector.labels) - {REJECT} != set(self.labels):
            raise ValueError("the selector's labels are not the release's labels")
        return self

    @property
    def id(self) -> str:
        """`rel_` and 16 hex digits of the SHA-256 of the content."""
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return f"rel_{hashlib.sha256(content.encode()).hexdigest()[:16]}"

    @property
    def queues(self) -> list[str]:
        """The queues that need a consumer before this release may be current."""
        return sorted({generate_queue(entry.group) for entry in self.labels.values()} | {generate_queue(BASE_GROUP)})
