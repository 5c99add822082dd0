"""Chooses the next token of each row from its logits: changes, then the constraint, then sampling.

What can be known before the model runs is planned then, so that it reaches a card together with the step.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from services.adapter_worker.engine.native.sampler import (
    Changes,
    Draw,
    Score,
    best_logprobs,
    pick_tokens,
    plan_draws,
    scores_of,
)
from services.adapter_worker.engine.native.token_mask import masked
from services.adapter_worker.engine.sequence import SequenceState

Transfer = Callable[[Sequence[Tensor]], Sequence[Tensor]]


class TokenPlan(NamedTuple):
    """How the next tokens of rows are chosen; `source` names the row of logits that each one begins with."""

    rows: Sequence[SequenceState]
    source: Tensor | None  # [rows]; None where each has its own
    changes: Changes | None
    draws: Sequence[Draw]
    scored: Sequence[int]  # of the rows, those that ask for log-probabilities
    scored_rows: Tensor

    @classmethod
    def of(cls, rows: Sequence[SequenceState]) -> "TokenPlan":
        """Plan for rows with logits, and for the choices that begin with the logits of one of them."""
        begun = [(n, choice) for n, row in enumerate(rows) for choice in row.to_begin]
        source = [*range(len(rows)), *(n for n, _ in begun)] if begun else None
        rows = [*rows, *(choice for _, choice in begun)]
        scored = [n for n, row in enumerate(rows) if row.request.logprobs]
        return cls(
            rows,
            None if source is None else torch.tensor(source, dtype=torch.int32),
            Changes.of([row.changes.by_token for row in rows]),
            plan_draws([row.next_sampling_params() for row in rows]),
            scored,
            torch.tensor(scored, dtype=torch.int32),
        )

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors, one-dimensional, of int32 or float32."""
        source = [] if self.source is None else [self.source]
        draws = [tensor for draw in self.draws for tensor in draw.tensors]
        return [self.scored_rows, *source, *(self.changes or ()), *draws]

    def with_tensors(self, tensors: Sequence[Tensor]) -> "TokenPlan":
        """The same with these tensors, in the order of `tensors`."""
        left = iter(tensors)
        scored_rows = next(left)
        source = None if self.source is None else next(left)
        changes = None if self.changes is None else Changes(next(left), next(left), next(left))
        draws = [draw.with_tensors([next(left) for _ in draw.tensors]) for draw in self.draws]
        return self._replace(source=source, changes=changes, draws=draws, scored_rows=scored_rows)


def choose(
    plan: TokenPlan, logits: Tensor, send: Transfer, receive: Transfer
) -> Iterator[tuple[SequenceState, int | None, Score | None]]:
    """Yield each row with its token, and the token's score where it asks for it; logits are [rows, vocab] float32.

    The token is None where the logits are not finite, or the constraint allows none. `plan` is on the device of the
    logits; `send` brings masks there, and `receive` brings all that was found to the host at once.
    """
    if plan.source is not None:
        logits = logits.index_select(0, plan.source)
    allowed = logits if plan.changes is None else plan.changes.added_to(logits)
    allowed = masked(allowed, [row.mask for row in plan.rows], send)
    picked = pick_tokens(allowed, plan.draws)
    most = max((plan.rows[n].request.top_logprobs for n in plan.scored), default=0)
    found = best_logprobs(logits, picked, plan.scored_rows, most) if plan.scored else ()
    tokens, *known = receive([picked, *found])
    tops = [plan.rows[n].request.top_logprobs for n in plan.scored]
    scores = dict(zip(plan.scored, scores_of(known, tops), strict=True)) if known else {}
    for n, (row, token) in enumerate(zip(plan.rows, tokens.tolist(), strict=True)):
        yield (row, None, None) if token < 0 else (row, token, scores.get(n))
