"""How large the cache becomes where a card's memory decides, and how numbers travel there."""

import pytest
import torch

from services.adapter_worker.engine.native.card.memory import KEPT_FREE, cache_bytes


class Memory:
    """A device with so much memory, of which a run takes its peak and gives it back."""

    def __init__(self, free, peak):
        self._free, self._peak, self.runs = free, peak, 0

    def peak_of(self, run):
        run()
        return self._peak

    def free(self):
        return self._free


def test_the_cache_takes_what_the_largest_steps_leave():
    runs = []
    assert cache_bytes(Memory(1000, 200), lambda: runs.append(1)) == 1000 - 1000 * KEPT_FREE - 200
    assert runs == [1]


def test_a_card_without_room_has_no_cache():
    assert cache_bytes(Memory(100, 200), lambda: None) == 0


def test_numbers_of_both_kinds_travel_together_and_a_larger_step_grows_the_buffers():
    pytest.importorskip("triton", reason="the kernels for a card need Triton")
    from services.adapter_worker.engine.native.card.staging import Staging

    staging = Staging(torch.device("cpu"))
    for size in (3, 1, 3000):
        sent = [torch.arange(size, dtype=torch.int32), torch.rand(size), torch.zeros(0, dtype=torch.int32)]
        found = staging.send(sent)
        assert all(torch.equal(one, other) for one, other in zip(sent, found, strict=True))
    back = staging.receive([torch.tensor([4, -1], dtype=torch.int32), torch.rand(2, 3)])
    assert (back[0].tolist(), back[1].shape) == ([4, -1], (2, 3))
