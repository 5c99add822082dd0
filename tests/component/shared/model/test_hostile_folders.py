"""A model folder is data: no program in it runs, and no pickle in it is read."""

import contextlib
import json
import pickle
import shutil
from pathlib import Path

import pytest

from shared.errors import Invalid
from shared.model.base import load_model, load_tokenizer, resolve_base_model
from shared.model.head import load_classifier
from shared.model.merge import with_adapter
from shared.settings import Settings


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, mark):
        self._mark = mark

    def __reduce__(self):
        return Path.write_text, (self._mark, "boom")


@pytest.fixture
def mark(tmp_path):
    return tmp_path / "mark"


@pytest.fixture
def folder(tiny_folder, tmp_path):
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


def change(file, **values):
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


@pytest.mark.parametrize("model_type", ["llama", "of_its_own"])
def test_a_program_beside_a_model_never_runs(folder, mark, model_type):
    program = f"from pathlib import Path\nPath({str(mark)!r}).write_text('boom')\n"
    (folder / "evil.py").write_text(program + "class Evil:\n    pass\n")
    every = ("AutoConfig", "AutoModelForCausalLM", "AutoModelForSequenceClassification")
    change(folder / "config.json", model_type=model_type, auto_map=dict.fromkeys(every, "evil.Evil"))
    change(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Evil", "evil.Evil"]})
    for load in (load_tokenizer, lambda f: load_model(f, "float32", "cpu"), lambda f: load_classifier(f, 2, "cpu")):
        with contextlib.suppress(Invalid):
            load(folder)
    assert not mark.exists()


def test_a_model_whose_weights_are_a_pickle_is_refused(folder, mark):
    for weights in folder.glob("*.safetensors"):
        weights.unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(Invalid):
        resolve_base_model(Settings(base_model=str(folder)))
    with pytest.raises(Invalid):
        load_model(folder, "float32", "cpu")
    assert not mark.exists()


@pytest.mark.parametrize("beside", [True, False])
def test_an_adapter_with_a_pickle_is_refused_before_peft_sees_it(tiny_model, tmp_path, mark, beside):
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(Bomb(mark)))
    if beside:
        (folder / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(Invalid) as refusal:
        with_adapter(tiny_model, folder)
    assert refusal.value.code == "adapter_pickle_refused"
    assert not mark.exists()
