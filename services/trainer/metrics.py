"""Metrics of the trainer: those of the current run, and counters over all runs."""

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge

if TYPE_CHECKING:
    from services.trainer.training.loop import Progress

LOSS = Gauge("signalbox_training_loss", "Loss of the run that is on", ["kind"])
PROGRESS = Gauge("signalbox_training_progress_ratio", "Steps done of the run that is on, of all its steps", ["kind"])
SECONDS_LEFT = Gauge("signalbox_training_seconds_left", "How long the run that is on will take", ["kind"])
STEPS = Counter("signalbox_training_steps", "Steps of all runs", ["kind"])
CHECKPOINTS = Counter("signalbox_training_checkpoints", "Checkpoints of all runs: stored, or missed", ["outcome"])
for _outcome in ("stored", "missed"):
    CHECKPOINTS.labels(_outcome)  # a rate needs the zero before the first one


def show(kind: str, progress: "Progress") -> None:
    """Set the gauges to a step of the current run."""
    LOSS.labels(kind).set(progress.loss)
    PROGRESS.labels(kind).set(progress.step / max(1, progress.steps))
    SECONDS_LEFT.labels(kind).set(progress.seconds_left)
    STEPS.labels(kind).inc()


def clear() -> None:
    """Remove the gauges when the run has ended."""
    for gauge in (LOSS, PROGRESS, SECONDS_LEFT):
        gauge.clear()
