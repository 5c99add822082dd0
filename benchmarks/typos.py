"""Texts with typos: letters replaced, left out, put in and swapped with the next one."""

import random
import string
from collections.abc import Sequence

KINDS = ("replaced", "left_out", "put_in", "swapped")
LEARNT = ("replaced", "left_out")
"""Those that the light selector is trained with."""


def misspelt(texts: Sequence[str], share: float, kinds: Sequence[str] = KINDS, seed: int = 0) -> list[str]:
    """A share of the letters changed, each kind of change as often; the same for the same seed."""
    chance = random.Random(seed)
    return [_misspelt(text, share, kinds, chance) for text in texts]


def _misspelt(text: str, share: float, kinds: Sequence[str], chance: random.Random) -> str:
    done, at = "", 0
    while at < len(text):
        is_changed = text[at].isalpha() and chance.random() < share
        kind = chance.choice(kinds) if is_changed else ""
        taken = text[at : at + 2] if kind == "swapped" else text[at]
        done += _changed(taken, kind, chance.choice(string.ascii_lowercase)) if kind else taken
        at += len(taken)
    return done


def _changed(letters: str, kind: str, other: str) -> str:
    return {"replaced": other, "left_out": "", "put_in": letters + other, "swapped": letters[::-1]}[kind]
