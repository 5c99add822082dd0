"""Rows of data sets in the form that training takes."""

from services.trainer.data.task_rows import as_training, rows_to_count
from shared.contracts.rows import Row

TURNS = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "More?"},
    {"role": "assistant", "content": "No"},
]
ROWS = [Row(instruction="Mood?", input="Up.", output="good"), Row.model_validate({"messages": TURNS})]


def test_a_row_of_one_question_teaches_its_output():
    row, _ = as_training(ROWS)
    assert (row.instruction, row.input, row.output, row.turns) == ("Mood?", "Up.", "good", ())
    assert [(turn.role, turn.text) for turn in row.prompt] == [("system", "Mood?"), ("user", "Up.")]


def test_a_conversation_teaches_every_answer_after_the_turns_before_it():
    _, row = as_training(ROWS)
    assert [(len(taught.prompt), taught.answer) for taught in row.taught] == [(2, "Hello"), (4, "No")]
    assert [turn.text for turn in row.prompt] == ["", "Hi", "Hello", "More?"]
    assert (row.input, row.output) == ("More?", "No")


def test_an_instruction_is_put_before_a_conversation_that_has_none():
    _, row = as_training(ROWS)
    assert row._replace(instruction="Be brief.").prompt[0].text == "Be brief."


def test_all_turns_of_a_conversation_count_as_work():
    assert rows_to_count(ROWS).bytes_each == (len("Mood?Up.good") + len("Hi\nHello\nMore?\nNo")) / 2
