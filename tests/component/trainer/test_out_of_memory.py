"""A lack of memory is an error that says what to do, and what had filled the memory is gone."""

import weakref

import pytest
import torch

from services.trainer.out_of_memory import explaining_memory
from shared.errors import Invalid


class Model:
    """What a training holds in its variables."""


LEFT = []


def train(error):
    model = Model()
    LEFT[:] = [weakref.ref(model)]
    raise error


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
    ids=["card", "machine", "python"],
)
def test_what_does_not_fit_says_what_to_do_and_gives_its_memory_back(error):
    with (
        pytest.raises(Invalid, match=r"^the training does not fit in memory") as refusal,
        explaining_memory("the training"),
    ):
        train(error)
    ways = ("batch_size", "max_length", "gradient_checkpointing", "qlora")
    assert (refusal.value.code, [way in refusal.value.detail for way in ways]) == ("out_of_memory", [True] * 4)
    assert refusal.value.__cause__ is error  # it is still known: what it passed through holds the model no more
    assert LEFT[0]() is None


def test_other_errors_stay_as_they_are():
    with pytest.raises(RuntimeError, match="shapes"), explaining_memory("the training"):
        train(RuntimeError("shapes do not fit"))
