"""Trainings in several processes, started for real: two of torchrun, one of accelerate."""

import json
import os
import secrets
import shutil
import subprocess
import sys
from contextlib import suppress

import psutil
import pytest
import torch
from safetensors.torch import load_file

from services.cli.local.folder_lock import FILE, holders
from services.trainer.data.examples import InstructionRow, SelectorRow
from services.trainer.training.loop import Callbacks
from services.trainer.training.lora import train_adapter, train_selector, train_together
from services.trainer.training.run import Experts
from shared.contracts.labels import Label
from shared.contracts.training_settings import LoraSettings
from shared.errors import Cancelled, Invalid, Unavailable

ROWS = [InstructionRow("Echo.", f"word {number}", "odd" if number % 2 else "even") for number in range(16)]
CONFIG = LoraSettings(rank=4, epochs=1, batch_size=2, max_length=128, checkpoint_steps=2, dropout=0.2)
ONE, TWO = (f"torchrun --standalone --nproc-per-node {count}" for count in (1, 2))
LABELS = [Label("fin", "sa"), Label("fin", "ha")]

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def train(tiny_folder, tiny_tokenizer, tmp_path):
    def run(launcher, config=CONFIG, rows=ROWS, name="run", resume_from=None, **callbacks):
        return train_adapter(
            tiny_folder,
            tiny_tokenizer,
            rows,
            config=config,
            work_dir=tmp_path / name,
            callbacks=Callbacks(**callbacks),
            resume_from=resume_from,
            launcher=launcher,
        )

    return run


def weights(folder, file="adapter_model.safetensors"):
    return load_file(folder / file)


@pytest.fixture(autouse=True)
def left(monkeypatch):
    """By rank, whatever a launcher of this test started and still runs, wherever it hangs; None is the launcher."""
    mark = secrets.token_hex(8)
    monkeypatch.setenv("SIGNALBOX_TEST_MARK", mark)

    def look():
        found = {}
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                said = process.environ()
                if said.get("SIGNALBOX_TEST_MARK") == mark and "SIGNALBOX_TRAINING_SOCKET" in said:
                    found[said.get("RANK")] = process
        return found

    yield look
    assert not look()


@pytest.mark.slow
def test_two_processes_take_a_batch_each_and_make_the_steps_of_batches_twice_as_large(train):
    """All rows are alike, so that how they are dealt into batches makes no difference."""
    rows = [InstructionRow("Echo.", "word", "even")] * 16
    config = CONFIG.model_copy(update={"dropout": 0.0})
    steps = []

    apart = weights(train(TWO, config, rows, name="apart", on_progress=steps.append))
    alone = weights(train("", config.model_copy(update={"batch_size": 4}), rows, name="alone"))

    assert [step.step for step in steps] == [1, 2, 3, 4]
    assert {step.steps for step in steps} == {4}
    assert len({step.tokens for step in steps}) == 4
    assert apart.keys() == alone.keys()
    for name in alone:
        torch.testing.assert_close(apart[name], alone[name], atol=1e-5, rtol=1e-4)


def test_a_process_of_its_own_keeps_the_inherited_lock_and_makes_the_weights_of_the_trainers_own(train, tmp_path, left):
    seen = []
    with (tmp_path / FILE).open("a") as lock:
        os.set_inheritable(lock.fileno(), True)
        apart = train(ONE, name="apart", on_progress=lambda _: seen.append(left()[None] in holders(tmp_path)))
    apart, here = weights(apart), weights(train("", name="here"))

    assert seen
    assert all(seen)
    assert apart.keys() == here.keys()
    assert all(torch.equal(apart[name], here[name]) for name in here)


@pytest.mark.slow
def test_a_resumed_run_of_two_processes_ends_with_the_weights_of_an_uninterrupted_one(train, tmp_path):
    kept = tmp_path / "kept"
    whole = weights(
        train(TWO, name="whole", on_checkpoint=lambda folder, step: shutil.copytree(folder, kept / str(step)))
    )
    resumed = weights(train(TWO, name="resumed", resume_from=kept / "2"))

    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_cancelling_ends_all_processes_within_a_step(train):
    steps = []
    with pytest.raises(Cancelled):
        train(TWO, on_progress=steps.append, should_stop=lambda: len(steps) >= 1)
    assert len(steps) == 1


def test_what_is_wrong_with_a_training_is_told_as_if_it_ran_here(train):
    unknown = CONFIG.model_copy(update={"target_modules": ("no_such_module",)})
    with pytest.raises(Invalid) as refusal:
        train(ONE, unknown)
    assert refusal.value.code == "target_modules_unknown"


def test_cancelling_ends_processes_that_have_not_called_yet(train):
    with pytest.raises(Cancelled):
        train("sh -c 'sleep 600'", should_stop=lambda: True)


@pytest.mark.slow
def test_processes_that_one_was_killed_of_go_on_from_their_last_checkpoint(train, left, tmp_path):
    steps = []

    def kill_once(progress):
        steps.append(progress.step)
        if steps.count(3) == 1 and progress.step == 3:
            left()["1"].kill()

    broken = weights(train(TWO, on_progress=kill_once))
    assert steps == [1, 2, 3, 3, 4]
    whole = weights(train(TWO, name="whole"))
    assert all(torch.equal(whole[name], broken[name]) for name in whole)


@pytest.mark.slow
def test_processes_that_get_no_further_are_not_started_for_ever(train, left):
    with pytest.raises(Unavailable) as refusal:
        train(TWO, on_progress=lambda _: left()["1"].kill())
    assert refusal.value.code == "training_processes_ended"


@pytest.mark.slow
def test_the_processes_of_a_trainer_that_is_killed_end_too(left, tiny_folder, tmp_path):
    program = f"""
from pathlib import Path
from services.cli.local.folder_lock import FILE, holders
from services.trainer.data.examples import InstructionRow
from services.trainer.training.loop import Callbacks
from services.trainer.training.lora import train_adapter
from shared.contracts.training_settings import LoraSettings
from shared.model.base import load_tokenizer
base = Path({str(tiny_folder)!r})
config = LoraSettings(rank=4, epochs=100, batch_size=1, max_length=128)
rows = [InstructionRow("Echo.", str(number), "odd") for number in range(1000)]
callbacks = Callbacks(on_progress=lambda step: print(step.step, flush=True))
train_adapter(
    base, load_tokenizer(base), rows, config=config, work_dir=Path({str(tmp_path)!r}), callbacks=callbacks,
    launcher={TWO!r},
)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as trainer:
        assert trainer.stdout.readline()
        started = left()
        assert started.keys() == {None, "0", "1"}
        trainer.kill()
        _, alive = psutil.wait_procs(list(started.values()), 60)
    assert not alive


@pytest.mark.parametrize(
    ("launcher", "code"),
    [
        ("no-such-launcher --now", "training_launcher_missing"),
        ("torchrun 'unclosed", "training_launcher_missing"),
        ("false", "training_processes_ended"),
    ],
)
def test_a_launcher_that_does_not_launch_is_named(train, launcher, code):
    with pytest.raises(Unavailable, match="SIGNALBOX_TRAINING_LAUNCHER") as refusal:
        train(launcher)
    assert refusal.value.code == code


@pytest.fixture
def accelerate(tmp_path):
    """A launcher: accelerate with this configuration."""

    def configured(**more):
        file = tmp_path / "accelerate.json"
        plain = {"compute_environment": "LOCAL_MACHINE", "distributed_type": "NO", "num_processes": 1, "use_cpu": True}
        file.write_text(json.dumps({**plain, **more}))
        return f"accelerate launch --config_file {file}"

    return configured


@pytest.mark.slow
def test_accelerate_launches_a_selector_with_a_head_in_the_jobs_own_precision(
    tiny_folder, tiny_tokenizer, tmp_path, accelerate
):
    rows = [SelectorRow(f"Up {number}.", LABELS[number % 2]) for number in range(8)]

    def train(name, launcher):
        return weights(train_selector(
            tiny_folder, tiny_tokenizer, rows, labels=LABELS, config=CONFIG, work_dir=tmp_path / name, head=True,
            launcher=launcher,
        ))  # fmt: skip

    apart, here = train("apart", accelerate(mixed_precision="bf16")), train("here", "")
    assert all(torch.equal(apart[name], here[name]) for name in here)


@pytest.mark.slow
def test_cancelling_ends_what_accelerate_launched(train, accelerate):
    steps = []
    with pytest.raises(Cancelled):
        train(accelerate(), on_progress=steps.append, should_stop=lambda: len(steps) >= 1)


@pytest.mark.slow
def test_sharded_weights_are_refused(train, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(Invalid, match="FSDP") as refusal:
        train(ONE)
    assert refusal.value.code == "launcher_unsupported"


@pytest.mark.slow
def test_a_mixture_of_experts_is_trained_in_two_processes(tiny_folder, tiny_tokenizer, tmp_path):
    folder = train_together(
        tiny_folder, tiny_tokenizer, [ROWS[:8], ROWS[8:]], config=CONFIG, work_dir=tmp_path / "run",
        experts=Experts([2, 2], 1), launcher=TWO,
    )  # fmt: skip
    assert weights(folder, "model.safetensors")
