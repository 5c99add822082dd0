"""A task's LoRA trained over a frozen domain adapter: both are active, and one alone learns."""

import hashlib
import shutil

import pytest
import torch
from safetensors.torch import load_file

from services.trainer.data.examples import InstructionRow
from services.trainer.training import loop
from services.trainer.training.batches import collate
from services.trainer.training.compose import Part, stack
from services.trainer.training.loop import Callbacks, Trainable
from services.trainer.training.lora import train_adapter
from services.trainer.training.peft_folder import FROZEN, initial_weights, save_adapter, with_lora
from services.trainer.training.sequences import adapter_examples
from shared.adapter_files import AdapterLimits, BaseShapes, check_adapter
from shared.contracts.training_settings import LoraSettings
from shared.model.base import load_model
from shared.model.merge import with_adapter
from tests.support.composition import both_active, logits, random_adapter

ROWS = [InstructionRow("Echo.", f"word {number}", "odd" if number % 2 else "even") for number in range(20)]
CONFIG = LoraSettings(rank=4, epochs=2, batch_size=4, max_length=128, checkpoint_steps=3, dropout=0.2)
LEARNT = CONFIG.model_copy(update={"epochs": 12, "learning_rate": 0.01, "dropout": 0.0, "precision": "float32"})
EXACT = 1e-5


@pytest.fixture(scope="module")
def domain(tiny_folder, tmp_path_factory):
    """It has ranks by module, layers that the task lacks, and a dropout of its own, which is not to drop anything."""
    folder = tmp_path_factory.mktemp("domain")
    config = {"r": 6, "lora_alpha": 9, "lora_dropout": 0.5, "rank_pattern": {"q_proj": 3}}
    return random_adapter(tiny_folder, folder, 1, target_modules=["q_proj", "v_proj", "up_proj"], **config)


@pytest.fixture
def train(tiny_folder, tiny_tokenizer, tmp_path, domain):
    def run(config=CONFIG, name="run", *, on=domain, launcher="", resume_from=None, **callbacks):
        return train_adapter(
            tiny_folder,
            tiny_tokenizer,
            ROWS,
            config=config,
            work_dir=tmp_path / name,
            callbacks=Callbacks(**callbacks),
            resume_from=resume_from,
            launcher=launcher,
            on=on,
        )

    return run


def weights(folder):
    return load_file(folder / "adapter_model.safetensors")


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def loss_of(model, tokenizer):
    batch = collate(adapter_examples(tokenizer, ROWS, "chatml", 128))
    labels = batch.pop("labels")
    del batch["tasks"], batch["weights"]
    with torch.inference_mode():
        found = model(**batch).logits
    return torch.nn.functional.cross_entropy(found.flatten(0, 1), labels.flatten()).item()


def hash_of(tensors):
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors):
        digest.update(name.encode() + tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def base_weights(model):
    return [(name, tensor) for name, tensor in model.named_parameters() if ".lora_" not in name]


def frozen_weights(model):
    return [(name, tensor) for name, tensor in model.named_parameters() if f".{FROZEN}." in name]


@pytest.fixture
def over(tiny_folder, domain):
    return with_lora(load_model(tiny_folder, "float32", "cpu"), LEARNT, on=domain)


def test_it_starts_where_the_domains_model_is(over, tiny_folder, tiny_tokenizer, domain):
    alone = with_adapter(load_model(tiny_folder, "float32", "cpu"), domain)
    over.train()  # nothing of the domain is dropped in training
    assert (logits(over) - logits(alone)).abs().max() < EXACT
    assert loss_of(over, tiny_tokenizer) == pytest.approx(loss_of(alone, tiny_tokenizer), abs=1e-5)
    bare = load_model(tiny_folder, "float32", "cpu")
    assert abs(loss_of(bare, tiny_tokenizer) - loss_of(alone, tiny_tokenizer)) > 0.01  # the domain says something


def test_only_the_tasks_weights_learn_and_base_and_domain_stay_byte_for_byte(over, tiny_tokenizer, domain, tmp_path):
    learning = {name for name, weight in over.named_parameters() if weight.requires_grad}
    assert learning
    assert all(".default." in name for name in learning)
    before = hash_of(base_weights(over)), hash_of(frozen_weights(over))
    task = {name: over.get_parameter(name).detach().clone() for name in learning}
    examples = adapter_examples(tiny_tokenizer, ROWS, "chatml", 128)
    trainable = Trainable(over, lambda folder: save_adapter(over, folder, "tiny"))
    loop.run(trainable, examples, LEARNT, tmp_path / "work", callbacks=Callbacks(), resume_from=None)
    assert (hash_of(base_weights(over)), hash_of(frozen_weights(over))) == before
    assert not any(torch.equal(over.get_parameter(name), weight) for name, weight in task.items() if ".lora_B." in name)
    kept = {name.replace(f".{FROZEN}.", "."): tensor for name, tensor in frozen_weights(over)}
    assert same(kept, weights(domain))


def test_both_together_answer_better_than_what_either_starts_from(train, tiny_folder, tiny_tokenizer, domain, tmp_path):
    task = train(LEARNT)
    base = BaseShapes.from_folder(tiny_folder)
    made = stack([Part(domain), Part(task)], base, "tiny", tmp_path / "made")
    assert check_adapter(made, base, AdapterLimits()).rank == 10
    model = with_adapter(load_model(tiny_folder, "float32", "cpu"), made)
    assert (logits(model) - logits(both_active(tiny_folder, domain, task))).abs().max() < EXACT
    start = loss_of(with_adapter(load_model(tiny_folder, "float32", "cpu"), domain), tiny_tokenizer)
    alone = loss_of(with_adapter(load_model(tiny_folder, "float32", "cpu"), task), tiny_tokenizer)
    together = loss_of(model, tiny_tokenizer)
    assert together < start / 2
    assert together < alone  # it was trained for both


def test_the_folder_holds_the_task_alone_and_the_domains_file_is_untouched(train, domain):
    before = {file.name: file.read_bytes() for file in domain.iterdir()}
    task = train()
    assert sorted(file.name for file in task.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert {tensor.shape[0] for name, tensor in weights(task).items() if "lora_A" in name} == {4}
    assert {file.name: file.read_bytes() for file in domain.iterdir()} == before
    assert not same(weights(task), weights(train(name="without", on=None)))


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(train, tmp_path):
    kept, steps = tmp_path / "kept", []
    whole = train(name="whole", on_checkpoint=lambda folder, step: shutil.copytree(folder, kept / str(step)))
    resumed = train(name="resumed", resume_from=kept / "6", on_progress=lambda progress: steps.append(progress.step))
    assert steps == [7, 8, 9, 10]
    assert same(weights(resumed), weights(whole))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_process_of_a_launcher_trains_the_same(train):
    config = CONFIG.model_copy(update={"dropout": 0.0})
    apart = weights(train(config, "apart", launcher="torchrun --standalone --nproc-per-node 1"))
    here = weights(train(config, "here"))
    assert apart.keys() == here.keys()
    assert all(torch.allclose(apart[name], here[name], atol=1e-5) for name in here)


def test_pissa_over_a_domain_is_plain_lora_on_the_untouched_base(train, tiny_folder, domain, tmp_path):
    config = LEARNT.model_copy(update={"method": "pissa"})
    model = with_lora(load_model(tiny_folder, "float32", "cpu"), config, on=domain)
    assert initial_weights(model)
    alone = logits(with_adapter(load_model(tiny_folder, "float32", "cpu"), domain))
    assert (logits(model) - alone).abs().max() < 1e-4  # its parts of the weights moved, their sum did not
    task = train(config)
    made = stack([Part(domain), Part(task)], BaseShapes.from_folder(tiny_folder), "tiny", tmp_path / "made")
    both = logits(both_active(tiny_folder, domain, task))
    found = logits(with_adapter(load_model(tiny_folder, "float32", "cpu"), made))
    assert (found - both).abs().max() < EXACT


def test_a_domain_stays_exact_where_the_base_is_trained_in_bfloat16(tiny_folder, domain):
    config = CONFIG.model_copy(update={"precision": "bfloat16"})
    model = with_lora(load_model(tiny_folder, "float32", "cpu"), config, on=domain)
    kept = {name.replace(f".{FROZEN}.", "."): tensor for name, tensor in frozen_weights(model)}
    assert same(kept, weights(domain))
