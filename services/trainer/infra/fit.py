"""Train an adapter or a selector: rows in, a PEFT folder out."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from services.trainer.domain.rows import Row, SelectorRow
from services.trainer.infra.config import LoraConfigSettings
from services.trainer.infra.peft_folder import save_adapter, with_lora
from services.trainer.infra.sequences import Example, adapter_examples, selector_examples
from shared.errors import Invalid
from shared.labels import Label
from shared.model.base import base_model_id, load_model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from services.trainer.infra.loop import Hooks

_OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")


def train_adapter(
    model_folder: Path,
    tokenizer: "PreTrainedTokenizerBase",
    rows: Sequence[Row],
    *,
    config: LoraConfigSettings,
    work_dir: Path,
    hooks: "Hooks | None" = None,
    resume_from: Path | None = None,
) -> Path:
    """Train LoRA weights on instruction rows, loss on the output only, and return the PEFT folder (paper, section 3.2).

    Same rows, config and seed give the same weights, resumed or not. Raises `Cancelled`, and `Invalid` for no rows,
    rows that do not fit, unknown target modules, a loss that is not finite, or too little memory.
    """
    examples = adapter_examples(tokenizer, rows, config.template, config.max_length)
    return _train(model_folder, examples, config, work_dir, hooks=hooks, resume_from=resume_from)


def train_selector(
    model_folder: Path,
    tokenizer: "PreTrainedTokenizerBase",
    rows: Sequence[SelectorRow],
    *,
    labels: Sequence[Label],
    config: LoraConfigSettings,
    work_dir: Path,
    hooks: "Hooks | None" = None,
    resume_from: Path | None = None,
    start_from: Path | None = None,
) -> Path:
    """Train LoRA weights on a representation set, loss on the label only (paper, section 3.3, appendix A).

    `start_from` is the PEFT folder of a selector to fine-tune again (section 3.4). The prompt lists `labels`, so give
    exactly those of the release. Raises as `train_adapter` does.
    """
    strangers = {row.label for row in rows} - set(labels)
    if strangers:
        raise Invalid(
            "label_unknown", f"rows of labels that the selector does not list: {', '.join(map(str, strangers))}"
        )
    examples = selector_examples(tokenizer, rows, labels, config.max_length)
    return _train(model_folder, examples, config, work_dir, hooks=hooks, resume_from=resume_from, start_from=start_from)


def _train(
    model_folder: Path,
    examples: list[Example],
    config: LoraConfigSettings,
    work_dir: Path,
    *,
    hooks: "Hooks | None",
    resume_from: Path | None,
    start_from: Path | None = None,
) -> Path:
    from services.trainer.infra.loop import Hooks, run

    if not examples:
        raise Invalid("rows_missing", "there is nothing to train on: the data set has no rows")
    base_id = base_model_id(model_folder)
    try:
        model = with_lora(load_model(model_folder, "float32"), config, start_from)
        checkpoints = work_dir / "checkpoints"
        run(model, examples, config, checkpoints, base_id=base_id, hooks=hooks or Hooks(), resume_from=resume_from)
        return save_adapter(model, work_dir / "adapter", base_id)
    except (RuntimeError, MemoryError, ValueError) as error:
        raise _explained(error) from error


def _explained(error: Exception) -> Exception:
    text = str(error)
    if isinstance(error, MemoryError) or any(sign in text.lower() for sign in _OUT_OF_MEMORY):
        return Invalid("out_of_memory", "the training does not fit in memory: lower batch_size, max_length or rank")
    if "target modules" in text.lower():
        return Invalid("target_modules_unknown", f"the base model has no such modules to adapt: {text}")
    return error
