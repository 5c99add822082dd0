"""The rows of trainings: instruction examples for adapters, labelled texts for selectors."""

from typing import NamedTuple

from shared.contracts.conversation import Message, single_turn
from shared.contracts.labels import Label
from shared.contracts.turns import Taught, Turn, prompt_of, taught_by


class InstructionRow(NamedTuple):
    """One instruction example of an adapter's data set."""

    instruction: str
    input: str
    output: str
    turns: tuple[Turn, ...] = ()
    """The conversation of a row of several turns, whose last question and answer are `input` and `output`."""

    @property
    def prompt(self) -> tuple[Message, ...]:
        """The conversation that the output answers."""
        return prompt_of(self.turns, self.instruction) if self.turns else single_turn(self.instruction, self.input)

    @property
    def taught(self) -> list[Taught]:
        """Every answer of a row of several turns that is learnt, with the conversation before it."""
        return taught_by(self.turns, self.instruction)


class SelectorRow(NamedTuple):
    """One text with its routing label; `shared.contracts.labels.BACKGROUND` for background."""

    text: str
    label: Label
