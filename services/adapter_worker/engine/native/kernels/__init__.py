"""Small C++ kernels, compiled once for the machine at hand; where there is no compiler, torch does the same work."""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import structlog

_TYPES = ("float32", "bfloat16")
LANES = 16
"""Widths that the kernels work on are multiples of this."""

GROUPS = 8
"""Most query heads that may share one key head."""

_SOURCE = Path(__file__).with_name("kernels.cpp")
_FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-shared", "-fPIC")
_COMPILE_SECONDS = 120

log = structlog.get_logger()


class Shape(ctypes.Structure):
    """What the attention kernel must know beside its tensors; `width` is the pages in a row of the table."""

    _fields_ = (
        *((name, ctypes.c_int) for name in ("count", "heads", "kv_heads", "dim", "window", "width")),
        *((name, ctypes.c_float) for name in ("scale", "softcap")),
    )


class Kernels:
    """The compiled functions, by the name of the type that their tensors hold."""

    def __init__(self, file: Path) -> None:
        library = ctypes.PyDLL(str(file))  # keeps the interpreter's lock: a call is shorter than giving it back
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
    """Compile into `folder`, unless that was done before; None where it is not possible here."""
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
    part = file.with_suffix(f".{os.getpid()}")
    command = [compiler, *_FLAGS, str(_SOURCE), "-o", str(part)]
    subprocess.run(command, check=True, capture_output=True, timeout=_COMPILE_SECONDS)  # noqa: S603 - all ours
    part.replace(file)  # workers that start together each compile; the last one's file stays


def _fingerprint() -> str:
    """Changes with the source, the flags and the kind of CPU: a library for another one could stop the process."""
    return hashlib.sha256(_SOURCE.read_bytes() + " ".join(_FLAGS).encode() + _cpu().encode()).hexdigest()[:16]


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
