"""Compiles every kernel for a card that is not there: `python -m tests.support.compile_kernels 90 bf16`.

Triton must not interpret (TRITON_INTERPRET=0), so this is a program of its own. Prints a line for each kernel: its name
and the bytes of fast memory that it takes.
"""

import sys

from triton import compiler
from triton.backends.compiler import GPUTarget

from services.adapter_worker.engine.native.kernels import triton_attention, triton_lora, triton_norm

HEADS = {"heads": 28, "kv_heads": 4, "dim": 128, "GROUP": 8, "DIM": 128}
LORA = {"PARTS": 3, "RANK": 8, "SLOTS": 2}
INTEGERS = ("slots", "tiles", "tables", "sizes", "blocks")
FLOATS = ("low", "partial", "stats", "gains")
NUMBERS = ("scale", "softcap", "eps", "offset")
TENSORS = ("q", "k", "v", "keys", "values", "x", "y", "a", "b", "weight")


def variants(dtype):
    """Every kernel as the engine launches it for Qwen2-7B, with what other families switch on."""
    block = 128 // {"bf16": 2, "fp16": 2, "fp32": 4}[dtype]
    yield triton_attention.write, {"heads": 4, "dim": 128, "ROWS": 8, "DIM": 128}
    for rows, split, is_whole in ((16, 256, False), (64, 1024, True)):
        flags = {"PAGE": 16, "HAS_CAP": True, "IS_WHOLE": is_whole, "WIDEN": False}
        yield triton_attention.attend, {**HEADS, "ROWS": rows, "BLOCK": block, "SPLIT": split, **flags}
    yield triton_attention.join, {**HEADS, "ROWS": 16, "SPLITS": 4}
    for rows in (16, 64):
        sizes = {"INTO": 3584, "ROWS": rows, "OUTS": 32, "BLOCK": 128, "PIECE": 512, "WIDEN": False}
        yield triton_lora.shrink, {**LORA, **sizes}
        sizes = {"OUTS": 4608, "PIECES": 7, "ROWS": rows, "COLUMNS": 128, "RANKS": 16, "HAS_GAINS": rows == 16}
        yield triton_lora.expand, {**LORA, **sizes}
    yield triton_norm.normalise, {"inner": 1, "dim": 3584, "ROWS": 1, "DIM": 4096, "IS_ROUNDED": True}


def kind_of(name, dtype):
    """The type of a kernel's argument, by its name."""
    kinds = [(INTEGERS, "*i32"), (FLOATS, "*fp32"), (NUMBERS, "fp32"), (TENSORS, f"*{dtype}")]
    return next((kind for names, kind in kinds if name in names), "i32")


def main():
    capability, dtype = int(sys.argv[1]), sys.argv[2]
    for kernel, constants in variants(dtype):
        names = [parameter.name for parameter in kernel.params]
        kinds = {name: "constexpr" if name in constants else kind_of(name, dtype) for name in names}
        source = compiler.ASTSource(kernel, kinds, {name: constants[name] for name in names if name in constants})
        compiled = compiler.compile(source, target=GPUTarget("cuda", capability, 32))
        assert compiled.asm["cubin"]
        sys.stdout.write(f"{kernel.__name__} {compiled.metadata.shared}\n")


if __name__ == "__main__":
    main()
