"""What the engine computes in where the settings leave it open."""

import sys

import pytest
import torch

from services.adapter_worker.engine.native.card import is_served_by_kernels
from services.adapter_worker.engine.native.load import cache_bytes
from shared.model.hardware import engine_dtype
from shared.settings import Settings


@pytest.mark.parametrize(("computes", "dtype"), [(True, "bfloat16"), (False, "float32")])
def test_auto_asks_the_card_where_there_is_one(monkeypatch, computes, dtype):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *, including_emulation: computes)
    assert engine_dtype(Settings()) == dtype
    assert engine_dtype(Settings(engine_dtype="float32")) == "float32"


def test_the_cache_is_what_the_settings_say_and_else_what_a_card_has_left():
    pytest.importorskip("triton", reason="the kernels for a card need Triton")
    cpu, card = torch.device("cpu"), torch.device("cuda")
    assert cache_bytes(Settings(cache_mib=3), card) == cache_bytes(Settings(cache_mib=3), cpu) == 3 << 20
    assert cache_bytes(Settings(), cpu) == 512 << 20
    assert cache_bytes(Settings(), card) is None


def test_a_card_without_triton_is_served_by_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    assert not is_served_by_kernels(torch.device("cuda"))
    assert cache_bytes(Settings(), torch.device("cuda")) == 512 << 20
