"""A simulated month of CLINC150 whose mix shifts, in which new tasks appear and labels change their words.

Fixed before anything was tuned:

- The selector learns the first 50 training rows of the 45 intents of three domains, and out-of-scope rows as
  background. Traffic is drawn from rows that it has never seen (`traffic_data`): Zipf shares, 5 % from outside.
- A month is 60 windows of 500 requests. From window 10 on one domain grows by 0.2 (total variation). From window 14 on
  12 % of the requests belong to five new intents of a fourth domain. From window 20 on three intents of the bank that
  have 20 % of the requests together come in other words: those of customers of another bank (Banking77). In window 45
  somebody rolls out a candidate whose threshold rejects three in four requests.
- Two reviewers judge 2 % of the requests and name the right label, one time in ten another one. Nobody names a label
  that the release lacks. One person looks at the ten examples of each proposal that needs a person, and confirms a new
  task under the name of the intent that eight of them belong to, once each; anything else is dismissed.
- A request is answered rightly where it is answered under its own label, or rejected where it is from outside. A new
  intent's own label is its own, also before it exists.
- Without the loop the first selector answers the whole month. With all true labels it is trained anew, by the same
  code, after every four windows, on what it learnt and all requests until then.
"""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.selector_data import Pairs, Texts, read
from benchmarks.traffic_data import OTHER_WORDS, OUTSIDE_SHARE, Part, Population, _scaled, clinc, drawn, outside, rows
from shared.contracts.labels import BACKGROUND

WINDOW, WINDOWS = 500, 60
KNOWN = ("banking", "kitchen_and_dining", "travel")
GROWN = "travel"
NEW = tuple(f"auto_and_commute.{task}" for task in ("oil_change_how", "tire_pressure", "gas", "mpg", "jump_start"))
MOVED = ("banking.pin_change", "banking.report_fraud", "banking.transfer")
GROWS_AT, APPEARS_AT, MOVES_AT, REGRESSES_AT = 10, 14, 20, 45
GROWTH, NEW_SHARE, MOVED_SHARE = 0.2, 0.12, 0.2
JUDGED, MISJUDGED = 0.02, 0.1
SURE_OF_TEN = 8
BAD_SHARE_REJECTED = 0.75


class Request(NamedTuple):
    """One request of the stream and its own label; `none.none` is from outside."""

    text: str
    gold: str


class Month(NamedTuple):
    """What the selector learns first, and the windows of the month, one after the other."""

    learnt: Texts
    validation: Pairs
    windows: Sequence[Sequence[Request]]


def month(
    data: Path, *, windows: int = WINDOWS, size: int = WINDOW, domains: Sequence[str] = KNOWN, seed: str = "month"
) -> Month:
    """Draw a month; a shorter one has its changes at the same shares of its length."""
    known, chance = rows(data), random.Random(seed)
    labels = sorted(label for label in known.learnt if label.split(".")[0] in domains)
    learnt = {label: known.learnt[label] for label in labels} | {BACKGROUND: outside("train", data)}
    validation = [pair for pair in known.validation if pair[1] in learnt]
    owner: dict[str, str] = {}
    drawn_windows = [
        [Request(text, owner[text]) for text in drawn(population, size, chance)]
        for population in _populations(known.traffic, known.usual_outside, data, labels, windows, chance, owner)
    ]
    return Month(learnt, validation, drawn_windows)


def at(window: int, windows: int) -> int:
    """The window of a month of another length in which something happens."""
    return window * windows // WINDOWS


def _populations(
    traffic: Texts,
    elsewhere: Sequence[str],
    data: Path,
    labels: Sequence[str],
    windows: int,
    chance: random.Random,
    owner: dict[str, str],
) -> Iterator[Population]:
    """The population of each window; `owner` gets each text's own label."""
    order = list(labels)
    chance.shuffle(order)
    weights = {label: (rank + 1) ** -0.8 for rank, label in enumerate(order)}
    unit = (1 - OUTSIDE_SHARE) / sum(weights.values())
    usual: Population = {label: Part(weight * unit, traffic[label]) for label, weight in weights.items()}
    usual = {**usual, BACKGROUND: Part(OUTSIDE_SHARE, elsewhere)}
    train = clinc("train", data)
    unseen = {label: list(dict.fromkeys(train[label] + traffic[label])) for label in NEW}
    other = _other_words(data)
    for label, texts in [*traffic.items(), *unseen.items(), *other.items(), (BACKGROUND, elsewhere)]:
        owner.update(dict.fromkeys(texts, label))
    for window in range(windows):
        now = usual
        if window >= at(GROWS_AT, windows):
            grown = [label for label in labels if label.split(".")[0] == GROWN] or labels[:1]
            now = _scaled(now, grown, sum(usual[label].share for label in grown) + GROWTH)
        if window >= at(MOVES_AT, windows):
            now = _scaled(now, MOVED, MOVED_SHARE)
            now = {**now, **{label: Part(now[label].share, other[label]) for label in MOVED}}
        if window >= at(APPEARS_AT, windows):
            now = {label: part._replace(share=part.share * (1 - NEW_SHARE)) for label, part in now.items()}
            now = {**now, **{label: Part(NEW_SHARE / len(NEW), unseen[label]) for label in NEW}}
        yield now


def _other_words(data: Path) -> Texts:
    bank = [(line["text"], line["intent"]) for line in read("banking77/train.jsonl.gz", data)]
    return {label: [text for text, intent in bank if intent in OTHER_WORDS[label]] for label in MOVED}
