"""Triton compiles the kernels to machine code of cards that are not there, which shows no more than that it can."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton", reason="the kernels for a card need Triton")

from tests.support.source import ROOT

FAST_MEMORY = {75: 64 << 10, 80: 163 << 10, 90: 227 << 10}
"""Bytes that a program may take, by NVIDIA's compute capability: T4, A100, H100."""


def case(capability, dtype):
    return pytest.param(capability, dtype, marks=[] if (capability, dtype) == (90, "bf16") else pytest.mark.slow)


@pytest.mark.parametrize(
    ("capability", "dtype"), [case(90, "bf16"), case(80, "bf16"), case(90, "fp32"), case(75, "fp32")]
)
def test_every_kernel_compiles_and_fits(tmp_path, capability, dtype):
    env = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    asked = [sys.executable, "-m", "tests.support.compile_kernels", str(capability), dtype]
    done = subprocess.run(asked, capture_output=True, text=True, check=False, cwd=ROOT, env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line.split() for line in done.stdout.splitlines()]
    assert {name for name, _ in lines} == {"write", "attend", "join", "shrink", "expand", "normalise"}
    assert max(int(taken) for _, taken in lines) <= FAST_MEMORY[capability]
