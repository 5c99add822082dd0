"""Writes an adapter's weights anew, tensor by tensor and without a library: under other names, or converted."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from shared.adapter_files.names import A, Tensor
from shared.adapter_files.tensors import ITEM_BYTES, LENGTH_BYTES, TensorSpan

_CHUNK = 4 << 20
_SIGN = bytes(byte ^ 0x80 for byte in range(256))
"""The highest byte of a number with the other sign."""
_ALIGNMENT = 8


@dataclass(frozen=True, slots=True)
class Source:
    """A safetensors file and what its tensors are, by their name there."""

    file: Path
    spans: Mapping[str, TensorSpan]
    tensors: Mapping[str, Tensor]

    def by_tensor(self) -> dict[Tensor, TensorSpan]:
        """Return the tensors' places in the file."""
        return {tensor: self.spans[name] for name, tensor in self.tensors.items()}


def write_renamed(source: Source, target: Path) -> None:
    """Write all tensors under PEFT's names, in their order in the file."""
    spans = dict(sorted(source.by_tensor().items(), key=lambda item: item[1].start))
    with source.file.open("rb") as data, target.open("xb") as out:
        _write_header(out, {tensor: (span.dtype, span.shape) for tensor, span in spans.items()})
        for span in spans.values():
            out.writelines(_bytes(data, span.start, span.end))


def write_difference(trained: Source, initial: Source, target: Path) -> None:
    """Write BA - B'A' as the plain LoRA [B, -B'] [A; A'] (Meng et al. 2024, appendix C), exactly.

    Both files hold the same tensors, of the same types and shapes but for the rank.
    """
    after, before = trained.by_tensor(), initial.by_tensor()
    shapes = {tensor: (span.dtype, _joined(tensor, span, before[tensor])) for tensor, span in after.items()}
    with trained.file.open("rb") as new, initial.file.open("rb") as old, target.open("xb") as out:
        _write_header(out, shapes)
        for tensor, span in after.items():
            if tensor.part == A:
                out.writelines(_bytes(new, span.start, span.end))
                out.writelines(_bytes(old, before[tensor].start, before[tensor].end))
            else:
                out.writelines(_beside(new, span, old, before[tensor]))


def _joined(tensor: Tensor, one: TensorSpan, other: TensorSpan) -> tuple[int, ...]:
    (rows, columns), (more_rows, more_columns) = one.shape, other.shape
    return (rows + more_rows, columns) if tensor.part == A else (rows, columns + more_columns)


def _beside(new: BinaryIO, span: TensorSpan, old: BinaryIO, other: TensorSpan) -> Iterator[bytes]:
    """Yield each row of one matrix, and after it that of the other with the opposite sign."""
    rows = span.shape[0]
    width, other_width = (span.end - span.start) // rows, (other.end - other.start) // rows
    new.seek(span.start)
    old.seek(other.start)
    for _ in range(rows):
        yield new.read(width)
        yield _negated(old.read(other_width), ITEM_BYTES[other.dtype])


def _negated(numbers: bytes, item_bytes: int) -> bytes:
    flipped = bytearray(numbers)
    flipped[item_bytes - 1 :: item_bytes] = numbers[item_bytes - 1 :: item_bytes].translate(_SIGN)
    return bytes(flipped)


def _write_header(out: BinaryIO, shapes: Mapping[Tensor, tuple[str, tuple[int, ...]]]) -> None:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    begin = 0
    for tensor, (dtype, shape) in shapes.items():
        end = begin + ITEM_BYTES[dtype] * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[tensor.name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
        begin = end
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % _ALIGNMENT)
    out.write(len(raw).to_bytes(LENGTH_BYTES, "little") + raw)


def _bytes(data: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    data.seek(start)
    for at in range(start, end, _CHUNK):
        yield data.read(min(_CHUNK, end - at))
