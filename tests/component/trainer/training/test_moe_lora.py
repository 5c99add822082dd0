"""The comparison models: one LoRA for all tasks, and a mixture of experts (paper, section 4.2)."""

import shutil

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy

from services.trainer.data.examples import InstructionRow
from services.trainer.training.batches import IGNORED, collate, plan_batches
from services.trainer.training.loop import Callbacks
from services.trainer.training.lora import train_together
from services.trainer.training.losses import balanced_loss
from services.trainer.training.moe_lora import ExpertLinear, imbalance, load_experts, with_experts
from services.trainer.training.run import Experts
from services.trainer.training.sequences import Example, adapter_examples, balanced
from shared.contracts.training_settings import LoraSettings
from shared.errors import Invalid
from shared.model.base import load_model
from shared.model.merge import with_adapter

CONFIG = LoraSettings(rank=4, epochs=2, batch_size=4, max_length=128, checkpoint_steps=3, dropout=0.2)
TASKS = [
    [InstructionRow("Cheer.", f"word {n}", "yes") for n in range(16)],
    [InstructionRow("Boo.", f"word {n}", "nonono") for n in range(4)],
]
EXPERTS = Experts((2, 4), 2)


@pytest.fixture
def train(tiny_folder, tiny_tokenizer, tmp_path):
    def run(config=CONFIG, name="run", experts=EXPERTS, resume_from=None, **callbacks):
        return train_together(
            tiny_folder, tiny_tokenizer, TASKS, config=config, work_dir=tmp_path / name, experts=experts,
            callbacks=Callbacks(**callbacks), resume_from=resume_from,
        )  # fmt: skip

    return run


def test_a_task_counts_by_its_rows_weights_however_long_its_answers_are():
    logits = torch.randn(3, 4, 7, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[IGNORED, 1, 2, 3], [0, 1, 2, 3], [IGNORED, IGNORED, IGNORED, 6]])
    first, second = (
        cross_entropy(logits[rows].flatten(0, 1), labels[rows].flatten(), ignore_index=IGNORED)
        for rows in ([0, 1], [2])
    )
    loss = balanced_loss(logits, labels, torch.tensor([5, 5, 1]), torch.tensor([0.75, 0.75, 1.5]))
    torch.testing.assert_close(loss, (first + second) / 2)


def test_over_a_run_tasks_weigh_the_same_though_most_batches_hold_one():
    short, long = [Example([1] * 5, [2])] * 900, [Example([1] * 50, [2] * 30)] * 100
    examples = balanced([short, long])
    total = [0.0, 0.0]
    for batch in plan_batches([len(example) for example in examples], 8, 1, 0):
        for row in batch:
            total[examples[row].task] += examples[row].weight / len(batch)
    assert total[0] == pytest.approx(total[1], rel=0.02)
    assert sum(example.weight for example in examples) == pytest.approx(len(examples))


def test_of_one_task_it_is_the_plain_loss_of_a_head_too():
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[1], [2], [3], [4], [0]])
    expected = cross_entropy(logits, labels[:, 0])
    loss = balanced_loss(logits, labels, torch.zeros(5, dtype=torch.long), torch.ones(5))
    torch.testing.assert_close(loss, expected)


def test_a_layer_lies_where_its_base_does():
    layer = ExpertLinear(torch.nn.Linear(6, 5, device="meta"), 4, 2, CONFIG)
    assert {weight.device.type for weight in layer.parameters()} == {"meta"}


def test_only_the_layers_that_are_asked_for_have_experts(tiny_folder):
    config = CONFIG.model_copy(update={"top_layers": 1})
    layers = with_experts(load_model(tiny_folder, "float32", device="cpu"), config, (2, 6), 2).model.layers
    assert [isinstance(layer.self_attn.q_proj, ExpertLinear) for layer in layers] == [False, True]
    assert layers[1].self_attn.q_proj.experts == 6


@pytest.mark.parametrize("method", ["lora", "rslora"])
def test_a_layer_gives_each_token_its_likeliest_experts(method):
    torch.manual_seed(0)
    base = torch.nn.Linear(6, 5)
    layer = ExpertLinear(base, 4, 2, CONFIG.model_copy(update={"method": method})).eval()
    torch.nn.init.normal_(layer.up)
    tokens = torch.randn(3, 2, 6)

    def one(token):
        chances = layer.router(token).softmax(-1)
        best = chances.topk(2).indices.tolist()
        a, b = layer.down.view(4, 4, 6), layer.up.view(5, 4, 4)
        scale = 16 / (4 if method == "lora" else 2)
        return base(token) + sum(scale * chances[e] / chances[best].sum() * (b[:, e] @ (a[e] @ token)) for e in best)

    expected = torch.stack([torch.stack([one(token) for token in row]) for row in tokens])
    torch.testing.assert_close(layer(tokens), expected)


def test_imbalance_is_one_where_experts_share_the_tokens_and_grows_to_their_number():
    chances = torch.full((8, 4), 0.25)
    even = torch.eye(4).repeat(2, 1)
    torch.testing.assert_close(imbalance(chances, even), torch.tensor(1.0))
    one = torch.tensor([1.0, 0, 0, 0]).expand(8, 4)
    torch.testing.assert_close(imbalance(one, one), torch.tensor(4.0))


def test_higher_layers_have_more_experts_and_nothing_else_is_trained(tiny_folder):
    base = load_model(tiny_folder, "float32", device="cpu")
    before = base(torch.tensor([[3, 4, 5]])).logits
    model = with_experts(base, CONFIG, (2, 6), 2).eval()
    counts = [layer.self_attn.q_proj.experts for layer in model.model.layers]
    assert counts == [2, 6]
    trained = {name.rpartition(".")[2] if "router" not in name else "router" for name, p in model.named_parameters()
               if p.requires_grad}  # fmt: skip
    assert trained == {"router", "down", "up"}
    assert torch.equal(model(torch.tensor([[3, 4, 5]])).logits, before)


def test_modules_that_the_base_lacks_are_named(train):
    with pytest.raises(Invalid, match="w_pack"):
        train(CONFIG.model_copy(update={"target_modules": ("w_pack",)}))


@pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("experts", [None, EXPERTS], ids=["multi-task-lora", "moe-lora"])
def test_what_was_learnt_is_there_when_the_weights_are_loaded_again(
    train, experts, precision, tiny_folder, tiny_tokenizer
):
    config = CONFIG.model_copy(update={"epochs": 10, "learning_rate": 0.01, "dropout": 0, "precision": precision})
    folder = train(config, experts=experts)
    base = load_model(tiny_folder, "float32", device="cpu")
    before = loss_of(base, tiny_tokenizer)
    model = load_experts(with_experts(base, config, *experts), folder) if experts else with_adapter(base, folder)
    assert loss_of(model, tiny_tokenizer) < before / 2


def loss_of(model, tokenizer):
    batch = collate([row for task in TASKS for row in adapter_examples(tokenizer, task, "chatml", 128)])
    labels, tasks, weights = (batch.pop(name) for name in ("labels", "tasks", "weights"))
    return balanced_loss(model(**batch).logits, labels, tasks, weights).item()


def test_routers_and_experts_are_moved_by_training(train, tiny_folder):
    weights = load_file(train() / "model.safetensors")
    fresh = dict(with_experts(load_model(tiny_folder, "float32", device="cpu"), CONFIG, *EXPERTS).named_parameters())
    assert weights.keys() == {name for name, weight in fresh.items() if weight.requires_grad}
    assert all(not torch.equal(weight, fresh[name]) for name, weight in weights.items())


def test_a_resumed_mixture_ends_with_the_weights_of_an_uninterrupted_one(train, tmp_path):
    def keep(folder, step):
        shutil.copytree(folder, tmp_path / "kept" / str(step))

    whole = load_file(train(name="whole", on_checkpoint=keep) / "model.safetensors")
    steps = []
    resumed = train(
        name="resumed", resume_from=tmp_path / "kept" / "6", on_progress=lambda progress: steps.append(progress.step)
    )
    assert steps == [7, 8, 9, 10]
    found = load_file(resumed / "model.safetensors")
    assert all(torch.equal(found[name], weight) for name, weight in whole.items())
