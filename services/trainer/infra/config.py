"""Settings of one LoRA training run, under the name the training code uses."""

from shared.contracts.training import LoraSettings as LoraConfigSettings

__all__ = ["LoraConfigSettings"]
