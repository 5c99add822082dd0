"""What a client sees of a job, whatever version wrote it."""

import json

import pytest

from services.api.jobs.views import job_view
from tests.support.old_jobs import OLD_BODY, OLD_RESULT, OLD_SELECTION, job_of

FLAT = json.loads(OLD_RESULT)
TYPED = {
    **{name: FLAT[name] for name in ("label", "adapter", "adapter_ref", "release", "selector", "base_model")},
    **{name: FLAT[name] for name in ("prompt_shortened", "first_token_ms", "generate_ms")},
    "choices": [
        {
            "index": 0,
            "text": "Call us.",
            "finish_reason": "length",
            "logprobs": {"token_ids": [1, 2, 3], "logprobs": [-0.1, 0.0, -2.5], "token_bytes": [], "top": []},
        }
    ],
    "usage": {"prompt_tokens": 31, "completion_tokens": 3},
}


def seen(**fields):
    return json.loads(job_view(job_of(**fields)).model_dump_json())


@pytest.mark.parametrize("written", [FLAT, TYPED], ids=["before", "today"])
def test_a_result_shows_the_fields_that_it_always_had_beside_choices_and_usage(written):
    assert seen(result=json.dumps(written))["result"] == {**FLAT, **TYPED}


def test_log_probabilities_are_shown_only_where_they_were_wanted():
    fields = {name: value for name, value in FLAT.items() if name not in ("token_ids", "logprobs")}
    result = seen(result=json.dumps(fields))["result"]
    assert not {"token_ids", "logprobs"} & set(result)
    assert result["choices"][0]["logprobs"] is None
    assert fields.items() <= result.items()


def test_the_request_is_shown_as_it_was_written_and_its_metadata_apart():
    body = json.loads(OLD_BODY)
    view = seen()
    assert view["metadata"] == body.pop("metadata") == {"who": "me"}
    assert view["request"] == body


def test_a_selection_is_shown_whole_as_part_of_a_job_and_as_its_result():
    whole = json.loads(OLD_SELECTION) | {"ambiguous": False, "choices": []}
    assert seen(selection=OLD_SELECTION)["selection"] == whole
    view = seen(kind="select", selection=OLD_SELECTION, result=OLD_SELECTION)
    assert view["selection"] == view["result"] == whole


def test_a_job_without_an_answer_shows_none():
    for kind in ("generate", "select", "train"):
        view = seen(kind=kind)
        assert (view["selection"], view["result"]) == (None, None)


def test_the_result_of_a_training_is_shown_as_it_stands():
    result = {"release": "rel_1", "promoted": True, "per_label": {"bank.cards": 0.9}}
    assert seen(kind="train", result=json.dumps(result))["result"] == result
