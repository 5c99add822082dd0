"""What every training job works with: the base model's parts, the registry, and the way to report and to resume."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from services.trainer import metrics
from services.trainer.checkpoints import Checkpoints
from shared.contracts.jobs import Job
from shared.contracts.rows import Row
from shared.errors import Invalid, Unavailable
from shared.ledger import Ledger
from shared.observability import tracing
from shared.registry import Registry
from shared.registry.store import ObjectStore
from shared.worker.attempt import Attempts
from shared.worker.event_writer import EventWriter
from shared.worker.leases import HeldJob
from shared.worker.retry import RetryingStore

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from services.trainer.training.loop import Callbacks, Progress

log = structlog.get_logger()
MIN_ROWS = 4


@dataclass(frozen=True, slots=True)
class TrainingContext:
    """The parts of the trainer process; none of them changes between jobs."""

    base_folder: Path
    base_model: str
    tokenizer: "PreTrainedTokenizerBase"
    registry: Registry
    store: ObjectStore
    """The store as it is, for what can do without; the registry's is the same, or waits (see `waiting`)."""
    ledger: Ledger
    events: EventWriter
    attempts: Attempts
    work_dir: Path
    store_patience_seconds: float
    encoder_folder: Path | None = None
    """The sentence encoder that jobs may choose data by."""
    training_launcher: str = ""
    """The command that starts the processes of a training; empty where it runs in the caller's own."""

    def waiting(self, held: HeldJob) -> "TrainingContext":
        """The same workshop, whose registry waits for the object store as long as this job may."""
        patient = RetryingStore(self.store, held, self.store_patience_seconds)
        return replace(self, registry=self.registry.with_store(patient))

    def report(self, job: Job, stage: str, **more: Any) -> None:
        """Tell the job's readers how far it is."""
        self.events.put(job, "progress", {"stage": stage, **more})
        if stage != "training":  # each step's
            tracing.event(stage)

    def rows(self, job: Job, dataset: str, label: str) -> list[Row]:
        """The rows of a data set for a label; raises `Invalid` where too few to learn from and be tested on."""
        rows = self.rows_of(job, dataset, label)
        if len(rows) < MIN_ROWS:
            raise Invalid(
                "dataset_too_small",
                f"{label}: data set {dataset} has {len(rows)} rows that carry this label or none; "
                f"give at least {MIN_ROWS}",
            )
        return rows

    def rows_of(self, job: Job, dataset: str, label: str) -> list[Row]:
        """The rows of a data set that carry this label or none."""
        return [row for row in self.registry.rows(job.tenant_id, dataset) if row.label in ("", label)]

    def checkpoints(self, job: Job, run: str = "") -> Checkpoints:
        """The checkpoints of one of the job's runs in the store."""
        return Checkpoints(self.registry.store, job.id, run)

    def callbacks(self, job: Job, held: HeldJob, kind: str, run: str = "") -> "Callbacks":
        """Progress to the ledger, checkpoints to the store where it answers, a stop within one step."""
        from services.trainer.training.loop import Callbacks

        def on_progress(progress: "Progress") -> None:
            metrics.show(kind, progress)
            self.report(job, "training", **progress._asdict())

        def on_checkpoint(folder: Path, step: int) -> None:
            try:
                Checkpoints(self.store, job.id, run).save(folder, step)
            except Unavailable as error:  # a missed checkpoint costs nothing unless the trainer dies, too
                metrics.CHECKPOINTS.labels("missed").inc()
                log.warning("checkpoint_missed", step=step, error=error.detail)
                return
            metrics.CHECKPOINTS.labels("stored").inc()
            self.report(job, "checkpoint", step=step)

        return Callbacks(on_progress, on_checkpoint, lambda: held.must_stop)

    def resume_from(self, job: Job, into: Path, run: str = "") -> Path | None:
        """The last checkpoint of this run by an attempt that was killed, if any."""
        folder = self.checkpoints(job, run).restore(into / "resume")
        if folder:
            self.report(job, "resuming", step=int(folder.name.rsplit("-", 1)[1]))
        return folder

    def forget_checkpoints(self, job: Job) -> None:
        """Remove what a job that has ended left for its next attempt."""
        try:
            Checkpoints(self.store, job.id).drop()
        except Unavailable as error:
            log.warning("checkpoints_left", error=error.detail)

    def folder(self, job: Job) -> Path:
        """An empty working folder of this attempt; what killed attempts of the job left here is removed."""
        for left in self.work_dir.glob(f"{job.id}-*"):
            shutil.rmtree(left, ignore_errors=True)
        folder = self.work_dir / f"{job.id}-{job.attempt}"
        folder.mkdir(parents=True)
        return folder

    @contextmanager
    def temporary(self) -> Iterator[Path]:
        """A folder for what is stored elsewhere at once."""
        self.work_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.work_dir) as folder:
            yield Path(folder)


def need_outputs(rows: Sequence[Row], what: str) -> None:
    """Raise `Invalid` where rows without an answer would teach nothing."""
    lacking = sum(not row.output for row in rows)
    if lacking:
        raise Invalid("output_missing", f"{what}: {lacking} of {len(rows)} rows have no output; add it or drop them")
