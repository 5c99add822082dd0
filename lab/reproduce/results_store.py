"""What came of a condition, kept under `--out`, so that a finished one is not run again."""

import hashlib
import json
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from shared.contracts.training import parse_training

FORMAT = 1
"""Of what is measured: a higher one makes all conditions new."""
Part = Literal["llm", "light", "cascade", "served", "answers", "oracle", "routed"]
"""What a figure is of: a selector's part, or the whole, or the whole as it is served, rejecting; or answers, by one
model for all tasks, by the adapter of the row's own label, or by that of the label the selector names."""


class Measured(BaseModel):
    """Test rows routed, without rejection unless the part is `served`, or answered."""

    model_config = ConfigDict(frozen=True)

    accuracy: float
    """Joint accuracy: domain and task both right. Of answers: the mean of the labels' scores."""
    n: int
    clear: float | None
    """On the labels that do not overlap by nature."""
    overlapping: float | None
    """On those that do; None where the condition has none of one sort."""
    per_label: dict[str, float]
    confusion: dict[str, dict[str, int]]
    """Empty for answers."""


class Provenance(BaseModel):
    """Where and with what something was measured."""

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
    """The base model's name; of a folder the last part."""
    base_id: str
    job: str
    release: str = ""
    """That the job made; of a comparison model nothing is left."""
    adapter: str = ""
    """Digest of the adapter that the job made."""
    body: dict[str, Any]
    """The training job, every setting written out."""
    measured: dict[Part, Measured]
    measures: dict[str, str] = {}
    """How each label's answers were judged."""
    validation: dict[str, float] = {}
    """Accuracy of a selector and of its parts on the job's own validation rows."""
    chosen: dict[str, int]
    """Rows of each label's representation set."""
    warnings: list[str] = []
    deleted: dict[str, Any] = {}
    """What becomes of the test texts of deleted labels under the release's own threshold."""
    tokens: int | None
    """That the language model read in training; None where it was not trained."""
    device: str
    """That it was trained on; empty where it was not."""
    seconds: float
    """Of the job's last attempt, choice of rows and validation among them."""
    provenance: Provenance

    @property
    def seed(self) -> int:
        """Of data selection and training."""
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


def training_key(base_id: str, body: Mapping[str, Any]) -> str:
    """What names a training: the base model and the job's settings, as far as they are not the default ones.

    So a setting that later versions add makes no finished condition new; a default that they change needs a higher
    `FORMAT`.
    """
    job = parse_training(dict(body))
    return _hash(FORMAT, base_id, job.kind, job.model_dump(mode="json", exclude_defaults=True))


def outcome_key(table: str, training: str, rows_digest: str) -> str:
    """What names a condition's outcome: its training, and the rows it is measured on."""
    return _hash(FORMAT, table, training, rows_digest)


def _hash(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


class Outcomes:
    """Two files under `--out`: `conditions.jsonl`, an outcome a line, and `run.json`, which only later runs need."""

    def __init__(self, out: Path) -> None:
        self._file = out / "conditions.jsonl"
        self._run_file = out / "run.json"
        self._known = dict(_read_outcomes(self._file))

    def get(self, key: str) -> Outcome | None:
        """What was measured before, if it was; a line that does not read is measured anew."""
        return self._known.get(key)

    def keep(self, key: str, outcome: Outcome) -> None:
        """Write an outcome down whole or not at all."""
        self._known[key] = outcome
        lines = (json.dumps({"key": k, **o.model_dump(mode="json")}) for k, o in sorted(self._known.items()))
        _write(self._file, "\n".join(lines) + "\n")

    def of(self, table: str, *, quick: bool) -> Iterator[Outcome]:
        """Every outcome of a table, of whatever base model."""
        for _, outcome in sorted(self._known.items()):
            if (outcome.table, outcome.quick) == (table, quick):
                yield outcome

    def job_key(self, training: str) -> str:
        """Idempotency-Key of the training's next job: another one in each folder, and after each job that failed."""
        return f"reproduce-{self._id()}-{training}-{len(self._run()['failed'].get(training, []))}"

    def note_failed(self, training: str, job_id: str) -> None:
        """Remember a job that failed, so that the next run queues another one."""
        run = self._run()
        run["failed"][training] = list(dict.fromkeys([*run["failed"].get(training, []), job_id]))
        _write(self._run_file, json.dumps(run))

    def _id(self) -> str:
        """What stands for encoder and code, which no hash knows: random, made anew once the file is deleted."""
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
        except (ValueError, KeyError):  # cut off, or of another version
            continue


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_text(text)
    part.replace(file)
