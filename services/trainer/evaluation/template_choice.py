"""Which template an adapter was trained with: the one under which it expects the right answers most.

A base model that was tuned for chats has a favourite template, under which an adapter that learnt little still does
best. So a winner is not clear where another template gains much more over the base model alone.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

CLEAR_T = 2.5
"""The paired t statistic from which a difference is clear."""
CLEAR_SHARE = 0.03
"""Share of the other template's loss that the best one has to save."""
MUCH_GAIN = 0.2
"""A difference of gains that counts."""
DOUBT_T = 1.5
"""The paired t statistic of another template's larger gain from which the winner is in doubt."""
MIN_EXAMPLES = 3
_LEAST_LOSS = 0.02
"""Losses of less are equal: an answer that is nearly certain is learnt."""

Verdict = Literal["clear", "tie", "no_better_than_base"]


class TemplateScore(NamedTuple):
    """An adapter under templates that give the same prompts; losses are means over an answer's tokens, by row."""

    names: tuple[str, ...]
    losses: Sequence[float]
    base_losses: Sequence[float]
    """Of the base model alone, under the same prompts."""
    exact_match: float | None = None
    base_exact_match: float | None = None

    @property
    def loss(self) -> float:
        """The mean loss of the adapter."""
        return _mean(self.losses)

    @property
    def base_loss(self) -> float:
        """The mean loss of the base model alone."""
        return _mean(self.base_losses)

    @property
    def gains(self) -> list[float]:
        """By how many powers of e the adapter's loss is below the base model's, by row."""
        pairs = zip(self.losses, self.base_losses, strict=True)
        return [math.log(max(base, _LEAST_LOSS) / max(loss, _LEAST_LOSS)) for loss, base in pairs]

    def as_result(self) -> dict[str, Any]:
        """Return the form that a job's result shows."""
        figures = {
            "loss": self.loss,
            "base_loss": self.base_loss,
            "gain": _mean(self.gains),
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
    """Return the scores, the least loss first."""
    return sorted(scores, key=lambda score: score.loss)


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
    """Whether loss or gain tell the best from another clearly, and the other one does not speak against it."""
    if other.loss - best.loss < CLEAR_SHARE * other.loss:
        return False
    if _is_clear(_differences(other.gains, best.gains), MUCH_GAIN, DOUBT_T):
        return False
    saves = _is_clear(_differences(other.losses, best.losses), 0.0, CLEAR_T)
    return saves or _is_clear(_differences(best.gains, other.gains), MUCH_GAIN, CLEAR_T)


def _differences(larger: Sequence[float], smaller: Sequence[float]) -> list[float]:
    return [a - b for a, b in zip(larger, smaller, strict=True)]


def _is_clear(differences: Sequence[float], least: float, least_t: float) -> bool:
    """Whether these are positive beyond chance (paired t) and beyond a trace."""
    count, mean = len(differences), _mean(differences)
    if count < MIN_EXAMPLES or mean < least:
        return False
    variance = sum((difference - mean) ** 2 for difference in differences) / (count - 1)
    return mean >= least_t * math.sqrt(variance / count)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(len(values), 1)
