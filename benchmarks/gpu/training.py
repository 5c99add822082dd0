"""LoRA training on a device: ours and transformers' own Trainer, with the same model, rows and settings."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model
from transformers import Trainer, TrainerCallback, TrainingArguments

from benchmarks.plain_training import PlainRows, plain_lora
from services.trainer.training.loop import Callbacks, Progress, Trainable, run
from services.trainer.training.peft_folder import with_lora
from services.trainer.training.sequences import Example
from shared.contracts.training_settings import LoraSettings

WARM = 3
"""Steps that are not counted: kernels are chosen, and memory is taken, in the first ones."""


class Times(TrainerCallback):
    """When each step had ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        note(self.ends)


def note(ends: list[float]) -> None:
    """Append the time at which the device has done all."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    ends.append(time.perf_counter())


def examples_of(rows: int, length: int) -> list[Example]:
    """Rows of one length, of tokens that every vocabulary has."""
    return [Example([row % 250 + 1], [(7 * at + row) % 250 + 1 for at in range(length - 1)]) for row in range(rows)]


def settings_of(dtype: str, batch: int, length: int) -> LoraSettings:
    """LoRA of rank 8 on the attention, with checkpointing."""
    return LoraSettings(
        epochs=1, batch_size=batch, max_length=length, precision=dtype, gradient_checkpointing=True, dropout=0.0,
        checkpoint_steps=1_000_000,
    )  # fmt: skip


def ours(model: Any, examples: list[Example], settings: LoraSettings) -> float:
    """Tokens a second of our loop."""
    ends: list[float] = []

    def on_progress(_: Progress) -> None:
        note(ends)

    trainable = Trainable(with_lora(model, settings), lambda into: into.mkdir(parents=True, exist_ok=True))
    with tempfile.TemporaryDirectory() as folder:
        callbacks = Callbacks(on_progress=on_progress)
        run(trainable, examples, settings, Path(folder) / "run", callbacks=callbacks, resume_from=None)
    return speed(ends, examples, settings)


def plain(model: Any, examples: list[Example], settings: LoraSettings) -> float:
    """The same of transformers and PEFT as they come."""
    times = Times()
    on_cpu = model.device.type == "cpu"
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, per_device_train_batch_size=settings.batch_size, num_train_epochs=1,
            learning_rate=settings.learning_rate, bf16=settings.precision == "bfloat16", use_cpu=on_cpu,
            gradient_checkpointing=True, gradient_checkpointing_kwargs={"use_reentrant": False},
            save_strategy="no", logging_strategy="no", report_to="none", disable_tqdm=True,
        )  # fmt: skip
        adapted = get_peft_model(model, plain_lora(settings))
        Trainer(model=adapted, args=arguments, train_dataset=PlainRows(examples), callbacks=[times]).train()
    return speed(times.ends, examples, settings)


def speed(ends: list[float], examples: list[Example], settings: LoraSettings) -> float:
    """Tokens a second of the steps after the first ones."""
    steps = len(ends) - WARM
    return steps * settings.batch_size * len(examples[0]) / (ends[-1] - ends[WARM - 1])


WAYS: dict[str, Callable[[Any, list[Example], LoraSettings], float]] = {"ours": ours, "plain": plain}
