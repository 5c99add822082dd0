"""The base model of a training: in which type, where, and that LoRA learns on it in either."""

import pytest
import torch

from services.trainer.data.examples import InstructionRow
from services.trainer.training.base import load_base
from services.trainer.training.loop import Callbacks, Trainable, run
from services.trainer.training.peft_folder import with_lora
from services.trainer.training.sequences import Example, adapter_examples
from shared.contracts.training_settings import LoraSettings
from shared.model.base import load_model
from shared.model.hardware import training_precision
from shared.model.head import load_classifier

CONFIG = LoraSettings(rank=4, epochs=10, batch_size=4, max_length=128, dropout=0.0, learning_rate=0.01)
BFLOAT16 = CONFIG.model_copy(update={"precision": "bfloat16"})
ROWS = [InstructionRow("Echo.", f"word {number}", "odd" if number % 2 else "even") for number in range(8)]


def types_of(model):
    return {(weight.device.type, weight.dtype) for weight in model.parameters()}


@pytest.mark.parametrize("head_rows", [0, 3], ids=["names", "head"])
def test_on_a_card_weights_are_read_onto_it_in_the_precision_of_the_training(tiny_folder, head_rows):
    """The device without memory stands for the card: what reaches it was never a model on the host."""
    model = load_base(tiny_folder, BFLOAT16, head_rows=head_rows, device="meta")
    assert types_of(model) == {("meta", torch.bfloat16)}


@pytest.mark.parametrize("head_rows", [0, 3], ids=["names", "head"])
def test_on_processors_weights_stay_in_float32(tiny_folder, head_rows):
    model = load_base(tiny_folder, BFLOAT16, head_rows=head_rows, device="cpu")
    assert types_of(model) == {("cpu", torch.float32)}


def losses(model, examples, tmp_path):
    heard = []
    tuned = with_lora(model, BFLOAT16)
    assert {weight.dtype for weight in tuned.parameters() if weight.requires_grad} == {torch.float32}
    trainable = Trainable(tuned, tuned.save_pretrained)
    run(trainable, examples, BFLOAT16, tmp_path, callbacks=Callbacks(heard.append), resume_from=None)
    assert {progress.precision for progress in heard} == {"bfloat16"}
    return [progress.loss for progress in heard]


def test_an_adapter_learns_on_weights_in_bfloat16(tiny_folder, tiny_tokenizer, tmp_path):
    model = load_model(tiny_folder, "bfloat16", device="cpu")
    found = losses(model, adapter_examples(tiny_tokenizer, ROWS, "chatml", 128), tmp_path)
    assert found[-1] < 0.7 * found[0]


def test_a_head_learns_beside_weights_in_bfloat16(tiny_folder, tmp_path):
    model = load_classifier(tiny_folder, 2, "cpu", dtype="bfloat16")
    found = losses(model, [Example([20 + 9 * (row % 2)] * 5, [row % 2]) for row in range(8)], tmp_path)
    assert found[-1] < 0.7 * found[0]


@pytest.mark.parametrize(("multiplies", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_auto_is_bfloat16_on_a_card_that_multiplies_it(monkeypatch, multiplies, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: multiplies)
    assert training_precision() == expected


def test_auto_is_float32_on_processors(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert training_precision() == "float32"
