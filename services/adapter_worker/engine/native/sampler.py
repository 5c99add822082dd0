"""Samples one token per row, each with its own penalties, bias, temperature, top-p, top-k and random stream.

What a row asks for comes as tensors on the device of its logits: nothing here waits for a card.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Optional

import torch
from torch import Tensor

_GREEDY_BELOW = 1e-5
_FEW = 1024
"""Up to this many, the most probable tokens are found without sorting all."""


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


class Draw(NamedTuple):
    """Rows that are sampled in the same way, with their parameters [rows]."""

    rows: Tensor
    temperature: Tensor
    uniform: Tensor
    cut: tuple[Tensor, Tensor] | None  # top-k, top-p; None where neither excludes a token
    most: int  # the largest top-k where all rows have one, else 0

    @classmethod
    def of(cls, rows: Sequence[int], params: Sequence[SamplingParams], *, is_cut: bool) -> "Draw":
        """Put the parameters of these rows into tensors."""
        top_k = [p.top_k for p in params]
        return cls(
            torch.tensor(rows, dtype=torch.int32),
            torch.tensor([p.temperature for p in params], dtype=torch.float32),
            torch.tensor([p.uniform for p in params], dtype=torch.float32),
            (torch.tensor(top_k, dtype=torch.int32), torch.tensor([p.top_p for p in params], dtype=torch.float32))
            if is_cut
            else None,
            max(top_k) if all(top_k) else 0,
        )

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors."""
        return [self.rows, self.temperature, self.uniform, *(self.cut or ())]

    def with_tensors(self, tensors: Sequence[Tensor]) -> "Draw":
        """The same with these tensors, in the order of `tensors`."""
        rows, temperature, uniform, *cut = tensors
        return Draw(rows, temperature, uniform, (cut[0], cut[1]) if cut else None, self.most)


class Changes(NamedTuple):
    """What is added to logits: row, token and value of each change."""

    rows: Tensor
    tokens: Tensor
    values: Tensor

    @classmethod
    def of(cls, changes: Sequence[Mapping[int, float]]) -> Optional["Changes"]:
        """Put each row's changes by token into tensors; None if there are none."""
        rows = [n for n, by_token in enumerate(changes) for _ in by_token]
        if not rows:
            return None
        tokens = [token for by_token in changes for token in by_token]
        values = [value for by_token in changes for value in by_token.values()]
        return cls(
            torch.tensor(rows, dtype=torch.int32),
            torch.tensor(tokens, dtype=torch.int32),
            torch.tensor(values, dtype=torch.float32),
        )

    def added_to(self, logits: Tensor) -> Tensor:
        """The logits [rows, vocab] float32 with the changes."""
        return logits.index_put((self.rows.long(), self.tokens.long()), self.values, accumulate=True)


def plan_draws(params: Sequence[SamplingParams]) -> list[Draw]:
    """Group the rows that are not greedy: one sort is for the rows that need it alone."""
    sampled = [n for n, p in enumerate(params) if not p.is_greedy]
    cut = [n for n in sampled if params[n].is_truncated]
    few = [n for n in cut if 0 < params[n].top_k <= _FEW]
    groups = ([n for n in sampled if n not in cut], few, [n for n in cut if n not in few])
    return [Draw.of(rows, [params[n] for n in rows], is_cut=number > 0) for number, rows in enumerate(groups) if rows]


def pick_tokens(logits: Tensor, draws: Sequence[Draw]) -> Tensor:
    """Sample a token per row of `logits` [rows, vocab] -> [rows] int32; -1 for a row whose logits are not finite."""
    best, tokens = logits.max(dim=-1)
    for draw in draws:
        choose = _sample_all if draw.cut is None else _sample_truncated
        tokens = tokens.index_copy(0, draw.rows.long(), choose(logits.index_select(0, draw.rows), draw))
    return tokens.masked_fill(~torch.isfinite(best), -1).int()


def best_logprobs(logits: Tensor, tokens: Tensor, rows: Tensor, most: int) -> list[Tensor]:
    """Log-probabilities under their own logits [all rows, vocab] of the tokens of some rows.

    [rows], and with them the `most` most probable tokens, if any: values and int32 ids [rows, most].
    """
    values = logits.index_select(0, rows).log_softmax(dim=-1)
    chosen = tokens.index_select(0, rows).clamp(min=0).long()
    picked = values.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)
    if not most:
        return [picked]
    best, ids = values.topk(min(most, values.shape[-1]), dim=-1)
    return [picked, best, ids.int()]


def scores_of(found: Sequence[Tensor], tops: Sequence[int]) -> list[Score]:
    """Read what `best_logprobs` found, with `tops` alternatives for each row."""
    picked = found[0].tolist()
    if len(found) == 1:
        return [Score(value) for value in picked]
    best, ids = found[1].tolist(), found[2].tolist()
    return [
        Score(value, list(zip(row_ids, row_best, strict=True))[:count] if count else ())
        for value, row_ids, row_best, count in zip(picked, ids, best, tops, strict=True)
    ]


def _sample_all(logits: Tensor, draw: Draw) -> Tensor:
    """Inverse-CDF p [rows, vocab] -> [rows]: a row's token depends only on its own logits and stream."""
    mass = (logits / draw.temperature.unsqueeze(-1)).softmax(dim=-1).cumsum(dim=-1)
    return _inverse_cdf(mass, draw).squeeze(-1)


def _sample_truncated(logits: Tensor, draw: Draw) -> Tensor:
    """The same over the most probable tokens only, as top-k and top-p allow; the logits must be sorted first."""
    assert draw.cut is not None
    top_k, top_p = (tensor.unsqueeze(-1) for tensor in draw.cut)
    logits, columns = logits / draw.temperature.unsqueeze(-1), logits.shape[-1]
    if draw.most:
        ordered, order = logits.topk(min(draw.most, columns), dim=-1)
    else:
        ordered, order = logits.sort(dim=-1, descending=True)
    ranks = torch.arange(ordered.shape[-1], device=logits.device)
    ordered = ordered.masked_fill(ranks >= top_k.masked_fill(top_k == 0, columns), -torch.inf)
    probabilities = ordered.softmax(dim=-1)
    before = probabilities.cumsum(dim=-1) - probabilities
    outside = before >= top_p
    outside[:, 0] = False
    mass = probabilities.masked_fill(outside, 0.0).cumsum(dim=-1)
    return order.gather(-1, _inverse_cdf(mass, draw)).squeeze(-1)


def _inverse_cdf(mass: Tensor, draw: Draw) -> Tensor:
    """Index at which each row's random number falls in its cumulative probabilities [rows, vocab] -> [rows, 1]."""
    total = mass[:, -1:]
    # Below the whole: a number that is rounded to 1 would choose the last token, whatever its probability.
    most = torch.nextafter(total, torch.zeros_like(total))
    target = torch.minimum(draw.uniform.unsqueeze(-1) * total, most)
    return (mass <= target).sum(dim=-1, keepdim=True).clamp(max=mass.shape[-1] - 1)
