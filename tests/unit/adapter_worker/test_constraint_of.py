"""By which constraint an answer is bound."""

import pytest

from services.adapter_worker.handlers import constraint_of
from shared.contracts.constraints import Constraint
from shared.contracts.generation_params import GenerationParams
from tests.support.api import make_release

OWN, OTHER = Constraint(choices=("a", "b")), Constraint(regex="c")
FREE = make_release().labels["fin.sa"]
BOUND = FREE.model_copy(update={"constraint": OTHER})


@pytest.mark.parametrize(
    ("asked", "entry", "found"),
    [
        (OWN, BOUND, OWN),
        (None, BOUND, OTHER),
        ("none", BOUND, None),
        (None, FREE, None),
        (None, None, None),
        (OWN, None, OWN),
    ],
)
def test_a_requests_own_constraint_comes_before_its_adapters(asked, entry, found):
    assert constraint_of(GenerationParams(constraint=asked), entry) == found
