"""The representation set: k real rows for every label, mixed by a seed (paper, section 3.3)."""

import random
from collections.abc import Mapping, Sequence
from itertools import cycle, islice

from services.trainer.data.examples import SelectorRow
from services.trainer.data.nearest_rows import representative_rows
from shared.contracts.labels import parse_label
from shared.contracts.training_settings import RepresentationSettings
from shared.model.text_vectors import Check, Embed


def representation_set(
    texts: Mapping[str, Sequence[str]],
    embed: Embed,
    settings: RepresentationSettings,
    *,
    seed: int = 0,
    check: Check = lambda: None,
) -> dict[str, list[str]]:
    """Return for each label its representative texts, all different, in source order.

    A label with at most `rows_per_label` different texts keeps all of them. `check` is called before each label and
    may raise.
    """
    chosen = {}
    for label, rows in sorted(texts.items()):
        check()
        chosen[label] = _representatives(list(dict.fromkeys(rows)), embed, settings, seed)
    return chosen


def _representatives(texts: list[str], embed: Embed, settings: RepresentationSettings, seed: int) -> list[str]:
    if len(texts) <= settings.rows_per_label:
        return texts
    rows = representative_rows(
        embed(texts),
        settings.rows_per_label,
        settings.distance,
        clustering=settings.clustering,
        shortfall=settings.shortfall,
        seed=seed,
    )
    return [texts[row] for row in rows]


def mixed(texts: Mapping[str, Sequence[str]], seed: int, *, equal: bool = True) -> list[SelectorRow]:
    """Return the training rows of all labels in seeded order.

    With `equal`, the rows of small labels repeat until each label has as many as the largest. Without it, each row
    comes once, because the retained share of an old label is smaller on purpose.
    """
    largest = max((len(rows) for rows in texts.values()), default=0)
    rows = [
        SelectorRow(text, parse_label(label))
        for label, own in sorted(texts.items())
        for text in islice(cycle(own), largest if equal else len(own))
    ]
    random.Random(seed).shuffle(rows)  # noqa: S311
    return rows
