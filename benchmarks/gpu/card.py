"""Measures the native engine on a card in at most 8 minutes; each step appends a line of JSON, so none is lost.

`python -m benchmarks.gpu.card --out card.jsonl`; `--tiny` runs the same on a CPU, with the kernels interpreted. Written
for torch 2.11, Triton 3.6 and transformers 5.17, without a network. Wheels beside these: README.md in this folder.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from benchmarks.gpu.steps import Machine

SECONDS = 480


class Plan(NamedTuple):
    """What is measured: on a card, or tiny on a CPU."""

    device: str
    dtype: str
    shape: str
    rows: tuple[int, ...]
    context: int
    repeats: int


CARD = Plan("cuda", "bfloat16", "QWEN2_7B", (1, 64), 512, 20)
TINY = Plan("cpu", "float32", "TINY", (1, 3), 20, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--only", nargs="*", help="names of steps")
    args = parser.parse_args()
    if args.tiny:
        os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported
    from benchmarks.gpu.steps import STEPS, Machine

    started = time.monotonic()
    machine = Machine(TINY if args.tiny else CARD)
    for name, step, seconds in STEPS:
        if args.only and name not in args.only:
            continue
        left = SECONDS - (time.monotonic() - started)
        if left < seconds:
            note(args.out, name, {"skipped": f"{left:.0f} s are left, it takes {seconds}"})
        elif not run(args.out, name, step, machine):
            sys.exit(f"{name}: the card failed, and each later call would fail like it")


def run(out: Path, name: str, step: "Callable[[Machine], dict[str, Any]]", machine: "Machine") -> bool:
    """Take one step and note what it found, or how it failed; False where the card computes nothing any more."""
    import torch

    began = time.monotonic()
    try:
        found = machine.found[name] = step(machine)
    except torch.AcceleratorError as error:
        note(out, name, {"error": str(error)})
        return False
    except Exception as error:  # noqa: BLE001 - the next step may still tell something
        found = {"error": f"{type(error).__name__}: {error}"[:500]}
    note(out, name, found | {"step_seconds": round(time.monotonic() - began, 1)})
    return True


def note(out: Path, name: str, found: dict[str, Any]) -> None:
    """Append a line, and make sure that it is on the disk."""
    line = json.dumps({"step": name, **found})
    with out.open("a") as stream:
        stream.write(line + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    print(line, flush=True)


if __name__ == "__main__":
    main()
