"""The measurement of a card, where there is none: the same code on a tiny model, its kernels interpreted."""

import json
import subprocess
import sys

import pytest

FIGURES = {
    "gpu_base_vs_limit_b1",
    "gpu_base_vs_limit_b3",
    "gpu_mixed_vs_base_r8_qkvo",
    "gpu_mixed_vs_base_r16_all",
    "gpu_first_shape_ms",
    "gpu_adapter_load_stall_x",
    "gpu_train_x",
}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_each_step_finds_something_and_the_last_ones_say_the_figures(tmp_path):
    out = tmp_path / "card.jsonl"
    subprocess.run([sys.executable, "-m", "benchmarks.gpu.card", "--tiny", "--out", str(out)], check=True, timeout=900)
    found = {line["step"]: line for line in map(json.loads, out.read_text().splitlines())}
    assert not [line for line in found.values() if "error" in line or "skipped" in line]
    assert found["correctness"]["is_right"]
    assert found["engine"]["is_same"]
    assert found["figures"].keys() >= FIGURES
