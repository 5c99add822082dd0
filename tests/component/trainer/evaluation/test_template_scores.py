"""The template that an adapter was trained with is found again, on a tiny model."""

import pytest
import torch

from services.trainer.data.examples import InstructionRow
from services.trainer.evaluation.template_choice import choose
from services.trainer.evaluation.template_scores import Scored
from services.trainer.training.lora import train_adapter
from shared.contracts.conversation import single_turn
from shared.contracts.templates import PromptTemplate
from shared.contracts.training_settings import LoraSettings
from shared.model.base import load_model
from shared.model.merge import with_adapter
from shared.model.tokens import encode, encode_text
from shared.prompts.bound import BasePrompts, built_in

HOUSE = PromptTemplate(name="house", jinja="{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")
TWIN = HOUSE.model_copy(update={"name": "twin"})
NAMES = ("chatml", "plain", "alpaca", "mistral", "zephyr")
CONFIG = LoraSettings(
    epochs=8, rank=8, learning_rate=0.02, batch_size=4, max_length=400, checkpoint_steps=10_000, dropout=0,
    target_modules="all-linear",
)  # fmt: skip
ROWS = [InstructionRow("Say it.", word, "yes" if at % 2 else "no") for at, word in enumerate("abcdefghijkl")]


@pytest.fixture(scope="module")
def templates(tiny_tokenizer):
    prompts = BasePrompts(tiny_tokenizer)
    return {name: built_in(tiny_tokenizer, name) for name in NAMES} | {
        template.name: prompts.bind(template) for template in (HOUSE, TWIN)
    }


@pytest.mark.parametrize("name", [*NAMES, "house"])
def test_the_template_of_the_training_is_the_best_or_tied(tiny_folder, tiny_tokenizer, templates, tmp_path, name):
    adapter = train_adapter(
        tiny_folder, tiny_tokenizer, ROWS, config=CONFIG, work_dir=tmp_path, template=templates[name]
    )
    model = with_adapter(load_model(tiny_folder, "float32", device="cpu"), adapter)
    scored = Scored(model, tiny_tokenizer, ROWS[:10], max_length=400)
    choice = choose(scored.scores(templates, answers=False))
    assert choice.allows(name), choice
    assert choice.verdict != "no_better_than_base"


def test_losses_are_those_of_a_plain_forward_pass(tiny_folder, tiny_tokenizer, templates, tmp_path):
    adapter = train_adapter(tiny_folder, tiny_tokenizer, ROWS, config=CONFIG, work_dir=tmp_path)
    model = with_adapter(load_model(tiny_folder, "float32", device="cpu"), adapter)
    rows = [InstructionRow("Say it.", "a longer text", "yes"), InstructionRow("", "x", "absolutely not")]
    (score,) = Scored(model, tiny_tokenizer, rows, max_length=400).scores({"alpaca": templates["alpaca"]})
    for row, losses in zip(rows, score.losses, strict=True):
        prompt = encode(tiny_tokenizer, templates["alpaca"].of_turns(single_turn(row.instruction, row.input)), 400)
        answer = [*encode_text(tiny_tokenizer, row.output), templates["alpaca"].end_id]
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        expected = torch.nn.functional.cross_entropy(logits, torch.tensor(answer), reduction="none").tolist()
        assert losses == pytest.approx(expected, abs=1e-4)
    assert score.base_losses != score.losses
    assert 0 <= score.exact_match <= 1


def test_templates_that_give_the_same_prompts_are_one(tiny_folder, tiny_tokenizer, templates, tmp_path):
    adapter = train_adapter(tiny_folder, tiny_tokenizer, ROWS[:4], config=CONFIG, work_dir=tmp_path)
    model = with_adapter(load_model(tiny_folder, "float32", device="cpu"), adapter)
    scores = Scored(model, tiny_tokenizer, ROWS[:4], max_length=400).scores(templates, answers=False)
    assert ("house", "twin") in [score.names for score in scores]
    assert len(scores) == len(templates) - 1
    assert {score.exact_match for score in scores} == {None}


def test_a_template_that_refuses_such_rows_is_left_out(tiny_folder, tiny_tokenizer, templates, tmp_path):
    strict = PromptTemplate(
        name="strict",
        jinja="{% if messages|length > 1 or messages[0].role == 'system' %}{{ raise_exception('one turn') }}{% endif %}"
        "{{ messages[0].content }}",
    )
    adapter = train_adapter(tiny_folder, tiny_tokenizer, ROWS[:4], config=CONFIG, work_dir=tmp_path)
    model = with_adapter(load_model(tiny_folder, "float32", device="cpu"), adapter)
    found = {"plain": templates["plain"], "strict": BasePrompts(tiny_tokenizer).bind(strict)}
    names = [
        score.names for score in Scored(model, tiny_tokenizer, ROWS[:4], max_length=400).scores(found, answers=False)
    ]
    assert ("plain",) in names
