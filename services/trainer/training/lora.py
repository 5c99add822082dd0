"""Train an adapter or a selector: rows in, a PEFT folder out."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from services.trainer.data.examples import InstructionRow, SelectorRow
from services.trainer.training.peft_folder import rearrange_head
from services.trainer.training.run import Experts, TrainingRun, train_here
from services.trainer.training.sequences import adapter_examples, balanced, head_examples, selector_examples
from shared.contracts.labels import Label
from shared.contracts.training_settings import LoraSettings
from shared.errors import Invalid
from shared.model.hardware import training_precision
from shared.model.head import has_head
from shared.model.memory import return_free_memory

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from services.trainer.training.loop import Callbacks
    from shared.prompts.bound import BoundTemplate


class Start(NamedTuple):
    """The PEFT folder of a selector to fine-tune again, and its labels in their order."""

    weights: Path
    labels: Sequence[Label]


def train_adapter(
    model_folder: Path,
    tokenizer: "PreTrainedTokenizerBase",
    rows: Sequence[InstructionRow],
    *,
    config: LoraSettings,
    work_dir: Path,
    callbacks: "Callbacks | None" = None,
    resume_from: Path | None = None,
    launcher: str = "",
    cut_answers: bool = False,
    template: "BoundTemplate | None" = None,
    on: Path | None = None,
) -> Path:
    """Train LoRA weights on instruction rows, loss on the output only, and return the PEFT folder (paper, section 3.2).

    By default the template is the built-in one that `config` names. Same rows, config and seed give the same weights,
    resumed or not. Where they are trained over the frozen PEFT folder `on`, theirs alone are returned. Raises
    `Cancelled`, and `Invalid` for no rows, rows that do not fit, unknown target modules, a loss that is not finite, or
    too little memory.
    """
    prompts = template or config.template
    examples = adapter_examples(tokenizer, rows, prompts, config.max_length, cut_answers=cut_answers)
    return _trained(TrainingRun(model_folder, examples, config, work_dir, resume_from, on=on), callbacks, launcher)


def train_selector(
    model_folder: Path,
    tokenizer: "PreTrainedTokenizerBase",
    rows: Sequence[SelectorRow],
    *,
    labels: Sequence[Label],
    config: LoraSettings,
    work_dir: Path,
    callbacks: "Callbacks | None" = None,
    resume_from: Path | None = None,
    launcher: str = "",
    start_from: Start | None = None,
    head: bool = False,
) -> Path:
    """Train LoRA weights on a representation set, loss on the label only (paper, section 3.3, appendix A).

    The prompt lists `labels`, so give exactly those of the release; with `head` the prompt is only the text, and a
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
    run = TrainingRun(
        model_folder, examples, config, work_dir, resume_from, before, head_rows=len(labels) if head else 0
    )
    return _trained(run, callbacks, launcher)


def train_together(
    model_folder: Path,
    tokenizer: "PreTrainedTokenizerBase",
    tasks: Sequence[Sequence[InstructionRow]],
    *,
    config: LoraSettings,
    work_dir: Path,
    experts: Experts | None = None,
    callbacks: "Callbacks | None" = None,
    resume_from: Path | None = None,
    launcher: str = "",
    cut_answers: bool = False,
    template: "BoundTemplate | None" = None,
) -> Path:
    """Train one set of weights on several tasks of equal weight, and return its folder (paper, section 4.2).

    It is the PEFT folder of one LoRA (MFTCoder), or with `experts` that of a mixture of LoRA experts.
    Raises as `train_adapter` does.
    """
    prompts, longest = template or config.template, config.max_length
    examples = balanced(
        [adapter_examples(tokenizer, rows, prompts, longest, cut_answers=cut_answers) for rows in tasks]
    )
    return _trained(
        TrainingRun(model_folder, examples, config, work_dir, resume_from, experts=experts), callbacks, launcher
    )


def train_drawn(
    model_folder: Path,
    tokenizer: "PreTrainedTokenizerBase",
    tasks: Sequence[Sequence[InstructionRow]],
    draw: Callable[[Sequence[int]], Sequence[int]],
    *,
    config: LoraSettings,
    work_dir: Path,
    callbacks: "Callbacks | None" = None,
    resume_from: Path | None = None,
    start_from: Path | None = None,
    launcher: str = "",
    cut_answers: bool = False,
    template: "BoundTemplate | None" = None,
) -> Path:
    """Train one LoRA on several tasks whose rows are drawn, and return its folder ("Multi-task Online Server", 4.2).

    `draw` takes the tasks' numbers of rows (a conversation may be several) and returns the rows in the order of the
    training, numbered over all tasks; `start_from` is a PEFT folder to go on from. Raises as `train_adapter` does.
    """
    prompts, longest = template or config.template, config.max_length
    own = [adapter_examples(tokenizer, rows, prompts, longest, cut_answers=cut_answers) for rows in tasks]
    examples = [example for task in own for example in task]
    drawn = draw([len(task) for task in own])
    return _trained(
        TrainingRun(model_folder, examples, config, work_dir, resume_from, start_from, drawn=drawn), callbacks, launcher
    )


def carry_over(start: Start, labels: Sequence[Label], folder: Path) -> Path:
    """Return a selector's PEFT folder for other `labels` without training; a head is rearranged in their order."""
    return rearrange_head(start.weights, start.labels, labels, folder) if has_head(start.weights) else start.weights


def _trained(run: TrainingRun, callbacks: "Callbacks | None", launcher: str) -> Path:
    """Settle what the settings leave open, and train in this process or in those that the launcher starts."""
    from services.trainer.training.card_memory import plan_card
    from services.trainer.training.launcher import train_in_processes
    from services.trainer.training.loop import Callbacks

    callbacks = callbacks or Callbacks()
    if run.config.precision == "auto":  # a job has settled it already
        run = run._replace(config=run.config.model_copy(update={"precision": training_precision()}))
    if plan := plan_card(run):
        callbacks.on_card_plan(plan)
        run = plan.applied_to(run)
    folder = train_in_processes(run, callbacks, launcher) if launcher else train_here(run, callbacks)
    # Trainer, callbacks and model refer to each other: without a collection they would stay in memory while the base
    # model is loaded a second time to judge the result.
    return_free_memory()
    return folder
