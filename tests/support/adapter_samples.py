"""Small adapters as bytes, good ones and the parts to spoil them with."""

import io
import json
import struct
import zipfile

import pytest

from shared.adapter_files import CONFIG_NAME, WEIGHTS_NAME, AdapterLimits, BaseShapes, accept_adapter
from shared.errors import Invalid

MAX_BYTES = 1 << 20
RANK = 2
BASE = BaseShapes(
    {
        f"model.layers.{layer}.self_attn.{name}": shape
        for layer in range(2)
        for name, shape in {"q_proj": (8, 8), "v_proj": (4, 8)}.items()
    }
)
# Every key that PEFT 0.21 writes by default.
CONFIG = {
    "alora_invocation_tokens": None, "alpha_pattern": {}, "arrow_config": None, "auto_mapping": None,
    "base_model_name_or_path": "base", "bias": "none", "corda_config": None, "ensure_weight_tying": False,
    "eva_config": None, "exclude_modules": None, "fan_in_fan_out": False, "inference_mode": True,
    "init_lora_weights": True, "kasa_config": None, "layer_replication": None, "layers_pattern": None,
    "layers_to_transform": None, "loftq_config": {}, "lora_alpha": 4, "lora_bias": False, "lora_dropout": 0.05,
    "lora_ga_config": None, "megatron_config": None, "megatron_core": "megatron.core", "modules_to_save": None,
    "monteclora_config": None, "peft_type": "LORA", "peft_version": "0.21.2", "qalora_group_size": 16, "r": RANK,
    "rank_pattern": {}, "revision": None, "target_modules": ["q_proj", "v_proj"], "target_parameters": None,
    "task_type": "CAUSAL_LM", "trainable_token_indices": None, "use_bdlora": None, "use_dora": False,
    "use_qalora": False, "use_rslora": False, "velora_config": None,
}  # fmt: skip


def lora_tensors(rank=RANK, dora=False, dtype="F32"):
    tensors = {}
    for module, (out, into) in BASE.modules.items():
        tensors[f"base_model.model.{module}.lora_A.weight"] = (dtype, [rank, into])
        tensors[f"base_model.model.{module}.lora_B.weight"] = (dtype, [out, rank])
        if dora:
            tensors[f"base_model.model.{module}.lora_magnitude_vector"] = ("F32", [out])
    return tensors


def safetensors(tensors, fill=0.5):
    """A file with these tensors, every number the same, laid out as the format asks."""
    item = {"F32": struct.pack("<f", fill), "F16": struct.pack("<e", fill), "BF16": struct.pack("<f", fill)[2:],
            "F64": struct.pack("<d", fill)}  # fmt: skip
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, (dtype, shape) in tensors.items():
        count = 1
        for size in shape:
            count *= size
        header[name] = {
            "dtype": dtype,
            "shape": shape,
            "data_offsets": [len(data), len(data) + count * len(item[dtype])],
        }
        data += item[dtype] * count
    return framed(header, data)


def framed(header, data):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def header_and_data(weights):
    length = struct.unpack("<Q", weights[:8])[0]
    return json.loads(weights[8 : 8 + length]), weights[8 + length :]


GOOD = {CONFIG_NAME: json.dumps(CONFIG).encode(), WEIGHTS_NAME: safetensors(lora_tensors())}


def archive(config=CONFIG, weights=None, name=CONFIG_NAME, beside=()):
    """A zip of an adapter, as people send it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for other in beside:
            file.writestr(other, b"\x80\x04.")
        file.writestr(name, json.dumps(config))
        file.writestr(WEIGHTS_NAME, safetensors(lora_tensors()) if weights is None else weights)
    return out.getvalue()


def upload(client, data, headers=None, **fields):
    """Send an archive to the API."""
    return client.post(
        "/v1/adapters", data={"label": "fin.sa", **fields}, files={"file": ("a.zip", data)}, headers=headers
    )


def refused(call, *args):
    with pytest.raises(Invalid) as caught:
        call(*args)
    assert caught.value.detail
    return caught.value.code


def accepted(folder, **limits):
    return accept_adapter(folder, BASE, AdapterLimits(**limits))


def check(folder, **limits):
    return accepted(folder, **limits).info
