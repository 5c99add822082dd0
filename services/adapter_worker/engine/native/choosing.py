"""Chooses the next token of each row from its logits: changes, then the constraint, then sampling."""

from collections.abc import Iterator, Sequence

from torch import Tensor

from services.adapter_worker.engine.native.sampler import Score, changed, logprobs, sample_tokens
from services.adapter_worker.engine.native.token_mask import masked
from services.adapter_worker.engine.sequence import SequenceState


def choose(rows: Sequence[SequenceState], logits: Tensor) -> Iterator[tuple[SequenceState, int | None, Score | None]]:
    """Yield each row with its token, and the token's score where it asks for it; logits are [rows, vocab].

    The token is None where the logits are not finite, or the constraint allows none.
    """
    params = [row.next_sampling_params() for row in rows]
    allowed = masked(changed(logits, [row.changes.by_token for row in rows]), [row.mask for row in rows])
    tokens = sample_tokens(allowed, params)
    scores = _scores(rows, tokens, logits)
    for n, (row, token) in enumerate(zip(rows, tokens, strict=True)):
        yield row, token, scores.get(n)


def _scores(rows: Sequence[SequenceState], tokens: Sequence[int | None], logits: Tensor) -> dict[int, Score]:
    """Number of a row -> the score of its token, for the rows that ask for log-probabilities."""
    chosen = {n: token for n, token in enumerate(tokens) if token is not None and rows[n].request.logprobs}
    if not chosen:
        return {}
    tops = [rows[n].request.top_logprobs for n in chosen]
    return dict(zip(chosen, logprobs(logits[list(chosen)], list(chosen.values()), tops), strict=True))
