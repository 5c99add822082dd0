"""Train an adapter or a selector: rows in, a PEFT folder out."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, ParamSpec

from services.trainer.domain.rows import Row, SelectorRow
from services.trainer.infra.config import LoraConfigSettings
from services.trainer.infra.peft_folder import (
    for_training,
    four_bits,
    initial_weights,
    rearrange_head,
    save_adapter,
    with_lora,
)
from services.trainer.infra.sequences import Example, adapter_examples, balanced, head_examples, selector_examples
from shared.errors import Invalid
from shared.labels import Label
from shared.memory import give_back
from shared.model.base import base_model_id, load_model
from shared.model.head import has_head, load_classifier

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from services.trainer.infra.loop import Hooks, Trainable

_Asked = ParamSpec("_Asked")
_OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")


class Experts(NamedTuple):
    """How many LoRA experts each equal part of the layers has, from below, and how many of them a token takes."""

    counts: Sequence[int]
    used: int


class Start(NamedTuple):
    """The PEFT folder of a selector to fine-tune again, and the labels it knows, in their order."""

    weights: Path
    labels: Sequence[Label]


def _leaving_memory(training: Callable[_Asked, Path]) -> Callable[_Asked, Path]:
    """Give back what a training held before its result is judged: that loads the base model a second time."""

    @wraps(training)
    def train(*args: _Asked.args, **kwargs: _Asked.kwargs) -> Path:
        folder = training(*args, **kwargs)
        give_back()  # Trainer, callbacks and model hold each other: they would stay until some later collection
        return folder

    return train


@_leaving_memory
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


@_leaving_memory
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
    start_from: Start | None = None,
    head: bool = False,
) -> Path:
    """Train LoRA weights on a representation set, loss on the label only (paper, section 3.3, appendix A).

    The prompt lists `labels`, so give exactly those of the release; with `head` the prompt is the text alone, and a
    linear head beside the LoRA scores the labels. A selector to fine-tune again (section 3.4) must be of the same form.
    Raises as `train_adapter` does.
    """
    strangers = {row.label for row in rows} - set(labels)
    if strangers:
        raise Invalid(
            "label_unknown", f"rows of labels that the selector does not list: {', '.join(map(str, strangers))}"
        )
    if head and config.packing:
        raise Invalid(
            "packing_unavailable",
            "a selector with a head reads the end of each sequence, so its rows cannot be packed: leave out packing, "
            "or take readout names",
        )
    make_examples = head_examples if head else selector_examples
    examples = make_examples(tokenizer, rows, labels, config.max_length)
    before = start_from.weights if start_from else None
    if head and start_from:
        before = rearrange_head(start_from.weights, start_from.labels, labels, work_dir / "start")
    rows_of_head = len(labels) if head else 0
    return _train(
        model_folder, examples, config, work_dir, hooks=hooks, resume_from=resume_from, start_from=before,
        head_rows=rows_of_head,
    )  # fmt: skip


@_leaving_memory
def train_together(
    model_folder: Path,
    tokenizer: "PreTrainedTokenizerBase",
    tasks: Sequence[Sequence[Row]],
    *,
    config: LoraConfigSettings,
    work_dir: Path,
    experts: Experts | None = None,
    hooks: "Hooks | None" = None,
    resume_from: Path | None = None,
) -> Path:
    """Train one set of weights on several tasks' rows that weigh the same, and return its folder (paper, section 4.2).

    A PEFT folder of one LoRA (MFTCoder), or with `experts` the folder of a mixture of them. Raises as `train_adapter`.
    """
    examples = balanced([adapter_examples(tokenizer, rows, config.template, config.max_length) for rows in tasks])
    if experts is None:
        return _train(model_folder, examples, config, work_dir, hooks=hooks, resume_from=resume_from)
    with _explaining():
        trainable = _with_experts(model_folder, config, experts)
        _run(trainable, examples, config, work_dir, hooks=hooks, resume_from=resume_from)
        trainable.save(work_dir / "experts")
    return work_dir / "experts"


def carry_over(start: Start, labels: Sequence[Label], folder: Path) -> Path:
    """Return a selector's PEFT folder as it is for other `labels`: nothing is trained, a head is put in their order."""
    return rearrange_head(start.weights, start.labels, labels, folder) if has_head(start.weights) else start.weights


def _train(
    model_folder: Path,
    examples: list[Example],
    config: LoraConfigSettings,
    work_dir: Path,
    *,
    hooks: "Hooks | None",
    resume_from: Path | None,
    start_from: Path | None = None,
    head_rows: int = 0,
) -> Path:
    from services.trainer.infra.loop import Trainable

    base_id = base_model_id(model_folder)
    with _explaining():
        model = with_lora(_base(model_folder, config, head_rows), config, start_from)
        initial = initial_weights(model)
        trainable = Trainable(model, lambda folder: save_adapter(model, folder, base_id))
        _run(trainable, examples, config, work_dir, hooks=hooks, resume_from=resume_from)
        return save_adapter(model, work_dir / "adapter", base_id, initial)


def _run(
    trainable: "Trainable",
    examples: list[Example],
    config: LoraConfigSettings,
    work_dir: Path,
    *,
    hooks: "Hooks | None",
    resume_from: Path | None,
) -> None:
    from services.trainer.infra.loop import Hooks, run

    if not examples:
        raise Invalid("rows_missing", "there is nothing to train on: the data set has no rows")
    run(trainable, examples, config, work_dir / "checkpoints", hooks=hooks or Hooks(), resume_from=resume_from)


def _with_experts(folder: Path, config: LoraConfigSettings, experts: Experts) -> "Trainable":
    from services.trainer.infra.loop import Trainable
    from services.trainer.infra.moe_lora import mean_imbalance, save_experts, with_experts

    model = with_experts(for_training(_base(folder, config, 0), config.precision), config, *experts).train()
    return Trainable(model, lambda into: save_experts(model, into), lambda: mean_imbalance(model))


def _base(folder: Path, config: LoraConfigSettings, head_rows: int) -> "PreTrainedModel":
    quantization = four_bits(config.precision) if config.method == "qlora" else None
    if head_rows:
        return load_classifier(folder, head_rows, quantization=quantization)
    return load_model(folder, "float32", quantization=quantization)


@contextmanager
def _explaining() -> Iterator[None]:
    """Say what to do about errors that torch and PEFT raise."""
    try:
        yield
    except (RuntimeError, MemoryError, ValueError) as error:
        raise _explained(error) from error


def _explained(error: Exception) -> Exception:
    text = str(error)
    if isinstance(error, MemoryError) or any(sign in text.lower() for sign in _OUT_OF_MEMORY):
        return Invalid("out_of_memory", "the training does not fit in memory: lower batch_size, max_length or rank")
    if "target modules" in text.lower():
        return Invalid("target_modules_unknown", f"the base model has no such modules to adapt: {text}")
    return error
