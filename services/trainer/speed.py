"""How fast this trainer's trainings run: measured at their steps, and probed before the first one."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import structlog

from shared.adapter_files import BaseShapes
from shared.contracts.training_cost import Speed, pace_of, training_flops
from shared.contracts.training_settings import LoraSettings
from shared.errors import Unavailable
from shared.model.hardware import training_precision
from shared.registry import Registry

if TYPE_CHECKING:
    from services.trainer.context import TrainerClients
    from services.trainer.training.loop import Progress

log = structlog.get_logger()
_MIN_STEPS = 5


class Pace(NamedTuple):
    """Means over a run's steps."""

    tokens_a_step: float
    seconds_a_step: float


class RunClock:
    """Times a run from the end of its first step, which prepares what later ones use."""

    def __init__(self) -> None:
        self._first: tuple[Progress, float] | None = None

    def after(self, progress: "Progress") -> Pace | None:
        """Note that a step has ended; returns the run's pace after its last step, if there were enough of them."""
        now = time.monotonic()
        first, since = self._first = self._first or (progress, now)
        steps = progress.step - first.step
        if progress.step < progress.steps or steps < _MIN_STEPS:
            return None
        return Pace((progress.tokens - first.tokens) / steps, (now - since) / steps)


def note_speed(clients: "TrainerClients", settings: LoraSettings, pace: Pace) -> None:
    """Store how fast a training ran; estimates can do without it, so a store that is away only leaves a warning."""
    step_flops = pace.tokens_a_step * training_flops(BaseShapes.from_folder(clients.base_folder).modules, settings)
    per_second = step_flops / pace.seconds_a_step
    speed = Speed(pace=pace_of(settings), step_flops=step_flops, flops_per_second=per_second, auto=training_precision())
    try:
        clients.registry.speeds.add(clients.base_model, speed)
    except Unavailable as error:
        log.warning("speed_not_noted", error=error.detail)


def probe_speed(registry: Registry, base_folder: Path, base_model: str) -> None:
    """Store this machine's speed at products of the base model's size, unless a training's speed is known already.

    The newest counts: what a start found on a busy machine is a guess of that start alone.
    """
    from services.trainer.training.probe import probed_speeds

    try:
        if all(speed.is_probe for speed in registry.speeds.of(base_model)):
            for speed in probed_speeds(BaseShapes.from_folder(base_folder).modules):
                registry.speeds.add(base_model, speed)
    except Unavailable as error:
        log.warning("speed_not_noted", error=error.detail)
