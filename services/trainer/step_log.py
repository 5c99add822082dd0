"""The losses of a training, step by step: a file in OpenAI's format for whoever asked for the training there."""

import csv
import hashlib
import json
from typing import TYPE_CHECKING, Any

from services.trainer.context import TrainingContext
from shared.contracts.files import Purpose, StoredFile, file_id_of
from shared.contracts.training_tasks import AdapterTrain
from shared.ledger.keys import LedgerKey

if TYPE_CHECKING:
    from services.trainer.training.card_memory import CardPlan
    from services.trainer.training.loop import Callbacks, Progress

_COLUMNS = ("step", "train_loss", "learning_rate", "trained_tokens")


class StepLog:
    """What each step came to; steps of attempts before this one are read from the job's events."""

    def __init__(self, context: TrainingContext[AdapterTrain]) -> None:
        self._context = context
        self._steps: dict[int, tuple[float, float, int]] = {}
        self._memory: dict[str, Any] | None = None

    def beside(self, callbacks: "Callbacks") -> "Callbacks":
        """Return callbacks that also note what they pass on."""

        def on_progress(progress: "Progress") -> None:
            self._steps[progress.step] = (progress.loss, progress.learning_rate, progress.tokens)
            callbacks.on_progress(progress)

        def on_card_plan(plan: "CardPlan") -> None:
            self._memory = plan.as_report()
            callbacks.on_card_plan(plan)

        return callbacks._replace(on_progress=on_progress, on_card_plan=on_card_plan)

    def as_result(self) -> dict[str, Any]:
        """Store the file where one was asked for; returns what the job's result says of it."""
        told = self._told_before() | self._steps if self._context.body.fine_tuning else self._steps
        last = max(told, default=0)
        loss, _, tokens = told.get(last, (None, 0.0, 0))
        result: dict[str, Any] = {"steps": last, "train_loss": loss, "trained_tokens": tokens}
        if self._memory:
            result["memory"] = self._memory
        return result | ({"result_files": [self._stored(told)]} if self._context.body.fine_tuning else {})

    def _told_before(self) -> dict[int, tuple[float, float, int]]:
        redis: Any = self._context.clients.ledger.redis
        events = redis.xrange(LedgerKey.EVENTS.of(self._context.job.id))
        told = [json.loads(fields["data"]) for _, fields in events if fields["type"] == "progress"]
        steps = [one for one in told if one["stage"] == "training"]
        return {one["step"]: (one["loss"], one["learning_rate"], one["tokens"]) for one in steps}

    def _stored(self, steps: dict[int, tuple[float, float, int]]) -> str:
        job = self._context.job
        with self._context.temporary() as folder:
            path = folder / "step_metrics.csv"
            with path.open("w", newline="") as out:
                table = csv.writer(out)
                table.writerow(_COLUMNS)
                table.writerows((step, *steps[step]) for step in sorted(steps))
            content = path.read_bytes()
            file = StoredFile(
                id=file_id_of(job.tenant_id, job.id, "step_metrics.csv"),
                tenant_id=job.tenant_id,
                filename="step_metrics.csv",
                purpose=Purpose.FINE_TUNE_RESULTS,
                size_bytes=len(content),
                sha256=hashlib.sha256(content).hexdigest(),
                key=job.key,
                key_line=job.key_line,
            )
            self._context.registry.files.add(file, path)
        return file.id
