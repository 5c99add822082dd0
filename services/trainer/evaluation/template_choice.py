"""Which template an adapter was trained with: the one under which it is surest of the right answers.

An answer's first tokens say what the adapter knows, which it knows under any template; those of which it is nearly
certain, mostly the last ones, say whether the prompt is the one it was trained on. So tokens are compared by the
logarithm of their loss. A base model that was tuned for chats has a favourite template, under which an adapter that
learnt little still does best, and the largest gain over the base model comes where that fares worst: what is compared
is the geometric mean of the loss and of its ratio to the base model's.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

CLEAR_T = 1.0
"""The paired t statistic, over the examples, from which a difference is clear."""
CLEAR_SHARE = 0.05
"""Share of a token's loss that the best one has to save, or it is a trace."""
MIN_EXAMPLES = 3
_LEAST_LOSS = 5e-4
"""Losses of less are equal: such a token is certain."""
_BASE_SHARE = 0.5
Losses = Sequence[Sequence[float]]
"""The losses of an answer's tokens, its end among them, by row."""

Verdict = Literal["clear", "tie", "no_better_than_base"]


class TemplateScore(NamedTuple):
    """An adapter under templates that give the same prompts."""

    names: tuple[str, ...]
    losses: Losses
    base_losses: Losses
    """Of the base model alone, under the same prompts."""
    exact_match: float | None = None
    base_exact_match: float | None = None

    @property
    def loss(self) -> float:
        """The mean loss of the adapter's answers."""
        return _mean([_mean(row) for row in self.losses])

    @property
    def base_loss(self) -> float:
        """The mean loss of the base model alone."""
        return _mean([_mean(row) for row in self.base_losses])

    @property
    def doubts(self) -> list[float]:
        """How unsure the adapter is of each row's answer: the mean logarithm over its tokens, partly against the base.

        By how much two templates differ says, as a power of e, how many times the one's losses are the other's.
        """
        rows = zip(self.losses, self.base_losses, strict=True)
        return [_mean(_logs(losses)) - _BASE_SHARE * _mean(_logs(base)) for losses, base in rows]

    def as_result(self) -> dict[str, Any]:
        """Return the form that a job's result shows."""
        figures = {
            "loss": self.loss,
            "base_loss": self.base_loss,
            "doubt": _mean(self.doubts),
            "exact_match": self.exact_match,
            "base_exact_match": self.base_exact_match,
        }
        known = {name: round(value, 4) for name, value in figures.items() if value is not None}
        return {"templates": list(self.names), **known}


class Choice(NamedTuple):
    """What the scores say; `warning` is empty for a clear winner."""

    verdict: Verdict
    best: TemplateScore
    warning: str
    ties: Sequence[TemplateScore] = ()
    """What the winner is not clearly better than."""

    def names(self, template: str) -> bool:
        """Whether the winner is this template."""
        return template in self.best.names

    def allows(self, template: str) -> bool:
        """Whether this template is the winner, or one that it is not clearly better than."""
        return any(template in score.names for score in (self.best, *self.ties))


def ranked(scores: Sequence[TemplateScore]) -> list[TemplateScore]:
    """Return the scores, the surest first."""
    return sorted(scores, key=lambda score: _mean(score.doubts))


def choose(scores: Sequence[TemplateScore]) -> Choice:
    """Return the winner of at least one score, and whether it is clear."""
    best, *others = ranked(scores)
    base = min(score.base_loss for score in scores)
    if best.loss >= base:
        return Choice(
            "no_better_than_base",
            best,
            f"under no template is the adapter better than the base model alone (loss {best.loss:.3f}, without it "
            f"{base:.3f}): it was trained with another template, on another base model, or for other examples",
        )
    ties = [other for other in others if not _beats(best, other)]
    if ties:
        names = ", ".join("/".join(score.names) for score in (best, *ties))
        return Choice(
            "tie", best, f"the examples do not tell {names} apart: give more of them, or name the template", ties
        )
    return Choice("clear", best, "")


def _beats(best: TemplateScore, other: TemplateScore) -> bool:
    """Whether the best is surer than another beyond chance (paired t) and beyond a trace."""
    differences = [more - less for more, less in zip(other.doubts, best.doubts, strict=True)]
    count, mean = len(differences), _mean(differences)
    if count < MIN_EXAMPLES or mean < CLEAR_SHARE:
        return False
    variance = sum((difference - mean) ** 2 for difference in differences) / (count - 1)
    return mean >= CLEAR_T * math.sqrt(variance / count)


def _logs(losses: Sequence[float]) -> list[float]:
    return [math.log(max(loss, _LEAST_LOSS)) for loss in losses]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(len(values), 1)
