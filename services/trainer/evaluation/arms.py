"""The arms of a composition, measured on the same rows: the base model, each part alone, and all together."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from services.trainer.evaluation.answers import task_kinds
from services.trainer.evaluation.bootstrap import estimate
from services.trainer.evaluation.text_scores import ExactMatch, RougeL, TextScorer

Role = Literal["base", "part", "composition", "stack"]
POINT = 0.01
"""What a composition may lose against its better part."""
_ROUNDING = 1e-9


class Arm(NamedTuple):
    """What one arm answered: the scores of each row, by measure."""

    name: str
    role: Role
    scores: dict[str, list[float]]

    def mean(self, measure: str) -> float:
        """The mean score."""
        own = self.scores[measure]
        return sum(own) / max(len(own), 1)

    def as_result(self) -> dict[str, Any]:
        """The means, each with the interval that holds 95 % of its resampled means."""
        found = {measure: estimate([own]) for measure, own in self.scores.items()}
        measured = {
            measure: {name: round(value, 4) for name, value in one._asdict().items()} for measure, one in found.items()
        }
        return {"arm": self.name, "role": self.role, **measured}


class Measures(NamedTuple):
    """The measures of a task's answers, and the one that decides."""

    scorers: dict[str, TextScorer]
    deciding: str


class Verdict(NamedTuple):
    """Whether a composition is published, and why."""

    published: bool
    why: str


def measures_of(outputs: Sequence[str]) -> Measures:
    """Return exact match and ROUGE-L; few different outputs are judged by the first, others by the second."""
    is_generation = task_kinds({"": outputs})[""] == "generation"
    return Measures({"exact_match": ExactMatch(), "rouge_l": RougeL()}, "rouge_l" if is_generation else "exact_match")


def judge(arms: Sequence[Arm], measure: str) -> Verdict:
    """Refuse a composition that is worse than its better part by more than a point."""
    own = next(arm for arm in arms if arm.role == "composition").mean(measure)
    better = max((arm for arm in arms if arm.role == "part"), key=lambda arm: arm.mean(measure))
    told = f"{measure} {own:.3f}, its better part {better.name} has {better.mean(measure):.3f}"
    if better.mean(measure) - own > POINT + _ROUNDING:
        return Verdict(published=False, why=f"{told}: worse by more than a point, so keep using that part")
    return Verdict(published=True, why=told)
