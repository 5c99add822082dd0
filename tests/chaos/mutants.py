"""Hostile and damaged uploads of an adapter that would be good: the unit tests' samples, and chance."""

import gzip
import hashlib
import io
import json
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from shared.adapter_files import CONFIG_NAME, WEIGHTS_NAME, adapter_digest
from tests.chaos.material import write_adapter
from tests.support.adapter_samples import framed, header_and_data
from tests.support.hostile_archives import HOSTILE

Files = dict[str, bytes]


class Mutant(NamedTuple):
    """One upload that must be refused; `sha256` is what its sender names, if anything."""

    name: str
    archive: bytes
    sha256: str = ""


def good_files(folder: Path) -> tuple[Files, str]:
    """A good adapter's files, and its digest."""
    write_adapter(folder, seed=99)
    files = {name: (folder / name).read_bytes() for name in (CONFIG_NAME, WEIGHTS_NAME)}
    return files, adapter_digest(folder)


def mutants(files: Files, digest: str, count: int, chance: random.Random) -> list[Mutant]:
    """So many, all kinds in their turn."""
    structural = [*hostile(), *wrong_configs(files), *wrong_weights(files, chance)]
    chance.shuffle(structural)
    damage = damaged(files, digest, chance)
    half = min(len(structural), count // 2)
    return structural[:half] + [next(damage) for _ in range(count - half)]


def hostile() -> Iterator[Mutant]:
    """Path tricks, links, bombs, pickles, cut archives; nothing is said of their SHA-256."""
    for name, (archive, _) in HOSTILE.items():
        yield Mutant(name, archive)


def wrong_configs(files: Files) -> Iterator[Mutant]:
    """A config that asks for what the base model has not, or for code."""
    config = json.loads(files[CONFIG_NAME])
    changes: list[dict[str, Any]] = [
        {"r": 4},
        {"r": 100_000},
        {"r": "2"},
        {"peft_type": "IA3"},
        {"task_type": "SEQ_CLS"},
        {"target_modules": ".*"},
        {"target_modules": ["c_attn"]},
        {"target_modules": ["q_proj"]},
        {"modules_to_save": ["lm_head"]},
        {"auto_mapping": {"base_model_class": "os", "parent_library": "system"}},
        {"trust_remote_code": True},
        {"use_dora": True},
        {"bias": "all"},
        {"lora_alpha": -1},
        {"layers_to_transform": [7]},
        {"rank_pattern": {".*": 512}},
    ]
    for change in changes:
        raw = json.dumps(config | change).encode()
        yield Mutant(f"config {change}", tar(files | {CONFIG_NAME: raw}))
    for raw in (b"", b"[]", b"{", b'{"r": 2, "r": 3}', b"[" * 60_000, b"\x80\x04."):
        yield Mutant(f"config {raw[:10]!r}", tar(files | {CONFIG_NAME: raw}))


def wrong_weights(files: Files, chance: random.Random) -> Iterator[Mutant]:
    """Weights whose header lies, that are cut, not finite, or made for another base model."""
    weights = files[WEIGHTS_NAME]

    def mutant(name: str, raw: bytes) -> Mutant:
        return Mutant(name, tar(files | {WEIGHTS_NAME: raw}))

    def edited(change: Callable[[dict[str, Any]], object]) -> bytes:
        header, data = header_and_data(weights)
        change(header)
        return framed(header, data)

    header, data = header_and_data(weights)
    names = [name for name in header if name != "__metadata__"]
    for length in [0, 1, 7, 8, 100, *(chance.randrange(len(weights)) for _ in range(6))]:
        yield mutant(f"weights cut at {length}", weights[:length])
    yield mutant("header bomb", struct.pack("<Q", 1 << 62) + b"{}")
    yield mutant("header of all bits", struct.pack("<Q", (1 << 64) - 1) + b"{}")
    yield mutant("deep header", framed(b'{"a":' * 3000, b""))
    yield mutant("bytes after the end", weights + b"\0")
    yield mutant("pickle", b"\x80\x04." + weights)
    for name in chance.sample(names, min(4, len(names))):
        yield mutant("no such tensor", edited(lambda h, name=name: h.pop(name)))
        yield mutant("wrong shape", edited(lambda h, name=name: h[name].update(shape=h[name]["shape"][::-1])))
        yield mutant("outside", edited(lambda h, name=name: h[name].update(data_offsets=[0, 1 << 60])))
        yield mutant("wrong dtype", edited(lambda h, name=name: h[name].update(dtype="I64")))
        yield mutant(
            "wrong base", edited(lambda h, name=name: h.update({name.replace("layers.", "layers.9"): h.pop(name)}))
        )
    begin = len(weights) - len(data)
    for value in (float("nan"), float("inf"), float("-inf")):
        for _ in range(3):
            raw, at = bytearray(weights), begin + 4 * chance.randrange(len(data) // 4)
            raw[at : at + 4] = struct.pack("<f", value)
            yield mutant(f"{value} at {at}", bytes(raw))


def damaged(files: Files, digest: str, chance: random.Random) -> Iterator[Mutant]:
    """Damage on the way, without end: of the archive where its SHA-256 is named, of a file where the adapter's is."""
    packed = {"tar": tar(files), "tar.gz": gzip.compress(tar(files)), "zip": zipped(files)}
    while True:
        for kind, archive in packed.items():
            yield Mutant(f"damaged {kind}", spoiled(archive, chance), hashlib.sha256(archive).hexdigest())
        weights = bytearray(files[WEIGHTS_NAME])
        weights[-1 - chance.randrange(len(weights) // 3)] ^= 1 << chance.randrange(8)
        yield Mutant("flipped bit in a weight", tar(files | {WEIGHTS_NAME: bytes(weights)}), digest)


def spoiled(archive: bytes, chance: random.Random) -> bytes:
    """Bytes changed, cut off or added; never the same as before."""
    raw = bytearray(archive)
    match chance.randrange(4):
        case 0:
            return bytes(raw[: chance.randrange(len(raw))])
        case 1:
            return bytes(raw) + chance.randbytes(chance.randint(1, 64))
        case _:
            for _ in range(chance.randint(1, 8)):
                raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
    return bytes(raw) if raw != archive else bytes(raw[:-1])


def tar(files: Files) -> bytes:
    """An uncompressed tar of these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as out:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def zipped(files: Files) -> bytes:
    """A zip of these files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as out:
        for name, data in files.items():
            out.writestr(name, data)
    return buffer.getvalue()
