"""The batches of a whole run, planned so that a resumed run sees the same ones, and their tensors."""

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from services.trainer.training.sequences import Example
from shared.model.hardware import rounded

if TYPE_CHECKING:
    from torch import Tensor

IGNORED = -100
BATCHES_PER_POOL = 32


def plan_batches(lengths: Sequence[int], batch_size: int, epochs: int, seed: int) -> list[list[int]]:
    """Return all batches of all epochs as row indices: rows of similar length share a batch; batches are shuffled."""
    return [batch for epoch in range(epochs) for batch in _epoch(lengths, batch_size, random.Random(f"{seed}:{epoch}"))]  # noqa: S311


def _epoch(lengths: Sequence[int], batch_size: int, dice: random.Random) -> list[list[int]]:
    order = list(range(len(lengths)))
    dice.shuffle(order)
    pool = batch_size * BATCHES_PER_POOL
    by_length = [
        row for at in range(0, len(order), pool) for row in sorted(order[at : at + pool], key=lengths.__getitem__)
    ]
    batches = [by_length[at : at + batch_size] for at in range(0, len(by_length), batch_size)]
    dice.shuffle(batches)
    return batches


def collate(examples: Sequence[Example], step: int = 1) -> dict[str, Any]:
    """Return `labels` `[batch, answer]`, `tasks` and `weights` `[batch]`, and the model's own inputs `[batch, width]`.

    Padding is on the left, so that the last `logits_to_keep` columns of the logits predict `labels`. The width is a
    multiple of `step`. The inputs leave the final token of each sequence out: it is only predicted.
    """
    import torch

    targets = _targets(examples)
    width = rounded(max(map(len, examples)) - 1, step)
    shape = (len(examples), width)
    batch = {name: torch.zeros(shape, dtype=torch.long) for name in ("input_ids", "attention_mask", "position_ids")}
    for row, example in enumerate(examples):
        inputs = _inputs(example)
        batch["input_ids"][row, width - len(inputs) :] = torch.tensor(inputs)
        batch["attention_mask"][row, width - len(inputs) :] = 1
        batch["position_ids"][row, width - len(inputs) :] = torch.arange(len(inputs))
    return {**batch, **targets, "logits_to_keep": targets["labels"].shape[1]}


def pack(examples: Sequence[Example], step: int = 1) -> dict[str, Any]:
    """Return what `collate` returns, with the examples concatenated to one row `[1, tokens]`.

    What makes the tokens a multiple of `step` is a row of its own behind the others. `row_lengths`, and `row_ends`
    `[rows + 1]` with a 0 first, are for `row_attention`. Under another attention the model takes positions, which start
    anew with each row, as the bounds of attention where no mask is given. `logits_to_keep` holds the positions that
    predict `labels`, row after row, and any position for `IGNORED` labels.
    """
    import torch

    targets = _targets(examples)
    inputs = [_inputs(example) for example in examples]
    keep = targets["labels"].shape[1]
    positions, end = torch.zeros(targets["labels"].shape, dtype=torch.long), 0
    for row, (example, tokens) in enumerate(zip(examples, inputs, strict=True)):
        end += len(tokens)
        positions[row, keep - len(example.answer) :] = torch.arange(end - len(example.answer), end)
    if padding := rounded(end, step) - end:
        inputs.append([0] * padding)
    lengths = [len(tokens) for tokens in inputs]
    return {
        "input_ids": torch.tensor([[token for tokens in inputs for token in tokens]]),
        "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
        "row_lengths": lengths,
        "row_ends": torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32),
        **targets,
        "logits_to_keep": positions.flatten(),
    }


def _inputs(example: Example) -> list[int]:
    return (example.prompt + example.answer)[:-1]


def _targets(examples: Sequence[Example]) -> dict[str, "Tensor"]:
    import torch

    labels = torch.full((len(examples), max(len(example.answer) for example in examples)), IGNORED)
    for row, example in enumerate(examples):
        own = labels[row, labels.shape[1] - len(example.answer) :]
        own[:] = torch.tensor(example.answer)
        for begin, stop in example.masked:
            own[begin:stop] = IGNORED
    tasks = torch.tensor([example.task for example in examples])
    weights = torch.tensor([example.weight for example in examples])
    return {"labels": labels, "tasks": tasks, "weights": weights}
