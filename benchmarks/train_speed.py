"""Selector training beside a plain `Trainer` that pads each batch to its longest row: same rows, same LoRA, one epoch.

Both read the paper's prompt, take the loss only on the label and compute in the same precision; what differs is
batches of like length, logits of the answer only, and a base model that is made ready once (`for_training`).
`packed` is ours with `packing`. Tokens are those of the rows, without padding; the ways take turns.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from peft import get_peft_model
from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

from benchmarks.adapters_kit import paired
from benchmarks.common import median_row, print_table, write_results
from benchmarks.plain_training import PlainRows, plain_lora
from benchmarks.selector_data import as12, need_data
from services.trainer.data.examples import SelectorRow
from services.trainer.training.batches import IGNORED
from services.trainer.training.loop import Callbacks, Trainable, run
from services.trainer.training.peft_folder import save_adapter, with_lora
from services.trainer.training.sequences import Example, selector_examples
from shared.contracts.labels import parse_label
from shared.contracts.training_settings import LoraSettings
from shared.model.base import base_model_id, load_model, load_tokenizer, resolve_base_model
from shared.model.hardware import computes_bfloat16
from shared.settings import Settings

GOAL = 1.8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rows", type=int, default=8, help="of each of the 12 tasks")
    parser.add_argument("--max-length", type=int, default=256)
    args = parser.parse_args()
    need_data()
    torch.set_num_threads(1)
    settings = LoraSettings(
        epochs=1, max_length=args.max_length, precision="bfloat16" if computes_bfloat16("cpu") else "float32"
    )
    base = resolve_base_model(Settings())
    examples = examples_of(base, args.rows, args.max_length)
    ways = {
        "ours": lambda: train_ours(base, examples, settings),
        "packed": lambda: train_ours(base, examples, settings.model_copy(update={"packing": True})),
        "plain": lambda: train_plain(base, examples, settings),
    }
    pairs = [paired({name: way() for name, way in ways.items()}) for _ in range(args.runs + 1)][1:]
    rows = [
        median_row("train_speed_x", [pair["ours"][0] / pair["plain"][0] for pair in pairs], "x", goal=GOAL),
        median_row("train_packed_x", [pair["packed"][0] / pair["ours"][0] for pair in pairs], "x"),
        *(median_row(f"train_{name}_tokens_per_cpu_s", [pair[name][0] for pair in pairs], "tokens/CPU s")
          for name in ways),
    ]  # fmt: skip
    print_table(rows)
    write_results("train_speed", rows)


def examples_of(base: Path, count: int, max_length: int) -> list[Example]:
    texts = as12(count).train
    rows = [SelectorRow(text, parse_label(label)) for label, own in texts.items() for text in own]
    return selector_examples(load_tokenizer(base), rows, [parse_label(label) for label in sorted(texts)], max_length)


def train_ours(base: Path, examples: list[Example], settings: LoraSettings) -> Callable[[], int]:
    """A run that is ready to start; it answers the tokens it reads."""
    model = with_lora(load_model(base, "float32", "cpu"), settings)

    def start() -> int:
        with tempfile.TemporaryDirectory() as folder:
            trainable = Trainable(model, lambda into: save_adapter(model, into, base_model_id(base)))
            run(trainable, examples, settings, Path(folder), callbacks=Callbacks(), resume_from=None)
        return sum(map(len, examples))

    return start


def train_plain(base: Path, examples: list[Example], settings: LoraSettings) -> Callable[[], int]:
    """The same with transformers and PEFT as they come."""
    model = get_peft_model(load_model(base, "float32", "cpu"), plain_lora(settings))
    collator = DataCollatorForSeq2Seq(load_tokenizer(base), padding="longest", label_pad_token_id=IGNORED)

    def start() -> int:
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                output_dir=folder, per_device_train_batch_size=settings.batch_size, num_train_epochs=1,
                learning_rate=settings.learning_rate, bf16=settings.precision == "bfloat16", use_cpu=True,
                save_strategy="no", logging_strategy="no", report_to="none", disable_tqdm=True,
            )  # fmt: skip
            Trainer(model=model, args=arguments, train_dataset=PlainRows(examples), data_collator=collator).train()
        return sum(map(len, examples))

    return start


if __name__ == "__main__":
    main()
