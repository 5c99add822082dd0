import itertools

import pytest

from shared.contracts.built_in_templates import adapter_prompt
from shared.contracts.conversation import message, single_turn
from shared.contracts.labels import Label
from shared.contracts.prompts import Part, render, selector_answer, selector_prompt
from shared.errors import Invalid

LABELS = [Label("fin", "sa"), Label("legal", "mc"), Label("fin", "ha")]


def test_the_adapter_prompt_is_the_papers_chatml():
    prompt = render(adapter_prompt("chatml", single_turn("Name the mood.", "Shares fell.")))

    assert prompt == (
        "<|im_start|>system\nName the mood.<|im_end|>\n"
        "<|im_start|>user\nShares fell.<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


TURNS = [
    message("system", "Name the mood."),
    message("user", "Hello."),
    message("assistant", "Which text?"),
    message("user", "Shares fell."),
]


def test_chatml_writes_each_turn_under_its_role():
    assert render(adapter_prompt("chatml", TURNS)) == (
        "<|im_start|>system\nName the mood.<|im_end|>\n"
        "<|im_start|>user\nHello.<|im_end|>\n"
        "<|im_start|>assistant\nWhich text?<|im_end|>\n"
        "<|im_start|>user\nShares fell.<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_plain_sets_turns_apart_by_blank_lines():
    prompt = render(adapter_prompt("plain", TURNS))

    assert prompt == "Name the mood.\n\nHello.\n\nWhich text?\n\nShares fell.\n\n"


def test_a_developer_is_a_system_to_models():
    told = [message("developer", "Name the mood."), message("user", "Shares fell.")]

    assert adapter_prompt("chatml", told) == adapter_prompt("chatml", single_turn("Name the mood.", "Shares fell."))


def test_a_conversation_may_have_no_system_message_and_an_instruction_may_be_empty():
    alone = render(adapter_prompt("chatml", [message("user", "a")]))
    empty = render(adapter_prompt("chatml", single_turn("", "a")))

    assert alone == "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"
    assert empty == "<|im_start|>system\n<|im_end|>\n" + alone


@pytest.mark.parametrize(
    ("template", "borders"),
    [
        (
            "chatml",
            ["<|im_start|>system\n", "<|im_end|>\n<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"],
        ),
        ("plain", ["\n\n", "\n\n"]),
    ],
)
def test_the_borders_of_one_turn_are_cut_where_they_always_were(template, borders):
    """Text is encoded segment by segment, so other cuts would be other tokens."""
    segments = adapter_prompt(template, single_turn("instruction", "text"))

    assert [segment.text for segment in segments if segment.part is Part.TEMPLATE] == borders
    assert [segment.part for segment in segments].count(Part.TEMPLATE) == len(borders)
    assert all(a.part is not b.part for a, b in itertools.pairwise(segments))


@pytest.mark.parametrize("template", ["chatml", "plain"])
def test_every_turn_is_the_users_and_only_the_last_of_the_user_may_be_shortened(template):
    segments = adapter_prompt(template, TURNS)

    assert [s.text for s in segments if s.part is Part.USER] == [turn.text for turn in TURNS]
    assert [s.text for s in segments if s.is_input] == ["Shares fell."]


def test_the_selector_prompt_and_its_answer_are_the_papers():
    prompt = render(selector_prompt("Shares fell.", LABELS)) + selector_answer(LABELS[0])

    assert prompt == (
        "Determine which of the following datapoint is in which domain, what is the task.\n"
        "input:Shares fell.\n"
        "Select from below list:\n"
        "Domains:fin, legal\n"
        "Tasks:ha, mc, sa\n"
        "Results:\n"
        "Domain:fin\n"
        "Task:sa"
    )


def test_the_plain_prompt_has_no_control_tokens():
    prompt = render(adapter_prompt("plain", single_turn("Name the mood.", "Shares fell.")))

    assert prompt == "Name the mood.\n\nShares fell.\n\n"


def test_the_selector_prompt_does_not_depend_on_the_order_of_labels():
    assert selector_prompt("a", LABELS) == selector_prompt("a", LABELS[::-1])


@pytest.mark.parametrize("template", ["chatml", "plain"])
def test_what_users_write_is_marked_as_theirs(template):
    segments = adapter_prompt(template, single_turn("instruction", "text"))

    assert [segment.text for segment in segments if segment.part is Part.USER] == ["instruction", "text"]
    assert [segment.text for segment in segments if segment.is_input] == ["text"]


def test_only_the_input_of_a_selector_prompt_is_the_users():
    segments = selector_prompt("text", LABELS)

    assert [segment.text for segment in segments if segment.part is Part.USER or segment.is_input] == ["text"]


def test_an_unknown_template_is_refused_by_name():
    with pytest.raises(Invalid, match="no prompt template 'vicuna'; take one of chatml, plain, alpaca"):
        adapter_prompt("vicuna", single_turn("a", "b"))
