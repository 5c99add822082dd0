"""What a manifest says of a model folder, read without its weights."""

import hashlib
import json

import pytest

from shared.adapter_files import BaseShapes
from shared.errors import Invalid
from shared.model.base import base_model_id, load_tokenizer
from shared.model.base_manifest import base_manifest, vocabulary_digest
from tests.support.tiny_model import save_tiny_model

TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}"


@pytest.fixture
def folder(tmp_path):
    return save_tiny_model(tmp_path / "tiny")


def test_a_manifest_says_what_the_folder_holds(folder):
    found = base_manifest(folder, str(folder))
    assert (found.id, found.name) == (base_model_id(folder), "tiny")
    assert (found.architecture, found.context_length, found.dtype) == ("LlamaForCausalLM", 1024, "float32")
    assert BaseShapes.from_dict(found.shapes) == BaseShapes.from_folder(folder)
    assert (found.end_tokens, found.chat_template) == ((2,), "")
    assert found.created_at
    assert base_manifest(folder, "org/tiny").name == "org/tiny"


def test_the_same_folder_has_the_same_digest_whenever_it_is_read(folder):
    assert base_manifest(folder, "one").digest == base_manifest(folder, "two").digest


def test_another_chat_template_is_another_manifest_of_the_same_pin(folder):
    before = base_manifest(folder, "tiny")
    tokenizer = load_tokenizer(folder)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    after = base_manifest(folder, "tiny")
    assert after.chat_template == hashlib.sha256(TEMPLATE.encode()).hexdigest()
    assert after.id == before.id
    assert after.digest != before.digest


def test_the_vocabulary_is_named_by_its_tokens_in_order_of_their_ids(folder):
    tokenizer = load_tokenizer(folder)
    names = {number: token for token, number in tokenizer.get_vocab().items()}
    lines = "".join(f"{json.dumps([number, names[number]])}\n" for number in range(len(tokenizer)))
    before = vocabulary_digest(tokenizer)
    assert before == hashlib.sha256(lines.encode()).hexdigest()
    tokenizer.add_tokens(["<think>"])
    assert vocabulary_digest(tokenizer) != before


def test_a_folder_without_a_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(Invalid):
        base_manifest(tmp_path, "empty")


def test_a_manifest_names_the_usual_template_and_is_the_same_one_whatever_it_is(folder):
    found = base_manifest(folder, "tiny")
    assert found.usual_template == "chatml"
    assert found.model_copy(update={"usual_template": "model"}).digest == found.digest


def test_quantised_weights_have_the_shapes_of_the_model_that_they_stand_for(folder):
    plain = base_manifest(folder, "tiny").shapes
    config = json.loads((folder / "config.json").read_text())
    quantised = {**config, "quantization_config": {"quant_method": "gptq", "bits": 4}}
    (folder / "config.json").write_text(json.dumps(quantised))
    found = base_manifest(folder, "tiny").shapes
    assert {name: found[name] for name in plain} == plain


def test_a_manifest_notes_what_its_weights_take_where_they_serve_and_is_the_same_one_without(folder):
    found = base_manifest(folder, "tiny")
    layers = sum(out * into for out, into in found.shapes.values())
    norms = 5 * 32
    assert found.vocabulary_size == 259
    assert found.weight_bytes == 2 * (layers + 259 * 32 + norms)  # stored in float32; the head is the embedding
    assert found.model_copy(update={"weight_bytes": 0, "vocabulary_size": 0}).digest == found.digest
