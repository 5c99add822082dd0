import gc
import json
import shutil
from importlib.util import find_spec

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from services.trainer.data.examples import InstructionRow, SelectorRow
from services.trainer.training.batches import collate
from services.trainer.training.loop import Callbacks
from services.trainer.training.lora import Start, train_adapter, train_selector
from services.trainer.training.sequences import adapter_examples
from shared.contracts.labels import Label
from shared.contracts.training_settings import LoraSettings
from shared.errors import Cancelled, Invalid
from shared.model.base import base_model_id, load_model
from shared.model.merge import merged_selector

ROWS = [InstructionRow("Echo.", f"word {number}", "odd" if number % 2 else "even") for number in range(20)]
CONFIG = LoraSettings(rank=4, epochs=2, batch_size=4, max_length=128, checkpoint_steps=3, dropout=0.2)
STEPS = 10
LABELS = [Label("fin", "sa"), Label("fin", "ha")]


@pytest.fixture
def train(tiny_folder, tiny_tokenizer, tmp_path):
    def run(config=CONFIG, rows=ROWS, name="run", **callbacks_and_resume):
        resume_from = callbacks_and_resume.pop("resume_from", None)
        return train_adapter(
            tiny_folder,
            tiny_tokenizer,
            rows,
            config=config,
            work_dir=tmp_path / name,
            callbacks=Callbacks(**callbacks_and_resume),
            resume_from=resume_from,
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
    logits = model(**batch).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()).item()


def keep_checkpoints(target):
    return lambda folder, step: shutil.copytree(folder, target / str(step))


def test_an_adapter_is_two_files_without_a_path_of_this_machine(train, tiny_folder, tmp_path):
    folder = train()

    assert sorted(file.name for file in folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    text = (folder / "adapter_config.json").read_text()
    assert json.loads(text)["base_model_name_or_path"] == base_model_id(tiny_folder)
    assert str(tmp_path.parent) not in text
    assert str(tiny_folder) not in text


def test_the_model_has_left_memory_when_its_adapter_is_there(train):
    gc.collect()
    gc.disable()  # what the process would collect sooner or later must be gone at once
    try:
        train()
        assert not [thing for thing in gc.get_objects() if issubclass(type(thing), PeftModel)]
    finally:
        gc.enable()


def test_training_lowers_the_loss_of_the_answers(train, tiny_folder, tiny_tokenizer):
    folder = train(CONFIG.model_copy(update={"epochs": 10, "learning_rate": 0.01}))

    before = loss_of(load_model(tiny_folder, "float32", device="cpu"), tiny_tokenizer)
    assert loss_of(merged_selector(tiny_folder, folder, "float32", device="cpu"), tiny_tokenizer) < before / 2


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights(train):
    first = weights(train(name="first"))

    assert same(weights(train(name="second")), first)
    assert not same(weights(train(CONFIG.model_copy(update={"seed": 1}), name="third")), first)


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(train, tmp_path):
    whole = weights(train(name="whole", on_checkpoint=keep_checkpoints(tmp_path / "kept")))
    steps = []

    resumed = train(name="resumed", resume_from=tmp_path / "kept" / "6", on_progress=lambda p: steps.append(p.step))

    assert steps == [7, 8, 9, 10]
    assert same(weights(resumed), whole)


def test_the_finished_weights_are_a_checkpoint_too_and_resuming_from_them_trains_no_more(train, tmp_path):
    whole = weights(train(name="whole", on_checkpoint=keep_checkpoints(tmp_path / "kept")))
    steps = []

    resumed = train(
        name="resumed", resume_from=tmp_path / "kept" / str(STEPS), on_progress=lambda p: steps.append(p.step)
    )

    assert steps == []
    assert same(weights(resumed), whole)


def test_checkpoints_come_at_their_interval_and_hold_no_pickled_arguments(train, tmp_path):
    train(on_checkpoint=keep_checkpoints(tmp_path / "kept"))

    assert {int(folder.name) for folder in (tmp_path / "kept").iterdir()} >= {3, 6, 9}
    files = {file.name for file in (tmp_path / "kept" / "3").iterdir()}
    assert {"adapter_model.safetensors", "optimizer.pt", "trainer_state.json"} <= files
    assert "training_args.bin" not in files
    assert str(tmp_path) not in (tmp_path / "kept" / "3" / "adapter_config.json").read_text()


def test_cancelling_stops_within_one_step(train):
    steps = []

    with pytest.raises(Cancelled):
        train(on_progress=lambda p: steps.append(p.step), should_stop=lambda: len(steps) >= 2)

    assert steps == [1, 2]


def test_progress_tells_step_loss_rate_and_time_left(train):
    heard = []
    train(on_progress=heard.append)

    assert [progress.step for progress in heard] == list(range(1, STEPS + 1))
    assert {progress.steps for progress in heard} == {STEPS}
    assert all(progress.loss > 0 for progress in heard)
    assert heard[0].learning_rate > heard[-1].learning_rate >= 0
    assert heard[0].seconds_left > 0
    assert heard[-1].seconds_left == 0
    assert all(progress.device for progress in heard)


def test_progress_counts_the_tokens_read_so_far_without_padding(train, tiny_tokenizer):
    heard = []
    train(on_progress=heard.append)

    tokens = [progress.tokens for progress in heard]
    examples = adapter_examples(tiny_tokenizer, ROWS, CONFIG.template, CONFIG.max_length)
    assert tokens == sorted(set(tokens))
    assert tokens[-1] == CONFIG.epochs * sum(map(len, examples))


def test_a_loss_that_is_not_a_number_ends_the_run_with_advice(tiny_tokenizer, tmp_path):
    from tests.support.tiny_model import save_tiny_model

    folder = save_tiny_model(tmp_path / "model")
    broken = load_file(folder / "model.safetensors")
    broken["model.norm.weight"][:] = float("nan")
    from safetensors.torch import save_file

    save_file(broken, folder / "model.safetensors", {"format": "pt"})

    with pytest.raises(Invalid, match="lower learning_rate") as refusal:
        train_adapter(folder, tiny_tokenizer, ROWS, config=CONFIG, work_dir=tmp_path / "run")
    assert refusal.value.code == "training_diverged"


def test_no_rows_are_refused(train):
    with pytest.raises(Invalid, match="no rows"):
        train(rows=[])


def test_unknown_target_modules_are_refused_by_name(train):
    with pytest.raises(Invalid, match="no_such_proj") as refusal:
        train(CONFIG.model_copy(update={"target_modules": ("no_such_proj",)}))
    assert refusal.value.code == "target_modules_unknown"


@pytest.mark.parametrize(("method", "key"), [("rslora", "use_rslora"), ("dora", "use_dora")])
def test_the_method_is_written_down_for_whoever_loads_the_adapter(train, method, key):
    folder = train(CONFIG.model_copy(update={"method": method, "epochs": 1}))

    assert json.loads((folder / "adapter_config.json").read_text())[key] is True
    assert method != "dora" or any("magnitude" in name for name in weights(folder))


@pytest.mark.slow
def test_a_pissa_adapter_is_plain_lora_of_twice_the_rank(train, tiny_folder):
    learnt = train(CONFIG.model_copy(update={"method": "pissa", "epochs": 10, "learning_rate": 0.01}), name="learnt")
    idle = train(CONFIG.model_copy(update={"method": "pissa", "epochs": 1, "learning_rate": 1e-12}), name="idle")

    config = json.loads((learnt / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["init_lora_weights"]) == (2 * CONFIG.rank, 2 * CONFIG.alpha, True)
    base, same, other = (
        load_model(tiny_folder, "float32", device="cpu"),
        merged_selector(tiny_folder, idle, "float32", device="cpu"),
        merged_selector(tiny_folder, learnt, "float32", device="cpu"),
    )
    ids = torch.tensor([[5, 9, 30, 7]])
    with torch.inference_mode():
        torch.testing.assert_close(same(ids).logits, base(ids).logits, atol=1e-3, rtol=0)
        assert (other(ids).logits - base(ids).logits).abs().max() > 0.1


@pytest.mark.slow
def test_a_resumed_pissa_run_ends_with_the_weights_of_an_uninterrupted_one(train, tmp_path):
    config = CONFIG.model_copy(update={"method": "pissa"})
    whole = weights(train(config, name="whole", on_checkpoint=keep_checkpoints(tmp_path / "kept")))

    assert same(weights(train(config, name="resumed", resume_from=tmp_path / "kept" / "6")), whole)


def test_without_bitsandbytes_qlora_is_refused_with_advice(train, monkeypatch):
    monkeypatch.setattr("services.trainer.training.base.find_spec", lambda _: None)

    with pytest.raises(Invalid, match="bitsandbytes") as refusal:
        train(CONFIG.model_copy(update={"method": "qlora"}))
    assert refusal.value.code == "qlora_unavailable"


@pytest.mark.skipif(not find_spec("bitsandbytes"), reason="bitsandbytes is not installed (the extra `qlora`)")
def test_qlora_learns_on_a_base_model_in_four_bits(train, tiny_folder, tiny_tokenizer):
    folder = train(CONFIG.model_copy(update={"method": "qlora", "epochs": 10, "learning_rate": 0.01}))

    before = loss_of(load_model(tiny_folder, "float32", device="cpu"), tiny_tokenizer)
    assert loss_of(merged_selector(tiny_folder, folder, "float32", device="cpu"), tiny_tokenizer) < before * 0.7


def test_accumulated_batches_make_the_step_of_one_large_batch(train):
    """All rows are alike, so that how they are dealt into batches makes no difference."""
    rows = [InstructionRow("Echo.", "word", "even")] * 8
    config = CONFIG.model_copy(update={"dropout": 0.0, "batch_size": 4})

    whole = weights(train(config, rows, name="whole"))
    parts = weights(train(config.model_copy(update={"batch_size": 2, "accumulate": 2}), rows, name="parts"))

    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_gradient_checkpointing_changes_memory_and_not_the_weights(train):
    config = CONFIG.model_copy(update={"dropout": 0.0})

    whole = weights(train(config, name="whole"))
    again = weights(train(config.model_copy(update={"gradient_checkpointing": True}), name="again"))

    for name in whole:
        torch.testing.assert_close(again[name], whole[name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("method", ["lora", pytest.param("dora", marks=pytest.mark.slow)])
def test_packed_rows_see_themselves_alone_and_give_the_weights_of_padded_ones(train, method):
    rows = [
        InstructionRow("Echo.", "word " * (1 + number % 7), "odd and long" if number % 2 else "even")
        for number in range(20)
    ]
    config = CONFIG.model_copy(update={"dropout": 0.0, "method": method, "learning_rate": 0.001})

    padded = weights(train(config, rows, name="padded"))
    packed = weights(train(config.model_copy(update={"packing": True}), rows, name="packed"))

    for name in padded:
        torch.testing.assert_close(packed[name], padded[name], atol=1e-4, rtol=1e-3)


def test_a_selector_with_a_head_is_not_packed(tiny_folder, tiny_tokenizer, tmp_path):
    rows = [SelectorRow("Up.", LABELS[0]), SelectorRow("Gold fell.", LABELS[1])]
    config = CONFIG.model_copy(update={"packing": True})
    with pytest.raises(Invalid, match=r"leave out packing") as refusal:
        train_selector(
            tiny_folder, tiny_tokenizer, rows, labels=LABELS, config=config, work_dir=tmp_path / "run", head=True
        )
    assert refusal.value.code == "packing_unavailable"


def test_lora_in_the_top_layers_leaves_the_others_alone(train):
    names = weights(train(CONFIG.model_copy(update={"top_layers": 1, "epochs": 1})))

    assert {name.split(".layers.")[1].split(".")[0] for name in names} == {"1"}


def test_bfloat16_training_keeps_its_weights_in_float32(train):
    tensors = weights(train(CONFIG.model_copy(update={"precision": "bfloat16", "epochs": 1})))

    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}


def test_a_selector_learns_from_rows_of_its_own_labels_only(tiny_folder, tiny_tokenizer, tmp_path):
    rows = [SelectorRow("Up.", LABELS[0]), SelectorRow("Gold fell.", LABELS[1])]
    config = CONFIG.model_copy(update={"max_length": 300})

    folder = train_selector(tiny_folder, tiny_tokenizer, rows, labels=LABELS, config=config, work_dir=tmp_path / "run")
    assert (folder / "adapter_model.safetensors").is_file()

    with pytest.raises(Invalid, match=r"does not list: fin\.ha"):
        train_selector(tiny_folder, tiny_tokenizer, rows, labels=LABELS[:1], config=config, work_dir=tmp_path / "b")


def test_a_selector_trained_again_starts_from_its_old_weights(tiny_folder, tiny_tokenizer, tmp_path):
    rows = [SelectorRow(f"Up {number}.", LABELS[number % 2]) for number in range(8)]
    config = CONFIG.model_copy(update={"max_length": 300, "learning_rate": 0.01, "dropout": 0.0})
    losses = []

    def train(name, start_from=None):
        heard = []
        folder = train_selector(
            tiny_folder,
            tiny_tokenizer,
            rows,
            labels=LABELS,
            config=config.model_copy(update={"epochs": 1 if start_from else 10}),
            work_dir=tmp_path / name,
            start_from=start_from,
            callbacks=Callbacks(on_progress=heard.append),
        )
        losses.append([progress.loss for progress in heard])
        return folder

    again = train("again", start_from=Start(train("first"), LABELS))

    first_run, second_run = losses
    assert second_run[0] < (first_run[0] + first_run[-1]) / 2
    assert json.loads((again / "adapter_config.json").read_text())["r"] == CONFIG.rank
