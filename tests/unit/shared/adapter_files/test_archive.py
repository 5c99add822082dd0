"""Hostile and broken uploads: each refused with its own code, and nothing left behind."""

import gzip
import random
import struct
import subprocess
import tarfile
import tempfile
import tracemalloc
import zipfile

import pytest

from shared.adapter_files import CONFIG_NAME, WEIGHTS_NAME, unpack_adapter
from shared.errors import Invalid, SignalboxError
from tests.support.adapter_samples import GOOD, MAX_BYTES, check, refused
from tests.support.hostile_archives import HOSTILE, UNSAFE, special, tar_of, with_folder, zip_of


def long_listing(path, count, zip64=False):
    """A zip file of `count` entries in its directory; with `zip64`, only the zip64 record tells how many."""
    entry = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"x"
    start, size = 4, count * len(entry)
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, start)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, start + size, 1)
    told = (0, 0, 0, start) if zip64 else (count & 0xFFFF, count & 0xFFFF, size, start)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, *told, 0)
    path.write_bytes(b"PK\x03\x04" + entry * count + (record + locator if zip64 else b"") + end)
    return path


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
        with_folder(zip_of, "outputs/run1/adapter/"),
        with_folder(tar_of, "./outputs/2026-01-01 12:30/adapter/"),
        with_folder(zip_of, "обучение/адаптер №1/"),
        with_folder(tar_of, "обучение/адаптер №1/"),
        with_folder(tar_of, "\udcee\udce1/"),
        with_folder(zip_of, "run1\\adapter\\"),
        zip_of(("run1\\", b""), *((f"run1\\{name}", data) for name, data in GOOD.items())),
        zip_of(*GOOD.items(), *((f"__MACOSX/._{name}", b"\0\5\x16\7") for name in GOOD), (".DS_Store", b"Bud1")),
        tar_of(("._mine", b"x"), (".DS_Store", b"x"), *((f"mine/{name}", data) for name, data in GOOD.items())),
        zip_of(*GOOD.items(), ("Thumbs.db", b"x"), ("desktop.ini", b"x")),
    ],
    ids=[
        *("tar", "tar.gz", "zip", "readme", "folder", "dot", "zip folder", "deep folder", "colon", "cyrillic zip"),
        *("cyrillic tar", "undecodable", "backslashes", "backslash folder", "macOS zip", "macOS tar", "Windows"),
    ],
)
def test_good_archives_unpack_to_the_two_files(tmp_path, archive):
    out = unpack_adapter(archive, tmp_path / "out", MAX_BYTES).folder
    assert {file.name: file.read_bytes() for file in out.iterdir()} == GOOD


@pytest.mark.parametrize(
    "pack", [zip_of, tar_of, lambda *files: gzip.compress(tar_of(*files))], ids=["zip", "tar", "gz"]
)
def test_an_archive_may_come_as_a_file_or_as_an_upload_that_was_just_written(tmp_path, pack):
    (tmp_path / "upload").write_bytes(pack(*GOOD.items()))
    assert (unpack_adapter(tmp_path / "upload", tmp_path / "out", MAX_BYTES).folder / WEIGHTS_NAME).exists()
    with tempfile.SpooledTemporaryFile(max_size=16) as upload:
        upload.write(pack(*GOOD.items()))
        upload.seek(0)
        assert (unpack_adapter(upload, tmp_path / "again", MAX_BYTES).folder / WEIGHTS_NAME).exists()


@pytest.mark.parametrize(("archive", "code"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_archive_is_refused_and_leaves_nothing(tmp_path, archive, code):
    assert refused(unpack_adapter, archive, tmp_path / "out", MAX_BYTES) == code
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_tar_packs_with_everything_above_it_unpacks(tmp_path):
    made = tmp_path / "outputs" / "run1" / "adapter"
    made.mkdir(parents=True)
    for name, data in GOOD.items():
        (made / name).write_bytes(data)
    subprocess.run(["tar", "czf", "x.tgz", "outputs/run1/adapter"], cwd=tmp_path, check=True)
    out = unpack_adapter(tmp_path / "x.tgz", tmp_path / "out", MAX_BYTES).folder
    assert {file.name: file.read_bytes() for file in out.iterdir()} == GOOD


BESIDE = (
    "README.md", "tokenizer.json", "chat_template.jinja", "inference.py", "optimizer.pt", "training_args.bin",
    "rng_state.pth", "adapter_model.bin", "\u043f\u0440\u043e\u0447\u0442\u0438.md", ".DS_Store",
)  # fmt: skip


@pytest.mark.parametrize("pack", [zip_of, tar_of], ids=["zip", "tar"])
def test_what_stands_beside_an_adapter_is_passed_over_and_never_written(tmp_path, pack):
    members = [
        *((name, b"\x80\x04.") for name in BESIDE),
        *GOOD.items(),
        ("__MACOSX/._README.md", b"x"),
        ("logs/a", b"x"),
    ]
    unpacked = unpack_adapter(pack(*members), tmp_path / "out", MAX_BYTES)
    assert {file.name: file.read_bytes() for file in unpacked.folder.iterdir()} == GOOD
    assert unpacked.passed_over == (*BESIDE, "a")


def test_an_optimizer_several_times_the_adapters_size_is_passed_over(tmp_path):
    archive = tar_of(("optimizer.pt", bytes(3 * MAX_BYTES)), *GOOD.items(), mode="w:gz")
    assert unpack_adapter(archive, tmp_path / "out", MAX_BYTES).passed_over == ("optimizer.pt",)


def test_the_adapter_before_its_training_comes_along_in_a_folder_of_its_own(tmp_path):
    initial = [(f"run/pissa_init/{name}", data[::-1]) for name, data in GOOD.items()]
    archive = zip_of(*initial, *((f"run/{name}", data) for name, data in GOOD.items()))
    out = unpack_adapter(archive, tmp_path / "out", MAX_BYTES).folder
    assert {file.name: file.read_bytes() for file in (out / "initial").iterdir()} == {
        name: data[::-1] for name, data in GOOD.items()
    }
    assert {file.name for file in out.iterdir()} == {*GOOD, "initial"}


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ([("adapter_model.bin", b"x")], "'adapter_model.bin' may be a pickle.* save it again with safe_serialization"),
        ([("adapters.safetensors", b"x")], "adapters.safetensors is MLX's"),
        ([(f"{f}/{n}", d) for f in ("old", "new") for n, d in GOOD.items()], "several adapters, in 'new' and 'old'"),
        ([*GOOD.items(), *((f"checkpoint-9/{n}", d) for n, d in GOOD.items())], "in '.' and 'checkpoint-9'"),
        ([(f"a/{CONFIG_NAME}", b"{}"), (f"b/{WEIGHTS_NAME}", b"x")], "different folders, 'a' and 'b'"),
    ],
)
def test_the_refusal_of_an_archive_names_the_cause(tmp_path, members, says):
    with pytest.raises(Invalid, match=says):
        unpack_adapter(zip_of(*members), tmp_path / "out", MAX_BYTES)


@pytest.mark.parametrize("zip64", [False, True])
@pytest.mark.parametrize("count", [513, 65536 + 2, 100_000])
def test_a_zip_of_many_entries_is_refused_before_its_directory_is_read(tmp_path, count, zip64):
    archive = long_listing(tmp_path / "many.zip", count, zip64)
    tracemalloc.start()
    assert refused(unpack_adapter, archive, tmp_path / "out", MAX_BYTES) == UNSAFE
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


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
            check(unpack_adapter(bytes(mutant), tmp_path / str(n), MAX_BYTES).folder)
        except SignalboxError as error:
            assert error.code.startswith("adapter_")  # noqa: PT017 - a clear error is one of two good ends
