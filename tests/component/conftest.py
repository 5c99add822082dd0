"""Weights that are trained once for all tests that read them."""

import pytest

from services.trainer.data.examples import SelectorRow
from services.trainer.evaluation.reference import Reference
from services.trainer.training.light import fit_light
from services.trainer.training.lora import train_selector
from shared.contracts.training_settings import LoraSettings
from tests.support.reference_release import ADAPTERS, LABELS, MAX_PROMPT, Weights, release, save_adapter


@pytest.fixture(scope="session")
def weights(tiny_folder, tiny_tokenizer, tmp_path_factory):
    """A random adapter for each label, and selectors of every form."""
    root = tmp_path_factory.mktemp("weights")
    for label, config in ADAPTERS.items():
        save_adapter(tiny_folder, root / label.replace(".", "-"), config)
    save_adapter(tiny_folder, root / "names", {"target_modules": ["q_proj", "o_proj"]})
    rows = [SelectorRow(f"{label.task} {number}", label) for label in LABELS for number in range(4)]
    config = LoraSettings(rank=2, epochs=3, max_length=64, dropout=0.0, learning_rate=0.02)
    (root / "work").mkdir()
    trained = train_selector(
        tiny_folder, tiny_tokenizer, rows, labels=LABELS, config=config, work_dir=root / "work", head=True
    )
    trained.rename(root / "head")
    fit_light({str(label): [f"{label.task} {n}" for n in range(4)] for label in LABELS}).save(
        root / "light.safetensors"
    )
    return Weights(root)


@pytest.fixture(scope="session")
def served(tiny_folder, weights):
    def start(selector=None, **changes):
        return Reference(release(selector, **changes), weights, tiny_folder, max_prompt_tokens=MAX_PROMPT)

    return start
