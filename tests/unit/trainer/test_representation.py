import json
from collections import Counter

import pytest

from services.trainer.infra.representation import mixed, representation_set
from shared.attempts import Held
from shared.errors import Cancelled, Invalid
from shared.jobs import Job
from shared.labels import Label
from shared.model.features import EmbeddingTable

TEXTS = {
    "bank.cards": [f"my card number {n} is lost" for n in range(40)],
    "travel.trips": [f"a flight to city {n * 7}" for n in range(30)],
    "none.none": ["what is love", "tell me a joke", "set an alarm"],
}


@pytest.fixture(scope="module")
def table(tiny_folder):
    return EmbeddingTable.from_folder(tiny_folder)


def as_bytes(texts, tokenizer, table, seed):
    chosen = representation_set(texts, tokenizer, table, 10, seed=seed)
    return json.dumps([(row.text, str(row.label)) for row in mixed(chosen, seed)]).encode()


def test_the_same_seed_gives_the_same_set_byte_for_byte(tiny_tokenizer, table):
    first = as_bytes(TEXTS, tiny_tokenizer, table, seed=5)

    assert as_bytes(dict(reversed(TEXTS.items())), tiny_tokenizer, table, seed=5) == first
    assert as_bytes(TEXTS, tiny_tokenizer, table, seed=6) != first


def test_every_chosen_text_is_a_real_row_of_its_label(tiny_tokenizer, table):
    chosen = representation_set(TEXTS, tiny_tokenizer, table, 10)

    assert {label: len(rows) for label, rows in chosen.items()} == {
        "bank.cards": 10,
        "travel.trips": 10,
        "none.none": 3,
    }
    assert all(len(set(rows)) == len(rows) and set(rows) <= set(TEXTS[label]) for label, rows in chosen.items())


def test_the_choice_can_be_stopped_before_each_label(tiny_tokenizer, table):
    held = Held(Job(id="j", tenant_id="t", kind="train", state="running", queue="train", body={}, timestamps={}))
    held.stop("cancel")

    with pytest.raises(Cancelled):
        representation_set(TEXTS, tiny_tokenizer, table, 10, check=held.check)


def test_each_label_weighs_the_same_in_the_mixture(tiny_tokenizer, table):
    rows = mixed(representation_set(TEXTS, tiny_tokenizer, table, 10), seed=0)

    assert Counter(row.label for row in rows) == {
        Label("bank", "cards"): 10,
        Label("travel", "trips"): 10,
        Label("none", "none"): 10,
    }


def test_a_malformed_label_is_refused():
    with pytest.raises(Invalid, match="is not a label"):
        mixed({"bank": ["a"]}, seed=0)
