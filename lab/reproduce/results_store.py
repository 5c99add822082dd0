"""Stores the outcomes of conditions under `--out`, so that a finished one is not run again."""

import hashlib
import json
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from shared.contracts.training import SelectorTrain, parse_training

FORMAT = 1
"""Version of the measurement: raising it makes all conditions run again."""
Part = Literal["prototypes", "llm", "light", "cascade", "served", "answers", "oracle", "routed"]
"""What a figure measures. A selector: one part (`prototypes`, `llm`, `light`), both (`cascade`), or both with rejection
(`served`). Answers: by one model for all tasks (`answers`), by the adapter of the row's own label (`oracle`), or by the
adapter of the label that the selector names (`routed`)."""


class Measured(BaseModel):
    """Figures on test rows: routed (with rejection only if the part is `served`), or answered."""

    model_config = ConfigDict(frozen=True)

    accuracy: float
    """Joint accuracy (domain and task both right); for answers, the mean of the labels' scores."""
    n: int
    clear: float | None
    """Accuracy on the labels that do not overlap."""
    overlapping: float | None
    """Accuracy on the overlapping labels. Either is None if the condition has no such labels."""
    per_label: dict[str, float]
    confusion: dict[str, dict[str, int]]
    """Empty for answers."""


class Provenance(BaseModel):
    """The environment of a measurement."""

    model_config = ConfigDict(frozen=True)

    machine: str
    versions: dict[str, str]
    commit: str
    date: str


class Outcome(BaseModel):
    """A finished condition."""

    model_config = ConfigDict(frozen=True)

    table: str
    condition: str
    text: str
    quick: bool
    base: str
    """The base model's name; for a folder, its last part."""
    base_id: str
    job: str
    release: str = ""
    """The release that the job made; a comparison model makes none."""
    adapter: str = ""
    """Digest of the adapter that the job made."""
    body: dict[str, Any]
    """The training job with all settings, defaults included."""
    measured: dict[Part, Measured]
    measures: dict[str, str] = {}
    """The measure by which each label's answers were judged."""
    validation: dict[str, float] = {}
    """Accuracy of a selector and of its parts on the job's own validation rows."""
    chosen: dict[str, int]
    """Rows of each label's representation set."""
    warnings: list[str] = []
    deleted: dict[str, Any] = {}
    """How the test texts of deleted labels are routed under the release's own threshold."""
    tokens: int | None
    """Tokens that the language model read in training; None if it was not trained."""
    device: str
    """The device that it was trained on; empty if it was not trained."""
    seconds: float
    """Duration of the job's last attempt, data selection and validation included."""
    provenance: Provenance

    @property
    def seed(self) -> int:
        """Seed of data selection and training."""
        return int(self.body["settings"]["seed"])

    @property
    def made(self) -> str:
        """The release or adapter that the job made."""
        return self.release or self.adapter


class Failure(NamedTuple):
    """Why a condition has no outcome."""

    code: str
    detail: str


ConditionResult = Outcome | Failure


def made_by(result: Mapping[str, Any]) -> str:
    """The release or adapter that a finished job names."""
    return str(result.get("release") or result.get("adapter") or "")


_FORMER = {"precision": ("float32",), "gradient_checkpointing": (False,)}
"""Defaults of settings when this format was made; what is the default now, `auto`, is the same on processors."""


def training_key(base_id: str, body: Mapping[str, Any]) -> str:
    """A hash that identifies a training: of the base model and the job's settings that differ from the defaults.

    So a setting that a later version adds leaves finished conditions valid; a changed default needs a higher `FORMAT`.
    """
    job = parse_training(dict(body))
    stated = job.model_dump(mode="json", exclude_defaults=True)
    if isinstance(job, SelectorTrain):  # the cascade was the default when this format was made
        stated |= {"selector": job.selector}
        stated = {name: value for name, value in stated.items() if (name, value) != ("selector", "cascade")}
    settings = stated.pop("settings", {})
    if settings := {name: value for name, value in settings.items() if value not in _FORMER.get(name, ())}:
        stated["settings"] = settings
    return _hash(FORMAT, base_id, job.kind, stated)


def outcome_key(table: str, training: str, rows_digest: str) -> str:
    """A hash that identifies a condition's outcome: of its training and the rows it is measured on."""
    return _hash(FORMAT, table, training, rows_digest)


def _hash(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


class Outcomes:
    """Two files under `--out`: `conditions.jsonl`, one outcome per line, and `run.json`, the state for later runs."""

    def __init__(self, out: Path) -> None:
        self._file = out / "conditions.jsonl"
        self._run_file = out / "run.json"
        self._known = dict(_read_outcomes(self._file))

    def get(self, key: str) -> Outcome | None:
        """The stored outcome, if there is one; an unreadable line counts as none."""
        return self._known.get(key)

    def keep(self, key: str, outcome: Outcome) -> None:
        """Store an outcome atomically."""
        self._known[key] = outcome
        lines = (json.dumps({"key": k, **o.model_dump(mode="json")}) for k, o in sorted(self._known.items()))
        _write(self._file, "\n".join(lines) + "\n")

    def of(self, table: str, *, quick: bool) -> Iterator[Outcome]:
        """Every outcome of a table, for all base models."""
        for _, outcome in sorted(self._known.items()):
            if (outcome.table, outcome.quick) == (table, quick):
                yield outcome

    def job_key(self, training: str) -> str:
        """Idempotency-Key of the training's next job: it differs for each folder, and after each failed job."""
        return f"reproduce-{self._id()}-{training}-{len(self._run()['failed'].get(training, []))}"

    def note_failed(self, training: str, job_id: str) -> None:
        """Record a failed job, so that the next run queues another one."""
        run = self._run()
        run["failed"][training] = list(dict.fromkeys([*run["failed"].get(training, []), job_id]))
        _write(self._run_file, json.dumps(run))

    def _id(self) -> str:
        """A random id that stands for encoder and code, which no hash covers; deleting the file makes a new one."""
        run = self._run()
        if not self._run_file.is_file():
            _write(self._run_file, json.dumps(run))
        return str(run["id"])

    def _run(self) -> dict[str, Any]:
        if self._run_file.is_file():
            return dict(json.loads(self._run_file.read_text()))
        return {"id": secrets.token_hex(8), "failed": {}}


def _read_outcomes(file: Path) -> Iterator[tuple[str, Outcome]]:
    for line in file.read_text().splitlines() if file.is_file() else ():
        try:
            fields = json.loads(line)
            yield fields.pop("key"), Outcome.model_validate(fields)
        except (ValueError, KeyError):  # truncated, or of another version
            continue


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_text(text)
    part.replace(file)
