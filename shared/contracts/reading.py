"""What a selector reads: of a row in training, and of a conversation in a release (decision 34)."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.contracts.harness import TagName

SelectorText = Literal["input", "instruction+input"]
"""The parts of a request that a selector reads."""
ReadingMode = Literal["last_turn", "dialogue", "instruction+input"]
"""What a selector reads of a conversation: its last human turn, that turn in the light of those before it, or that turn
after the instruction."""


class RequestReading(BaseModel):
    """What the selector reads of a conversation, of which only what people wrote counts.

    The numbers are used in the mode `dialogue` alone; they are fitted on dialogues made of validation rows.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    mode: ReadingMode = "last_turn"
    harness_tags: tuple[TagName, ...] = ()
    """Names of tags between which programs write into user turns, beside those that every release knows."""
    stay: float = Field(default=0.85, gt=0, lt=1)
    """Probability that a turn has the label of the turn before it: the cost of a switch."""
    off_topic: float = Field(default=0.2, gt=0, lt=1)
    """Probability that a turn belongs to no label, where the selector knows such texts."""
    little_bias: float = 7.0
    little_words: float = -4.5
    little_evidence: float = -0.3
    """The odds that a turn says little by itself are exp(bias + words * ln(its words) + evidence * ln(odds of its best
    label)); from even odds on it is read together with the turn before it."""

    def fits(self, text: SelectorText) -> bool:
        """Whether a selector that was trained to read `text` can read so."""
        return (self.mode == "instruction+input") == (text == "instruction+input")


class ReadingChoice(BaseModel):
    """What a training's selector reads, as far as its body says."""

    text: SelectorText = "input"
    """What the selector reads of a row; of the reading `instruction+input` it is the same."""
    reading: ReadingMode | None = None
    """What the selector reads of a conversation: the `last_turn`; that turn together with the turn before it where it
    says little, and in favour of the label that the conversation has (`dialogue`, the default, which reads a
    single turn as `last_turn` does); or `instruction+input`, the default where `text` says so."""
    harness_tags: Annotated[tuple[TagName, ...], Field(max_length=200)] = ()
    """Tags between which programs write into user turns, as `tool_result`; what stands there is not read. The usual
    ones are known."""

    @property
    def reads(self) -> RequestReading:
        """The reading, before its numbers are fitted."""
        usual: ReadingMode = "instruction+input" if self.text == "instruction+input" else "dialogue"
        return RequestReading(mode=self.reading or usual, harness_tags=self.harness_tags)

    @model_validator(mode="before")
    @classmethod
    def _text_follows_reading(cls, fields: Any) -> Any:
        if isinstance(fields, Mapping) and fields.get("reading") == "instruction+input" and "text" not in fields:
            return {**fields, "text": "instruction+input"}
        return fields

    @model_validator(mode="after")
    def _reads_what_it_learns(self) -> Self:
        if not self.reads.fits(self.text):
            raise ValueError(f"a selector that learns {self.text} cannot read {self.reading}: leave out `text`")
        return self
