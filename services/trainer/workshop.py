"""What every training job works with: the base model's parts, the registry, and the way to report and to resume."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.trainer.infra.checkpoints import Checkpoints
from shared import metrics
from shared.attempts import Attempts, EventWriter, Held
from shared.datasets import Row
from shared.errors import Invalid
from shared.jobs import Job
from shared.registry import Registry

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from services.trainer.infra.loop import Hooks, Progress

MIN_ROWS = 4


@dataclass(frozen=True, slots=True)
class Workshop:
    """The parts of the trainer process; none of them changes between jobs."""

    base_folder: Path
    base_model: str
    tokenizer: "PreTrainedTokenizerBase"
    registry: Registry
    events: EventWriter
    attempts: Attempts
    work_dir: Path

    def report(self, job: Job, stage: str, **more: Any) -> None:
        """Tell the job's readers how far it is."""
        self.events.put(job, "progress", {"stage": stage, **more})

    def rows(self, job: Job, dataset: str, what: str) -> list[Row]:
        """The rows of a data set; raises `Invalid` where they are too few to learn from and be tested on."""
        rows = self.registry.rows(job.tenant_id, dataset)
        if len(rows) < MIN_ROWS:
            raise Invalid(
                "dataset_too_small", f"{what}: data set {dataset} has {len(rows)} rows; give at least {MIN_ROWS}"
            )
        return rows

    def checkpoints(self, job: Job) -> Checkpoints:
        """The job's checkpoints in the store."""
        return Checkpoints(self.registry.store, job.id)

    def hooks(self, job: Job, held: Held, kind: str) -> "Hooks":
        """Progress to the ledger, checkpoints to the store, a stop within one step."""
        from services.trainer.infra.loop import Hooks

        checkpoints = self.checkpoints(job)

        def on_progress(progress: "Progress") -> None:
            metrics.TRAINING_LOSS.labels(kind).set(progress.loss)
            self.report(job, "training", **progress._asdict())

        def on_checkpoint(folder: Path, step: int) -> None:
            checkpoints.save(folder, step)
            self.report(job, "checkpoint", step=step)

        return Hooks(on_progress, on_checkpoint, lambda: held.must_stop)

    def resume_from(self, job: Job, into: Path) -> Path | None:
        """The last checkpoint of an attempt that was killed, if any."""
        folder = self.checkpoints(job).restore(into / "resume")
        if folder:
            self.report(job, "resuming", step=int(folder.name.rsplit("-", 1)[1]))
        return folder

    def folder(self, job: Job) -> Path:
        """An empty working folder of this attempt."""
        folder = self.work_dir / f"{job.id}-{job.attempt}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder


def need_outputs(rows: Sequence[Row], what: str) -> None:
    """Raise `Invalid` where rows without an answer would teach nothing."""
    lacking = sum(not row.output for row in rows)
    if lacking:
        raise Invalid("output_missing", f"{what}: {lacking} of {len(rows)} rows have no output; add it or drop them")
