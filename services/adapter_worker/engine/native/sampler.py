"""Samples one token per row, each with its own penalties, bias, temperature, top-p, top-k and random stream."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

_GREEDY_BELOW = 1e-5


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """Sampling parameters of one row in this step; `uniform` in [0, 1) comes from the row's own seeded stream."""

    temperature: float
    top_p: float
    top_k: int
    uniform: float

    @property
    def is_greedy(self) -> bool:
        """Whether the most probable token is taken."""
        return self.temperature < _GREEDY_BELOW

    @property
    def is_truncated(self) -> bool:
        """Whether top-p or top-k excludes tokens."""
        return self.top_p < 1.0 or self.top_k > 0


class Score(NamedTuple):
    """The log-probability of a token, and the most probable tokens at its place with theirs, best first."""

    logprob: float
    top: Sequence[tuple[int, float]] = ()


def sample_tokens(logits: Tensor, params: Sequence[SamplingParams]) -> list[int | None]:
    """Sample a token per row of `logits` [rows, vocab]; None for a row whose logits are not finite."""
    best, tokens = logits.max(dim=-1)
    tokens = tokens.clone()
    for choose, rows in (
        (_sample_truncated, [n for n, p in enumerate(params) if not p.is_greedy and p.is_truncated]),
        (_sample_all, [n for n, p in enumerate(params) if not p.is_greedy and not p.is_truncated]),
    ):
        if rows:
            tokens[rows] = choose(logits[rows], [params[row] for row in rows])
    finite = torch.isfinite(best).tolist()
    return [token if ok else None for token, ok in zip(tokens.tolist(), finite, strict=True)]


def changed(logits: Tensor, changes: Sequence[Mapping[int, float]]) -> Tensor:
    """The logits [rows, vocab] with each row's changes by token added; the same tensor if there are none."""
    rows = [n for n, by_token in enumerate(changes) for _ in by_token]
    if not rows:
        return logits
    tokens = [token for by_token in changes for token in by_token]
    added = torch.tensor([value for by_token in changes for value in by_token.values()], dtype=logits.dtype)
    at = torch.tensor([rows, tokens], device=logits.device)
    return logits.index_put((at[0], at[1]), added.to(logits.device), accumulate=True)


def logprobs(logits: Tensor, tokens: Sequence[int], tops: Sequence[int]) -> list[Score]:
    """Log-probability of each row's token under its own logits [rows, vocab], and its `tops` most probable tokens."""
    values = logits.log_softmax(dim=-1)
    chosen = torch.tensor(tokens, device=logits.device).unsqueeze(-1)
    picked = values.gather(-1, chosen).squeeze(-1).tolist()
    scores = [Score(value) for value in picked]
    rows = [n for n, count in enumerate(tops) if count]
    if rows:
        best, ids = values[rows].topk(min(max(tops), values.shape[-1]), dim=-1)
        for n, row_ids, row_best in zip(rows, ids.tolist(), best.tolist(), strict=True):
            scores[n] = Score(picked[n], list(zip(row_ids, row_best, strict=True))[: tops[n]])
    return scores


def _sample_all(logits: Tensor, params: Sequence[SamplingParams]) -> Tensor:
    """Inverse-CDF p [rows, vocab] -> [rows]: a row's token depends only on its own logits and stream."""
    mass = (logits / _column(logits, [p.temperature for p in params])).softmax(dim=-1).cumsum(dim=-1)
    return _inverse_cdf(mass, params).squeeze(-1)


def _sample_truncated(logits: Tensor, params: Sequence[SamplingParams]) -> Tensor:
    """The same over the most probable tokens only, as top-k and top-p allow; the logits must be sorted first."""
    column = partial(_column, logits)
    ordered, order = (logits / column([p.temperature for p in params])).sort(dim=-1, descending=True)
    ranks = torch.arange(logits.shape[-1], device=logits.device)
    ordered = ordered.masked_fill(ranks >= column([p.top_k or logits.shape[-1] for p in params]), -torch.inf)
    probabilities = ordered.softmax(dim=-1)
    before = probabilities.cumsum(dim=-1) - probabilities
    outside = before >= column([p.top_p for p in params])
    outside[:, 0] = False
    mass = probabilities.masked_fill(outside, 0.0).cumsum(dim=-1)
    return order.gather(-1, _inverse_cdf(mass, params)).squeeze(-1)


def _inverse_cdf(mass: Tensor, params: Sequence[SamplingParams]) -> Tensor:
    """Index at which each row's random number falls in its cumulative probabilities [rows, vocab] -> [rows, 1]."""
    total = mass[:, -1:]
    # Below the whole: a number that is rounded to 1 would choose the last token, whatever its probability.
    most = torch.nextafter(total, torch.zeros_like(total))
    target = torch.minimum(_column(mass, [p.uniform for p in params]) * total, most)
    return (mass <= target).sum(dim=-1, keepdim=True).clamp(max=mass.shape[-1] - 1)


def _column(like: Tensor, values: Sequence[float]) -> Tensor:
    return torch.tensor(values, device=like.device, dtype=torch.float32).unsqueeze(-1)
