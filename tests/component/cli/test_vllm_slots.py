"""The plan's formula of adapter slots against what a real vLLM allocates, on processors."""

import json
import os
import subprocess

import pytest

from services.cli.gpu.memory import BaseSize
from shared.model.base_manifest import base_manifest
from tests.support.tiny_model import save_tiny_model
from tests.support.vllm_process import ENVIRONMENT, MISSING, find_python

SLOTS, RANK = 4, 16
PROGRAM = f"""
import sys
from vllm import LLM

def held(model):
    stacks = (getattr(one, kind, ()) for one in model.modules() for kind in ("lora_a_stacked", "lora_b_stacked"))
    tensors = (one for stack in stacks for one in (stack if isinstance(stack, (tuple, list)) else (stack,)))
    return sum(one.numel() * one.element_size() for one in tensors)

if __name__ == "__main__":
    options = {{"enable_lora": True, "max_loras": {SLOTS}, "max_lora_rank": {RANK}, "enforce_eager": True}}
    model = LLM(model=sys.argv[1], dtype="bfloat16", max_model_len=256, **options)
    print("bytes", *model.apply_model(held))
"""
IN_ONE_PROCESS = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_ALLOW_INSECURE_SERIALIZATION": "1"}


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_vllm_makes_the_slots_that_a_plan_counts(tmp_path):
    python = find_python()
    if python is None:
        pytest.skip(MISSING)
    folder = save_tiny_model(tmp_path / "tiny", head_dim=32)
    (tmp_path / "slots.py").write_text(PROGRAM)
    done = subprocess.run(
        [python, "slots.py", str(folder)],
        cwd=tmp_path,
        env=os.environ | ENVIRONMENT | IN_ONE_PROCESS | {"PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=380,
    )
    said = [line for line in done.stdout.splitlines() if line.startswith("bytes ")]
    assert said, done.stderr[-2000:]
    size = BaseSize.of(json.loads(base_manifest(folder, "tiny").model_dump_json()))
    assert int(said[0].split()[1]) == SLOTS * size.slot(RANK)
