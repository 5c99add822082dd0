"""The estimate of a card's memory: against the tensors that a training really keeps, and what it decides."""

import json
from types import SimpleNamespace

import pytest
import torch

from services.trainer.step_log import StepLog
from services.trainer.training.batches import collate
from services.trainer.training.card_memory import largest_batch, memory_of, plan_card
from services.trainer.training.loop import Callbacks
from services.trainer.training.lora import train_adapter
from services.trainer.training.run import Experts, TrainingRun
from services.trainer.training.sequences import Example
from shared.contracts.training_settings import LoraSettings
from shared.contracts.training_tasks import AdapterTrain
from shared.model.base import load_model
from tests.support import families
from tests.support.training_steps import learner, step_of

WIDE = [Example([3 + at % 40 for at in range(60)], [5] * 5) for _ in range(4)]
SETTINGS = LoraSettings(precision="float32", rank=2, dropout=0.0, batch_size=4, target_modules="all-linear")


@pytest.fixture(scope="module")
def folder(tiny_tokenizer, tmp_path_factory):
    return families.save_family(tmp_path_factory.mktemp("memory") / "base", "llama", tiny_tokenizer)


def run_of(folder, settings=SETTINGS, examples=WIDE, **more):
    return TrainingRun(folder, examples, settings, folder.parent / "work", **more)


class Kept:
    """Counts the bytes that a forward pass keeps for its backward pass: each storage once, no weight."""

    def __init__(self, model):
        self._weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
        self._sizes = {}

    def __enter__(self):
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._note, lambda tensor: tensor)
        self._hooks.__enter__()
        return self

    def __exit__(self, *error):
        self._hooks.__exit__(*error)

    def _note(self, tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._weights:
            self._sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    @property
    def total(self):
        return sum(self._sizes.values())


@pytest.mark.parametrize("targets", ["all-linear", ("q_proj", "k_proj", "v_proj", "o_proj")])
def test_activations_are_near_what_a_step_keeps(folder, targets):
    model = learner(load_model(folder, "float32", device="cpu"), targets=targets)
    model.set_attn_implementation("sdpa")  # as on a card
    with Kept(model) as kept:
        step_of(model, collate(WIDE, 64))
    found = memory_of(run_of(folder, SETTINGS.model_copy(update={"target_modules": targets})))
    assert 0.6 < kept.total / found.activations < 1


def test_a_checkpointed_step_keeps_the_hidden_states_and_less_than_the_estimate(folder):
    model = learner(load_model(folder, "float32", device="cpu"))
    model.set_attn_implementation("sdpa")
    model.gradient_checkpointing_enable({"use_reentrant": False})
    with Kept(model) as kept:  # without the layer that the backward pass computes again
        step_of(model, collate(WIDE, 64))
    hidden = 4 * 64 * families.SIZES["hidden_size"] * families.SIZES["num_hidden_layers"] * 4
    assert hidden < kept.total < memory_of(run_of(folder)).activations_checkpointed


def test_weights_and_what_learns_are_counted_exactly(folder):
    model = learner(load_model(folder, "float32", device="cpu"))
    learning = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    every = sum(weight.nbytes for weight in model.parameters() if not weight.requires_grad)
    norms = sum(weight.nbytes for name, weight in model.named_parameters() if "norm" in name)
    found = memory_of(run_of(folder))
    assert found.adapter == 16 * learning
    assert found.weights == every - norms


def test_experts_are_counted_by_their_mean(folder):
    found = memory_of(run_of(folder, experts=Experts((2, 6), 2)))
    assert found.adapter == 4 * memory_of(run_of(folder)).adapter


def test_the_largest_batch_is_that_of_the_longest_rows():
    rows = [Example([1] * length, [2] * (1 + length % 3)) for length in (5, 70, 9, 90, 3)]
    two = LoraSettings(batch_size=2)
    assert largest_batch(rows, two) == (2 * 128, 2 * 3)
    assert largest_batch(rows, two.model_copy(update={"packing": True})) == (90 + 71, 2 * 3)
    assert largest_batch(rows[:1], two) == (64, 3)


@pytest.fixture
def card(monkeypatch):
    """A card with so much free memory, as far as torch is asked about it."""

    def with_free(count):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (count, 2 * count))

    return with_free


@pytest.mark.parametrize(
    ("asked", "on_large", "on_small"), [("auto", False, True), (True, True, True), (False, False, False)]
)
def test_layers_are_computed_again_where_else_the_card_is_too_small(folder, card, asked, on_large, on_small):
    run = run_of(folder, SETTINGS.model_copy(update={"gradient_checkpointing": asked}))
    needed = memory_of(run).total
    for free, expected in ((2 * needed, on_large), (needed, on_small)):
        card(free)
        plan = plan_card(run)
        assert plan.applied_to(run).config.gradient_checkpointing is expected
        told = plan.as_report()
        assert (told["free_bytes"], told["gradient_checkpointing"], told["total"]) == (free, expected, needed)


def test_an_adapters_result_says_what_its_training_took_of_the_card(folder, card):
    told, log = [], StepLog(SimpleNamespace(body=AdapterTrain(label="fin.sa", dataset="rows")))
    card(1 << 30)
    plan = plan_card(run_of(folder))
    log.beside(Callbacks(on_card_plan=told.append)).on_card_plan(plan)
    assert told == [plan]
    assert json.loads(json.dumps(log.as_result()["memory"])) == plan.as_report()


def test_without_a_card_nothing_is_planned_or_told(folder, tiny_tokenizer, tmp_path):
    from services.trainer.data.examples import InstructionRow

    told, rows = [], [InstructionRow("Echo.", f"word {number}", "odd") for number in range(4)]
    config = SETTINGS.model_copy(update={"epochs": 1, "target_modules": ("q_proj",)})
    assert config.gradient_checkpointing == "auto"
    callbacks = Callbacks(on_card_plan=told.append)
    train_adapter(folder, tiny_tokenizer, rows, config=config, work_dir=tmp_path, callbacks=callbacks)
    assert told == []
