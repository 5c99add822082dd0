"""What a vLLM server is asked for."""

import pytest

from services.adapter_worker.engine import GenerationRequest
from services.adapter_worker.engine.vllm.completions import completion_body
from shared.contracts.constraints import Constraint


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ({"json_schema": {"type": "object"}}, {"json": '{"type":"object"}'}),
        ({"json_object": True}, {"json_object": True}),
        ({"choices": ["a", "b"]}, {"choice": ["a", "b"]}),
        ({"regex": "a+"}, {"regex": "a+"}),
        ({"grammar": 'start: "a"'}, {"grammar": 'start: "a"'}),
    ],
)
def test_a_constraint_is_asked_for_by_the_servers_own_name(given, asked):
    request = GenerationRequest("job", 1, [], None, constraint=Constraint(**given))
    assert completion_body(request, "base", [1], [2])["structured_outputs"] == asked


def test_without_a_constraint_nothing_is_asked_for():
    assert "structured_outputs" not in completion_body(GenerationRequest("job", 1, [], None), "base", [1], [2])
