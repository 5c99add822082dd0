"""Checks safetensors files without a library: first the header, then the numbers."""

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from shared.adapter_files.config import strict_object
from shared.errors import Invalid

LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 16 << 20
ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2}
_CHUNK = 4 << 20
_MAX_DIMENSIONS = 8
_MAX_COUNT = 1 << 48
# Values of the highest byte of a bad number: all exponent bits are set (F16); or only NaN, Inf and numbers beyond
# 1e38 have it (F32, BF16).
_NOT_FINITE = {
    "F32": bytes([0x7F, 0xFF]),
    "BF16": bytes([0x7F, 0xFF]),
    "F16": bytes(byte for byte in range(256) if byte & 0x7C == 0x7C),
}


@dataclass(frozen=True, slots=True)
class TensorSpan:
    """One tensor of a safetensors file: bytes `start` to `end` of the file hold it."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_header(file: Path, code: str = "adapter_weights_corrupt") -> dict[str, TensorSpan]:
    """Return the tensors by name; raises `Invalid(code)` where the header is malformed or does not fit the file."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(LENGTH_BYTES), "little")
        if size < LENGTH_BYTES or length > min(size - LENGTH_BYTES, _MAX_HEADER_BYTES):
            raise Invalid(code, f"{file.name} is cut off or no safetensors file: its header does not fit in it")
        header = strict_object(stream.read(length), code, f"the header of {file.name}")
    header.pop("__metadata__", None)
    begin = LENGTH_BYTES + length
    return {name: _span(name, entry, begin, size, code) for name, entry in header.items()}


def check_spans(spans: dict[str, TensorSpan], size_bytes: int) -> None:
    """Raise `Invalid` unless all dtypes are known and the tensors fill the file's data without gap or overlap."""
    for name, span in spans.items():
        if span.dtype not in ITEM_BYTES:
            raise Invalid("adapter_dtype_unsupported", f"{name} is {span.dtype}; save the adapter as F32, F16 or BF16")
        if math.prod(span.shape) * ITEM_BYTES[span.dtype] != span.end - span.start:
            raise _corrupt(f"the bytes of {name} do not fit its shape")
    ordered = sorted(spans.values(), key=lambda span: (span.start, span.end))
    if any(after.start != before.end for before, after in pairwise(ordered)):
        raise _corrupt("tensors overlap, or bytes between them belong to none")
    if not ordered or ordered[-1].end != size_bytes:
        raise _corrupt("it holds no tensors, or bytes after the last one")


def check_finite(file: Path, spans: dict[str, TensorSpan]) -> None:
    """Raise `Invalid` where a weight is NaN, infinite or beyond 1e38."""
    with file.open("rb") as stream:
        for name, span in spans.items():
            stream.seek(span.start)
            for start in range(span.start, span.end, _CHUNK):
                if _has_bad_number(stream.read(min(_CHUNK, span.end - start)), span.dtype):
                    raise Invalid(
                        "adapter_weights_not_finite", f"{name} holds NaN or infinity: train the adapter again"
                    )


def _has_bad_number(data: bytes, dtype: str) -> bool:
    step = ITEM_BYTES[dtype]
    highest = data[step - 1 :: step]
    return any(byte in highest for byte in _NOT_FINITE[dtype])


def _span(name: str, entry: Any, begin: int, size: int, code: str) -> TensorSpan:
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [start, end]} if len(entry) == 3:
            is_sane = len(shape) <= _MAX_DIMENSIONS and all(_is_count(number) for number in (*shape, start, end))
            if is_sane and start <= end <= size - begin:
                return TensorSpan(dtype, tuple(shape), begin + start, begin + end)
    raise Invalid(code, f"the header's entry for {name[:128]!r} is malformed or points outside the file")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_COUNT


def _corrupt(reason: str) -> Invalid:
    return Invalid("adapter_weights_corrupt", f"adapter_model.safetensors: {reason}; save the adapter again")
