"""What is shown of rows before they are trained."""

from functools import partial

from shared.contracts.built_in_templates import adapter_prompt
from shared.contracts.rows import Row
from shared.data_files.preview import Part, Preview, training_text

TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Go away", "weight": 0},
    {"role": "user", "content": "Please"},
    {"role": "assistant", "content": "Yes"},
    {"role": "user", "content": "Thanks"},
    {"role": "assistant", "content": "Bye"},
]


def test_a_row_is_shown_as_its_prompt_and_its_answer():
    assert training_text(Row(instruction="Mood?", input="Up.", output="good"), partial(adapter_prompt, "plain")) == [
        Part("Mood?\n\nUp.\n\n", learnt=False),
        Part("good", learnt=True),
    ]


def test_of_a_conversation_the_turns_of_the_assistant_are_learnt_but_for_those_of_weight_0():
    parts = training_text(Row.model_validate({"messages": TURNS}), partial(adapter_prompt, "chatml"))
    assert [part.text for part in parts if part.learnt] == ["Yes", "Bye"]
    assert "".join(part.text for part in parts).count("<|im_start|>") == 7
    assert parts[0].text.endswith(
        "assistant\nGo away<|im_end|>\n<|im_start|>user\nPlease<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_conversation_that_ends_with_the_user_is_shown_whole():
    (only,) = training_text(Row.model_validate({"messages": TURNS[:4]}), partial(adapter_prompt, "plain"))
    assert (only.learnt, only.text.endswith("Please\n\n")) == (False, True)


def test_the_first_five_rows_are_shown_and_all_lengths_counted_in_steps_that_double():
    preview = Preview("plain")
    for length in (1, 11, 12, 13, 28, 29, 200):
        preview.add(Row(input="x" * length, instruction=""))
    told = preview.as_fields()
    assert len(told["sample"]) == 5
    # Each text has two blank lines, four characters, around it.
    assert told["lengths"] == {
        "unit": "characters",
        "by": "",
        "rows": 7,
        "longest": 204,
        "histogram": [
            {"up_to": 16, "rows": 3},
            {"up_to": 32, "rows": 2},
            {"up_to": 64, "rows": 1},
            {"up_to": 128, "rows": 0},
            {"up_to": 256, "rows": 1},
        ],
    }


def test_where_counting_is_slow_the_first_rows_alone_are_counted():
    preview = Preview("plain", length=lambda text: len(text.split()), unit="tokens", most=2)
    for number in range(5):
        preview.add(Row(input=f"row {number}"))
    lengths = preview.as_fields()["lengths"]
    assert (lengths["unit"], lengths["rows"], lengths["longest"]) == ("tokens", 2, 2)
