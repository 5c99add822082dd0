"""Selectors of labels with few validation rows: rows to calibrate them on, and what their report has to say."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from services.trainer.context import SelectorContext
from services.trainer.selector.data import Rows, texts_of
from shared.contracts.labels import BACKGROUND

if TYPE_CHECKING:
    from services.trainer.evaluation.selector import SelectorScores

FEW = 20
"""Validation rows of a label under which the report has a warning."""
MANY = 50
"""Labels with few rows that are told one by one."""
FEW_IN_ALL = 100
"""Validation rows of labels, in all, under which the two least sure of a hundred cannot be told."""


def with_few(validation: Rows, labels: list[str]) -> list[str]:
    """The labels that have few validation rows."""
    return [label for label in labels if len(validation.get(label, ())) < FEW]


def needs_more(validation: Rows) -> bool:
    """Whether the validation rows are too few to choose thresholds by."""
    return sum(len(rows) for label, rows in validation.items() if label != BACKGROUND) < FEW_IN_ALL


def more_rows(context: SelectorContext, training: Rows) -> "tuple[SelectorScores, list[str]]":
    """Scores `[rows, labels]` of the training rows, each by a light selector fitted without it, and their labels.

    Only of a selector with a light part alone: a language model would have to be trained as often.
    """
    from services.trainer.evaluation.selector import SelectorScores
    from services.trainer.training.light import cross_fitted

    context.report("cross_fitting", rows=sum(map(len, training.values())))
    scores, gold = cross_fitted(texts_of(training))
    return SelectorScores(scores, None), gold


def few_rows_warnings(
    validation: Rows, labels: list[str], accuracies: Mapping[str, float], intervals: Mapping[str, tuple[float, float]]
) -> Iterator[str]:
    """One sentence for each label whose accuracy rests on few rows, or one for many such labels."""
    few = with_few(validation, labels)
    if len(few) > MANY:
        none = sum(not validation.get(label) for label in few)
        yield (
            f"{len(few)} labels have fewer than {FEW} validation rows, and {none} of them none: their accuracies stand "
            "for the wide ranges under `intervals`; give them more rows to know"
        )
        return
    for label in few:
        rows = len(validation.get(label, ()))
        if not rows:
            yield f"{label}: no row was left to validate it on; give it more rows"
        elif label != BACKGROUND:
            low, high = intervals[label]
            yield (
                f"{label}: an accuracy of {accuracies[label]:.3f} on {rows} validation rows stands for anything from "
                f"{low:.2f} to {high:.2f}; give it more rows to know"
            )
