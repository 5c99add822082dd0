"""The manifests that the registry stores: immutable, and addressed by content or by version."""

import hashlib
import json
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, computed_field, model_validator

from shared.contracts.built_in_templates import BASE_TEMPLATE
from shared.contracts.compose import AdapterPart
from shared.contracts.constraints import Constraint
from shared.contracts.labels import BACKGROUND, STORED, LabelText, parse_label, short_form
from shared.contracts.reading import RequestReading, SelectorText
from shared.contracts.times import utc_now
from shared.contracts.training_settings import LoraSettings
from shared.names import BASE_GROUP, generate_queue

SelectorKind = Literal["cascade", "llm", "light", "prototypes"]
Ambiguous = Literal["base", "reject", "choices"]
"""What a text between two labels gets: the base model's answer, a rejection, or a rejection that names the two."""


class _Manifest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class AdapterManifest(_Manifest):
    """One version of a label's adapter; its `report` has the measurements of its training."""

    tenant_id: str
    label: LabelText
    version: int
    digest: str
    base_model: str
    template: str = "chatml"
    instruction: str = ""
    """Used when a request has no instruction."""
    constraint: Constraint | None = None
    """Of the answers to requests that say nothing of a constraint."""
    labels: dict[LabelText, str] = Field(default_factory=dict)
    """The labels that the weights serve, each with the prefix of its prompts; empty where they serve one alone."""
    info: dict[str, Any] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    """What an upload's check dropped or resolved in its config and files, and warnings."""
    base_confirmed_by: str = ""
    """Id of the API key whose sender said that it fits this base model, though its config names another one."""
    report: dict[str, Any] = Field(default_factory=dict)
    archive: str = ""
    """SHA-256 of the archive that it was uploaded in: who has the same bytes need not send them again."""
    created_at: str = Field(default_factory=utc_now)
    made_by: str = ""
    """Id of the training job; empty for an upload."""
    parts: tuple[AdapterPart, ...] = ()
    """The adapters that it is composed of; empty for one that was trained or uploaded by itself."""

    @property
    def ref(self) -> str:
        """`label@n`."""
        return f"{self.label}@{self.version}"


class BaseModelManifest(_Manifest):
    """The properties of a base model; manifests with one pin are its versions, the oldest with id and shapes alone."""

    id: str
    """The pin: a digest over configuration, weights and tokenizer file."""
    name: str = ""
    """The operator's name for it: a name on the hub, or that of a folder."""
    architecture: str = ""
    shapes: dict[str, tuple[int, int]]
    """Linear modules by name: (out, in)."""
    context_length: int = 0
    """In tokens; 0 where the configuration has none."""
    chat_template: str = ""
    """SHA-256 of the chat template's text; empty where there is none."""
    end_tokens: tuple[int, ...] = ()
    vocabulary: str = ""
    """SHA-256 over the tokenizer's tokens in the order of their ids."""
    dtype: str = ""
    """Type of the stored weights, such as `float32` or `bfloat16`."""
    control_tokens: tuple[str, ...] = ()
    """Names of the vocabulary's control tokens; empty in manifests from before it was noted."""
    usual_template: str = BASE_TEMPLATE
    """Where an adapter, a training or a request names none."""
    weight_bytes: int = 0
    """Of its weights where they serve: two for a floating-point number, others as stored. 0 where it is not noted."""
    vocabulary_size: int = 0
    created_at: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 of the content, without the name, the creation time, and what other fields' digests cover."""
        without = {"name", "created_at", "control_tokens", "usual_template", "weight_bytes", "vocabulary_size"}
        return hashlib.sha256(self.model_dump_json(exclude=without, exclude_defaults=True).encode()).hexdigest()

    def settled(self, settings: LoraSettings) -> LoraSettings:
        """Return settings of a training in which what they leave open is what is usual on this base model.

        That is the template, and where a layer to adapt by default is not there, those of the attention.
        """
        open_fields: dict[str, Any] = {"template": self.usual_template}
        names = {name.rpartition(".")[2] for name in self.shapes}
        if not names.issuperset(settings.target_modules):
            own = {name.rpartition(".")[2] for name in self.shapes if ".self_attn." in name}
            open_fields |= {"target_modules": tuple(sorted(own))} if own else {}
        left = {name: value for name, value in open_fields.items() if name not in settings.model_fields_set}
        return settings.model_copy(update=left)


class ReleaseLabel(_Manifest):
    """The release's settings for one label."""

    adapter: str
    """Digest of the adapter; empty in a candidate whose label has none."""
    ref: LabelText
    group: str
    template: str
    instruction: str
    description: str = ""
    """What the label's requests ask for; one of the selector's texts."""
    constraint: Constraint | None = None
    base_model: str = ""
    """Pin of the base model that its adapter was made for; empty where that is the release's."""
    prefix: str = ""
    """What stands before each of its prompts, where its adapter serves several tasks; see `AdapterManifest.labels`."""


class ReleaseSelector(_Manifest):
    """The selector of a release: prototypes, or a light selector, a language model's LoRA, or these two in a cascade.

    Stored releases and clients know `cascade_threshold` as `sure`, and `conformal_threshold` as `floor`.
    """

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)

    light: str = ""
    """Digest of the light selector; empty where only the language model decides."""
    llm: str = ""
    """Digest of the LoRA; empty where only the light selector decides."""
    prototypes: str = ""
    """Digest of the prototypes; the other parts are empty then."""
    encoder: str = ""
    """Digest of the sentence encoder that reads texts for the prototypes; empty where the base model reads them."""
    labels: tuple[LabelText, ...]
    """In scoring order; may contain the pseudo-label `none.none`."""
    light_weight: float = 1.0
    llm_weight: float = 1.0
    """The selector's logits are the weighted sum of both parts' log-probabilities; 1 / weight is a temperature."""
    light_alone_weight: float = 1.0
    """The weight of the light selector, or of prototypes, where only these decide."""
    cascade_threshold: float = Field(default=2.0, ge=0, alias="sure")
    """Only the light selector decides where a probability reaches this; above 1, both parts always score."""
    none_weight: float = Field(default=0.0, ge=0)
    """Exponent of the probability of `none.none` in the confidence of the best label."""
    threshold: float = Field(default=0.5, ge=0, le=1)
    """The best label is chosen if its confidence is at least this."""
    coverage: float = Field(default=0.95, gt=0, lt=1)
    conformal_threshold: float = Field(default=0.0, ge=0, le=1, alias="floor")
    """The labels of at least this probability contain the right one with probability `coverage` (split conformal)."""
    text: SelectorText = "input"

    @model_validator(mode="after")
    def _has_a_part(self) -> Self:
        if not (self.light or self.llm or self.prototypes):
            raise ValueError("a selector needs a light part, a language model's, or prototypes")
        if self.prototypes and (self.light or self.llm):
            raise ValueError("prototypes are a selector of their own, without a light part or a language model's")
        return self

    @computed_field  # type: ignore[prop-decorator]
    @property
    def kind(self) -> SelectorKind:
        """The parts that the selector has."""
        if self.prototypes:
            return "prototypes"
        return "cascade" if self.light and self.llm else "light" if self.light else "llm"

    @property
    def needs_base(self) -> bool:
        """Whether the base model reads texts for it."""
        return bool(self.llm or (self.prototypes and not self.encoder))

    @computed_field  # type: ignore[prop-decorator]
    @property
    def digest(self) -> str:
        """The selector's digest: that of its only part, or the digest of both parts' digests."""
        if self.light and self.llm:
            return hashlib.sha256(f"{self.light} {self.llm}".encode()).hexdigest()
        return self.prototypes or self.light or self.llm


class TrainedAs(_Manifest):
    """How a selector's language model was trained: an update that names no settings is trained alike."""

    settings: LoraSettings
    has_head: bool


class Verdict(_Manifest):
    """The gate's verdict on a candidate."""

    passed: bool
    reasons: tuple[str, ...]


class Release(_Manifest):
    """An immutable combination of selector, adapters, groups, prompts, thresholds and base model."""

    tenant_id: str
    parent: str = ""
    base_model: str
    """The pin of the base model that adapters and selector were made for."""
    base_manifest: str = ""
    """Digest of that base model's manifest; empty in releases older than these manifests."""
    labels: dict[LabelText, ReleaseLabel]
    selector: ReleaseSelector | None = None
    reject_policy: Literal["base", "error"] = "base"
    reading: RequestReading | None = None
    """What its selector reads of a conversation; null in releases from before it was said: the last user turn as it is,
    after the instruction where the selector's `text` says so."""
    ambiguous: Ambiguous | None = None
    """What a text between two labels gets; where it is null, the best label if it is probable enough, as any other."""
    representation: dict[LabelText, str] = Field(default_factory=dict)
    """Label -> key of its representation set, also for `none.none`, whose rows may have a label that was deleted."""
    validation: dict[LabelText, str] = Field(default_factory=dict)
    """Label -> key of its validation rows, on which neither this selector nor an ancestor was trained."""
    datasets: dict[LabelText, str] = Field(default_factory=dict)
    """Label -> id of the data set of its rows."""
    report: dict[str, Any] = Field(default_factory=dict)
    verdict: Verdict
    created_at: str = Field(default_factory=utc_now)
    made_by: str = ""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        for label in self.labels:
            parse_label(label)
        if self.reading and self.selector and not self.reading.fits(self.selector.text):
            raise ValueError(f"the selector was trained to read {self.selector.text}, not as {self.reading.mode} says")
        if lacking := sorted(self.selected_labels - set(self.labels)):
            raise ValueError(f"the selector chooses {', '.join(lacking)}, which the release lacks")
        return self

    @property
    def selected_labels(self) -> frozenset[str]:
        """The labels that the selector may choose; the others are for requests that name them."""
        return frozenset(self.selector.labels if self.selector else ()) - {BACKGROUND}

    def base_of(self, label: str) -> str:
        """The pin of the base model that answers a label; without a label, or for an unknown one, the release's."""
        return (self.labels[label].base_model if label in self.labels else "") or self.base_model

    @property
    def bases(self) -> frozenset[str]:
        """The pins of the base models that answer its requests."""
        return frozenset(map(self.base_of, ["", *self.labels]))

    @property
    def reads_dialogues(self) -> bool:
        """Whether the label of a turn follows from the turns before it, too."""
        return self.reading is not None and self.reading.mode == "dialogue"

    @property
    def named_labels(self) -> frozenset[str]:
        """The labels that only requests reach that name them."""
        return frozenset(self.labels) - self.selected_labels

    @property
    def id(self) -> str:
        """`rel_` and 16 hex digits of the SHA-256 of the content."""
        # Leave out defaults: a field that a later version adds must not change the ids of stored releases.
        stated = self.model_dump(mode="json", exclude_defaults=True, exclude_computed_fields=True, context=STORED)
        return f"rel_{hashlib.sha256(json.dumps(stated, sort_keys=True).encode()).hexdigest()[:16]}"

    @property
    def trained_as(self) -> TrainedAs | None:
        """How its language model was trained; None where it has none, or is older than this note."""
        noted = self.report.get("trained_as")
        return TrainedAs.model_validate(noted) if noted else None

    @property
    def accuracy_of(self) -> dict[str, float]:
        """The accuracy of each label on the validation rows that the selector was judged on."""
        return {short_form(label): accuracy for label, accuracy in self.report.get("per_label", {}).items()}

    @property
    def queues(self) -> list[str]:
        """The queues that need a consumer before this release may be current."""
        return sorted(self.bases_of_queues)

    @property
    def bases_of_queues(self) -> dict[str, list[str]]:
        """The pins of the base models that the consumers of each of these queues have to serve together."""
        found = {generate_queue(BASE_GROUP): {self.base_model}}
        for label, entry in self.labels.items():
            found.setdefault(generate_queue(entry.group), set()).add(self.base_of(label))
        return {queue: sorted(bases) for queue, bases in found.items()}
