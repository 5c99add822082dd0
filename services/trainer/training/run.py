"""A training run as plain data, and how it is trained in this process."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from services.trainer.out_of_memory import explaining_memory
from services.trainer.training.base import for_training, load_base
from services.trainer.training.peft_folder import initial_weights, save_adapter, with_lora
from services.trainer.training.sequences import Example
from shared.contracts.training_settings import LoraSettings
from shared.errors import Invalid
from shared.model.base import base_model_id

if TYPE_CHECKING:
    from services.trainer.training.loop import Callbacks, Trainable


class Experts(NamedTuple):
    """Number of LoRA experts in each equal part of the layers, from below, and number of experts that a token uses."""

    counts: Sequence[int]
    used: int


class TrainingRun(NamedTuple):
    """The base model, examples and settings of a run, and the folder for its weights."""

    base_folder: Path
    examples: Sequence[Example]
    config: LoraSettings
    work_dir: Path
    resume_from: Path | None = None
    """A checkpoint folder of the same run."""
    start_from: Path | None = None
    """The PEFT folder whose weights it starts from."""
    head_rows: int = 0
    """Rows of a linear head beside the LoRA; 0 trains no head."""
    experts: Experts | None = None
    """Trains a mixture of LoRA experts instead of one LoRA."""
    on: Path | None = None
    """The PEFT folder of a frozen adapter that is active beside the LoRA."""
    drawn: Sequence[int] = ()
    """The examples in the order in which they are trained on; empty trains on each once an epoch."""


def train_here(run: TrainingRun, callbacks: "Callbacks") -> Path:
    """Train in this process and return the folder of the weights; of several processes, the first writes it.

    Raises `Cancelled`, and `Invalid` for no rows, unknown target modules, a loss that is not finite, or too little
    memory.
    """
    if not run.examples:
        raise Invalid("rows_missing", "there is nothing to train on: the data set has no rows")
    with _explaining(), explaining_memory("the training"):
        return _train_experts(run, run.experts, callbacks) if run.experts else _train_lora(run, callbacks)


def _train_lora(run: TrainingRun, callbacks: "Callbacks") -> Path:
    from services.trainer.training.loop import Trainable, is_first

    base_id = base_model_id(run.base_folder)
    base = load_base(run.base_folder, run.config, head_rows=run.head_rows)
    model = with_lora(base, run.config, run.start_from, run.on)
    initial = initial_weights(model)
    _run(Trainable(model, lambda folder: save_adapter(model, folder, base_id)), run, callbacks)
    folder = run.work_dir / "adapter"
    return save_adapter(model, folder, base_id, initial) if is_first() else folder


def _train_experts(run: TrainingRun, experts: Experts, callbacks: "Callbacks") -> Path:
    from services.trainer.training.loop import Trainable, is_first
    from services.trainer.training.moe_lora import mean_imbalance, save_experts, with_experts

    base = for_training(load_base(run.base_folder, run.config), run.config)
    model = with_experts(base, run.config, *experts).train()
    trainable = Trainable(model, lambda into: save_experts(model, into), lambda: mean_imbalance(model))
    _run(trainable, run, callbacks)
    folder = run.work_dir / "experts"
    if is_first():
        trainable.save(folder)
    return folder


def _run(trainable: "Trainable", run: TrainingRun, callbacks: "Callbacks") -> None:
    from services.trainer.training import loop

    checkpoints = run.work_dir / "checkpoints"
    loop.run(
        trainable,
        run.examples,
        run.config,
        checkpoints,
        callbacks=callbacks,
        resume_from=run.resume_from,
        drawn=run.drawn,
    )


@contextmanager
def _explaining() -> Iterator[None]:
    """Turn PEFT's error about modules into one that says what to do."""
    try:
        yield
    except ValueError as error:
        if "target modules" not in str(error).lower():
            raise
        raise Invalid("target_modules_unknown", f"the base model has no such modules to adapt: {error}") from error
