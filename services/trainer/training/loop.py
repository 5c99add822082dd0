"""The training loop: transformers' `Trainer` with our loss, batches and callbacks. Imports torch: import it lazily."""

import math
import shutil
import time
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.data import Dataset
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from services.trainer.training.batches import collate, pack, plan_batches
from services.trainer.training.card_memory import CardPlan
from services.trainer.training.losses import balanced_loss
from services.trainer.training.peft_folder import is_classifier
from services.trainer.training.sequences import Example
from shared.contracts.training_settings import LoraSettings
from shared.errors import Cancelled, Invalid
from shared.model.hardware import width_step


class Progress(NamedTuple):
    """How far a run is, after each step."""

    step: int
    steps: int
    loss: float
    learning_rate: float
    seconds_left: float
    tokens: int
    """Tokens trained on so far, without padding, over all epochs."""
    device: str
    precision: str


class Callbacks(NamedTuple):
    """Functions of the caller that a run calls: at each step, at each checkpoint, and to learn whether it must stop."""

    on_progress: Callable[[Progress], None] = lambda _: None
    on_checkpoint: Callable[[Path, int], None] = lambda _folder, _step: None
    should_stop: Callable[[], bool] = lambda: False
    on_card_plan: Callable[[CardPlan], None] = lambda _: None
    """Called before a run on a card starts."""


class Trainable(NamedTuple):
    """A model with unfrozen weights, the function that saves those to a folder, and a penalty that the loss adds."""

    model: Any
    save: Callable[[Path], object]
    penalty: Callable[[], torch.Tensor | float] = lambda: 0.0


class Batches(Dataset[list[Example]]):
    """Each item is a whole batch, planned beforehand, so that a resumed run skips items and sees the same rows."""

    def __init__(self, examples: Sequence[Example], config: LoraSettings, drawn: Sequence[int] = ()) -> None:
        """Rows that were `drawn` beforehand are taken in their order; else every row once an epoch."""
        lengths, size = [len(example) for example in examples], config.batch_size
        self._examples = examples
        self._plan = [list(drawn[at : at + size]) for at in range(0, len(drawn), size)] or plan_batches(
            lengths, size, config.epochs, config.seed
        )
        self._tokens = list(accumulate((sum(lengths[row] for row in batch) for batch in self._plan), initial=0))

    def __len__(self) -> int:
        return len(self._plan)

    def __getitem__(self, index: int) -> list[Example]:
        return [self._examples[row] for row in self._plan[index]]

    def tokens_until(self, count: int) -> int:
        """Tokens of the first `count` batches, without padding."""
        return self._tokens[min(count, len(self._plan))]


class AnswerTrainer(Trainer):
    """Takes the loss on answers only, and computes logits for their positions only, because vocabularies are large."""

    def __init__(self, trainable: Trainable, *, precision: str, **kwargs: Any) -> None:
        super().__init__(model=trainable.model, **kwargs)
        self.last_loss = math.nan
        self._trainable = trainable
        self._precision = getattr(torch, precision)
        self._has_head = is_classifier(self.model)
        self.remove_callback(PrinterCallback)
        self.model_accepts_loss_kwargs = False  # our loss is a batch's mean: the Trainer averages accumulated batches

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,  # noqa: ARG002
        num_items_in_batch: torch.Tensor | int | None = None,  # noqa: ARG002
    ) -> torch.Tensor:
        """Return the cross-entropy over the answers of a batch; raises `Invalid` when it is not finite.

        An answer is a sequence of tokens, or for a model with a head the index of a label.
        """
        labels, tasks, weights = (inputs.pop(name) for name in ("labels", "tasks", "weights"))
        enabled = self._precision is not torch.float32
        if self._has_head:
            del inputs["logits_to_keep"]
        with torch.autocast(labels.device.type, dtype=self._precision, enabled=enabled):
            logits = model(**inputs, use_cache=False).logits
        loss = balanced_loss(logits.float(), labels, tasks, weights) + self._trainable.penalty()
        self.last_loss = loss.item()
        if not math.isfinite(self.last_loss):
            raise Invalid(
                "training_diverged",
                f"the loss is {self.last_loss} at step {self.state.global_step}: lower learning_rate, or use float32",
            )
        return loss

    def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler[int]:  # noqa: ARG002
        return torch.utils.data.SequentialSampler(self.train_dataset)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:  # noqa: ARG002
        if is_first():
            self._trainable.save(Path(output_dir or self.args.output_dir))


class _Reporter(TrainerCallback):
    """Calls the caller's callbacks at the Trainer's events."""

    def __init__(self, callbacks: Callbacks, batches: Batches, precision: str) -> None:
        self._callbacks = callbacks
        self._batches = batches
        self._precision = precision
        self.trainer: AnswerTrainer | None = None
        self._started = (0, 0.0)  # step and clock when this attempt began

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        self._started = (state.global_step, time.monotonic())

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        if self._callbacks.should_stop():
            raise Cancelled("cancelled", f"the training was cancelled before step {state.global_step + 1}")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        first, since = self._started
        seconds_a_step = (time.monotonic() - since) / max(state.global_step - first, 1)
        loss = self.trainer.last_loss if self.trainer else math.nan
        rate = float(kwargs["lr_scheduler"].get_last_lr()[0])
        left = seconds_a_step * (state.max_steps - state.global_step)
        batches_a_step = args.gradient_accumulation_steps * args.world_size
        tokens = self._batches.tokens_until(state.global_step * batches_a_step)
        device = _device_name(kwargs["model"].device)
        step, steps = state.global_step, state.max_steps
        self._callbacks.on_progress(Progress(step, steps, loss, rate, left, tokens, device, self._precision))

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        if torch.distributed.is_initialized():
            torch.distributed.barrier()  # each process saves the state of its own random number generators
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        self._callbacks.on_checkpoint(folder, state.global_step)


def run(
    trainable: Trainable,
    examples: Sequence[Example],
    config: LoraSettings,
    work_dir: Path,
    *,
    callbacks: Callbacks,
    resume_from: Path | None,
    drawn: Sequence[int] = (),
) -> None:
    """Train the model's unfrozen weights in place, from the start or from a checkpoint folder of the same run.

    Raises `Cancelled` within one step after `should_stop` returns True, and `Invalid` when the loss is not finite.
    """
    batches = Batches(examples, config, drawn)
    lay_out, device = pack if config.packing else collate, trainable.model.device
    reporter = _Reporter(callbacks, batches, config.precision)
    trainer = AnswerTrainer(
        trainable,
        args=_arguments(config, work_dir, on_cpu=device.type == "cpu"),
        train_dataset=batches,
        data_collator=lambda items: lay_out([example for batch in items for example in batch], width_step(device.type)),
        callbacks=[reporter],
        precision=config.precision,
    )
    reporter.trainer = trainer
    trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
    if is_first():
        shutil.rmtree(work_dir, ignore_errors=True)


def is_first() -> bool:
    """Whether this is the first or only process of the training: the one that writes weights and reports."""
    return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _arguments(config: LoraSettings, work_dir: Path, *, on_cpu: bool) -> TrainingArguments:
    arguments = TrainingArguments(
        output_dir=str(work_dir),
        per_device_train_batch_size=1,  # an item is a batch already
        num_train_epochs=1,  # the planned batches cover all epochs
        gradient_accumulation_steps=config.accumulate,
        activation_checkpointing=config.gradient_checkpointing is True,
        activation_checkpointing_kwargs={"use_reentrant": False},  # True would need inputs with gradients
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=config.warmup_share,
        weight_decay=config.weight_decay,
        save_strategy="steps",
        save_steps=config.checkpoint_steps,
        save_total_limit=2,
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        seed=config.seed,
        use_cpu=on_cpu,
    )
    if arguments.n_gpu > 1:
        # Else it would merge planned batches over all visible GPUs; several GPUs need a launcher.
        arguments._n_gpu = 1
    return arguments
