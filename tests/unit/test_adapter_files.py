"""Hostile and broken adapters, each refused with its own code; and good ones, let through."""

import gzip
import io
import json
import os
import random
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile

import pytest

from shared.adapter_files import (
    CONFIG_NAME,
    WEIGHTS_NAME,
    AdapterLimits,
    BaseShapes,
    adapter_digest,
    check_adapter,
    check_digest,
    pack_adapter,
    unpack_adapter,
)
from shared.errors import Invalid, SignalboxError

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


def refused(call, *args):
    with pytest.raises(Invalid) as caught:
        call(*args)
    assert caught.value.detail
    return caught.value.code


def check(folder, **limits):
    return check_adapter(folder, BASE, AdapterLimits(**limits))


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


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_the_usual_dtypes_are_accepted(folder, dtype):
    assert check(folder(weights=safetensors(lora_tensors(dtype=dtype)))).rank == RANK


def test_what_this_peft_really_writes_is_accepted(tmp_path):
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    sizes = {"vocab_size": 16, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2,
             "num_attention_heads": 2, "num_key_value_heads": 1}  # fmt: skip
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes))
    model.save_pretrained(tmp_path / "base")
    base = BaseShapes.from_folder(tmp_path / "base")
    lora = peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", use_dora=True)
    peft.get_peft_model(model, lora).save_pretrained(tmp_path / "adapter")
    assert check_adapter(tmp_path / "adapter", base, AdapterLimits()).method == "dora"


# Config.


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"target_modules": ".*"}, "adapter_config_invalid"),
        ({"target_modules": "q_proj"}, "adapter_config_invalid"),
        ({"target_modules": ["(a+)+$"]}, "adapter_config_invalid"),
        ({"target_modules": []}, "adapter_config_invalid"),
        ({"target_modules": ["q_proj", "q_proj"]}, "adapter_config_invalid"),
        ({"target_modules": [["q_proj"]]}, "adapter_config_invalid"),
        ({"target_modules": ["q_proj\n"]}, "adapter_config_invalid"),
        ({"target_modules": ["\uff51_proj"]}, "adapter_config_invalid"),
        ({"target_modules": ["c_attn"]}, "adapter_base_mismatch"),
        ({"auto_mapping": {"base_model_class": "os", "parent_library": "system"}}, "adapter_config_invalid"),
        ({"auto_map": {"AutoModel": "evil.Model"}}, "adapter_config_invalid"),
        ({"trust_remote_code": True}, "adapter_config_invalid"),
        ({"modules_to_save": ["lm_head"]}, "adapter_config_invalid"),
        ({"layer_replication": [[0, 4]]}, "adapter_config_invalid"),
        ({"rank_pattern": {".*": 512}}, "adapter_config_invalid"),
        ({"alpha_pattern": {"(x+)+y": 1}}, "adapter_config_invalid"),
        ({"megatron_core": "os.path"}, "adapter_config_invalid"),
        ({"init_lora_weights": "pissa"}, "adapter_config_invalid"),
        ({"bias": "all"}, "adapter_config_invalid"),
        ({"peft_type": "IA3"}, "adapter_config_invalid"),
        ({"task_type": "SEQ_CLS"}, "adapter_config_invalid"),
        ({"r": 100_000}, "adapter_rank_too_large"),
        ({"r": 0}, "adapter_config_invalid"),
        ({"r": True}, "adapter_config_invalid"),
        ({"r": "2"}, "adapter_config_invalid"),
        ({"lora_alpha": 10**400}, "adapter_config_invalid"),
        ({"lora_alpha": -1}, "adapter_config_invalid"),
        ({"lora_dropout": 1.0}, "adapter_config_invalid"),
        ({"r": 4}, "adapter_rank_mismatch"),
        ({"use_dora": True}, "adapter_weights_incomplete"),
        ({"base_model_name_or_path": "x" * 5000}, "adapter_config_invalid"),
        ({"x" * 200: 1}, "adapter_config_invalid"),
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
        (safetensors({**lora_tensors(), "base_model.model.lm_head.weight": ("F32", [2, 2])}), "adapter_tensor_unknown"),
        (safetensors({"model.layers.0.self_attn.q_proj.lora_A.weight": ("F32", [2, 8])}), "adapter_tensor_unknown"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_hostile_weights_are_refused(folder, weights, code):
    assert refused(check, folder(weights=weights)) == code


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


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("adapter_model.bin", "adapter_pickle_refused"),
        ("optimizer.PT", "adapter_pickle_refused"),
        ("modeling.py", "adapter_code_refused"),
        ("tokenizer.json", "adapter_file_unknown"),
    ],
)
def test_a_file_that_does_not_belong_is_refused(folder, name, code):
    path = folder()
    (path / name).write_bytes(b"x")
    assert refused(check, path) == code


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


# Digest and packing.


def test_the_digest_survives_packing_and_forgets_key_order(folder, tmp_path):
    path = folder()
    digest = adapter_digest(path)
    assert adapter_digest(unpack_adapter(pack_adapter(path), tmp_path / "out", MAX_BYTES)) == digest
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


def test_packing_is_deterministic(folder):
    path = folder()
    before = pack_adapter(path)
    os.utime(path / CONFIG_NAME, (1, 1))
    (path / CONFIG_NAME).chmod(0o600)
    (path / "README.md").write_text("hello")
    assert pack_adapter(path) == before


# Archives.


def tar_of(*members, mode="w"):
    """A tar of (name or TarInfo, bytes) pairs, or TarInfo alone."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            info = member[0]
            if isinstance(info, str):
                info = tarfile.TarInfo(info)
                info.size = len(member[1])
            tar.addfile(info, io.BytesIO(member[1]))
    return buffer.getvalue()


def zip_of(*members, compression=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def long_header(kind):
    """One million digits, on which the standard library's search for a character set runs for hours."""
    info = tarfile.TarInfo("header")
    info.type, info.size = kind, 1 << 20
    return info, b"1" * info.size


def zip_link(name):
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return zip_of((info, b"/etc/passwd"), *GOOD.items())


def with_folder(archive_of, folder):
    return archive_of(*((f"{folder}{name}", data) for name, data in GOOD.items()))


@pytest.mark.parametrize(
    "archive",
    [
        tar_of(*GOOD.items()),
        tar_of(*GOOD.items(), mode="w:gz"),
        zip_of(*GOOD.items()),
        zip_of(*GOOD.items(), ("README.md", b"hello")),
        tar_of(special("mine", tarfile.DIRTYPE), *((f"mine/{name}", data) for name, data in GOOD.items())),
        tar_of(special("./", tarfile.DIRTYPE), *((f"./{name}", data) for name, data in GOOD.items())),
        with_folder(zip_of, "mine/"),
    ],
    ids=["tar", "tar.gz", "zip", "readme", "folder", "dot", "zip folder"],
)
def test_good_archives_unpack_to_the_two_files(tmp_path, archive):
    out = unpack_adapter(archive, tmp_path / "out", MAX_BYTES)
    assert {file.name: file.read_bytes() for file in out.iterdir()} == GOOD


def test_an_archive_may_come_as_a_file(tmp_path):
    (tmp_path / "upload").write_bytes(zip_of(*GOOD.items()))
    assert (unpack_adapter(tmp_path / "upload", tmp_path / "out", MAX_BYTES) / WEIGHTS_NAME).exists()


CONFIG_PAIR = (CONFIG_NAME, GOOD[CONFIG_NAME])
ZEROS = (WEIGHTS_NAME, bytes(3 * MAX_BYTES))
UNSAFE = "adapter_archive_unsafe"
HOSTILE = {
    "tar dot-dot": (tar_of(("../adapter_config.json", b"x")), UNSAFE),
    "zip dot-dot": (zip_of(("../adapter_config.json", b"x")), UNSAFE),
    "deep dot-dot": (tar_of(("a/../../adapter_config.json", b"x")), UNSAFE),
    "absolute": (tar_of(("/etc/adapter_config.json", b"x")), UNSAFE),
    "zip absolute": (zip_of(("/adapter_config.json", b"x")), UNSAFE),
    "backslash": (zip_of(("..\\adapter_config.json", b"x")), UNSAFE),
    "drive": (zip_of(("C:adapter_config.json", b"x")), UNSAFE),
    "symlink": (tar_of(special(CONFIG_NAME, tarfile.SYMTYPE, "/etc/passwd")), UNSAFE),
    "hardlink": (tar_of(CONFIG_PAIR, special(WEIGHTS_NAME, tarfile.LNKTYPE, "/etc/passwd")), UNSAFE),
    "device": (tar_of(special(CONFIG_NAME, tarfile.CHRTYPE)), UNSAFE),
    "fifo": (tar_of(special(CONFIG_NAME, tarfile.FIFOTYPE)), UNSAFE),
    "folder named like a file": (tar_of(special(f"a/{CONFIG_NAME}", tarfile.DIRTYPE)), UNSAFE),
    "zip symlink": (zip_link(CONFIG_NAME), UNSAFE),
    "duplicate": (tar_of(CONFIG_PAIR, CONFIG_PAIR), UNSAFE),
    "duplicate through a dot": (tar_of(CONFIG_PAIR, (f"./{CONFIG_NAME}", b"{}")), UNSAFE),
    "two folders": (tar_of((f"a/{CONFIG_NAME}", b"{}"), (f"b/{WEIGHTS_NAME}", b"x")), UNSAFE),
    "full-width dots": (zip_of(("\uff0e\uff0e/adapter_config.json", b"x")), UNSAFE),
    "cyrillic look-alike": (zip_of(("\u0430dapter_config.json", b"x")), UNSAFE),
    "right-to-left override": (tar_of(("\u202egnp.adapter_config.json", b"x")), UNSAFE),
    "combining dot": (tar_of(("adapter_config\u0307.json", b"x")), UNSAFE),
    "control character": (tar_of(("adapter_config.json\n", b"x")), UNSAFE),
    "huge extended header": (tar_of(long_header(tarfile.XHDTYPE)), UNSAFE),
    "huge long name": (tar_of(long_header(tarfile.GNUTYPE_LONGNAME)), UNSAFE),
    "many entries": (tar_of(*[special(f"d{n}", tarfile.DIRTYPE) for n in range(1000)]), UNSAFE),
    "unusual compression": (zip_of(*GOOD.items(), compression=zipfile.ZIP_LZMA), UNSAFE),
    "pickle": (tar_of(*GOOD.items(), ("adapter_model.bin", b"\x80\x04.")), "adapter_pickle_refused"),
    "pickle in capitals": (zip_of(("adapter_model.PKL", b"x")), "adapter_pickle_refused"),
    "code": (zip_of(*GOOD.items(), ("modeling.py", b"import os")), "adapter_code_refused"),
    "other file": (zip_of(*GOOD.items(), ("tokenizer.json", b"{}")), "adapter_file_unknown"),
    "capital letters": (zip_of(("Adapter_Config.json", b"{}")), "adapter_file_unknown"),
    "missing weights": (tar_of(CONFIG_PAIR), "adapter_file_missing"),
    "missing config": (zip_of((WEIGHTS_NAME, b"x")), "adapter_file_missing"),
    "zip bomb": (zip_of(CONFIG_PAIR, ZEROS), "adapter_archive_too_large"),
    "gzip bomb": (tar_of(CONFIG_PAIR, ZEROS, mode="w:gz"), "adapter_archive_too_large"),
    "gzip bomb of padding": (gzip.compress(tar_of(*GOOD.items()) + bytes(8 << 20)), "adapter_archive_too_large"),
    "large tar": (tar_of(CONFIG_PAIR, ZEROS), "adapter_archive_too_large"),
    "empty": (b"", "adapter_archive_corrupt"),
    "empty tar": (tar_of(), "adapter_file_missing"),
    "text": (b"hello, I am an adapter" * 100, "adapter_archive_corrupt"),
    "zip start alone": (b"PK\x03\x04", "adapter_archive_corrupt"),
    "truncated tar": (tar_of(*GOOD.items())[:2700], "adapter_archive_corrupt"),
    "truncated gzip": (tar_of(*GOOD.items(), mode="w:gz")[:-20], "adapter_archive_corrupt"),
    "truncated zip": (zip_of(*GOOD.items())[:-30], "adapter_archive_corrupt"),
    "gzip of nothing": (gzip.compress(b""), "adapter_archive_corrupt"),
    "bad gzip sum": (tar_of(*GOOD.items(), mode="w:gz")[:-8] + bytes(8), "adapter_archive_corrupt"),
}


@pytest.mark.parametrize(("archive", "code"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_archive_is_refused_and_leaves_nothing(tmp_path, archive, code):
    assert refused(unpack_adapter, archive, tmp_path / "out", MAX_BYTES) == code
    assert list(tmp_path.iterdir()) == []


def test_a_flipped_bit_in_a_zip_is_noticed(tmp_path):
    archive = bytearray(zip_of(*GOOD.items(), compression=zipfile.ZIP_STORED))
    archive[archive.index(b"peft_type")] ^= 1
    assert refused(unpack_adapter, bytes(archive), tmp_path / "out", MAX_BYTES) == "adapter_archive_corrupt"


@pytest.mark.parametrize("archive", [tar_of(*GOOD.items()), tar_of(*GOOD.items(), mode="w:gz"), zip_of(*GOOD.items())])
def test_damage_of_any_kind_ends_in_a_clear_error_or_in_a_checked_adapter(tmp_path, archive):
    chance = random.Random(3)
    for n in range(300):
        mutant = bytearray(archive[: chance.choice([len(archive), chance.randrange(len(archive))])])
        for _ in range(chance.randint(1, 8)):
            if mutant:
                mutant[chance.randrange(len(mutant))] = chance.randrange(256)
        try:
            check(unpack_adapter(bytes(mutant), tmp_path / str(n), MAX_BYTES))
        except SignalboxError as error:
            assert error.code.startswith("adapter_")  # noqa: PT017 - a clear error is one of two good ends


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
