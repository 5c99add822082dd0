"""Hostile and broken adapter folders, each refused with its own code; and good ones, let through."""

import json
import struct
import subprocess
import sys

import pytest

from shared.adapter_files import (
    CONFIG_NAME,
    WEIGHTS_NAME,
    AdapterLimits,
    BaseShapes,
    adapter_digest,
    check_adapter,
    check_digest,
    unpack_adapter,
)
from shared.errors import Invalid
from tests.support.adapter_samples import (
    BASE,
    CONFIG,
    GOOD,
    MAX_BYTES,
    RANK,
    check,
    framed,
    header_and_data,
    lora_tensors,
    refused,
    safetensors,
)
from tests.support.hostile_archives import tar_of


@pytest.fixture
def folder(tmp_path):
    def write(config=None, weights=None, **changes):
        target = tmp_path / "adapter"
        target.mkdir(exist_ok=True)
        raw = config if isinstance(config, bytes) else json.dumps({**CONFIG, **(config or {}), **changes}).encode()
        (target / CONFIG_NAME).write_bytes(raw)
        (target / WEIGHTS_NAME).write_bytes(weights or GOOD[WEIGHTS_NAME])
        return target

    return write


# Good adapters.


def test_an_adapter_as_peft_writes_it_is_accepted(folder):
    info = check(folder())
    assert (info.rank, info.alpha, info.method, info.target_modules) == (2, 4.0, "lora", ("q_proj", "v_proj"))
    assert (info.parameter_count, info.size_bytes) == (2 * (32 + 24), len(GOOD[WEIGHTS_NAME]))


@pytest.mark.parametrize(
    ("changes", "method"),
    [
        ({"use_rslora": True}, "rslora"),
        ({"use_dora": True}, "dora"),
        ({"use_dora": True, "use_rslora": True}, "rsdora"),
    ],
)
def test_the_method_is_told(folder, changes, method):
    weights = safetensors(lora_tensors(dora="use_dora" in changes))
    assert check(folder(changes, weights)).method == method


def test_an_adapter_of_some_layers_alone_holds_their_tensors_and_no_others(folder):
    upper = {name: value for name, value in lora_tensors().items() if ".layers.1." in name}
    assert check(folder({"layers_to_transform": [1]}, safetensors(upper))).parameter_count == 32 + 24
    assert refused(check, folder({"layers_to_transform": [1]}, safetensors(lora_tensors()))) == "adapter_base_mismatch"
    assert refused(check, folder({"init_lora_weights": False}, safetensors(upper))) == "adapter_weights_incomplete"
    assert refused(check, folder({"layers_to_transform": [7]}, safetensors(upper))) == "adapter_base_mismatch"


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_the_usual_dtypes_are_accepted(folder, dtype):
    assert check(folder(weights=safetensors(lora_tensors(dtype=dtype)))).rank == RANK


# Config.


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"target_modules": ".*"}, "adapter_config_invalid"),
        ({"target_modules": ".*("}, "adapter_config_invalid"),
        ({"target_modules": "(.*)*[qv]_projx"}, "adapter_config_invalid"),
        ({"target_modules": ["q_proj", "v_proj", "self_attn"]}, "adapter_config_invalid"),
        ({"target_modules": ["q_proj", "v_proj", "embed_tokens"]}, "adapter_embeddings_trained"),
        ({"target_modules": ["q_proj", 5]}, "adapter_config_invalid"),
        ({"target_modules": None}, "adapter_config_invalid"),
        ({"target_modules": "all-linear", "layers_to_transform": [0]}, "adapter_config_invalid"),
        ({"layers_pattern": "layers"}, "adapter_config_invalid"),
        ({"exclude_modules": ["v_proj"]}, "adapter_base_mismatch"),
        ({"exclude_modules": 5}, "adapter_config_invalid"),
        ({"layers_to_transform": 1}, "adapter_base_mismatch"),
        ({"layers_to_transform": "1"}, "adapter_config_invalid"),
        ({"layers_to_transform": [-1]}, "adapter_base_mismatch"),
        ({"layers_to_transform": [1, 1]}, "adapter_base_mismatch"),
        ({"layers_to_transform": [True]}, "adapter_config_invalid"),
        ({"layers_to_transform": [10**9]}, "adapter_base_mismatch"),
        ({"target_modules": "q_proj"}, "adapter_base_mismatch"),
        ({"target_modules": ["(a+)+$"]}, "adapter_base_mismatch"),
        ({"target_modules": []}, "adapter_config_invalid"),
        ({"target_modules": ["q_proj", "q_proj"]}, "adapter_base_mismatch"),
        ({"target_modules": [["q_proj"]]}, "adapter_config_invalid"),
        ({"target_modules": ["q_proj\n"]}, "adapter_base_mismatch"),
        ({"target_modules": ["\uff51_proj"]}, "adapter_base_mismatch"),
        ({"target_modules": ["c_attn"]}, "adapter_base_mismatch"),
        ({"auto_map": {"AutoModel": "evil.Model"}}, "adapter_config_invalid"),
        ({"trust_remote_code": True}, "adapter_config_invalid"),
        ({"modules_to_save": ["lm_head"]}, "adapter_config_invalid"),
        ({"layer_replication": [[0, 4]]}, "adapter_config_invalid"),
        ({"rank_pattern": None}, "adapter_config_invalid"),
        ({"rank_pattern": {"q_proj": 4}}, "adapter_rank_mismatch"),
        ({"rank_pattern": {"q_proj": 2.0}}, "adapter_config_invalid"),
        ({"rank_pattern": {"q(": 2}}, "adapter_config_invalid"),
        ({"alpha_pattern": {"q_proj": "8"}}, "adapter_config_invalid"),
        ({"rank_pattern": {".*": 512}}, "adapter_rank_too_large"),
        ({"init_lora_weights": "pissa"}, "adapter_init_unconverted"),
        ({"init_lora_weights": "loftq"}, "adapter_init_unconverted"),
        ({"init_lora_weights": "of tomorrow"}, "adapter_config_invalid"),
        ({"loftq_config": {"loftq_bits": 4}}, "adapter_config_invalid"),
        ({"bias": "all"}, "adapter_config_invalid"),
        ({"kasa_config": {}}, "adapter_config_invalid"),
        ({"use_bdlora": False}, "adapter_config_invalid"),
        ({"trainable_token_indices": []}, "adapter_config_invalid"),
        ({"enable_lora": [True, False, True]}, "adapter_config_invalid"),
        ({"use_something_new": True}, "adapter_config_invalid"),
        ({"peft_type": None, "lora_parameters": {"rank": 2}}, "adapter_config_invalid"),
        ({"peft_type": "IA3"}, "adapter_config_invalid"),
        ({"task_type": "SEQ_CLS"}, "adapter_config_invalid"),
        ({"r": 100_000}, "adapter_rank_too_large"),
        ({"r": 0}, "adapter_config_invalid"),
        ({"r": True}, "adapter_config_invalid"),
        ({"r": "2"}, "adapter_config_invalid"),
        ({"lora_alpha": 10**400}, "adapter_config_invalid"),
        ({"lora_alpha": -1}, "adapter_config_invalid"),
        ({"r": 4}, "adapter_rank_mismatch"),
        ({"use_dora": True}, "adapter_weights_incomplete"),
        ({"base_model_name_or_path": "x" * 5000}, "adapter_config_invalid"),
    ],
)
def test_a_hostile_config_value_is_refused(folder, changes, code):
    assert refused(check, folder(changes)) == code


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b'{"r": 2, "r": 3}',
        b'{"lora_alpha": NaN}',
        b"\xff\xfe{}",
        b"[" * 60_000,
        b'{"r": 1' + b"0" * 5000 + b"}",
        b"{}" + b" " * (64 << 10),
        b"{}",
    ],
    ids=["empty", "list", "null", "cut", "twice", "nan", "utf16", "deep", "digits", "long", "bare"],
)
def test_a_config_that_is_not_clean_json_is_refused(folder, raw):
    assert refused(check, folder(raw)) == "adapter_config_invalid"


# Weights.


def edited(change):
    header, data = header_and_data(GOOD[WEIGHTS_NAME])
    change(header)
    return framed(header, data)


def swap_offsets(header):
    names = [name for name in header if name.endswith("lora_A.weight")]
    header[names[1]]["data_offsets"] = header[names[0]]["data_offsets"]


def first(header):
    return header[next(name for name in header if name.startswith("base_model"))]


@pytest.mark.parametrize(
    ("weights", "code"),
    [
        (b"\0", "adapter_weights_corrupt"),
        (struct.pack("<Q", 1 << 62) + b"{}", "adapter_weights_corrupt"),
        (struct.pack("<Q", (1 << 64) - 1) + b"{}", "adapter_weights_corrupt"),
        (framed(b"[]", b""), "adapter_weights_corrupt"),
        (framed(b"{}", b""), "adapter_weights_corrupt"),
        (framed(b'{"a": 1}', b""), "adapter_weights_corrupt"),
        (framed(b'{"a":' * 3000, b""), "adapter_weights_corrupt"),
        (framed(b'{"a": 1, "a": 2}', b""), "adapter_weights_corrupt"),
        (GOOD[WEIGHTS_NAME][:-4], "adapter_weights_corrupt"),
        (GOOD[WEIGHTS_NAME] + b"\0", "adapter_weights_corrupt"),
        (b"PK\x03\x04" + GOOD[WEIGHTS_NAME], "adapter_weights_corrupt"),
        (edited(swap_offsets), "adapter_weights_corrupt"),
        (edited(lambda header: first(header).update(data_offsets=[0, 1 << 60])), "adapter_weights_corrupt"),
        (edited(lambda header: first(header).update(data_offsets=[-4, 60])), "adapter_weights_corrupt"),
        (edited(lambda header: first(header).update(data_offsets=[64, 0])), "adapter_weights_corrupt"),
        (edited(lambda header: first(header).update(shape=[1 << 40, 1 << 40])), "adapter_weights_corrupt"),
        (edited(lambda header: first(header).update(shape=[1] * 100_000)), "adapter_weights_corrupt"),
        (edited(lambda header: first(header).update(shape=[True, 16])), "adapter_weights_corrupt"),
        (edited(lambda header: first(header).update(dtype="F64")), "adapter_dtype_unsupported"),
        (edited(lambda header: first(header).update(dtype="__import__")), "adapter_dtype_unsupported"),
        (edited(lambda header: first(header).update(extra=1)), "adapter_weights_corrupt"),
        (safetensors(lora_tensors(), float("nan")), "adapter_weights_not_finite"),
        (safetensors(lora_tensors(), float("inf")), "adapter_weights_not_finite"),
        (safetensors(lora_tensors(), float("-inf")), "adapter_weights_not_finite"),
        (safetensors(lora_tensors(dtype="F16"), float("nan")), "adapter_weights_not_finite"),
        (safetensors(lora_tensors(dtype="BF16"), float("-inf")), "adapter_weights_not_finite"),
        (safetensors(lora_tensors(rank=3)), "adapter_rank_mismatch"),
        (safetensors(dict(list(lora_tensors().items())[1:])), "adapter_weights_incomplete"),
        (safetensors(lora_tensors(dora=True)), "adapter_tensor_unknown"),
        (safetensors({name: (d, s[::-1]) for name, (d, s) in lora_tensors().items()}), "adapter_tensor_transposed"),
        (safetensors({"model.layers.0.self_attn.q_proj.lora_A.weight": ("F32", [2, 8])}), "adapter_weights_incomplete"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_hostile_weights_are_refused(folder, weights, code):
    assert refused(check, folder(weights=weights)) == code


Q_PROJ = "model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        (f"base_model.model.{Q_PROJ}.lora_A.default.weight", "adapter_tensor_unknown", "under several names"),
        (f"{Q_PROJ}.lora_A.weight", "adapter_tensor_unknown", "under several names"),
        ("base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight", "adapter_base_mismatch", "no linear layer"),
        ("base_model.model.transformer.h.0.attn.c_attn.lora_A.weight", "adapter_base_mismatch", "no linear layer"),
        ("base_model.model.q_proj.lora_A.weight", "adapter_base_mismatch", "no linear layer"),
        (f"{Q_PROJ}.lora_a", "adapter_format_unknown", "MLX's, which stores LoRA transposed"),
        (f"{Q_PROJ}.lora_down.weight", "adapter_tensor_unknown", "no LoRA weight"),
        (f"base_model.model.{Q_PROJ}.lora_A", "adapter_tensor_unknown", "no LoRA weight"),
        (f"base_model.model.{Q_PROJ}.bias", "adapter_tensor_unknown", "trained bias"),
        ("base_model.model.lm_head.weight", "adapter_embeddings_trained", "changes 'lm_head'"),
        ("base_model.model.model.embed_tokens.weight", "adapter_embeddings_trained", "changes 'model.embed_tokens'"),
        ("base_model.model.model.embed_tokens.lora_embedding_A", "adapter_embeddings_trained", "merge it"),
    ],
)
def test_a_tensor_of_another_name_is_refused_with_the_cause(folder, name, code, says):
    with pytest.raises(Invalid, match=says) as caught:
        check(folder(weights=safetensors({**lora_tensors(), name: ("F32", [RANK, 8])})))
    assert caught.value.code == code


def test_a_byte_order_mark_in_a_config_is_named(folder):
    with pytest.raises(Invalid, match="begins with a byte order mark: save it as UTF-8 without one"):
        check(folder(b"\xef\xbb\xbf" + json.dumps(CONFIG).encode()))


def test_one_bad_number_among_good_ones_is_found(folder):
    weights = bytearray(GOOD[WEIGHTS_NAME])
    weights[-4:] = struct.pack("<f", float("nan"))
    assert refused(check, folder(weights=bytes(weights))) == "adapter_weights_not_finite"


def test_an_adapter_of_another_base_is_refused(folder):
    wider = BaseShapes({name: (out * 2, into * 2) for name, (out, into) in BASE.modules.items()})
    assert refused(check_adapter, folder(), wider, AdapterLimits()) == "adapter_base_mismatch"
    shallow = BaseShapes({name: shape for name, shape in BASE.modules.items() if ".0." in name})
    assert refused(check_adapter, folder(), shallow, AdapterLimits()) == "adapter_base_mismatch"


def test_too_many_bytes_are_refused(folder):
    assert refused(lambda path: check(path, max_bytes=100), folder()) == "adapter_too_large"


def test_a_file_that_does_not_belong_is_refused(folder):
    path = folder()
    (path / "tokenizer.json").write_bytes(b"x")
    assert refused(check, path) == "adapter_file_unknown"


def test_a_linked_file_in_the_folder_is_refused(folder, tmp_path):
    path = folder()
    (path / WEIGHTS_NAME).rename(tmp_path / "elsewhere")
    (path / WEIGHTS_NAME).symlink_to(tmp_path / "elsewhere")
    assert refused(check, path) == "adapter_file_unknown"


def test_a_folder_without_weights_or_no_folder_is_refused(folder, tmp_path):
    path = folder()
    (path / WEIGHTS_NAME).unlink()
    assert refused(check, path) == "adapter_file_missing"
    assert refused(check, tmp_path / "nothing") == "adapter_file_missing"


# Digest.


def test_the_digest_survives_packing_and_forgets_key_order(folder, tmp_path):
    path = folder()
    digest = adapter_digest(path)
    archive = tar_of(*((file.name, file.read_bytes()) for file in path.iterdir()))
    assert adapter_digest(unpack_adapter(archive, tmp_path / "out", MAX_BYTES).folder) == digest
    shuffled = {key: CONFIG[key] for key in reversed(CONFIG)} | {"target_modules": ["v_proj", "q_proj"]}
    assert adapter_digest(folder(json.dumps(shuffled, indent=4).encode())) == digest


@pytest.mark.parametrize("name", [CONFIG_NAME, WEIGHTS_NAME])
def test_a_flipped_bit_is_noticed(folder, name):
    path = folder()
    digest = adapter_digest(path)
    raw = bytearray((path / name).read_bytes())
    at = raw.index(b"0.05") + 3 if name == CONFIG_NAME else len(raw) - 1
    raw[at] ^= 1
    (path / name).write_bytes(bytes(raw))
    assert refused(check_digest, path, digest) == "adapter_digest_mismatch"


def test_bytes_cannot_move_between_config_and_weights(folder):
    one = adapter_digest(folder(weights=b"abc"))
    assert one != adapter_digest(folder(weights=b"bc"))


# Base shapes.


def test_base_shapes_come_from_the_headers_and_survive_json(tmp_path):
    tensors = {"model.embed_tokens.weight": ("F32", [16, 8]), "model.norm.weight": ("F32", [8])}
    (tmp_path / "model-1.safetensors").write_bytes(safetensors(tensors))
    layers = {f"{name}.weight": ("BF16", list(shape)) for name, shape in BASE.modules.items()}
    (tmp_path / "model-2.safetensors").write_bytes(safetensors(layers))
    assert BaseShapes.from_folder(tmp_path) == BASE
    assert BaseShapes.from_dict(json.loads(json.dumps(BASE.to_dict()))) == BASE


def test_a_base_folder_without_weights_is_refused(tmp_path):
    assert refused(BaseShapes.from_folder, tmp_path) == "base_model_invalid"


def test_checking_needs_neither_torch_nor_numpy():
    code = "import sys, shared.adapter_files; sys.exit(bool({'torch', 'peft', 'numpy'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)
