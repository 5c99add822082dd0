"""Metrics of the selector service."""

from typing import get_args

from prometheus_client import Counter, Histogram

from shared.contracts.selection import DecidedBy, Selection

BATCH_SIZE = Histogram(
    "signalbox_selector_batch_size", "Texts that the language model scored together", buckets=[1, 2, 4, 8, 16, 32, 64]
)
PROBABILITY = Histogram(
    "signalbox_selector_probability", "Probability of the best label", buckets=[x / 20 for x in range(1, 21)]
)
SELECTIONS = Counter(
    "signalbox_selections", "Selections made, by what decided: a part of the selector, or earlier turns", ["by"]
)
REJECTS = Counter("signalbox_rejects", "Requests that no label was found for", ["reason"])
LOADS = Counter("signalbox_selector_loads", "Selectors of a language model loaded into memory")
for _by in get_args(DecidedBy):
    SELECTIONS.labels(_by)  # a rate needs a zero before the first selection
_BELOW_THRESHOLD = REJECTS.labels("below_threshold")


def count(selection: Selection) -> None:
    """Count one selection."""
    SELECTIONS.labels(selection.by).inc()
    PROBABILITY.observe(selection.best.probability)
    if not selection.label:
        _BELOW_THRESHOLD.inc()
