"""The engine's path on a card, beside the one on a CPU: what a model runner needs to use it."""

from collections.abc import Iterable
from typing import Any

from services.adapter_worker.engine.native.attention import PagedCache, head_dim
from services.adapter_worker.engine.native.card.adapters import BatchTiles, CardAdapters
from services.adapter_worker.engine.native.card.launching import Workspace
from services.adapter_worker.engine.native.card.norms import replace_norms
from services.adapter_worker.engine.native.card.paged_attention import CardAttention, Heads
from services.adapter_worker.engine.native.card.step_tables import CardInputs
from services.adapter_worker.engine.native.lora.layers import SharedInput


class Card:
    """Kernels and tables for one model on its device; all run in one stream."""

    def __init__(self, model: Any) -> None:
        config = model.config.get_text_config()
        self._workspace = Workspace(model.device)
        self._tiles = BatchTiles()
        heads = Heads(config.num_attention_heads, config.num_key_value_heads, head_dim(config))
        self._attention = CardAttention(heads, model.dtype, self._workspace)
        self.inputs = CardInputs(self._attention, self._tiles, model.device)
        replace_norms(model)

    def serve(self, cache: PagedCache) -> None:
        """Attend over this cache."""
        cache.use_card(self._attention)

    def adapt(self, groups: Iterable[SharedInput]) -> None:
        """Apply the adapters of these groups of layers."""
        for group in groups:
            group.use_card(
                CardAdapters(
                    group.a,
                    group.b,
                    group.bounds,
                    batch=self._tiles,
                    is_head=group.is_head,
                    workspace=self._workspace,
                )
            )
