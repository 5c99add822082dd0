"""What a training and a release say that their selector reads."""

import pytest
from pydantic import ValidationError

from shared.contracts.manifests import Release
from shared.contracts.reading import RequestReading
from shared.contracts.training import parse_training

TRAIN = {"kind": "selector.train", "labels": {"law.ie": "d", "law.qa": "d"}}
RELEASE = {
    "tenant_id": "t",
    "base_model": "b",
    "labels": {"fin.sa": {"adapter": "a", "ref": "fin.sa@1", "group": "g", "template": "plain", "instruction": ""}},
    "selector": {"light": "l", "labels": ["fin.sa"]},
    "verdict": {"passed": True, "reasons": []},
    "created_at": "2026-11-01T00:00:00+00:00",
}


@pytest.mark.parametrize(
    ("asked", "text", "mode"),
    [
        ({}, "input", "dialogue"),
        ({"text": "instruction+input"}, "instruction+input", "instruction+input"),
        ({"reading": "instruction+input"}, "instruction+input", "instruction+input"),
        ({"reading": "last_turn"}, "input", "last_turn"),
        ({"reading": "dialogue", "text": "input"}, "input", "dialogue"),
    ],
)
def test_a_selector_learns_what_it_will_read(asked, text, mode):
    body = parse_training(TRAIN | asked)
    assert (body.text, body.reads.mode) == (text, mode)
    assert parse_training(body.model_dump(mode="json")) == body


@pytest.mark.parametrize(
    "asked",
    [
        {"reading": "dialogue", "text": "instruction+input"},
        {"reading": "instruction+input", "text": "input"},
        {"reading": "everything"},
        {"harness_tags": ["no tag"]},
        {"harness_tags": ["<x>"]},
        {"harness_tags": ["x" * 65]},
        {"harness_tags": ["x"] * 201},
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(asked):
    with pytest.raises(ValidationError):
        parse_training(TRAIN | asked)


def test_a_training_names_more_tags():
    assert parse_training(TRAIN | {"harness_tags": ["memo"]}).reads == RequestReading(
        mode="dialogue", harness_tags=("memo",)
    )


def test_a_release_from_before_readings_keeps_its_id_and_reads_no_dialogues():
    before = Release.model_validate(RELEASE)
    assert (before.reading, before.reads_dialogues) == (None, False)
    assert Release.model_validate(RELEASE | {"reading": None}).id == before.id
    reads = Release.model_validate(RELEASE | {"reading": {"mode": "dialogue", "stay": 0.7}})
    assert reads.reads_dialogues
    assert reads.id != before.id
    assert Release.model_validate_json(reads.model_dump_json()) == reads
    assert not Release.model_validate(RELEASE | {"reading": {"mode": "last_turn"}}).reads_dialogues


@pytest.mark.parametrize("reading", [{"mode": "instruction+input"}, {"mode": "dialogue", "stay": 1}, {"off_topic": 0}])
def test_a_release_reads_nothing_that_its_selector_cannot(reading):
    with pytest.raises(ValidationError):
        Release.model_validate(RELEASE | {"reading": reading})
