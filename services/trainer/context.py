"""What a training job works with: the clients of the trainer, and the job with its lease and its body."""

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import structlog

from services.trainer import metrics
from services.trainer.checkpoints import Checkpoints
from services.trainer.speed import RunClock, note_speed
from shared.adapter_files import AdapterLimits
from shared.contracts.jobs import Job
from shared.contracts.rows import Row
from shared.contracts.training import SelectorAdd, SelectorBody, SelectorTrain, TrainingBody
from shared.contracts.training_tasks import MIN_ROWS
from shared.errors import Invalid, Unavailable
from shared.ledger import Ledger
from shared.model.hardware import training_precision
from shared.observability import tracing
from shared.prompts.bound import BasePrompts, BoundTemplate
from shared.registry import Registry
from shared.registry.store import ObjectStore
from shared.worker.attempt import Attempt
from shared.worker.leases import HeldJob
from shared.worker.retry import RetryingStore

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from services.trainer.training.card_memory import CardPlan
    from services.trainer.training.loop import Callbacks, Progress

log = structlog.get_logger()
BodyT_co = TypeVar("BodyT_co", bound=TrainingBody, covariant=True)
OtherT = TypeVar("OtherT", bound=TrainingBody)


@dataclass(frozen=True, slots=True)
class TrainerClients:
    """What the trainer process is made of; nothing of it changes between jobs."""

    base_folder: Path
    base_model: str
    base_manifest: str
    """Digest of the base model's manifest, which releases name."""
    tokenizer: "PreTrainedTokenizerBase"
    prompts: BasePrompts
    """The templates on the base model."""
    registry: Registry
    store: ObjectStore
    """The store without retries, for objects that a job can do without; see `waiting` for the registry's."""
    ledger: Ledger
    work_dir: Path
    store_patience_seconds: float
    adapter_limits: AdapterLimits = field(default_factory=AdapterLimits)
    encoder_folder: Path | None = None
    """The sentence encoder that a job may choose data by."""
    confirm_training_seconds: float = 0.0
    """Estimate above which a training has to be confirmed; 0 asks for no confirmation."""
    training_launcher: str = ""
    """The command that starts the processes of a training; where it is empty, the trainer's process trains."""

    def waiting(self, lease: HeldJob) -> "TrainerClients":
        """The same clients, with a registry that waits up to `store_patience_seconds` for the object store."""
        patient = RetryingStore(self.store, lease, self.store_patience_seconds)
        return replace(self, registry=self.registry.with_store(patient))


@dataclass(frozen=True, slots=True)
class TrainingContext(Generic[BodyT_co]):
    """One attempt at a training job: the one argument of every function that works on a job."""

    attempt: Attempt
    body: BodyT_co
    clients: TrainerClients

    def with_body(self, body: OtherT) -> "TrainingContext[OtherT]":
        """The same attempt, typed by a body whose kind the caller has found out."""
        return TrainingContext(self.attempt, body, self.clients)

    def settled(self) -> "TrainingContext[BodyT_co]":
        """The same attempt with the precision that `auto` stands for here; later attempts keep that of the first."""
        settings = self.body.settings
        if settings.precision != "auto":
            return self
        found = self.checkpoints().once("precision", lambda: {"precision": training_precision()})
        body: Any = self.body.model_copy(update={"settings": settings.model_copy(update=found)})
        return replace(self, body=body)

    @property
    def job(self) -> Job:
        """The job as it was when the attempt began."""
        return self.attempt.job

    @property
    def lease(self) -> HeldJob:
        """What keeps the job this attempt's, and passes on that it has to stop."""
        return self.attempt.lease

    @property
    def registry(self) -> Registry:
        """The registry of the clients."""
        return self.clients.registry

    def template(self, name: str) -> BoundTemplate:
        """The template of this name on the base model, at the day on which the job was accepted; raises `Invalid`."""
        found = self.registry.templates.named(self.job.tenant_id, name)
        return self.clients.prompts.bind(found).at(self.job.day)

    def check(self) -> None:
        """Raise `Cancelled` where the job has to stop."""
        self.lease.check()

    def report(self, stage: str, **more: Any) -> None:
        """Publish the stage that the job has reached as a progress event."""
        self.attempt.emit("progress", {"stage": stage, **more})
        if stage != "training":  # this one is published at each step
            tracing.event(stage)

    def rows(self, dataset: str, label: str) -> list[Row]:
        """The rows of a data set for a label; raises `Invalid` where there are too few to train and validate on."""
        return self.enough(self.rows_of(dataset, label), dataset, label)

    def enough(self, rows: list[Row], dataset: str, label: str, fewest: int = MIN_ROWS) -> list[Row]:
        """Return a label's rows; raises `Invalid` where there are fewer than `fewest`."""
        if len(rows) < fewest:
            raise Invalid(
                "dataset_too_small",
                f"{label}: data set {dataset} has {len(rows)} rows that carry this label or none; "
                f"give at least {fewest}",
            )
        return rows

    def line_of(self, dataset: str, row: Row) -> str:
        """Return where a data set has this row, as its owner may look it up: blank lines were dropped at its upload."""
        number = self.registry.datasets.rows(self.job.tenant_id, dataset).index(row) + 1
        return f"data set {dataset}, line {number} (blank lines not counted, input {row.input[:40]!r})"

    def rows_of(self, dataset: str, label: str) -> list[Row]:
        """The rows of a data set that carry this label or none."""
        return self.rows_of_labels(dataset, [label])[label]

    def rows_of_labels(self, dataset: str, labels: Iterable[str]) -> dict[str, list[Row]]:
        """For each label, the rows of a data set that carry it or none; the data set is read once."""
        own: dict[str, list[Row]] = {label: [] for label in labels}
        for row in self.registry.datasets.rows(self.job.tenant_id, dataset):
            for label in [row.label] if row.label else own:
                if label in own:
                    own[label].append(row)
        return own

    def checkpoints(self, run: str = "") -> Checkpoints:
        """The checkpoints of one of the job's runs in the store."""
        return Checkpoints(self.registry.store, self.job.id, run)

    def callbacks(self, run: str = "") -> "Callbacks":
        """Callbacks of a run: they publish progress, store checkpoints, and stop the run within one step."""
        from services.trainer.training.loop import Callbacks

        clock = RunClock()

        def on_progress(progress: "Progress") -> None:
            metrics.show(self.body.kind, progress)
            self.report("training", **progress._asdict())
            if pace := clock.after(progress):
                note_speed(self.clients, self.body.settings, pace)

        def on_checkpoint(folder: Path, step: int) -> None:
            try:
                Checkpoints(self.clients.store, self.job.id, run).save(folder, step)
            except Unavailable as error:  # the job needs this checkpoint only if the trainer dies as well
                metrics.CHECKPOINTS.labels("missed").inc()
                log.warning("checkpoint_missed", step=step, error=error.detail)
                return
            metrics.CHECKPOINTS.labels("stored").inc()
            self.report("checkpoint", step=step)

        def on_card_plan(plan: "CardPlan") -> None:
            self.report("memory", **plan.as_report())

        return Callbacks(on_progress, on_checkpoint, lambda: self.lease.must_stop, on_card_plan)

    def resume_from(self, into: Path, run: str = "") -> Path | None:
        """The last checkpoint that a killed attempt stored for this run; None where there is none."""
        folder = self.checkpoints(run).restore(into / "resume")
        if folder:
            self.report("resuming", step=int(folder.name.rsplit("-", 1)[1]))
        return folder

    def folder(self) -> Path:
        """An empty working folder of this attempt; folders of the job's killed attempts are removed."""
        for left in self.clients.work_dir.glob(f"{self.job.id}-*"):
            shutil.rmtree(left, ignore_errors=True)
        folder = attempt_folder(self.clients, self.job)
        folder.mkdir(parents=True)
        return folder

    @contextmanager
    def temporary(self) -> Iterator[Path]:
        """A folder for files that are stored elsewhere before it closes."""
        self.clients.work_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.clients.work_dir) as folder:
            yield Path(folder)


AnyContext = TrainingContext[TrainingBody]
SelectorContext = TrainingContext[SelectorBody]
NewLabelsContext = TrainingContext[SelectorTrain | SelectorAdd]
"""Of a job that brings new labels."""


def attempt_folder(clients: TrainerClients, job: Job) -> Path:
    """The working folder of an attempt; it goes when the attempt ends."""
    return clients.work_dir / f"{job.id}-{job.attempt}"


def forget_checkpoints(clients: TrainerClients, job: Job) -> None:
    """Remove the checkpoints of a job that has ended; they stay where the store does not answer."""
    try:
        Checkpoints(clients.store, job.id).drop()
    except Unavailable as error:
        log.warning("checkpoints_left", error=error.detail)
