import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from services.trainer.data.embedders import embedder
from services.trainer.data.representation import mixed, representation_set
from shared.contracts.jobs import Job
from shared.contracts.labels import Label
from shared.contracts.training_settings import RepresentationSettings
from shared.errors import Cancelled, Invalid
from shared.model.base import load_tokenizer
from shared.worker.leases import HeldJob

TEXTS = {
    "bank.cards": [f"my card number {n} is lost" for n in range(40)],
    "travel.trips": [f"a flight to city {n * 7}" for n in range(30)],
    "none.none": ["what is love", "tell me a joke", "set an alarm"],
}


ROOT = Path(__file__).parents[4]


@pytest.fixture
def choose(tiny_folder):
    return lambda texts, k=10, **more: chosen(tiny_folder, texts, k, **more)


def chosen(folder, texts, k, seed=0, check=lambda: None, **settings):
    selection = RepresentationSettings(rows_per_label=k, **settings)
    embed = embedder(selection, folder, load_tokenizer(folder))
    return representation_set(texts, embed, selection, seed=seed, check=check)


def as_bytes(folder, texts, seed, **settings):
    rows = mixed(chosen(folder, texts, 10, seed, **settings), seed)
    return json.dumps([(row.text, str(row.label)) for row in rows]).encode()


def test_the_same_seed_gives_the_same_set_byte_for_byte(tiny_folder):
    first = as_bytes(tiny_folder, TEXTS, 5)

    assert as_bytes(tiny_folder, dict(reversed(TEXTS.items())), 5) == first
    assert as_bytes(tiny_folder, TEXTS, 6) != first


SETTINGS = [{}, {"distance": "ip"}, {"distance": "cos", "clustering": "paper-code"}]


def digests(folder):
    return [hashlib.sha256(as_bytes(folder, TEXTS, 5, **settings)).hexdigest() for settings in SETTINGS]


@pytest.mark.slow
def test_another_process_with_another_number_of_threads_gives_the_same_bytes(tiny_folder):
    program = (
        "import sys; from pathlib import Path; from tests.component.trainer.data.test_representation import digests;"
        "print(*digests(Path(sys.argv[1])))"
    )
    # Threads that wait actively for each other take minutes where another process has their core.
    env = {"OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "2", "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(
        [sys.executable, "-c", program, str(tiny_folder)],
        env=os.environ | env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == digests(tiny_folder)


def test_every_chosen_text_is_a_real_row_of_its_label(choose):
    found = choose(TEXTS)

    assert {label: len(rows) for label, rows in found.items()} == {
        "bank.cards": 10,
        "travel.trips": 10,
        "none.none": 3,
    }
    assert all(len(set(rows)) == len(rows) and set(rows) <= set(TEXTS[label]) for label, rows in found.items())


def test_the_choice_can_be_stopped_before_each_label(choose):
    held = HeldJob(
        Job(id="j", tenant_id="t", kind="train", stage="train", state="running", queue="train", body={}, timestamps={})
    )
    held.stop("cancel")

    with pytest.raises(Cancelled):
        choose(TEXTS, check=held.check)


def test_each_label_weighs_the_same_in_the_mixture(choose):
    rows = mixed(choose(TEXTS), seed=0)

    assert Counter(row.label for row in rows) == {
        Label("bank", "cards"): 10,
        Label("travel", "trips"): 10,
        Label("none", "none"): 10,
    }


def test_a_malformed_label_is_refused():
    with pytest.raises(Invalid, match="is not a label"):
        mixed({"a bank": ["a"]}, seed=0)


def test_a_task_with_fewer_inputs_than_k_gives_all_it_has_once_and_weighs_the_same(choose):
    few = [f"headline {n % 7}" for n in range(40)]

    found = choose({"fin.ha": few, "bank.cards": TEXTS["bank.cards"]})

    assert found["fin.ha"] == [f"headline {n}" for n in range(7)]
    counts = Counter(row.text for row in mixed(found, seed=0) if str(row.label) == "fin.ha")
    assert set(counts.values()) == {1, 2}
    assert counts.total() == 10


def test_the_labels_shortfall_is_left_to_the_report_where_asked_for(choose):
    found = choose(TEXTS, 25, distance="ip", shortfall="report")

    assert len(found["bank.cards"]) < 25
    assert len(choose(TEXTS, 25, distance="ip")["bank.cards"]) == 25


def test_every_embedder_and_distance_chooses_k_rows(choose):
    for name in ("embedding-layer", "hidden-state"):
        for distance in ("l2", "ip", "cos"):
            found = choose({"bank.cards": TEXTS["bank.cards"]}, 10, embedder=name, distance=distance)
            assert len(set(found["bank.cards"])) == 10
