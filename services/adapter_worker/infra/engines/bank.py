"""The adapters inside the model: loading, leaving, and which row gets which weights."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModelForCausalLM
from peft.tuners.lora import LoraLayer
from torch import Tensor

from shared.errors import Invalid

BASE = "__base__"
"""PEFT's name for a row without an adapter in a mixed batch."""


class AdapterBank:
    """One PEFT model around the base; adapters are named by their digest. Used by the engine thread alone."""

    def __init__(self, model: Any, canary_ids: list[int]) -> None:
        self.model = model
        self._peft: Any = None
        self._alone: dict[str, bool] = {}  # digest -> PEFT's mixed batch refuses it
        self._names: list[str] | None = None
        self._active: str | None = None  # None where PEFT may have changed it
        self._routed_layers: set[int] = set()
        self._canary = torch.tensor([canary_ids], device=model.device)
        self._canary_base = self._canary_logits(None)

    def __contains__(self, digest: str) -> bool:
        return digest in self._alone

    def turn(self, digest: str | None) -> str | None:
        """Name the batch a request belongs to: None is the mixed one, a digest one of its own."""
        return digest if digest is not None and self._alone[digest] else None

    def load(self, digest: str, folder: Path) -> None:
        """Add the adapter in `folder`; raises `Invalid` and leaves no trace where it cannot serve."""
        if digest in self:
            return
        config = _read_config(folder)
        try:
            self._insert(digest, folder, config)
            self._check_canary(digest)
        except Invalid:
            self.unload(digest)
            raise
        except Exception as error:
            self.unload(digest)
            raise Invalid("adapter_load_failed", f"adapter {digest} does not fit the model: {error}") from error

    def unload(self, digest: str) -> None:
        """Free the adapter's weights; no row may use them any more."""
        self._alone.pop(digest, None)
        self._active = None
        if self._peft is not None and digest in self._peft.peft_config:
            self._peft.delete_adapter(digest)

    @contextmanager
    def routed(self, turn: str | None, adapters: Sequence[str | None]) -> Iterator[None]:
        """Within the block, row i of a forward pass uses adapters[i]; `turn` as given by `turn()`."""
        if turn is not None:
            self._activate(turn)
        elif self._peft is not None:
            self._names = [adapter or BASE for adapter in adapters]
        try:
            yield
        finally:
            self._names = None

    def _activate(self, digest: str) -> None:
        if self._active != digest:
            self._peft.set_adapter(digest)
            self._active = digest

    def _insert(self, digest: str, folder: Path, config: LoraConfig) -> None:
        if self._peft is None:
            self._peft = PeftModelForCausalLM(self.model, config, adapter_name=digest)
        else:
            self._peft.add_adapter(digest, config)
        self._active = None
        loaded = self._peft.load_adapter(str(folder), digest, torch_device=str(self.model.device))
        if loaded.missing_keys or loaded.unexpected_keys:
            raise Invalid("adapter_incomplete", f"adapter {digest} lacks or adds weights: its config and file differ")
        self._peft.eval()
        self._route_new_layers()
        self._alone[digest] = bool(config.use_dora)

    def _route_new_layers(self) -> None:
        """Hand each LoRA layer the row names of the running step.

        PEFT's own `adapter_names=` walks all modules twice a step, and leaves its hooks behind when a step raises.
        """
        for layer in self.model.modules():
            if isinstance(layer, LoraLayer) and id(layer) not in self._routed_layers:
                layer.register_forward_pre_hook(self._inject_names, with_kwargs=True)
                self._routed_layers.add(id(layer))

    def _inject_names(self, _layer: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, kwargs if self._names is None else {**kwargs, "adapter_names": self._names}

    def _check_canary(self, digest: str) -> None:
        logits = self._canary_logits(digest)
        if not torch.isfinite(logits).all():
            raise Invalid("adapter_not_finite", f"adapter {digest} makes logits that are not finite: train it again")
        if torch.equal(logits, self._canary_base):
            raise Invalid(
                "adapter_inactive",
                f"adapter {digest} changes nothing on the canary prompt: its weights are zero or not the base model's",
            )

    @torch.inference_mode()
    def _canary_logits(self, digest: str | None) -> Tensor:
        with self.routed(self.turn(digest), [digest]):
            logits: Tensor = self.model(input_ids=self._canary, use_cache=False).logits
        return logits


def _read_config(folder: Path) -> LoraConfig:
    if not (folder / "adapter_model.safetensors").is_file():
        raise Invalid("adapter_weights_missing", f"no adapter_model.safetensors in {folder.name}")
    config = LoraConfig.from_pretrained(str(folder))
    config.inference_mode = True
    config.init_lora_weights = True  # others change the base weights before the file is read
    return config
