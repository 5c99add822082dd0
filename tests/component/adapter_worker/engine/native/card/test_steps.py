"""What a step on a card costs, counted on tensors that have shapes alone."""

import copy
import time

import pytest
import torch

pytest.importorskip("triton", reason="the kernels for a card need Triton")

from services.adapter_worker.engine import GenerationRequest
from services.adapter_worker.engine.native.kv_cache import Prefix
from services.adapter_worker.engine.native.lora.weights import map_adapter
from services.adapter_worker.engine.native.model_runner import ModelRunner
from services.adapter_worker.engine.request_state import RequestState
from tests.support.engine_kit import ADAPTERS
from tests.support.two_devices import CARD, two_devices

NAMES = ["plain", "dora", "by module"]
KINDS = [
    {},
    {"temperature": 0.9, "seed": 1},
    {"temperature": 0.9, "top_k": 5, "top_p": 0.8},
    {"temperature": 0.9, "top_p": 0.8, "presence_penalty": 1.0, "logit_bias": {3: 1.0}},
    {"logprobs": True, "top_logprobs": 4},
]


def make_runner(kit):
    model = copy.deepcopy(kit.model).to(CARD)
    runner = ModelRunner(
        model, kit.tokenizer, max_batch=16, adapter_slots=16, cache_bytes=1 << 20, kernels=None, max_stall_x=1.4,
        end_ids=frozenset(), on_card=True,
    )  # fmt: skip
    for name in NAMES:
        weights = map_adapter(kit.adapter(name, **ADAPTERS[name]))
        runner.bank.reserve(name, weights)
        runner.bank.fill(name, weights)
    return runner


def admit(runner, prompts, **options):
    """Let one request of each kind join for each adapter."""
    states = []
    for length in prompts:
        for adapter in (None, *NAMES):
            for n, kind in enumerate(KINDS):
                request = GenerationRequest(f"{n}", 1, [], adapter, max_new_tokens=8, **kind, **options)
                states.append(
                    RequestState(
                        request, [5] * length, prefix=Prefix(adapter, ()), prompt_shortened=False, texts=runner.texts,
                        on_piece=lambda _: None, started=time.monotonic(),
                    )
                )  # fmt: skip
                assert runner.admit(states[-1])
    return states


def test_a_mixed_step_of_all_kinds_of_rows_is_one_copy_to_the_card_and_one_back(kit):
    with two_devices() as devices, torch.inference_mode():
        runner = make_runner(kit)
        states = admit(runner, [20])
        for number in (1, 2):  # the prompts, then their second tokens
            devices.forget()
            runner.step()
            assert devices.copies == {"to card": 1, "to host": 1}
            assert [len(state.choices[0].token_ids) for state in states] == [number] * len(states)


def test_choices_that_begin_take_no_copy_more(kit):
    with two_devices() as devices, torch.inference_mode():
        runner = make_runner(kit)
        admit(runner, [20], n=3)
        devices.forget()
        runner.step()
        assert devices.copies == {"to card": 1, "to host": 1}


def test_layers_are_launched_once_each_and_groups_without_adapters_not_at_all(kit):
    with two_devices() as devices, torch.inference_mode():
        runner = make_runner(kit)
        for adapters, launches in ((["by module"], 2 * 4), ([None], 0)):
            runner._compute([runner._canary])
            chunks = [runner._canary._replace(slots=name and runner.bank.use(name)) for name in adapters]
            devices.forget()
            runner._compute(chunks)
            done = devices.operations
            assert (done["triton::write"], done["triton::attend"], done["triton::normalise"]) == (2, 2, 5)
            assert done["triton::shrink"] == done["triton::expand"] == launches


def test_what_would_not_run_on_a_card_does_not_run_here():
    with two_devices() as devices:
        here, there = torch.zeros(3), torch.zeros(3, device=CARD)
        with pytest.raises(AssertionError, match="host and card"):
            here + there
        assert (there.cpu().tolist(), there[torch.tensor([1, 2])].shape) == ([0, 0, 0], (2,))
        assert devices.copies == {"to host": 1, "to card": 1}
        assert torch.tensor([1, 2], device=CARD).shape == there[[1, 2]].shape
        there[[1, 2]] = 0
        assert devices.copies == {"to host": 1, "to card": 4}
