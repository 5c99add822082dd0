"""Traffic made of CLINC150 for the benchmarks of drift and of unknown clusters; fixed before anything was tuned.

**Rows.** Of each intent the selector learns the first 50 training rows; thresholds come from the validation rows;
traffic is drawn from what it has never seen, the other 50 and the test rows. Of the out-of-scope test rows one half is
the usual outside traffic, 5 % of all; the other half comes with shifts alone.

**Drift.** A population has a share for each intent (Zipf, exponent 0.8, in a random order) and its texts. A window is
500 requests, a month 60 windows; the reference has the 14 windows before, and the validation rows. A shift of size t is
one of these, so that the total variation between the populations is t:

- `label`: one intent grows, a domain grows, or the shares of all intents are tilted (log-normal);
- `outside`: a share t comes from elsewhere: out-of-scope rows, instructions of Alpaca, or intents of Banking77 that
  have no counterpart;
- `reworded`: intents that have the share t together say the same in other words: the counterparts in Banking77, with
  typing errors, as key words, or inside a polite phrase.

Two windows follow it. It is found where one of them has any finding that the window before the shift has not. An alarm
is a finding in a month without a shift that the window before has not.

**Clusters.** One domain after another is left out of training and validation. Traffic is every row that the selector
has not seen: all 115 of a left-out intent, 65 of any other, and the out-of-scope test rows. An intent is proposed where
it has more than half of the texts of some proposal, and these are at least a third of those of its texts that were
there to be clustered (rejected or of low confidence). Purity is the share of the texts of all proposals that belong to
the proposal's most common left-out intent: texts of known intents and from outside never count as pure.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from benchmarks.selector_data import Pairs, Texts, by_label, read
from benchmarks.typos import misspelt
from shared.contracts.labels import BACKGROUND

WINDOW, WINDOWS_A_MONTH, FIRST_WINDOWS, MONTHS = 500, 60, 14, 20
WINDOWS_TO_FIND = 2
LEARNT = 50
OUTSIDE_SHARE = 0.05
LEAST_SHARE_OF_INTENT = 1 / 3
SIZES = (0.1, 0.2, 0.4)
MUST_FIND = 0.2
OTHER_WORDS = {
    "banking.pin_change": ("change_pin",),
    "banking.report_fraud": ("card_payment_not_recognised", "cash_withdrawal_not_recognised"),
    "banking.transfer": ("transfer_into_account",),
    "credit_cards.card_declined": ("declined_card_payment", "card_not_working"),
    "credit_cards.expiration_date": ("card_about_to_expire",),
    "credit_cards.international_fees": ("exchange_charge",),
    "credit_cards.new_card": ("getting_spare_card",),
    "credit_cards.replacement_card_duration": ("card_delivery_estimate", "card_arrival"),
    "credit_cards.report_lost_card": ("lost_or_stolen_card",),
    "travel.exchange_rate": ("exchange_rate",),
}
"""Intents of Banking77 that ask for what an intent of CLINC150 asks for."""
WITHOUT_COUNTERPART = ("top_up", "topping", "verify", "virtual")
"""Parts of the names of intents of Banking77 that CLINC150 has nothing of."""
STOP_WORDS = frozenset(
    """a about am an and any are as at be been by can could did do does for from get give go had has have hey how i i'd
    i'll i'm if in is it it's its let like may me much my need of on or please should so some tell that the there this
    to up us want was we what what's when where which who will with would you your""".split()  # noqa: SIM905
)
REWORDED_INTENTS = 15


class Rows(NamedTuple):
    """What the selector learns, what its thresholds come from, and what traffic is made of."""

    learnt: Texts
    validation: Pairs
    traffic: Texts
    usual_outside: list[str]
    other_outside: list[str]


def rows(data: Path) -> Rows:
    train, test = clinc("train", data), clinc("test", data)
    seen = {label: own[:LEARNT] for label, own in train.items()} | {BACKGROUND: outside("train", data)}
    validation = [(text, label) for label, own in clinc("val", data).items() for text in own]
    unseen = {label: list(dict.fromkeys(own[LEARNT:] + test[label])) for label, own in train.items()}
    elsewhere = outside("test", data)
    validation += [(text, BACKGROUND) for text in outside("val", data)]
    return Rows(seen, validation, unseen, elsewhere[::2], elsewhere[1::2])


def clinc(part: str, data: Path) -> Texts:
    lines = read(f"clinc150/{part}.jsonl.gz", data)
    return by_label([(line["text"], f"{line['domain']}.{line['intent']}") for line in lines])


def outside(part: str, data: Path) -> list[str]:
    return [line["text"] for line in read(f"clinc150/oos_{part}.jsonl.gz", data)]


class Part(NamedTuple):
    """A part of a population: its share of all requests, and the texts that they are drawn from."""

    share: float
    texts: Sequence[str]


Population = Mapping[str, Part]
"""The parts by their labels; those from outside begin with the background's label."""


def drawn(population: Population, count: int, chance: random.Random) -> list[str]:
    parts = list(population.values())
    chosen = chance.choices(parts, cum_weights=list(accumulate(part.share for part in parts)), k=count)
    return [chance.choice(part.texts) for part in chosen]


def total_variation(one: Population, other: Population) -> float:
    """Between the label mixes of two populations."""
    parts = {*one, *other}
    nothing = Part(0.0, ())
    return sum(abs(one.get(key, nothing).share - other.get(key, nothing).share) for key in parts) / 2


def usual(known: Rows, chance: random.Random) -> Population:
    labels = sorted(known.traffic)
    chance.shuffle(labels)
    weights = [rank**-0.8 for rank in range(1, len(labels) + 1)]
    unit = (1 - OUTSIDE_SHARE) / sum(weights)
    parts = {label: Part(weight * unit, known.traffic[label]) for label, weight in zip(labels, weights, strict=True)}
    return parts | {BACKGROUND: Part(OUTSIDE_SHARE, known.usual_outside)}


class Shift(NamedTuple):
    """A population before and after."""

    kind: str
    name: str
    size: float
    before: Population
    after: Population


def shifts(known: Rows, data: Path) -> list[Shift]:
    """The 40 shifts: at each size eight of the label mix; in all eight from outside and eight in other words."""
    elsewhere, reworded = sources(known, data), rewordings(data)
    made = []
    for size in SIZES:
        for name, count in (("intent", 2), ("domain", 3), ("tilt", 3)):
            made += [label_shift(known, name, size, number) for number in range(count)]
        names = ("oos", "alpaca") if size < MUST_FIND else tuple(elsewhere)
        made += [outside_shift(known, name, size, elsewhere[name]) for name in names]
        names = {0.1: ("counterparts", "keywords"), 0.2: ("counterparts", "keywords", "polite")}.get(
            size, ("counterparts", "typos", "keywords")
        )
        made += [reworded_shift(known, name, size, reworded[name]) for name in names]
    return made


def label_shift(known: Rows, name: str, size: float, number: int) -> Shift:
    chance = random.Random(f"label {name} {size} {number}")
    before = usual(known, chance)
    if name == "tilt":
        tilt = {label: chance.gauss(0, 1) for label in sorted(known.traffic)}
        return Shift("label", name, size, before, _of_size(size, before, partial(_tilted, before, tilt)))
    label = chance.choice(sorted(known.traffic))
    grown = [label] if name == "intent" else [one for one in before if one.split(".")[0] == label.split(".")[0]]
    mass = sum(before[one].share for one in grown)
    return Shift("label", name, size, before, _scaled(before, grown, mass + size))


def _scaled(population: Population, labels: Sequence[str], share: float) -> Population:
    """The population in which these labels have this share together, the rest what is left."""
    mass = sum(population[label].share for label in labels)
    return {
        key: part._replace(share=part.share * (share / mass if key in labels else (1 - share) / (1 - mass)))
        for key, part in population.items()
    }


def _tilted(population: Population, tilt: Mapping[str, float], strength: float) -> Population:
    weights = {key: part.share * 2.0 ** (strength * tilt.get(key, 0.0)) for key, part in population.items()}
    whole = sum(weights.values())
    return {key: part._replace(share=weights[key] / whole) for key, part in population.items()}


def _of_size(size: float, before: Population, make: Callable[[float], Population]) -> Population:
    low, high = 0.0, 20.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if total_variation(before, make(middle)) < size else (low, middle)
    return make(low)


def sources(known: Rows, data: Path) -> dict[str, list[str]]:
    alpaca = read("general/alpaca.train.jsonl.gz", data)
    bank = read("banking77/train.jsonl.gz", data)
    return {
        "oos": known.other_outside,
        "alpaca": [f"{line['instruction']} {line['input']}".strip()[:200] for line in alpaca],
        "banking": [line["text"] for line in bank if any(part in line["intent"] for part in WITHOUT_COUNTERPART)],
    }


def outside_shift(known: Rows, name: str, size: float, texts: Sequence[str]) -> Shift:
    before = usual(known, random.Random(f"outside {name} {size}"))
    kept = {key: part._replace(share=part.share * (1 - size)) for key, part in before.items()}
    return Shift("outside", name, size, before, kept | {f"{BACKGROUND} {name}": Part(size, texts)})


Reword = Callable[[str, Sequence[str]], Sequence[str]]
"""Takes an intent and its texts."""


def rewordings(data: Path) -> dict[str, Reword]:
    bank: Texts = by_label([(line["text"], line["intent"]) for line in read("banking77/train.jsonl.gz", data)])
    return {
        "counterparts": lambda label, _: [text for intent in OTHER_WORDS[label] for text in bank[intent]],
        "keywords": lambda _, texts: [
            " ".join(w for w in text.split() if w not in STOP_WORDS) or text for text in texts
        ],
        "polite": lambda _, texts: [f"hello, could you please help me with this: {text}? thank you" for text in texts],
        "typos": lambda _, texts: misspelt(texts, 0.1),
    }


def reworded_shift(known: Rows, name: str, size: float, reword: Reword) -> Shift:
    chance = random.Random(f"reworded {name} {size}")
    population = usual(known, chance)
    random_ones = chance.sample(sorted(known.traffic), REWORDED_INTENTS)
    labels = sorted(OTHER_WORDS) if name == "counterparts" else random_ones
    before = _scaled(population, labels, size)
    after = {label: Part(before[label].share, reword(label, before[label].texts)) for label in labels}
    return Shift("reworded", name, size, before, {**before, **after})


class LeftOut(NamedTuple):
    """A domain that the selector knows nothing of, and traffic with the intents that its texts belong to."""

    domain: str
    learnt: Texts
    validation: Pairs
    traffic: Pairs


def left_out(data: Path) -> list[LeftOut]:
    known, train = rows(data), clinc("train", data)
    return [_without(domain, known, train) for domain in sorted({label.split(".")[0] for label in train})]


def _without(domain: str, known: Rows, train: Texts) -> LeftOut:
    def is_out(label: str) -> bool:
        return label.startswith(f"{domain}.")

    learnt = {label: own for label, own in known.learnt.items() if not is_out(label)}
    traffic = [(text, label) for label, own in sorted(known.traffic.items()) for text in own]
    traffic += [(text, label) for label, own in sorted(train.items()) if is_out(label) for text in own[:LEARNT]]
    traffic += [(text, BACKGROUND) for text in (*known.usual_outside, *known.other_outside)]
    random.Random(domain).shuffle(traffic)
    return LeftOut(domain, learnt, [pair for pair in known.validation if not is_out(pair[1])], traffic)
