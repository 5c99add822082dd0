"""Log-probabilities of an answer's tokens."""

from shared.contracts.conversation import Record


class TopToken(Record):
    """A token that might have stood at a place of an answer."""

    token_id: int
    logprob: float
    bytes: str
    """Its UTF-8 bytes as hexadecimal."""


class TokenLogprobs(Record):
    """The tokens of a text and the natural logarithm of each one's probability.

    The probabilities are the model's own: before temperature, penalties and bias.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    token_bytes: tuple[str, ...] = ()
    """Each token's UTF-8 bytes as hexadecimal, which may be a part of a character; empty in results of before."""
    top: tuple[tuple[TopToken, ...], ...] = ()
    """For each token the most probable ones at its place, best first; empty unless `top_logprobs` are requested."""
