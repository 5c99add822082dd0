"""What of a base model is served, by its configuration and the headers of its weights."""

import json

import pytest

from shared.errors import Invalid
from shared.model.families import EVERY, FAMILIES, Use
from shared.model.servable import BaseFiles, check_base, check_head, context_length, file_findings
from tests.support.adapter_samples import safetensors

LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
    "vocab_size": 64,
}
LONGROPE = {"rope_type": "longrope", "original_max_position_embeddings": 4096}


@pytest.fixture
def folder(tmp_path):
    """A model folder of this configuration, by default with weights of four million numbers."""

    def make(weights=True, **config):
        (tmp_path / "config.json").write_text(json.dumps({**LLAMA, **config}))
        if weights:
            (tmp_path / "model.safetensors").write_bytes(safetensors({"model.norm.weight": ("BF16", [2000, 2000])}))
        return tmp_path

    return make


def found(folder):
    return {finding.topic: finding for finding in file_findings(BaseFiles.of(folder))}


def is_allowed(folder, use):
    """Whether the files allow a use, as a process that loads them is told."""
    try:
        check_base(folder, use)
    except Invalid as error:
        if error.code == "base_model_unsupported":
            return False
        raise
    return True


def allowed(folder):
    return {use for use in Use if is_allowed(folder, use)}


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_family_of_the_table_is_served_as_the_table_says(folder, kind):
    made = folder(model_type=kind, num_experts=8 if "moe" in kind else None)
    assert allowed(made) == FAMILIES[kind].uses
    assert f"{FAMILIES[kind].name} ({kind})" in found(made)["family"].says


@pytest.mark.parametrize(
    ("config", "uses", "says"),
    [
        ({"model_type": "falcon"}, {Use.VLLM}, "falcon, a family that our engine is not tested with"),
        ({"model_type": "gpt_oss", "num_local_experts": 32}, {Use.VLLM}, "gpt_oss, a mixture of experts"),
        ({"model_type": "mixtral", "num_local_experts": 8}, {Use.VLLM, Use.READ}, "with adapters on its attention"),
        ({"model_type": "of_its_own", "auto_map": {"AutoModelForCausalLM": "m.M"}}, set(), "a program of its own"),
        ({"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True}, set(),
         "an encoder with a decoder"),
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, set(), "no causal language model"),
        ({"model_type": "qwen3", "architectures": ["Qwen3Model"]}, set(), "no causal language model"),
        ({"model_type": "gemma3_text", "use_bidirectional_attention": True}, set(), "attend to later ones"),
        ({"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"], "text_config": {}}, set(),
         "reads more than texts"),
    ],
)  # fmt: skip
def test_what_our_engine_was_not_made_for_is_left_to_a_server_or_refused(folder, config, uses, says):
    made = folder(**config)
    assert allowed(made) == uses
    assert says in found(made)["family"].says
    assert found(made)["family"].mend


def test_a_program_beside_a_known_family_is_never_run_and_no_hindrance(folder):
    made = folder(model_type="phi3", auto_map={"AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"})
    assert allowed(made) == set(EVERY)
    assert "never run" in found(made)["program"].says


@pytest.mark.parametrize(
    ("quantised", "says"),
    [
        ({"quant_method": "fp8"}, "fp8 weights"),
        ({"quant_method": "gptq", "bits": 4}, "4-bit weights (gptq)"),
        ({"quant_method": "awq", "bits": 4}, "4-bit weights (awq)"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "4-bit weights (bitsandbytes)"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "8-bit weights (bitsandbytes)"),
    ],
)
def test_quantised_weights_are_left_to_a_server_by_name(folder, quantised, says):
    made = folder(quantization_config=quantised)
    assert allowed(made) == {Use.VLLM}
    assert says in found(made)["weights"].says
    assert "SIGNALBOX_ENGINE=vllm" in found(made)["weights"].mend


@pytest.mark.parametrize(
    ("name", "says"), [("model.Q4_K.gguf", "a GGUF file"), ("pytorch_model.bin", "pickles"), ("notes", "no *.safe")]
)
def test_weights_in_another_form_are_named_with_the_way_out(folder, name, says):
    made = folder(weights=False)
    (made / name).touch()
    assert allowed(made) == set()
    assert says in found(made)["weights"].says
    assert "save_pretrained" in found(made)["weights"].mend


def test_what_is_served_is_told_with_its_size(folder):
    told = found(folder())
    assert all(not finding.refused for finding in told.values())
    assert told["weights"].says.startswith("4 million numbers: 0.0 GiB in float32")
    assert (told["context"].says, told["embeddings"].says[:4]) == ("2,048 tokens", "tied")
    assert "may change lm_head" in found(folder(tie_word_embeddings=False))["embeddings"].says


@pytest.mark.parametrize(
    ("config", "length"),
    [
        ({"max_position_embeddings": 2048}, 2048),
        ({}, None),
        ({"max_position_embeddings": 131072, "rope_parameters": LONGROPE}, 4096),
        ({"max_position_embeddings": 131072, "rope_scaling": {"type": "su"}, "original_max_position_embeddings": 4096},
         4096),
        ({"max_position_embeddings": 131072, "rope_scaling": {"rope_type": "llama3"}}, 131072),
    ],
)  # fmt: skip
def test_our_engine_stays_within_the_length_before_longrope_stretches_it(config, length):
    assert context_length(config) == length


def test_a_head_is_refused_where_the_family_has_no_such_form(folder):
    check_head(folder())
    with pytest.raises(Invalid, match="readout names"):
        check_head(folder(model_type="granite"))


def test_a_folder_without_a_configuration_is_no_model(tmp_path):
    with pytest.raises(Invalid, match="it needs config"):
        check_base(tmp_path, Use.READ)
