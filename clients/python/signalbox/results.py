"""What the API answers, as frozen records that keep the members of a newer server."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeVar

R = TypeVar("R", bound="Record")
FINAL_STATES = frozenset({"succeeded", "failed", "cancelled", "rejected"})


@dataclass(frozen=True, kw_only=True)
class Record:
    """One object of the API."""

    _KINDS: ClassVar[Mapping[str, "type[Record]"]] = {}
    """Fields that are records themselves, or lists of them."""
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_dict(cls: type[R], raw: Mapping[str, Any]) -> R:
        """The record of an answer's JSON; members without a field stay in `raw`."""
        known = {own.name for own in fields(cls)} - {"raw"}
        return cls(raw=raw, **{name: cls._read(name, value) for name, value in raw.items() if name in known})

    @classmethod
    def _read(cls, name: str, value: Any) -> Any:
        kind = cls._KINDS.get(name)
        if kind is None or value is None:
            return value
        return [kind.from_dict(item) for item in value] if isinstance(value, list) else kind.from_dict(value)

    def to_dict(self) -> dict[str, Any]:
        """The answer's JSON, whole."""
        return dict(self.raw)


@dataclass(frozen=True, kw_only=True)
class Selection(Record):
    """The selector's answer about one text; `label` is None where it belongs to no label."""

    id: str = ""
    release: str | None = None
    label: str | None = None
    probability: float | None = None
    runners_up: list[dict[str, Any]] = field(default_factory=list)
    ambiguous: bool = False
    """Whether the text lies between the two most probable labels."""
    choices: list[dict[str, Any]] = field(default_factory=list)
    """These two, where the release leaves the choice to whoever asks."""
    by: str = ""
    """Why this label: the part that decided (`prototypes`, `light`, `llm`, `both`), or `dialogue`, `kept` where earlier
    turns did."""
    probabilities: list[dict[str, Any]] = field(default_factory=list)
    """Of the most probable labels, with `none.none` for none; empty unless the request said `explain`."""
    neighbours: list[dict[str, Any]] = field(default_factory=list)
    """Rows of the training data that are most like the text; empty unless the request said `explain`."""


@dataclass(frozen=True, kw_only=True)
class Job(Record):
    """A job: accepted (only its first fields are known) or looked at."""

    _KINDS: ClassVar = {"selection": Selection}
    id: str
    kind: str = ""
    state: str = ""
    label: str | None = None
    release: str | None = None
    key: str | None = None
    """Id of the API key that submitted it."""
    attempt: int = 0
    waiting_for_group: bool = False
    """Whether it waits and no live worker serves its queue."""
    cancel_requested: bool = False
    created_at: str = ""
    stage_ms: Mapping[str, float] = field(default_factory=dict)
    trains: Mapping[str, Any] | None = None
    """The kind of a training job, and the labels that it is about."""
    request: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    selection: Selection | None = None
    progress: Mapping[str, Any] | None = None
    result: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None
    feedback: Mapping[str, Any] | None = None

    @property
    def is_final(self) -> bool:
        """Whether it has ended."""
        return self.state in FINAL_STATES

    @property
    def text(self) -> str | None:
        """The generated text; None where there is none yet."""
        return (self.result or {}).get("text")


@dataclass(frozen=True, kw_only=True)
class Page(Record):
    """Jobs, newest first; `next` is what `jobs(before=…)` takes for the page after, None at the end."""

    _KINDS: ClassVar = {"items": Job}
    items: list[Job]
    next: str | None = None

    def __iter__(self) -> Iterator[Job]:
        return iter(self.items)


@dataclass(frozen=True, kw_only=True)
class Event(Record):
    """One event of a job: `state`, `token`, `tool_call`, `restart` or `progress`; `id` is where to go on after it."""

    type: str
    data: Mapping[str, Any]
    id: str = ""

    @property
    def is_final(self) -> bool:
        """Whether the job has ended with it."""
        return self.type == "state" and self.data.get("state") in FINAL_STATES

    @property
    def text(self) -> str:
        """What it adds to the generated text."""
        return str(self.data["text"]) if self.type == "token" else ""

    @property
    def index(self) -> int:
        """Of which choice its text is, where a job asks for several."""
        return int(self.data.get("index", 0))


class Answer:
    """One choice's text while it comes: that of the job's last try alone, because a lost one counts for nothing."""

    def __init__(self, index: int = 0) -> None:
        self.text = ""
        self._index = index
        self._attempt = 0

    def add(self, event: Event) -> str:
        """Take in the next event; returns the text so far, which begins anew with a later try."""
        attempt = event.data.get("attempt", self._attempt)
        if attempt > self._attempt:
            self.text, self._attempt = "", attempt
        if event.index == self._index:
            self.text += event.text
        return self.text


@dataclass(frozen=True, kw_only=True)
class Release(Record):
    """One immutable release: selector, adapters, prompts, thresholds."""

    id: str
    current: bool = False
    parent: str = ""
    base_model: str = ""
    labels: Mapping[str, Any] = field(default_factory=dict)
    verdict: Mapping[str, Any] = field(default_factory=dict)
    created_at: str = ""


@dataclass(frozen=True, kw_only=True)
class Adapter(Record):
    """One version of a label's adapter; `ref` is its name, `label@version`."""

    ref: str
    label: str
    version: int
    digest: str
    base_model: str = ""
    template: str = ""
    instruction: str = ""
    constraint: dict[str, Any] | None = None
    """What its answers must be where a request says nothing of that, such as `{"choices": [...]}`."""
    archive: str = ""
    """SHA-256 of the archive that it was uploaded in; empty where it was trained, or uploaded before this was noted."""
    notes: list[str] = field(default_factory=list)
    """What the upload's check dropped or resolved, and warnings."""
    parts: list[Mapping[str, Any]] = field(default_factory=list)
    """What it is composed of: `ref`, `digest` and `weight` of each; empty for an adapter by itself."""
    shutdown_date: str | None = None
    """From when on requests may not name it."""
    created_at: str = ""


@dataclass(frozen=True, kw_only=True)
class Template(Record):
    """One prompt template."""

    name: str
    digest: str = ""
    built_in: bool = False


@dataclass(frozen=True, kw_only=True)
class Dataset(Record):
    """One stored data set; `rows` counts them."""

    id: str
    name: str
    rows: int = 0
    created_at: str = ""
    format: str = ""
    """What the uploaded file turned out to be; empty where it was not uploaded now."""
    notes: list[str] = field(default_factory=list)
    """What was changed on the way."""
    renamed_labels: list[Mapping[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class DatasetCheck(Record):
    """What a file of rows is, and what it would train."""

    format: str
    rows: int = 0
    labels: Mapping[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    renamed_labels: list[Mapping[str, Any]] = field(default_factory=list)
    template: str = ""
    """What the rows are shown by."""
    sample: list[list[Mapping[str, Any]]] = field(default_factory=list)
    """The first rows as they will be trained, in pieces of which each is learnt or only read."""
    lengths: Mapping[str, Any] = field(default_factory=dict)
    """A histogram of the lengths, with its `unit`."""


@dataclass(frozen=True, kw_only=True)
class Model(Record):
    """What a request may name: the base model, `auto`, a label, an adapter's version, an alias."""

    id: str
    created: int = 0
    owned_by: str = ""
    signalbox: Mapping[str, Any] = field(default_factory=dict)
    """Its kind, label, version, release, template, metrics."""


@dataclass(frozen=True, kw_only=True)
class BaseModel(Record):
    """A base model: its pin, its name, and what its weights take; `raw` has its linear layers as `shapes` (out, in)."""

    id: str
    name: str = ""
    weight_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Alias(Record):
    """Another name for a model."""

    alias: str
    model: str = ""
    key: str | None = None
    """Id of the API key that set it."""
    created_at: str = ""


@dataclass(frozen=True, kw_only=True)
class Webhook(Record):
    """An endpoint that is told of events."""

    id: str
    url: str = ""
    name: str = ""
    event_types: list[str] = field(default_factory=list)
    signing_secret: str = field(default="", repr=False)
    """Only where it was made a moment ago."""
    enabled: bool = True
    disabled_reason: str | None = None
    failing_since: int | None = None
    """When the row of failures began that still goes on, in seconds since 1970."""
    waiting: int = 0
    """Deliveries that are not made yet."""
    dropped: int = 0
    """Deliveries that were given up because too many waited, or too long while it was disabled."""


@dataclass(frozen=True, kw_only=True)
class Delivery(Record):
    """An event for an endpoint."""

    id: str
    event_type: str = ""
    state: str = ""
    """`waiting`, `delivered`, `failed`; `noted` for what is only listed."""
    attempts: int = 0
    status_code: int | None = None
    error: str | None = None
    next_try_at: int | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
