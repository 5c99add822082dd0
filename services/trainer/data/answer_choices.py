"""The constraint of an adapter that classifies: its answers are those of its training rows."""

from collections.abc import Sequence

from pydantic import ValidationError

from shared.contracts.constraints import Constraint
from shared.contracts.training_tasks import Constrain
from shared.errors import Invalid

MOST_ANSWERS = 200
ROWS_PER_ANSWER = 5
"""With fewer rows for each different answer, `auto` takes later answers to be others."""


def answer_constraint(wish: Constrain, answers: Sequence[str]) -> Constraint | None:
    """Return the choices that the answers are; raises `Invalid` where they are wanted and too many or too long."""
    different = sorted(set(answers))
    is_repeated = len(answers) >= ROWS_PER_ANSWER * len(different)
    if wish == "none" or (wish == "auto" and not is_repeated):
        return None
    try:
        return _choices(different)
    except ValueError as error:
        if wish == "auto":
            return None
        raise Invalid("answers_unbounded", f"constrain: answers: {error}; leave it out, or set it to none") from error


def _choices(different: Sequence[str]) -> Constraint:
    if len(different) > MOST_ANSWERS:
        raise ValueError(f"the rows have {len(different)} different answers, at most {MOST_ANSWERS} are taken")
    try:
        return Constraint(choices=tuple(different))
    except ValidationError as error:
        raise ValueError(error.errors(include_url=False, include_input=False)[0]["msg"]) from error
