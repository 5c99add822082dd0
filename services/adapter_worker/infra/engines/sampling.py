"""One token per row, each row by its own temperature, top-p, top-k and random stream."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_GREEDY_BELOW = 1e-5


@dataclass(frozen=True, slots=True)
class Draw:
    """How one row samples this step; `uniform` in [0, 1) comes from the row's own seeded stream."""

    temperature: float
    top_p: float
    top_k: int
    uniform: float

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest token is taken."""
        return self.temperature < _GREEDY_BELOW


def pick_tokens(logits: Tensor, draws: Sequence[Draw]) -> list[int | None]:
    """Choose a token per row of `logits` [rows, vocab]; None where a row's logits are not finite."""
    best, tokens = logits.max(dim=-1)
    sampled = [row for row, draw in enumerate(draws) if not draw.is_greedy]
    if sampled:
        tokens = tokens.clone()
        tokens[sampled] = _sample(logits[sampled], [draws[row] for row in sampled])
    finite = torch.isfinite(best).tolist()
    return [token if ok else None for token, ok in zip(tokens.tolist(), finite, strict=True)]


def logprobs(logits: Tensor, tokens: Sequence[int]) -> list[float]:
    """Log-probability of each row's token under its own logits [rows, vocab]."""
    chosen = torch.tensor(tokens, device=logits.device).unsqueeze(-1)
    picked: list[float] = logits.log_softmax(dim=-1).gather(-1, chosen).squeeze(-1).tolist()
    return picked


def _sample(logits: Tensor, draws: Sequence[Draw]) -> Tensor:
    """Inverse-CDF sampling [rows, vocab] -> [rows]: a row's token depends on its own logits and stream alone."""
    column = lambda values: torch.tensor(values, device=logits.device, dtype=torch.float32).unsqueeze(-1)  # noqa: E731
    ordered, order = (logits / column([draw.temperature for draw in draws])).sort(dim=-1, descending=True)
    ranks = torch.arange(logits.shape[-1], device=logits.device)
    ordered = ordered.masked_fill(ranks >= column([draw.top_k or logits.shape[-1] for draw in draws]), -torch.inf)
    probabilities = ordered.softmax(dim=-1)
    before = probabilities.cumsum(dim=-1) - probabilities
    outside = before >= column([draw.top_p for draw in draws])
    outside[:, 0] = False
    mass = probabilities.masked_fill(outside, 0.0).cumsum(dim=-1)
    target = column([draw.uniform for draw in draws]) * mass[:, -1:]
    picked = (mass <= target).sum(dim=-1, keepdim=True).clamp(max=logits.shape[-1] - 1)
    return order.gather(-1, picked).squeeze(-1)
