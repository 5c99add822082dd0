"""Small C++ kernels, compiled once for this machine; without a compiler, torch does the same work."""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import structlog

from shared.process import one_at_a_time

_TYPES = ("float32", "bfloat16")
LANES = 16
"""The kernels need widths that are multiples of this."""

GROUPS = 8
"""The largest number of query heads that may share one key head."""

_SOURCE = Path(__file__).with_name("kernels.cpp")
_FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-shared", "-fPIC")
_THREADS = "-fopenmp"
"""Compilers that lack it leave the kernels on one thread."""
_COMPILE_SECONDS = 120

log = structlog.get_logger()


class Shape(ctypes.Structure):
    """Arguments of the attention kernel other than tensors; `width` is the number of pages in a row of the table."""

    _fields_ = (
        *((name, ctypes.c_int) for name in ("count", "heads", "kv_heads", "dim", "window", "width")),
        *((name, ctypes.c_float) for name in ("scale", "softcap")),
    )


class Kernels:
    """The compiled functions, by the data type of their tensors."""

    def __init__(self, file: Path) -> None:
        library = ctypes.PyDLL(str(file))  # keeps the GIL: releasing it would take longer than a call
        pointer, whole = ctypes.c_void_p, ctypes.c_int

        def functions(prefix: str, arguments: list[Any]) -> dict[str, Any]:
            found = {name: library[f"{prefix}_{name}"] for name in _TYPES}
            for function in found.values():
                function.argtypes, function.restype = arguments, None
            return found

        self.lora = functions("lora", [pointer] * 5 + [whole, whole, pointer, whole])
        self.attend = functions("attend", [pointer] * 13)
        self.put = {name: functions(f"put_{name}", [pointer] * 4 + [whole] * 5 + [ctypes.c_float]) for name in _TYPES}


def load_kernels(folder: Path) -> Kernels | None:
    """Compile into `folder` unless that was done before; None if this machine cannot."""
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    file = folder / f"kernels-{_fingerprint()}.so"
    try:
        if not file.is_file():
            _compile(compiler, file)
        return Kernels(file)
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("kernels_missing", error=str(error), effect="torch does their work, slower")
        return None


def _compile(compiler: str | None, file: Path) -> None:
    if compiler is None:
        raise FileNotFoundError("no C++ compiler: install g++ or clang++")
    file.parent.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(file.with_suffix(".lock")):
        if file.is_file():
            return
        part = file.with_suffix(f".{os.getpid()}")
        command = [compiler, *_FLAGS, str(_SOURCE), "-o", str(part)]
        try:
            _run([*command, _THREADS])
        except subprocess.CalledProcessError:
            _run(command)
        part.replace(file)


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=_COMPILE_SECONDS)  # noqa: S603 - all ours


def _fingerprint() -> str:
    """Changes with the source, the flags and the CPU: a library built for another CPU could crash the process."""
    return hashlib.sha256(_SOURCE.read_bytes() + " ".join(_FLAGS).encode() + _cpu().encode()).hexdigest()[:16]


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
