"""One token per row, each row by its own temperature, top-p, top-k and random stream."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

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

    @property
    def is_cut(self) -> bool:
        """Whether some tokens are out of the question."""
        return self.top_p < 1.0 or self.top_k > 0


def pick_tokens(logits: Tensor, draws: Sequence[Draw]) -> list[int | None]:
    """Choose a token per row of `logits` [rows, vocab]; None where a row's logits are not finite."""
    best, tokens = logits.max(dim=-1)
    tokens = tokens.clone()
    for choose, rows in (
        (_sample_cut, [n for n, draw in enumerate(draws) if not draw.is_greedy and draw.is_cut]),
        (_sample_all, [n for n, draw in enumerate(draws) if not draw.is_greedy and not draw.is_cut]),
    ):
        if rows:
            tokens[rows] = choose(logits[rows], [draws[row] for row in rows])
    finite = torch.isfinite(best).tolist()
    return [token if ok else None for token, ok in zip(tokens.tolist(), finite, strict=True)]


def logprobs(logits: Tensor, tokens: Sequence[int]) -> list[float]:
    """Log-probability of each row's token under its own logits [rows, vocab]."""
    chosen = torch.tensor(tokens, device=logits.device).unsqueeze(-1)
    picked: list[float] = logits.log_softmax(dim=-1).gather(-1, chosen).squeeze(-1).tolist()
    return picked


def _sample_all(logits: Tensor, draws: Sequence[Draw]) -> Tensor:
    """Inverse-CDF sampling [rows, vocab] -> [rows]: a row's token depends on its own logits and stream alone."""
    mass = (logits / _column(logits, [draw.temperature for draw in draws])).softmax(dim=-1).cumsum(dim=-1)
    return _pick(mass, draws).squeeze(-1)


def _sample_cut(logits: Tensor, draws: Sequence[Draw]) -> Tensor:
    """The same over the likeliest tokens alone, as top-k and top-p say; these have to be sorted first."""
    column = partial(_column, logits)
    ordered, order = (logits / column([draw.temperature for draw in draws])).sort(dim=-1, descending=True)
    ranks = torch.arange(logits.shape[-1], device=logits.device)
    ordered = ordered.masked_fill(ranks >= column([draw.top_k or logits.shape[-1] for draw in draws]), -torch.inf)
    probabilities = ordered.softmax(dim=-1)
    before = probabilities.cumsum(dim=-1) - probabilities
    outside = before >= column([draw.top_p for draw in draws])
    outside[:, 0] = False
    mass = probabilities.masked_fill(outside, 0.0).cumsum(dim=-1)
    return order.gather(-1, _pick(mass, draws)).squeeze(-1)


def _pick(mass: Tensor, draws: Sequence[Draw]) -> Tensor:
    """Where each row's random number falls in its cumulated probabilities [rows, vocab] -> [rows, 1]."""
    target = _column(mass, [draw.uniform for draw in draws]) * mass[:, -1:]
    return (mass <= target).sum(dim=-1, keepdim=True).clamp(max=mass.shape[-1] - 1)


def _column(like: Tensor, values: Sequence[float]) -> Tensor:
    return torch.tensor(values, device=like.device, dtype=torch.float32).unsqueeze(-1)
