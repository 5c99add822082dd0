"""The families of base models that our engine, trainings and selectors are tested with, by `model_type`."""

from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple


class Use(StrEnum):
    """What reads a base model."""

    ENGINE = "transformers"
    """Our own engine, by its name in the settings."""
    VLLM = "vllm"
    """A vLLM server, by its name in the settings."""
    READ = "read"
    """Trainings, and selectors that read texts with the model."""


EVERY = frozenset(Use)
NO_ENGINE = frozenset({Use.VLLM, Use.READ})
NO_READER = frozenset({Use.VLLM})


class Family(NamedTuple):
    """A family under the name that people give it."""

    name: str
    uses: frozenset[Use] = EVERY
    has_head: bool = True
    """Whether a selector may have a linear head on it; transformers has no such form of every family."""


FAMILIES = MappingProxyType(
    {
        "arcee": Family("Arcee"),
        "cohere2": Family("Command R7B", has_head=False),
        "exaone4": Family("EXAONE 4"),
        "gemma": Family("Gemma"),
        "gemma2": Family("Gemma 2"),
        "gemma3_text": Family("Gemma 3"),
        "glm": Family("GLM"),
        "glm4": Family("GLM 4"),
        "granite": Family("Granite", has_head=False),
        "llama": Family("Llama"),
        "ministral": Family("Ministral"),
        "mistral": Family("Mistral"),
        "olmo2": Family("OLMo 2"),
        "olmo3": Family("OLMo 3"),
        "phi": Family("Phi"),
        "phi3": Family("Phi-3"),
        "qwen2": Family("Qwen 2"),
        "qwen3": Family("Qwen 3"),
        "seed_oss": Family("Seed-OSS"),
        "smollm3": Family("SmolLM3"),
        "starcoder2": Family("StarCoder 2"),
        "mixtral": Family("Mixtral", NO_ENGINE),
        "qwen2_moe": Family("Qwen 2 MoE", NO_ENGINE),
        "qwen3_moe": Family("Qwen 3 MoE", NO_ENGINE),
    }
)
"""Every other family is left to a vLLM server: under an engine that was not made for it, it may answer wrongly without
an error, as attention sinks (gpt_oss), ALiBi (falcon, bloom) and recurrent layers do."""
