"""What a choice adds to the logits of its next token: penalties for the tokens it has, and the request's bias."""

from collections.abc import Mapping


class LogitChanges:
    """Token id -> what is added to its logit; empty where the request has neither penalties nor bias."""

    def __init__(self, *, presence: float, frequency: float, bias: Mapping[int, float]) -> None:
        self.by_token = dict(bias)
        self._presence = presence
        self._frequency = frequency
        self._had: set[int] = set()

    def note(self, token: int) -> None:
        """Penalise a token that the choice has taken, as OpenAI defines it: -presence once, -frequency each time."""
        if not self._presence and not self._frequency:
            return
        once = 0.0 if token in self._had else self._presence
        self._had.add(token)
        self.by_token[token] = self.by_token.get(token, 0.0) - once - self._frequency
