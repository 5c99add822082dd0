"""What a request may say of the generation of its answer, and what it is told where it may not."""

import pytest
from pydantic import ValidationError

from services.api.jobs.schemas import JobRequest, Params
from shared.contracts.generation import GenerationBody
from shared.contracts.generation_params import GenerationParams

ALL = {
    "n": 8,
    "logprobs": True,
    "top_logprobs": 20,
    "presence_penalty": -2,
    "frequency_penalty": 2,
    "logit_bias": {"0": -100, "314": 0.5, "50256": 100},
}


def test_all_parameters_reach_the_body():
    body = JobRequest.model_validate({"input": "x", "params": ALL}).body
    params = GenerationBody.model_validate(body).params
    assert params.model_dump(include=set(ALL)) == ALL
    assert params.new_tokens == 8 * 64


def test_what_is_left_out_or_null_has_its_default():
    nulls = dict.fromkeys(["n", "top_logprobs", "presence_penalty", "frequency_penalty", "logit_bias"])
    for given in ({}, nulls):
        body = JobRequest.model_validate({"input": "x", "params": given}).body
        assert body["params"] == {"stop": [], "logprobs": False}
        assert GenerationBody.model_validate(body).params == GenerationParams()


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({"n": 0}, "greater than or equal to 1"),
        ({"n": 9}, "less than or equal to 8"),
        ({"n": 1.5}, "valid integer"),
        ({"logprobs": True, "top_logprobs": 21}, "less than or equal to 20"),
        ({"top_logprobs": 1}, "set logprobs to true"),
        ({"presence_penalty": 2.1}, "less than or equal to 2"),
        ({"frequency_penalty": -2.1}, "greater than or equal to -2"),
        ({"logit_bias": {"5": 101}}, "less than or equal to 100"),
        ({"logit_bias": {"5": -101}}, "greater than or equal to -100"),
        ({"logit_bias": {"hello": 1}}, "write them in digits"),
        ({"logit_bias": {"-1": 1}}, "write them in digits"),
        ({"logit_bias": {"\u0663": 1}}, "write them in digits"),
        ({"logit_bias": {"": 1}}, "at least 1 character"),
        ({"logit_bias": {"1" * 10: 1}}, "at most 9 characters"),
        ({"logit_bias": {str(token): 1 for token in range(301)}}, "at most 300 items"),
    ],
)
def test_what_is_out_of_bounds_is_refused_with_the_way_out(params, why):
    with pytest.raises(ValidationError, match=why):
        Params.model_validate(params)
