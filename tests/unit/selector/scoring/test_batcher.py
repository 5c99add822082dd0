"""Micro-batching with a scorer that records what it was given."""

from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import pytest

from services.selector.scoring.batcher import Batcher
from shared.contracts.manifests import ReleaseSelector

ONE = ReleaseSelector(llm="one", labels=("a.b", "a.c"))
TWO = ReleaseSelector(llm="two", labels=("a.b", "a.c"))


class LengthScorer:
    """Scores a text by its length, but not `poison`."""

    def __init__(self):
        self.batches = []

    def __call__(self, selector, texts):
        self.batches.append((selector.digest, list(texts)))
        if "poison" in texts:
            raise ValueError("poison")
        return [[float(len(text)), 0.0] for text in texts]


@pytest.fixture
def scorer():
    return LengthScorer()


def test_each_caller_gets_the_scores_of_its_own_text(scorer):
    batcher = Batcher(scorer, max_batch=4, max_wait_ms=50)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: batcher.score(ONE, "x" * n), range(1, 30)))
    assert [a[0] for a in answers] == [float(n) for n in range(1, 30)]
    assert max(len(texts) for _, texts in scorer.batches) <= 4


def test_requests_that_arrive_together_share_a_batch(scorer):
    batcher = Batcher(scorer, max_batch=3, max_wait_ms=5000)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda n: batcher.score(ONE, "x" * n), (1, 2, 3)))
    assert [len(texts) for _, texts in scorer.batches] == [3]


def test_selectors_are_never_mixed_in_one_pass(scorer):
    batcher = Batcher(scorer, max_batch=4, max_wait_ms=5000)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda s: batcher.score(s, "x"), (ONE, TWO, ONE, TWO)))
    assert sorted(scorer.batches) == [("one", ["x", "x"]), ("two", ["x", "x"])]


def test_a_batch_that_fails_fails_its_callers_and_the_batcher_lives(scorer):
    batcher = Batcher(scorer, max_batch=1, max_wait_ms=0)
    with pytest.raises(ValueError, match="poison"):
        batcher.score(ONE, "poison")
    assert batcher.score(ONE, "four") == [4.0, 0.0]


def test_idle_is_called_once_after_each_burst_of_requests(scorer):
    calls = SimpleQueue()
    batcher = Batcher(
        scorer, max_batch=1, max_wait_ms=0, on_idle=lambda: calls.put(len(scorer.batches)), idle_seconds=0.05
    )
    assert calls.get(timeout=10) == 0
    batcher.score(ONE, "x")
    assert calls.get(timeout=10) == 1
    assert calls.empty()
