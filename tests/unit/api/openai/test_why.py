"""The sentence that says why a label was chosen."""

import pytest

from services.api.openai.why import why
from shared.contracts.generation import SelectionResult

CARDS = {"label": "bank.cards", "best_label": "bank.cards", "probability": 0.93}
SECOND = {"runners_up": [{"label": "bank.loans", "probability": 0.04}]}
SURE = {"by": "light", "confidence": 0.9, "threshold": 0.61}


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (
            CARDS | SECOND | SURE,
            "bank.cards with 0.93, before bank.loans with 0.04: light decided, 0.90 sure of 0.61 needed",
        ),
        (CARDS | {"by": "kept"}, "bank.cards with 0.93: the conversation's label stands"),
        (
            CARDS | SURE | {"label": None, "rejected": True, "confidence": 0.3},
            "no label is sure enough; nearest is bank.cards with 0.93: light decided, 0.30 sure of 0.61 needed",
        ),
        ({"label": "bank.cards"}, "bank.cards: the selector decided"),
    ],
)
def test_the_reasons_are_told_in_a_sentence(fields, sentence):
    assert why(SelectionResult.model_validate(fields)) == sentence
