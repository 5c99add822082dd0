"""`signalbox doctor --base`: the same that the processes say which load the model."""

import json
import shutil
import sys

import pytest

from services.cli import main
from services.cli.local.base_report import examine_base
from shared.errors import Invalid
from shared.model.base import load_tokenizer, resolve_base_model
from shared.model.base_manifest import base_manifest
from shared.settings import Settings

GPTQ = {"quant_method": "gptq", "bits": 4}


@pytest.fixture
def folder(tiny_folder, tmp_path):
    """A copy of the tiny model with another configuration."""

    def make(**config):
        copy = shutil.copytree(tiny_folder, tmp_path / "base")
        file = copy / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **config}))
        return copy

    return make


def told(folder, **settings):
    return {one["what"]: one for one in examine_base(Settings(base_model=str(folder), **settings))}


def test_a_model_that_is_served_is_told_line_by_line(tiny_folder):
    found = told(tiny_folder)
    assert all(one["ok"] for one in found.values())
    assert list(found) == [
        "family", "weights", "embeddings", "context", "vocabulary", "end tokens", "chat template", "usual template",
    ]  # fmt: skip
    assert found["end tokens"]["says"] == "<|im_end|> (2)"


def test_further_ends_of_an_answer_are_told(folder):
    made = folder()
    (made / "generation_config.json").write_text('{"eos_token_id": [2, 0]}')
    assert told(made)["end tokens"]["says"] == "<|endoftext|> (0), <|im_end|> (2)"


@pytest.mark.parametrize(
    ("config", "engine"),
    [
        ({"model_type": "olmo"}, "transformers"),
        ({"model_type": "mixtral", "num_local_experts": 8}, "transformers"),
        ({"quantization_config": GPTQ}, "transformers"),
        ({"quantization_config": GPTQ}, "vllm"),
        ({"quantization_config": GPTQ}, "echo"),
        ({"is_encoder_decoder": True}, "vllm"),
        ({"tie_word_embeddings": False}, "transformers"),
    ],
)
def test_a_process_that_loads_the_model_says_what_was_told(folder, config, engine):
    made = folder(**config)
    settings = Settings(base_model=str(made), engine=engine)
    refused = [one for one in examine_base(settings) if not one["ok"]]
    if not refused:
        assert resolve_base_model(settings) == made
        return
    with pytest.raises(Invalid) as caught:
        resolve_base_model(settings)
    assert refused[0]["says"] in caught.value.detail
    assert refused[0]["mend"] in caught.value.detail


def test_a_tokenizer_that_does_not_fit_is_told_and_refused(folder):
    made = folder(vocab_size=100)
    assert "the embedding has 100 rows" in told(made)["vocabulary"]["says"]
    with pytest.raises(Invalid, match="100 rows"):
        base_manifest(made, "base")


def test_a_tokenizer_without_an_end_is_told_and_refused(folder):
    made = folder()
    tokenizer = load_tokenizer(made)
    tokenizer.eos_token = None
    tokenizer.save_pretrained(made)
    assert not told(made)["end tokens"]["ok"]
    with pytest.raises(Invalid, match="no end-of-sequence token"):
        base_manifest(made, "base")


def test_a_folder_without_a_tokenizer_is_told(folder):
    made = folder()
    (made / "tokenizer.json").unlink()
    (made / "tokenizer_config.json").unlink()
    assert not told(made)["tokenizer"]["ok"]


def test_a_configuration_that_transformers_can_make_nothing_of_is_told(folder):
    assert "does not load" in told(folder(model_type="falcon"))["tokenizer"]["says"]


def test_what_is_not_here_is_named_with_what_brings_it():
    with pytest.raises(Invalid, match=r"python -m shared\.model\.fetch owner/model FOLDER"):
        examine_base(Settings(base_model="owner/model"))
    with pytest.raises(Invalid, match="gguf_file=FILE"):
        examine_base(Settings(base_model="model.gguf"))


@pytest.mark.model
@pytest.mark.slow
def test_the_model_of_the_wheel_is_told_before_it_is_converted(real_folder, tmp_path):
    before = told("smollm2", data_dir=tmp_path)
    assert not (tmp_path / "cache").exists()
    after = told(real_folder)
    same = set(before) - {"weights"}
    assert {what: before[what]["says"] for what in same} == {what: after[what]["says"] for what in same}


@pytest.mark.parametrize(("kind", "status"), [("olmo", 1), ("llama", 0)])
def test_the_command_says_by_its_status_whether_the_model_is_served(folder, monkeypatch, capsys, kind, status):
    def run(*options):
        monkeypatch.setattr(sys, "argv", ["signalbox", "doctor", "--base", str(made), *options])
        with pytest.raises(SystemExit) as ended:
            main.main()
        assert ended.value.code == status
        return capsys.readouterr().out

    made = folder(model_type=kind)
    monkeypatch.setenv("COLUMNS", "80")
    assert [one["what"] for one in json.loads(run("--json")) if not one["ok"]] == ["family"] * status
    assert max(map(len, run().splitlines())) <= 80
