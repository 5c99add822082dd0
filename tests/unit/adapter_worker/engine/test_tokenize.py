"""Prompts that are too long: a conversation loses its oldest turns first."""

import pytest

from services.adapter_worker.engine.base import GenerationRequest
from services.adapter_worker.engine.tokenize import prompt_ids
from shared.contracts.conversation import count_old_turns, message, without_old_turns
from shared.contracts.prompts import Part, Segment

SYSTEM, FIRST, SAID, SECOND, TOLD, LAST = (
    message("system", "s"), message("user", "aaaa"), message("assistant", "bbbb"),
    message("user", "cccc"), message("assistant", "dddd"), message("user", "eeee"),
)  # fmt: skip
CHAT = (SYSTEM, FIRST, SAID, SECOND, TOLD, LAST)


def segments(messages):
    return [Segment(Part.USER, turn.text, turn is messages[-1]) for turn in messages]


def encode(_tokenizer, prompt, limit):
    """A token for each letter; the last turn gives way."""
    text = [letter for segment in prompt for letter in segment.text]
    return text[: limit - 1] + text[-1:] if len(text) > limit else text


def prompt(limit, chat=CHAT):
    request = GenerationRequest(
        "job_1", 1, segments(chat), None,
        max_new_tokens=1,
        old_turns=count_old_turns(chat),
        shorter=lambda dropped: segments(without_old_turns(chat, dropped)),
    )  # fmt: skip
    ids, is_shortened = prompt_ids(encode, None, request, max_prompt_tokens=limit, context_length=1000)
    return "".join(ids), is_shortened


@pytest.mark.parametrize(
    ("limit", "left", "is_shortened"),
    [
        (21, "saaaabbbbccccddddeeee", False),
        (20, "sccccddddeeee", True),
        (13, "sccccddddeeee", True),
        (12, "seeee", True),
        (5, "seeee", True),
        (4, "seee", True),
    ],
)
def test_a_conversation_loses_its_oldest_turns_and_neither_its_instruction_nor_its_last_turn(limit, left, is_shortened):
    assert prompt(limit) == (left, is_shortened)


def test_a_conversation_of_a_thousand_turns_is_cut_at_the_longest_that_fits():
    chat = (SYSTEM, *(message(role, f"{number % 10}") for number in range(500) for role in ("user", "assistant")), LAST)
    ids, is_shortened = prompt(20, chat)
    assert (len(ids), is_shortened) == (19, True)
    assert ids.startswith("s3")


def test_one_turn_alone_loses_its_middle():
    assert prompt(3, (SYSTEM, LAST)) == ("see", True)
