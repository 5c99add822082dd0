"""What a training job would take, before it is queued."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from signalbox.results import Record


@dataclass(frozen=True, kw_only=True)
class TrainingEstimate(Record):
    """What a training job would take, besides the seconds that words alone take."""

    language_model: str = ""
    """`none`; `trained`; `if_needed`, where words alone may be enough; or `asked`, where it only answers rows."""
    estimate: Mapping[str, Any] | None = None
    """`seconds`, `steps`, `tokens` and `basis` of the language model's part; None where it is not known."""
    rows: int = 0
    """That the language model is trained on in an epoch; 0 where none is trained, or its rows are not known yet."""
    tokens: int = 0
    """About how many it is trained on, over all epochs."""
    steps: int = 0
    memory: Mapping[str, Any] | None = None
    """Bytes of a card that its training takes at most: `total`, `total_checkpointed` with gradient checkpointing, and
    their parts; None where it is not known."""
    limit_seconds: float = 0.0
    needs_confirmation: bool = False
    """Whether the language model is trained only with `confirm_cost=True`."""
