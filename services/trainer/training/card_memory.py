"""Whether a training fits onto this trainer's card, decided before it starts."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from services.trainer.training.run import TrainingRun
from services.trainer.training.sequences import Example
from shared.adapter_files import BaseShapes
from shared.contracts.training_memory import Batch, Memory, training_memory
from shared.contracts.training_settings import LoraSettings
from shared.model.hardware import CARD_WIDTH, rounded
from shared.model.memory import return_free_memory


class CardPlan(NamedTuple):
    """What a training takes of the card, and whether it computes layers again for that."""

    memory: Memory
    free_bytes: int
    gradient_checkpointing: bool

    def as_report(self) -> dict[str, Any]:
        """Return plain values for events and results."""
        own = {"free_bytes": self.free_bytes, "gradient_checkpointing": self.gradient_checkpointing}
        return self.memory.model_dump() | own

    def applied_to(self, run: TrainingRun) -> TrainingRun:
        """Return the run with the plan's gradient checkpointing."""
        settings = {"gradient_checkpointing": self.gradient_checkpointing}
        return run._replace(config=run.config.model_copy(update=settings))


def plan_card(run: TrainingRun) -> CardPlan | None:
    """Return what the run takes of the card, and settle its `gradient_checkpointing: auto`; None without a card.

    Processes of a launcher have cards like this one, and train as planned here.
    """
    import torch

    if not torch.cuda.is_available() or not run.examples:
        return None
    return_free_memory()
    free, _ = torch.cuda.mem_get_info()
    found = memory_of(run)
    asked = run.config.gradient_checkpointing
    return CardPlan(found, free, not found.fits(free) if asked == "auto" else asked)


def memory_of(run: TrainingRun) -> Memory:
    """Return the estimate for the run's own rows."""
    return training_memory(
        BaseShapes.from_folder(run.base_folder).modules,
        _vocabulary(run.base_folder),
        run.config,
        largest_batch(run.examples, run.config),
        head_rows=run.head_rows,
        experts=mean(run.experts.counts) if run.experts else 1.0,
    )


def largest_batch(examples: Sequence[Example], settings: LoraSettings) -> Batch:
    """Return the batch of the longest rows: rows of similar length share one."""
    # The last token of a row is predicted alone.
    lengths = sorted((len(example) - 1 for example in examples), reverse=True)[: settings.batch_size]
    tokens = sum(lengths) if settings.packing else len(lengths) * rounded(lengths[0], CARD_WIDTH)
    return Batch(tokens, len(lengths) * max(len(example.answer) for example in examples))


def _vocabulary(folder: Path) -> int:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return int(config.get_text_config().vocab_size)
