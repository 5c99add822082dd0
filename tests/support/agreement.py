"""The engine's tokens against those of PEFT alone: equal but for ties, and those are counted."""

from itertools import zip_longest

TIE = 1e-4
"""Logits so near to each other that the rounding of another batch shape may swap them."""
TOKENS_PER_TIE = 10_000
"""Compared tokens that allow one tie; the first is free, or a short run would fail by it."""


class Agreement:
    """Compares runs, and counts the tokens that it looked at and the ties among them."""

    def __init__(self):
        self.tokens = 0
        self.ties = 0

    def __str__(self):
        return f"{self.tokens} greedy tokens compared with PEFT alone, {self.ties} ties"

    def check(self, ours, solo_tokens, solo_logits):
        """Raise unless equal, or first different where the solo run's two best logits are a tie of these two."""
        for step, (mine, theirs) in enumerate(zip_longest(ours, solo_tokens)):
            self.tokens += 1
            if mine != theirs:
                self._check_tie(step, mine, theirs, solo_logits[step].topk(2))
                return  # what follows another token is another text

    def settle(self):
        """Raise where there were too many ties to call the runs equal."""
        assert self.ties <= 1 + self.tokens // TOKENS_PER_TIE, str(self)

    def _check_tie(self, step, mine, theirs, two_best):
        best, second = two_best.values.tolist()
        assert best - second < TIE, f"step {step}: {mine} instead of {theirs}, {best - second} apart"
        # None ends an answer, by one of several tokens.
        assert {mine, theirs} <= {None, *two_best.indices.tolist()}, f"step {step}: {mine} instead of {theirs}"
        self.ties += 1
