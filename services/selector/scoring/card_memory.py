"""Scores within the memory that a card has left: what does not fit at once is scored in halves."""

from collections.abc import Sequence

import structlog

from services.selector.scoring.batcher import ScoreMany
from shared.contracts.manifests import ReleaseSelector
from shared.errors import ServiceAway
from shared.model.memory import is_out_of_memory, return_free_memory

log = structlog.get_logger()


def within_memory(score_many: ScoreMany) -> ScoreMany:
    """Return a function that scores as `score_many` does, in halves where its texts do not fit on the card together.

    It raises `ServiceAway` where not even one fits: another process's memory may be free later, so no job is lost.
    """

    def score(selector: ReleaseSelector, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        try:
            return score_many(selector, texts)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        return_free_memory()  # not before the error is gone, which holds what was computed
        if len(texts) == 1:
            raise card_full()
        log.warning("scored_in_halves", texts=len(texts), why="the card has too little memory for all at once")
        middle = len(texts) // 2
        return [*score(selector, texts[:middle]), *score(selector, texts[middle:])]

    return score


def card_full() -> ServiceAway:
    """The error where the card has no memory for the selector."""
    return ServiceAway(
        "selector_out_of_memory",
        "there is no memory left for the selector: give it a card of its own or a larger "
        "SIGNALBOX_SELECTOR_CARD_SHARE, or let it run on processors (SIGNALBOX_SELECTOR_DEVICE=cpu)",
    )
