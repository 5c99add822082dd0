"""What a sum of adapters is as one adapter: the rank of each module, checked before anything is computed."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from shared.adapter_files.check import AdapterLimits, check_size
from shared.adapter_files.config import is_empty
from shared.adapter_files.described import described
from shared.adapter_files.planned import planned_ranks
from shared.adapter_files.shapes import BaseShapes
from shared.adapter_files.targets import Size, Targets
from shared.contracts.training_settings import LoraSettings
from shared.errors import Invalid

_BYTES_A_NUMBER = 4
Ranks = Mapping[str, int]
"""The rank of each module that an adapter changes."""


def ranks_of(config: Mapping[str, Any], base: BaseShapes) -> Ranks:
    """Return the ranks of an adapter as its config says them."""
    return {module: size.rank for module, size in Targets(config, base).sizes.items()}


def stacked(parts: Sequence[Ranks]) -> Ranks:
    """Return the ranks of the exact sum of adapters."""
    total: Counter[str] = Counter()
    for ranks in parts:
        total.update(ranks)
    return dict(total)


def config_of(ranks: Ranks, base: BaseShapes, base_model: str) -> dict[str, Any]:
    """Return the config of plain LoRA of these ranks, whose scale is 1 in every module."""
    sizes = {module: Size(rank, float(rank)) for module, rank in ranks.items()}
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "bias": "none",
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_dropout": 0.0,
        "use_dora": False,
        "use_rslora": False,
        **described(sizes, base),
    }


def check_composable(config: Mapping[str, Any], ref: str) -> None:
    """Raise `Invalid` for an adapter that is more than a sum of low rank."""
    if config.get("use_dora"):
        what, instead = "is DoRA, whose magnitudes hold for its own weights alone", "lora or rslora"
    elif not is_empty(config.get("modules_to_save")):
        what, instead = "brings whole layers of its own (modules_to_save), which have no sum", "linear layers alone"
    elif config.get("task_type") != "CAUSAL_LM":
        what, instead = "has a head of its own, which has no sum", "a causal language model"
    else:
        return
    raise Invalid("adapter_not_composable", f"adapter {ref} {what}: train it with {instead} to compose it")


def check_stack(parts: Sequence[Ranks], base: BaseShapes, limits: AdapterLimits) -> None:
    """Raise `Invalid` where the exact sum of adapters is above the limits, with the rank that is not."""
    if told := _above(parts, limits.max_rank):
        raise Invalid(
            "compose_rank_too_large",
            f"{told}: merge them to rank {limits.max_rank} or less by the method svd "
            f"(`--method svd --rank {limits.max_rank}`), or leave a part out",
        )
    check_bytes(stacked(parts), base, limits)


def check_merged(parts: Sequence[Ranks], rank: int, base: BaseShapes, limits: AdapterLimits) -> None:
    """Raise `Invalid` where adapters merged to a rank are above the limits."""
    if rank > limits.max_rank:
        raise Invalid(
            "compose_rank_too_large", f"rank {rank} is above the limit of {limits.max_rank}: merge to a smaller one"
        )
    check_bytes({module: min(rank, *base.modules[module]) for module in stacked(parts)}, base, limits)


def check_over(below: Ranks, settings: LoraSettings, base: BaseShapes, limits: AdapterLimits) -> None:
    """Raise `Invalid` where what these settings train over an adapter is above the limits together with it."""
    own = planned_ranks(settings, base)
    if told := _above([below, own], limits.max_rank):
        each = max(own.values()) // settings.rank  # pissa is stored with twice its rank
        left = (limits.max_rank - max((below[module] for module in own if module in below), default=0)) // each
        instead = f"train with rank {left} or less" if left > 0 else "train other `target_modules`"
        raise Invalid("compose_rank_too_large", f"{told}: {instead}, or name an adapter of a smaller rank in `on`")
    check_bytes(stacked([below, own]), base, limits)


def check_bytes(ranks: Ranks, base: BaseShapes, limits: AdapterLimits) -> None:
    """Raise `Invalid` where an adapter of these ranks would have more bytes than the limits allow."""
    count = sum(rank * sum(base.modules[module]) for module, rank in ranks.items())
    check_size(_BYTES_A_NUMBER * count, limits)


def _above(parts: Sequence[Ranks], most: int) -> str:
    """Say which module's rank is above the limit; empty where none is."""
    module, rank = max(stacked(parts).items(), key=lambda item: item[1])
    ranks = " + ".join(str(part[module]) for part in parts if module in part)
    return f"the ranks {ranks} come to {rank} in {module}, above the limit of {most}" if rank > most else ""
