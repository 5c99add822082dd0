"""What the registry stores: immutable, frozen, and addressed by content or by version."""

import hashlib
import json
from datetime import UTC, datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, computed_field, model_validator

from shared.contracts.labels import BACKGROUND, parse_label
from shared.names import BASE_GROUP, generate_queue

SelectorText = Literal["input", "instruction+input"]
"""What a selector reads of a request."""
SelectorKind = Literal["cascade", "llm", "light"]


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


class BaseModelManifest(_Manifest):
    """What a base model is; with the same pin and other contents it is another version of it.

    What was stored before manifests had versions holds `id` and `shapes` only.
    """

    id: str
    """The pin: a digest over configuration, weights and tokenizer file."""
    name: str = ""
    """As its operator called it: a name on the hub, or a folder's."""
    architecture: str = ""
    shapes: dict[str, tuple[int, int]]
    """Linear modules by name: (out, in)."""
    context_length: int = 0
    """Tokens; 0 where the configuration names none."""
    chat_template: str = ""
    """SHA-256 of the chat template's text; empty where there is none."""
    end_tokens: tuple[int, ...] = ()
    vocabulary: str = ""
    """SHA-256 over the tokenizer's tokens in the order of their ids."""
    dtype: str = ""
    """Of the stored weights, as `float32` or `bfloat16`."""
    created_at: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 of the content; the same under whatever name and at whatever time a process made it."""
        content = self.model_dump_json(exclude={"name", "created_at"}, exclude_defaults=True)
        return hashlib.sha256(content.encode()).hexdigest()


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
    """Digest; empty in a candidate whose label has no adapter."""
    ref: str
    group: str
    template: str
    instruction: str


class ReleaseSelector(_Manifest):
    """The selector of a release: a light one, a language model's LoRA, or both in a cascade; and how they are read.

    Stored releases and clients know `cascade_threshold` as `sure`, and `conformal_threshold` as `floor`.
    """

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)

    light: str = ""
    """Digest of the light selector; empty where the language model decides alone."""
    llm: str = ""
    """Digest of the LoRA; empty where the light selector decides alone."""
    labels: tuple[str, ...]
    """In scoring order; may hold the pseudo-label `none.none`."""
    light_weight: float = 1.0
    llm_weight: float = 1.0
    """The log-probabilities of each, times its weight, add up to the selector's logits: 1 / weight is a temperature."""
    light_alone_weight: float = 1.0
    """The light selector's weight where it decides alone."""
    cascade_threshold: float = Field(default=2.0, ge=0, alias="sure")
    """The light selector decides alone where a probability reaches this; above 1 it never does."""
    none_weight: float = Field(default=0.0, ge=0)
    """How much the probability of `none.none` counts once more in the confidence of the best label."""
    threshold: float = Field(default=0.5, ge=0, le=1)
    """The confidence from which on the best label is taken."""
    coverage: float = Field(default=0.95, gt=0, lt=1)
    conformal_threshold: float = Field(default=0.0, ge=0, le=1, alias="floor")
    """All labels at least this probable hold the right one with probability `coverage` (split conformal prediction)."""
    text: SelectorText = "input"

    @model_validator(mode="after")
    def _has_a_part(self) -> Self:
        if not (self.light or self.llm):
            raise ValueError("a selector needs a light part or a language model's")
        return self

    @computed_field  # type: ignore[prop-decorator]
    @property
    def kind(self) -> SelectorKind:
        """Which parts it has."""
        return "cascade" if self.light and self.llm else "light" if self.light else "llm"

    @computed_field  # type: ignore[prop-decorator]
    @property
    def digest(self) -> str:
        """What names this selector: the digest of its one part, or of the digests of both."""
        if self.light and self.llm:
            return hashlib.sha256(f"{self.light} {self.llm}".encode()).hexdigest()
        return self.light or self.llm


class Verdict(_Manifest):
    """What the gate says of a candidate."""

    passed: bool
    reasons: tuple[str, ...]


class Release(_Manifest):
    """One immutable whole: selector, adapters, groups, prompts, thresholds, base model."""

    tenant_id: str
    parent: str = ""
    base_model: str
    """The pin of the base model that adapters and selector were made for."""
    base_manifest: str = ""
    """Digest of that base model's manifest; empty in releases from before there were any."""
    labels: dict[str, ReleaseLabel]
    selector: ReleaseSelector | None = None
    reject_policy: Literal["base", "error"] = "base"
    representation: dict[str, str] = Field(default_factory=dict)
    """Label -> key of its representation set, the pseudo-label `none.none` among them. There a row's own label may be
    one that was deleted."""
    validation: dict[str, str] = Field(default_factory=dict)
    """Label -> key of the rows that no selector of this line was trained on."""
    datasets: dict[str, str] = Field(default_factory=dict)
    """Label -> id of the data set that its rows came from."""
    report: dict[str, Any] = Field(default_factory=dict)
    verdict: Verdict
    created_at: str = Field(default_factory=utc_now)
    made_by: str = ""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        for label in self.labels:
            parse_label(label)
        if self.selector and set(self.selector.labels) - {BACKGROUND} != set(self.labels):
            raise ValueError("the selector's labels are not the release's labels")
        return self

    @property
    def id(self) -> str:
        """`rel_` and 16 hex digits of the SHA-256 of the content."""
        # Without defaults: a field that a later version adds must not rename the releases that are stored.
        stated = self.model_dump(mode="json", exclude_defaults=True, exclude_computed_fields=True)
        content = json.dumps(stated, sort_keys=True)
        return f"rel_{hashlib.sha256(content.encode()).hexdigest()[:16]}"

    @property
    def queues(self) -> list[str]:
        """The queues that need a consumer before this release may be current."""
        return sorted({generate_queue(entry.group) for entry in self.labels.values()} | {generate_queue(BASE_GROUP)})
