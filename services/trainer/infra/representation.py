"""The representation set: k real rows for every label, mixed by a seed (paper, section 3.3)."""

import random
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle, islice
from typing import TYPE_CHECKING

from services.trainer.domain.rows import SelectorRow
from services.trainer.infra.kmeans import Distance, representative_rows
from shared.labels import parse_label
from shared.model.features import EmbeddingTable, Pooling
from shared.model.tokens import encode_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def representation_set(
    texts: Mapping[str, Sequence[str]],
    tokenizer: "PreTrainedTokenizerBase",
    table: EmbeddingTable,
    k: int,
    *,
    distance: Distance = "l2",
    pooling: Pooling = "sum",
    seed: int = 0,
    check: Callable[[], None] = lambda: None,
) -> dict[str, list[str]]:
    """Return for each label its `k` representative texts (all of them where there are fewer), in source order.

    `check` is called before each label and may raise to end it.
    """
    chosen = {}
    for label, rows in sorted(texts.items()):
        check()
        vectors = table.vectors([encode_text(tokenizer, text) for text in rows], pooling)
        chosen[label] = [rows[index] for index in representative_rows(vectors, k, distance, seed)]
    return chosen


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
