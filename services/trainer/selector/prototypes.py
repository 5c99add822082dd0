"""A selector of prototypes: made of all texts, and judged on each text without it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from services.trainer.context import SelectorContext
from services.trainer.selector.data import Rows
from services.trainer.selector.plan import Plan
from shared.contracts.manifests import ReleaseSelector
from shared.contracts.rows import Row

if TYPE_CHECKING:
    from services.trainer.evaluation.selector import SelectorScores
    from services.trainer.training.prototypes import FittedPrototypes

MOST_JUDGED = 2_000
"""Rows that a selector is calibrated and judged on."""
FAR = 4
"""One label in so many may be nearer to a description than its own."""


class LeftOut(NamedTuple):
    """Rows of requests, and the label scores that each has without it."""

    rows: Rows
    scores: "SelectorScores"


def fit_prototypes(context: SelectorContext, plan: Plan) -> ReleaseSelector:
    """Read all texts, store their prototypes, and return the selector, which is not calibrated yet."""
    fitted = _fitted(context, plan)
    with context.temporary() as folder:
        file = fitted.prototypes.save(folder / "prototypes.safetensors")
        digest = context.registry.weights.put_prototypes(file)
    labels = tuple(fitted.prototypes.labels)
    return ReleaseSelector(prototypes=digest, encoder=plan.reader.encoder, labels=labels, text=plan.text)


def left_out(context: SelectorContext, plan: Plan) -> LeftOut:
    """Score requests by the prototypes as they are without each: validation rows, else all rows of a label.

    Descriptions are no requests, and a label's only text tells nothing.
    """
    import numpy as np

    from services.trainer.evaluation.selector import SelectorScores
    from services.trainer.training.prototypes import left_out_scores

    rows = _judged(plan)
    at = {key: number for number, key in enumerate(_texts(plan))}
    chosen = np.array([at[label, row.input] for label, own in rows.items() for row in own], dtype=np.int64)
    return LeftOut(rows, SelectorScores(left_out_scores(_fitted(context, plan), chosen), None))


def description_warnings(context: SelectorContext, plan: Plan) -> Iterator[str]:
    """One sentence for each label whose description is far from its requests, as in another language."""
    from services.trainer.training.prototypes import ranks_of_described

    fitted, texts = _fitted(context, plan), _texts(plan)
    described = {row: label for row, (label, text) in enumerate(texts) if text == plan.descriptions.get(label)}
    far = max(1, len(plan.data.labels) // FAR)
    for label, rank in ranks_of_described(fitted, [label for label, _ in texts], described).items():
        if rank >= far:
            yield (
                f"{label}: its description is nearer to the examples of {rank} other labels than to its own; write it "
                "in the words and the language of the requests"
            )


def _fitted(context: SelectorContext, plan: Plan) -> "FittedPrototypes":
    from services.trainer.training.prototypes import fit_prototypes

    texts = _texts(plan)
    context.check()
    context.report("reading_texts", rows=len(texts))
    vectors = plan.reader.vectors([text for _, text in texts])
    return fit_prototypes(vectors, [label for label, _ in texts], plan.reader.layer, context.body.settings.seed)


def _texts(plan: Plan) -> list[tuple[str, str]]:
    """The different texts of each label, of both sets: no row is lost to validation where each is judged without it."""
    both = [*plan.data.sets.representation.items(), *plan.data.sets.validation.items()]
    return sorted({(label, row.input) for label, own in both for row in own})


def _judged(plan: Plan) -> dict[str, list[Row]]:
    representation, validation = plan.data.sets
    counts: dict[str, int] = {}
    for label, _ in _texts(plan):
        counts[label] = counts.get(label, 0) + 1
    rows = {label: validation.get(label) or representation[label] for label in plan.data.labels if counts[label] > 1}
    requests = {label: _requests(own, plan.descriptions.get(label, "")) for label, own in rows.items()}
    most = max(1, MOST_JUDGED // max(len(requests), 1))
    return {label: own[:: -(-len(own) // most)] for label, own in requests.items() if own}


def _requests(rows: Sequence[Row], description: str) -> list[Row]:
    different = {row.input: row for row in rows if row.input != description}
    return list(different.values())


def requests_of(plan: Plan) -> Mapping[str, int]:
    """The number of different requests that each label has, of both sets."""
    found = dict.fromkeys(plan.data.labels, 0)
    for label, text in _texts(plan):
        found[label] += text != plan.descriptions.get(label, "")
    return found
