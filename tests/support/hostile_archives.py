"""Archives of adapters that must be refused, each with the code of its refusal."""

import gzip
import io
import stat
import tarfile
import zipfile

from shared.adapter_files import CONFIG_NAME, WEIGHTS_NAME
from tests.support.adapter_samples import GOOD, MAX_BYTES


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


def zip_link(name):
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return zip_of((info, b"/etc/passwd"), *GOOD.items())


def with_folder(archive_of, folder):
    return archive_of(*((f"{folder}{name}", data) for name, data in GOOD.items()))


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
    "folder named like a file": (tar_of(special(f"a/{CONFIG_NAME}", tarfile.DIRTYPE)), "adapter_file_missing"),
    "dot-dot in junk": (zip_of(*GOOD.items(), ("__MACOSX/../../._adapter_config.json", b"x")), UNSAFE),
    "junk alone": (with_folder(zip_of, "__MACOSX/"), "adapter_file_missing"),
    "link as junk": (tar_of(*GOOD.items(), special(".DS_Store", tarfile.SYMTYPE, "/etc/passwd")), UNSAFE),
    "drive and folders": (zip_of(("C:\\run\\adapter_config.json", b"x")), UNSAFE),
    "zip symlink": (zip_link(CONFIG_NAME), UNSAFE),
    "duplicate": (tar_of(CONFIG_PAIR, CONFIG_PAIR), UNSAFE),
    "duplicate through a dot": (tar_of(CONFIG_PAIR, (f"./{CONFIG_NAME}", b"{}")), UNSAFE),
    "two folders": (tar_of((f"a/{CONFIG_NAME}", b"{}"), (f"b/{WEIGHTS_NAME}", b"x")), UNSAFE),
    "full-width dots": (zip_of(("\uff0e\uff0e/adapter_config.json", b"x")), UNSAFE),
    "cyrillic look-alike": (zip_of(("\u0430dapter_config.json", b"x")), "adapter_file_missing"),
    "right-to-left override": (tar_of(("\u202egnp.adapter_config.json", b"x")), "adapter_file_missing"),
    "combining dot": (tar_of(("adapter_config\u0307.json", b"x")), "adapter_file_missing"),
    "control character": (tar_of(("adapter_config.json\n", b"x")), "adapter_file_missing"),
    "huge extended header": (tar_of(long_header(tarfile.XHDTYPE)), UNSAFE),
    "huge long name": (tar_of(long_header(tarfile.GNUTYPE_LONGNAME)), UNSAFE),
    "thousands of empty headers": (empty_headers(5000), "adapter_archive_corrupt"),
    "many entries": (tar_of(*[special(f"d{n}", tarfile.DIRTYPE) for n in range(1000)]), UNSAFE),
    "unusual compression": (zip_of(*GOOD.items(), compression=zipfile.ZIP_LZMA), UNSAFE),
    "pickle": (tar_of(CONFIG_PAIR, ("adapter_model.bin", b"\x80\x04.")), "adapter_pickle_refused"),
    "pickle in capitals": (zip_of(("adapter_model.PKL", b"x")), "adapter_pickle_refused"),
    "MLX": (zip_of(CONFIG_PAIR, ("adapters.safetensors", b"x")), "adapter_format_unknown"),
    "capital letters": (zip_of(("Adapter_Config.json", b"{}")), "adapter_file_missing"),
    "two adapters": (
        tar_of(*((f"{folder}/{name}", data) for folder in ("a", "b") for name, data in GOOD.items())),
        "adapter_archive_of_several",
    ),
    "many adapters": (
        zip_of(*((f"{n}/{name}", data) for n in range(9) for name, data in GOOD.items())),
        "adapter_archive_of_several",
    ),
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
