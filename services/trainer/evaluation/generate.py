"""A model's greedy answers to rows, and how often they are exactly the expected ones."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from services.trainer.context import AnyContext
from services.trainer.data.examples import InstructionRow
from services.trainer.data.task_rows import as_training
from services.trainer.evaluation.answers import exact_matches
from shared.contracts.rows import Row
from shared.model.tokens import encode, encode_text
from shared.prompts.bound import BoundTemplate, as_bound

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BATCH_ROWS = 16


def exact_match(answers: Sequence[str], rows: Sequence[InstructionRow]) -> float:
    """Return the share of answers that match the rows' outputs, see `exact_matches`; 0 for no rows."""
    return sum(exact_matches(answers, [row.output for row in rows])) / max(len(rows), 1)


def answers_of(context: AnyContext, model: "PreTrainedModel", rows: Sequence[Row], prefix: str = "") -> list[str]:
    """Return the greedy answer to each row, by the job's settings; raises `Cancelled` where the job has to stop."""
    settings = context.body.settings
    answers = answer_rows(
        model,
        context.clients.tokenizer,
        as_training(rows, prefix),
        template=context.template(settings.template),
        max_tokens=settings.max_length,
        should_stop=lambda: context.lease.must_stop,
    )
    context.check()
    return answers


def answer_rows(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    rows: Sequence[InstructionRow],
    *,
    template: str | BoundTemplate = "chatml",
    max_tokens: int = 512,
    batch_size: int = BATCH_ROWS,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[str]:
    """Return the greedy answer to each row, of at most one token more than the longest expected output has.

    When `should_stop` returns True, generation ends before the next batch, and the remaining rows get an empty answer.
    """
    bound = as_bound(tokenizer, template)
    new_tokens = 1 + max((len(encode_text(tokenizer, row.output)) for row in rows), default=0)
    prompts = [encode(tokenizer, bound.of_turns(row.prompt), max_tokens) for row in rows]
    # The first templates are measured as they always were: up to the token that their answers are trained to end with.
    others = () if bound.template.by_segment else sorted(bound.end_ids - {bound.end_id})
    answers = [""] * len(rows)
    order = sorted(range(len(rows)), key=lambda row: len(prompts[row]))
    for at in range(0, len(order), batch_size):
        if should_stop():
            break
        part = order[at : at + batch_size]
        asked = [prompts[row] for row in part]
        texts = generate_greedily(model, tokenizer, asked, new_tokens, bound.end_id, other_ends=others)
        for row, text in zip(part, texts, strict=True):
            answers[row] = text
    return answers


def generate_greedily(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: list[list[int]],
    new_tokens: int,
    end: int,
    *,
    other_ends: Sequence[int] = (),
) -> list[str]:
    """Return what follows each prompt, greedily, up to the `end` token, another end, or `new_tokens`."""
    import torch

    ids, mask = _left_padded(prompts, end)
    with torch.inference_mode():
        generated = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            max_new_tokens=new_tokens,
            do_sample=False,
            eos_token_id=[end, *other_ends],
            pad_token_id=end,
        )
    tails = generated[:, ids.shape[1] :].tolist()
    answers: list[str] = tokenizer.batch_decode(tails, skip_special_tokens=True)
    return answers


def _left_padded(prompts: list[list[int]], filler: int) -> tuple["Tensor", "Tensor"]:
    import torch

    width = max(map(len, prompts))
    ids = torch.tensor([[filler] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    return ids, mask
