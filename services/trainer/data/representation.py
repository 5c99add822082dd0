"""The representation set: k real rows for every label, mixed by a seed (paper, section 3.3)."""

import random
from collections.abc import Mapping, Sequence
from itertools import cycle, islice

from services.trainer.data.embedders import Check, Embed
from services.trainer.data.examples import SelectorRow
from services.trainer.data.nearest_rows import representative_rows
from shared.contracts.labels import parse_label
from shared.contracts.training import RepresentationSettings


def representation_set(
    texts: Mapping[str, Sequence[str]],
    embed: Embed,
    selection: RepresentationSettings,
    *,
    seed: int = 0,
    check: Check = lambda: None,
) -> dict[str, list[str]]:
    """Return for each label its representative texts, all different, in source order.

    A label with no more different texts than `rows_per_label` gives all it has. `check` is called before each label
    and may raise to end it.
    """
    chosen = {}
    for label, rows in sorted(texts.items()):
        check()
        chosen[label] = _representatives(list(dict.fromkeys(rows)), embed, selection, seed)
    return chosen


def _representatives(texts: list[str], embed: Embed, selection: RepresentationSettings, seed: int) -> list[str]:
    if len(texts) <= selection.rows_per_label:
        return texts
    rows = representative_rows(
        embed(texts),
        selection.rows_per_label,
        selection.distance,
        clustering=selection.clustering,
        shortfall=selection.shortfall,
        seed=seed,
    )
    return [texts[row] for row in rows]


def mixed(texts: Mapping[str, Sequence[str]], seed: int, *, equal: bool = True) -> list[SelectorRow]:
    """Return the training rows of all labels in seeded order.

    With `equal`, each label comes as often as the largest, small sets repeat; without, each row comes once: the
    retained share of an old label is meant to be smaller.
    """
    largest = max((len(rows) for rows in texts.values()), default=0)
    rows = [
        SelectorRow(text, parse_label(label))
        for label, own in sorted(texts.items())
        for text in islice(cycle(own), largest if equal else len(own))
    ]
    random.Random(seed).shuffle(rows)  # noqa: S311
    return rows
