"""The rows of trainings: instruction examples for adapters, labelled texts for selectors."""

from typing import NamedTuple

from shared.contracts.labels import Label


class InstructionRow(NamedTuple):
    """One instruction example of an adapter's data set."""

    instruction: str
    input: str
    output: str


class SelectorRow(NamedTuple):
    """One text with its routing label; `shared.contracts.labels.BACKGROUND` for background."""

    text: str
    label: Label
