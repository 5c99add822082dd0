"""Dialogues made of single rows: they stay with a label, switch to another, end in an elliptic turn, or outside."""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from shared.contracts.labels import BACKGROUND

DialogueKind = Literal["stay", "switch", "elliptic", "outside"]
MOST_ROWS = 6
"""Turns of a dialogue, at most."""
ELLIPTIC_TURNS = (
    "go ahead", "yes please", "do that", "ok and then?", "what about the second one?", "more details please",
    "same for the other one", "and next week?", "can you shorten it?", "why is that?", "not that one, the other",
    "sounds good", "try again", "once more", "and if not?", "what else?", "show me", "are you sure?", "and for her?",
    "make it two", "use the first one", "keep going", "commit that", "undo the last one", "thanks, and the rest?",
    "ja, mach das", "und für morgen?", "sí, hazlo", "¿y para mañana?", "oui, vas-y", "好的", "然后呢", "再来一次",
)  # fmt: skip
"""Turns that say little by themselves; a selector is calibrated on them, and does not know them."""
_TAIL = re.compile(r"\b(?:about|at|for|from|in|on|to|with)(?: [\w'-]+){1,3}[?.!]?\Z")


class Dialogue(NamedTuple):
    """The human turns of a dialogue, and the label that its last turn belongs to."""

    turns: tuple[str, ...]
    gold: str
    kind: DialogueKind


def make_dialogues(rows: Mapping[str, Sequence[str]], elliptic: Sequence[str], count: int, seed: int) -> list[Dialogue]:
    """Return so many dialogues of each kind that the rows allow; the same arguments give the same dialogues.

    `outside` ends in a background row. Half of the elliptic turns are the last words of another row of the label, as
    in "and for business accounts", where it has such a row.
    """
    draw = random.Random(seed)  # noqa: S311 - not for secrets
    labels = sorted(label for label, own in rows.items() if len(own) > 1 and label != BACKGROUND)
    outside = rows.get(BACKGROUND, ())
    kinds: list[DialogueKind] = ["stay", "elliptic"]
    if len(labels) > 1:
        kinds.append("switch")
    if outside:
        kinds.append("outside")
    made = _Made(rows, labels, elliptic, draw)
    return [made.dialogue(kind) for kind in kinds for _ in range(count)] if labels else []


class _Made(NamedTuple):
    rows: Mapping[str, Sequence[str]]
    labels: Sequence[str]
    elliptic: Sequence[str]
    draw: random.Random

    def dialogue(self, kind: DialogueKind) -> Dialogue:
        length, label = self.draw.randint(2, MOST_ROWS), self.draw.choice(self.labels)
        if kind == "stay":
            return Dialogue(self._turns(label, length), label, kind)
        if kind == "switch":
            other, before = self._other(label), self.draw.randint(1, length - 1)
            return Dialogue(self._turns(label, before) + self._turns(other, length - before), other, kind)
        if kind == "elliptic":
            return Dialogue((*self._turns(label, length - 1), self._elliptic_turn(label)), label, kind)
        outside = self.draw.choice(self.rows[BACKGROUND])
        return Dialogue((*self._turns(label, length - 1), outside), BACKGROUND, kind)

    def _turns(self, label: str, number: int) -> tuple[str, ...]:
        own = self.rows[label]
        return tuple(self.draw.sample(own, min(number, len(own))))

    def _other(self, label: str) -> str:
        return self.draw.choice([other for other in self.labels if other != label])

    def _elliptic_turn(self, label: str) -> str:
        tails = list(_tails(self.rows[label]))
        if tails and self.draw.random() < 0.5:
            return f"and {self.draw.choice(tails)}"
        return self.draw.choice(self.elliptic)


def _tails(texts: Sequence[str]) -> Iterator[str]:
    for text in texts:
        if found := _TAIL.search(text[-80:]):
            yield found[0]
