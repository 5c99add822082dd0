"""Rows and LoRA as most tutorials give them to transformers' Trainer: what our training is measured beside."""

from peft import LoraConfig
from torch.utils.data import Dataset

from services.trainer.training.batches import IGNORED
from services.trainer.training.sequences import Example
from shared.contracts.training_settings import LoraSettings


class PlainRows(Dataset[dict[str, list[int]]]):
    """Rows as most tutorials lay them out: prompt and answer in one, the prompt's labels ignored."""

    def __init__(self, examples: list[Example]) -> None:
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        prompt, answer = self._examples[index][:2]
        return {
            "input_ids": prompt + answer,
            "attention_mask": [1] * len(prompt + answer),
            "labels": [IGNORED] * len(prompt) + answer,
        }


def plain_lora(settings: LoraSettings) -> LoraConfig:
    """PEFT's own form of the settings."""
    return LoraConfig(
        task_type="CAUSAL_LM", r=settings.rank, lora_alpha=settings.alpha, lora_dropout=settings.dropout,
        target_modules=list(settings.target_modules),
    )  # fmt: skip
