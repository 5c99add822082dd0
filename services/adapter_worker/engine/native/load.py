"""Loads the native engine as the settings say."""

from pathlib import Path

import torch

from services.adapter_worker.engine.native.card import is_served_by_kernels
from services.adapter_worker.engine.native.engine import NativeEngine
from services.adapter_worker.engine.native.kernels import load_kernels
from shared.model.base import load_model, load_tokenizer
from shared.model.hardware import engine_dtype
from shared.model.tokens import encode, end_token_ids
from shared.settings import Settings

_USUAL_CACHE_MIB = 512


def cache_bytes(settings: Settings, device: torch.device) -> int | None:
    """Bytes of the key/value cache; None where a card is to say what is left."""
    if settings.cache_mib is None and is_served_by_kernels(device):
        return None
    return (settings.cache_mib or _USUAL_CACHE_MIB) << 20


def load_engine(settings: Settings, base_folder: Path) -> NativeEngine:
    """Load the base model in `base_folder`, on the accelerator if there is one."""
    tokenizer = load_tokenizer(base_folder)
    model = load_model(base_folder, engine_dtype(settings))
    return NativeEngine(
        model,
        tokenizer,
        encode,
        max_batch=settings.worker_slots,
        max_prompt_tokens=settings.max_prompt_tokens,
        torch_threads=settings.torch_threads,
        adapter_slots=settings.adapter_slots,
        cache_bytes=cache_bytes(settings, model.device),
        kernels=load_kernels(settings.cache_dir / "kernels"),
        max_stall_x=settings.max_stall_x,
        end_ids=end_token_ids(tokenizer, base_folder),
    )
