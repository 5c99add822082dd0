"""Hostile and broken uploads: each refused with its own code, and nothing left behind."""

import gzip
import io
import random
import stat
import struct
import tarfile
import tracemalloc
import zipfile

import pytest

from shared.adapter_files import CONFIG_NAME, WEIGHTS_NAME, unpack_adapter
from shared.errors import SignalboxError
from tests.unit.adapter_samples import GOOD, MAX_BYTES, check, refused


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


def empty_headers(count):
    """Pax headers of no length, one after the other: the standard library calls itself once for each."""
    header = tarfile.TarInfo("header")
    header.type = tarfile.XHDTYPE
    return header.tobuf() * count + tar_of(*GOOD.items())


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
    "thousands of empty headers": (empty_headers(5000), "adapter_archive_corrupt"),
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


@pytest.mark.parametrize("zip64", [False, True])
@pytest.mark.parametrize("count", [17, 65536 + 2, 100_000])
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
            check(unpack_adapter(bytes(mutant), tmp_path / str(n), MAX_BYTES))
        except SignalboxError as error:
            assert error.code.startswith("adapter_")  # noqa: PT017 - a clear error is one of two good ends
