"""Rows as token sequences: a prompt, and the answer on which the loss is taken."""

import functools
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from services.trainer.data.examples import InstructionRow, SelectorRow
from shared.contracts.conversation import single_turn
from shared.contracts.labels import Label
from shared.contracts.prompts import Segment, selector_answer, selector_prompt
from shared.errors import Invalid
from shared.model.head import head_ids
from shared.model.tokens import encode, encode_text, end_id
from shared.prompts.bound import BoundTemplate, as_bound

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Example(NamedTuple):
    """A prompt, and the answer (its end token included), on which the loss is taken."""

    prompt: list[int]
    answer: list[int]
    task: int = 0
    """Number of its task, where several tasks are trained together."""
    weight: float = 1.0
    """Its weight in the loss."""
    masked: Sequence[Sequence[int]] = ()
    """Stretches of the answer, from and up to, that are only read: what others say between the answers of a
    conversation."""

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


class RowRefused(Invalid):
    """A row that cannot be trained on; `number` counts the given rows from 1."""

    def __init__(self, code: str, reason: str, number: int) -> None:
        super().__init__(code, f"row {number}: {reason}")
        self.reason = reason
        self.number = number


def adapter_examples(
    tokenizer: "PreTrainedTokenizerBase",
    rows: Sequence[InstructionRow],
    template: str | BoundTemplate,
    max_length: int,
    *,
    cut_answers: bool = False,
) -> list[Example]:
    """Tokenise instruction rows; raises `RowRefused` where a row takes more than `max_length` tokens.

    An input is shortened to fit. With `cut_answers`, an answer that does not fit beside its prompt loses its end, its
    end token too, and keeps at least half of what the prompt leaves. A conversation is kept or cut as a whole.
    """
    template = as_bound(tokenizer, template)
    too_long = set(long_answers(tokenizer, rows, template, max_length))
    examples: list[Example] = []
    for index, row in enumerate(rows):
        if row.turns:
            if index in too_long and not cut_answers:
                why = why_too_long(tokenizer, row, template, max_length)
                raise RowRefused("answer_too_long", why, index + 1)
            examples += _cut(conversation_examples(tokenizer, row, template), max_length, index + 1)
            continue
        answer = [*encode_text(tokenizer, row.output), template.end_id]
        segments = template.of_turns(single_turn(row.instruction, row.input))
        if index in too_long:
            if not cut_answers:
                raise RowRefused("answer_too_long", too_long_answer(len(answer), max_length), index + 1)
            free = answer_room(tokenizer, row.instruction, template, max_length) + 1
            answer = answer[: max(free - len(encode_text(tokenizer, row.input)), (free + 1) // 2)]
        examples.append(Example(_fitted(tokenizer, segments, max_length - len(answer), index + 1), answer))
    return examples


def long_answers(
    tokenizer: "PreTrainedTokenizerBase", rows: Sequence[InstructionRow], template: str | BoundTemplate, max_length: int
) -> list[int]:
    """Return the indices of rows whose answer does not fit beside a prompt that holds one token of their input.

    Of a conversation, everything has to fit.
    """
    bound = as_bound(tokenizer, template)
    room = functools.cache(lambda instruction: answer_room(tokenizer, instruction, bound, max_length))

    def is_long(row: InstructionRow) -> bool:
        if row.turns:
            return _longest(conversation_examples(tokenizer, row, bound)) > max_length
        # An instruction that leaves no room is at fault itself.
        return len(encode_text(tokenizer, row.output)) + 1 > room(row.instruction) > 0

    return [index for index, row in enumerate(rows) if is_long(row)]


def answer_room(
    tokenizer: "PreTrainedTokenizerBase", instruction: str, template: BoundTemplate, max_length: int
) -> int:
    """Return how many tokens an answer may take, beside a prompt with one token of its input."""
    prompt = template.of_turns(single_turn(instruction, ""))
    return max_length - len(encode(tokenizer, prompt, sys.maxsize)) - 1


def too_long_answer(tokens: int, max_length: int) -> str:
    """Say what to do about an answer that does not fit."""
    return (
        f"its answer takes {tokens} tokens, with its prompt it may have {max_length} (`max_length`): shorten it, leave "
        "the row out, raise settings.max_length, or let `long_answers` (`--long-answers`) cut or leave_out such rows"
    )


def why_too_long(
    tokenizer: "PreTrainedTokenizerBase", row: InstructionRow, template: str | BoundTemplate, max_length: int
) -> str:
    """Say what to do about a row that does not fit."""
    if not row.turns:
        return too_long_answer(len(encode_text(tokenizer, row.output)) + 1, max_length)
    tokens = _longest(conversation_examples(tokenizer, row, template))
    return (
        f"its conversation takes {tokens} tokens, it may have {max_length} (`max_length`): split it, leave the row "
        "out, raise settings.max_length, or let `long_answers` (`--long-answers`) cut or leave_out such rows"
    )


def conversation_examples(
    tokenizer: "PreTrainedTokenizerBase", row: InstructionRow, template: str | BoundTemplate
) -> list[Example]:
    """Tokenise a row of several turns: every turn of the assistant is an answer, its end token included.

    It is one example as long as each prompt begins with the one before and its answer. Where a template writes earlier
    turns in another way, such as without their end token, an answer is an example of its own, as it is served.
    """
    bound = as_bound(tokenizer, template)
    examples: list[Example] = []
    for messages, text in row.taught:
        prompt = encode(tokenizer, bound.of_turns(messages), sys.maxsize)
        own = Example(prompt, [*encode_text(tokenizer, text), bound.end_id])
        joined = _joined(examples[-1], own) if examples else None
        examples = [*examples[:-1], joined] if joined else [*examples, own]
    return examples


def _joined(before: Example, own: Example) -> Example | None:
    """Both as one; None where the prompt does not begin with the example before."""
    known = before.prompt + before.answer
    if own.prompt[: len(known)] != known:
        return None
    between, at = own.prompt[len(known) :], len(before.answer)
    answer = [*before.answer, *between, *own.answer]
    return Example(before.prompt, answer, masked=[*before.masked, [at, at + len(between)]])


def _longest(examples: Sequence[Example]) -> int:
    return max(map(len, examples), default=0)


def _cut(examples: Sequence[Example], max_length: int, number: int) -> list[Example]:
    """The beginnings of a conversation's examples; raises `RowRefused` where none holds a token of an answer."""
    kept = [
        Example(example.prompt, example.answer[: max_length - len(example.prompt)], masked=example.masked)
        for example in examples
        if len(example.prompt) < max_length
    ]
    if not kept:
        why = f"its first question fills {max_length} tokens (`max_length`): shorten it, or raise settings.max_length"
        raise RowRefused("prompt_too_long", why, number)
    return kept


def selector_examples(
    tokenizer: "PreTrainedTokenizerBase", rows: Sequence[SelectorRow], labels: Sequence[Label], max_length: int
) -> list[Example]:
    """Tokenise selector rows: the prompt lists all `labels`, the answer is the row's own (paper, appendix A)."""
    end = end_id(tokenizer)
    answers = {label: [*encode_text(tokenizer, selector_answer(label)), end] for label in labels}
    room = max_length - max(map(len, answers.values()))
    return [
        Example(_fitted(tokenizer, selector_prompt(row.text, labels), room, number), answers[row.label])
        for number, row in enumerate(rows, start=1)
    ]


def head_examples(
    tokenizer: "PreTrainedTokenizerBase", rows: Sequence[SelectorRow], labels: Sequence[Label], max_length: int
) -> list[Example]:
    """Tokenise selector rows for a head: the prompt is only the text, the answer the index of its label in `labels`."""
    return [Example(head_ids(tokenizer, row.text, max_length), [labels.index(row.label)]) for row in rows]


def balanced(tasks: Sequence[Sequence[Example]]) -> list[Example]:
    """The examples of several tasks, with weights (1 on average) that give each task the same share of a run."""
    mean = sum(map(len, tasks)) / len(tasks)
    return [
        Example(example.prompt, example.answer, number, mean / len(task), example.masked)
        for number, task in enumerate(tasks)
        for example in task
    ]


def _fitted(tokenizer: "PreTrainedTokenizerBase", segments: list[Segment], room: int, number: int) -> list[int]:
    try:
        return encode(tokenizer, segments, room)
    except Invalid as error:
        raise RowRefused(error.code, error.detail, number) from error
