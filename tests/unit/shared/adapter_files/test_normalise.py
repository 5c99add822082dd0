"""What means plain LoRA is accepted: normalised, with its original config beside it, and a note on what was done."""

import json
import struct

import pytest

from shared.adapter_files import CONFIG_NAME, ORIGINAL_NAME, WEIGHTS_NAME, adapter_digest
from shared.errors import Invalid
from tests.support.adapter_samples import (
    BASE,
    CONFIG,
    GOOD,
    RANK,
    accepted,
    header_and_data,
    lora_tensors,
    refused,
    safetensors,
)

Q, V = "self_attn.q_proj", "self_attn.v_proj"
WHOLE = sorted(BASE.modules)


@pytest.fixture
def folder(tmp_path):
    def write(changes=None, tensors=None, name="adapter", fill=0.5):
        target = tmp_path / name
        target.mkdir(parents=True, exist_ok=True)
        (target / CONFIG_NAME).write_text(json.dumps(CONFIG | (changes or {})))
        (target / WEIGHTS_NAME).write_bytes(safetensors(lora_tensors() if tensors is None else tensors, fill))
        return target

    return write


def stored(path):
    return json.loads((path / CONFIG_NAME).read_text())


def names_in(path):
    return header_and_data((path / WEIGHTS_NAME).read_bytes())[0].keys() - {"__metadata__"}


def ranked(ranks):
    """Tensors of modules of these ranks."""
    return {name: value for rank in set(ranks.values()) for name, value in lora_tensors(rank).items()
            if any(f".{module}." in name and r == rank for module, r in ranks.items())}  # fmt: skip


def test_an_adapter_that_is_plain_already_is_left_as_it_is(folder):
    path = folder()
    digest = adapter_digest(path)
    assert accepted(path).notes == ()
    assert (adapter_digest(path), stored(path)) == (digest, CONFIG)
    assert {file.name for file in path.iterdir()} == set(GOOD)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"auto_mapping": {"base_model_class": "LlamaForCausalLM", "unsloth_fixed": True}}, "auto_mapping is dropped"),
        ({"enable_lora": None}, "enable_lora: dropped"),
        ({"merge_weights": False}, "merge_weights is dropped"),
        ({"task": "question answering", "domain": "general"}, "task, domain: dropped"),
        ({"epochs": 3, "tags": ["a"]}, "epochs, tags: dropped"),
        ({f"note{n}": "x" for n in range(11)}, "note7 and 3 more: dropped"),
        ({"\x1b[31mred": "x"}, "'\\\\x1b"),
        ({"use_tomorrow": False, "tomorrow_config": {}}, "use_tomorrow, tomorrow_config: dropped"),
        ({"task_type": None}, "task_type is null"),
        ({"use_rslora": None}, "use_rslora is empty"),
        ({"lora_dropout": 1.0}, "lora_dropout is about training"),
        ({"inference_mode": None}, "inference_mode is dropped"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out is dropped"),
        ({"megatron_core": "os.path"}, "megatron_core is dropped"),
        ({"runtime_config": {}}, "runtime_config is dropped"),
        ({"init_lora_weights": "eva", "eva_config": {"rho": 2.0}}, "init_lora_weights eva is dropped"),
        ({"init_lora_weights": "orthogonal"}, "init_lora_weights orthogonal is dropped"),
    ],
)
def test_what_has_no_effect_on_serving_is_dropped_with_a_note(folder, changes, says):
    path = folder(changes)
    plain = accepted(folder(name="plain"))
    came = (path / CONFIG_NAME).read_bytes()
    found = accepted(path)
    assert says.replace("\\\\", "\\") in "; ".join(found.notes)
    assert found.info == plain.info
    assert (path / ORIGINAL_NAME).read_bytes() == came
    assert accepted(path).notes == ()  # what is stored is plain


@pytest.mark.parametrize("key", ["r", "lora_alpha"])
def test_a_missing_number_is_pefts_own(folder, tmp_path, key):
    path = folder({}, lora_tensors(8))
    config = {name: value for name, value in (CONFIG | {"r": 8}).items() if name != key}
    (path / CONFIG_NAME).write_text(json.dumps(config))
    assert f"{key} is missing: PEFT's 8 is taken" in accepted(path).notes
    assert stored(path)[key] == 8


@pytest.mark.parametrize(
    ("changes", "tensors", "says", "targets"),
    [
        ({"target_modules": ["q_proj", "v_proj", "q_proj"]}, None, "names 1 modules twice", ["q_proj", "v_proj"]),
        ({"target_modules": ["q_proj", "v_proj", "c_attn"]}, None, "nothing of this base model: c_attn",
         ["q_proj", "v_proj"]),
        ({"target_modules": "all-linear"}, None, "stands for 4 modules", ["q_proj", "v_proj"]),
        ({"target_modules": r".*\.(q|v)_proj"}, None, "stands for 4 modules", ["q_proj", "v_proj"]),
        ({"target_modules": "all-linear", "exclude_modules": ["v_proj"]}, ranked({Q: 2}), "holds what is left",
         ["q_proj"]),
        ({"exclude_modules": ".*vision_tower.*"}, None, "excludes nothing", ["q_proj", "v_proj"]),
        ({}, ranked({Q: 2}), "2 targeted modules have no tensors", ["q_proj"]),
    ],
)  # fmt: skip
def test_targets_are_what_the_tensors_say(folder, changes, tensors, says, targets):
    path = folder(changes, tensors)
    assert says in "; ".join(accepted(path).notes)
    assert stored(path)["target_modules"] == targets
    assert not stored(path).get("exclude_modules")


@pytest.mark.parametrize("layers", [1, [1, 1], [1, 99], [1, -3]])
@pytest.mark.parametrize("pattern", [None, "layers", ["h", "layers"], []])
def test_layers_may_be_a_number_or_a_careless_list(folder, layers, pattern):
    upper = {name: value for name, value in lora_tensors().items() if ".layers.1." in name}
    path = folder({"layers_to_transform": layers, "layers_pattern": pattern}, upper)
    assert accepted(path).info.parameter_count == 32 + 24
    is_plain = layers == [1, 99] and not pattern
    assert stored(path)["layers_to_transform"] == ([1, 99] if is_plain else [1])
    assert not stored(path).get("layers_pattern")


def test_modules_that_no_few_words_describe_are_named_whole(folder):
    named = ["model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.v_proj"]
    some = {name: value for name, value in lora_tensors().items() if any(f".{module}." in name for module in named)}
    path = folder({}, some)
    assert "2 targeted modules have no tensors" in accepted(path).notes[0]
    assert stored(path)["target_modules"] == named


@pytest.mark.parametrize(
    ("patterns", "ranks", "alphas"),
    [
        ({"rank_pattern": {"q_proj": 4}}, {Q: 4, V: 2}, {Q: 4, V: 4}),
        ({"rank_pattern": {".*q_pro.": 4}}, {Q: 4, V: 2}, {Q: 4, V: 4}),
        ({"alpha_pattern": {r"layers\.\d\.self_attn\.q_proj": 32}}, {Q: 2, V: 2}, {Q: 32, V: 4}),
        (
            {"rank_pattern": {"q_proj|v_proj": 3}, "alpha_pattern": {"^model.*v_proj$": 1.5}},
            {Q: 3, V: 3},
            {Q: 4, V: 1.5},
        ),
    ],
)
def test_ranks_and_alphas_are_kept_by_module(folder, patterns, ranks, alphas):
    from shared.adapter_files import size_of

    path = folder(patterns, ranked(ranks))
    assert accepted(path).info.rank == max(ranks.values())
    found = {module: size_of(stored(path), module) for module in WHOLE}
    assert found == {module: (ranks[module[15:]], alphas[module[15:]]) for module in WHOLE}


RENAMES = {
    "the adapter's name in it": lambda name: name.replace(".weight", ".default.weight"),
    "no prefix": lambda name: name.removeprefix("base_model.model."),
    "the prefix twice": lambda name: f"base_model.model.{name}",
    "one model less": lambda name: name.replace("model.model.model.", "model.model.", 1),
    "a vision-language model's": lambda name: name.replace("model.model.model", "model.model.language_model.model"),
    "compiled": lambda name: name.replace(".layers.", ".layers._orig_mod."),
    "data parallel": lambda name: f"module.{name}",
}


@pytest.mark.parametrize("rename", RENAMES.values(), ids=RENAMES.keys())
def test_tensors_of_known_other_names_are_renamed_and_keep_their_bytes(folder, rename):
    path = folder({}, {rename(name): value for name, value in lora_tensors().items()})
    found = accepted(path)
    assert found.notes[0].startswith("8 tensors are renamed, such as ")
    assert names_in(path) == lora_tensors().keys()
    assert found.info.parameter_count == accepted(folder(name="plain")).info.parameter_count
    plain = header_and_data((folder(name="plain") / WEIGHTS_NAME).read_bytes())[1]
    assert header_and_data((path / WEIGHTS_NAME).read_bytes())[1] == plain
    assert accepted(path).notes == ()


@pytest.mark.parametrize(
    ("tensors", "code"),
    [
        ({"q_proj.lora_A.weight": ("F32", [RANK, 8])}, "adapter_base_mismatch"),
        ({"layers.0.self_attn.q_proj.lora_A.weight": ("F32", [RANK, 9])}, "adapter_base_mismatch"),
        ({f"{WHOLE[0]}.lora_A.a.weight": ("F32", [2, 8]), f"{WHOLE[0]}.lora_A.b.weight": ("F32", [2, 8])},
         "adapter_tensor_unknown"),
        (lora_tensors() | {f"base_model.model.{WHOLE[0]}.lora_B.default.weight": ("F32", [8, 2])},
         "adapter_tensor_unknown"),
    ],
)  # fmt: skip
def test_names_that_leave_a_doubt_are_refused(folder, tensors, code):
    assert refused(accepted, folder({}, tensors)) == code


def numbers(path):
    """Each tensor's numbers by name, of a file of F32."""
    header, data = header_and_data((path / WEIGHTS_NAME).read_bytes())
    header.pop("__metadata__")
    spans = {name: (entry["shape"], data[slice(*entry["data_offsets"])]) for name, entry in header.items()}
    return {name: (shape, struct.unpack(f"<{len(raw) // 4}f", raw)) for name, (shape, raw) in spans.items()}


@pytest.mark.parametrize("is_rslora", [False, True])
@pytest.mark.parametrize("init", ["pissa", "pissa_niter_16", "olora", "PISSA"])
def test_an_initialisation_is_taken_off_exactly_where_the_initial_adapter_comes_along(folder, init, is_rslora):
    path = folder({"init_lora_weights": init, "use_rslora": is_rslora}, fill=0.75)
    folder({"use_rslora": is_rslora}, name="adapter/initial", fill=0.5)
    found = accepted(path)
    assert any("is converted: the initial weights are taken off" in note for note in found.notes)
    config = stored(path)
    assert (config["r"], config["init_lora_weights"]) == (2 * RANK, True)
    assert config["lora_alpha"] == pytest.approx(4 * (2**0.5 if is_rslora else 2))
    a, b = (f"base_model.model.{WHOLE[0]}.lora_{part}.weight" for part in "AB")
    assert numbers(path)[a] == ([4, 8], (0.75,) * 16 + (0.5,) * 16)
    assert numbers(path)[b] == ([8, 4], (0.75, 0.75, -0.5, -0.5) * 8)
    assert {file.name for file in path.iterdir()} == {*GOOD, ORIGINAL_NAME}


@pytest.mark.parametrize(
    ("changes", "before"),
    [
        ({"init_lora_weights": "pissa"}, None),
        ({"init_lora_weights": "olora"}, {"r": 4}),
        ({"init_lora_weights": "corda"}, {"lora_alpha": 5}),
        ({"init_lora_weights": "lora_ga", "use_dora": True}, {"use_dora": True}),
    ],
)
def test_an_initialisation_that_cannot_be_taken_off_is_refused_with_the_command_that_does(folder, changes, before):
    tensors = lora_tensors(dora="use_dora" in changes)
    path = folder(changes, tensors)
    if before is not None:
        folder(before, tensors, name="adapter/initial")
    with pytest.raises(Invalid, match="path_initial_model_for_weight_conversion=INITIAL") as caught:
        accepted(path)
    assert caught.value.code == "adapter_init_unconverted"


def test_an_initial_adapter_that_the_config_does_not_speak_of_is_a_note(folder):
    path = folder()
    folder(name="adapter/initial")
    assert accepted(path).notes == (
        "the adapter before its training is not used: init_lora_weights says the weights are plain",
    )
    assert stored(path) == CONFIG


def test_a_config_of_mlx_is_named(folder):
    path = folder()
    (path / CONFIG_NAME).write_text(json.dumps({"fine_tune_type": "lora", "lora_parameters": {"rank": 8, "scale": 20}}))
    assert refused(accepted, path) == "adapter_format_unknown"


def test_an_expression_that_runs_for_ever_is_stopped(folder):
    with pytest.raises(Invalid, match="takes too long on this base model's names: list the modules' names"):
        accepted(folder({"exclude_modules": r"(([a-z_.]|\d)+)+!"}))
