import torch

from services.trainer.data.examples import InstructionRow
from services.trainer.evaluation.generate import answer_rows, exact_match
from shared.contracts.built_in_templates import adapter_prompt
from shared.contracts.conversation import single_turn
from shared.model.base import load_model
from shared.model.tokens import encode, end_id

ROWS = [InstructionRow("Echo.", "x" * length, "answer") for length in (30, 1, 12)]


def one_by_one(model, tokenizer, row, tokens):
    ids = encode(tokenizer, adapter_prompt("plain", single_turn(row.instruction, row.input)), 500)
    start = len(ids)
    while len(ids) < start + tokens:
        with torch.inference_mode():
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] == end_id(tokenizer):
            break
    return tokenizer.decode(ids[start:], skip_special_tokens=True)


def test_answers_of_a_batch_equal_those_of_single_rows_in_their_order(tiny_folder, tiny_tokenizer):
    model = load_model(tiny_folder, "float32", device="cpu")

    answers = answer_rows(model, tiny_tokenizer, ROWS, template="plain", batch_size=2)

    assert answers == [one_by_one(model, tiny_tokenizer, row, tokens=7) for row in ROWS]
    assert len(set(answers)) > 1


def test_an_evaluation_stops_between_batches(tiny_folder, tiny_tokenizer):
    model = load_model(tiny_folder, "float32", device="cpu")

    answers = answer_rows(model, tiny_tokenizer, ROWS, should_stop=lambda: True)

    assert answers == ["", "", ""]


def test_a_match_ignores_case_and_blanks_and_nothing_else():
    rows = [InstructionRow("", "", "Change PIN"), InstructionRow("", "", "transfer"), InstructionRow("", "", "balance")]

    assert exact_match([" change  pin\n", "transfers", ""], rows) == 1 / 3
    assert exact_match([], []) == 0
