"""How pages show a decision: who decided, with what probabilities, against which threshold."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from shared.contracts.generation import LabelProbability, SelectionResult, selection_of
from shared.contracts.jobs import ListedJob
from shared.contracts.labels import BACKGROUND

BARS_AT_ONCE = 12
"""More bars are folded away."""
WHO = {
    "prototypes": "the prototypes alone",
    "light": "the light selector alone",
    "llm": "the language model",
    "both": "the light selector and the language model together",
    "dialogue": "this turn, read with the turns before it",
    "kept": "the conversation, which keeps its label",
    "named": "whoever asked, who named the label",
}


class Bar(NamedTuple):
    """One label's probability."""

    label: str
    probability: float
    is_chosen: bool

    @property
    def shown(self) -> str:
        """The label's name, or what its absence means."""
        return "no label fits" if self.label == BACKGROUND else self.label


def decision_view(job: ListedJob) -> dict[str, Any]:
    """Return what the decision's part shows of a job."""
    selection = selection_of(job)
    return {"job": job, "selection": selection, **(selection_view(selection) if selection else {})}


def selection_view(selection: SelectionResult) -> dict[str, Any]:
    """Return what the decision's part shows of a selection."""
    bars = [Bar(one.label, one.probability, one.label == selection.label) for one in _known(selection)]
    return {
        "selection": selection,
        "who": who(selection),
        "bars": bars[:BARS_AT_ONCE],
        "folded": bars[BARS_AT_ONCE:],
        "is_whole": bool(selection.probabilities),
    }


def who(selection: SelectionResult) -> str:
    """Return who decided."""
    return WHO.get(selection.by or "", selection.by or "an older version, which did not say")


def _known(selection: SelectionResult) -> Sequence[LabelProbability]:
    """Return all probabilities, or those that every selection has."""
    if selection.probabilities or not selection.best_label:
        return selection.probabilities
    best = LabelProbability(label=selection.best_label, probability=selection.probability or 0.0)
    return [best, *selection.runners_up]
