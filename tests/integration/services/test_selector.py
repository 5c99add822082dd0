"""A selector that cannot be fetched just then."""

import gc
import math
from functools import partial

import pytest
import torch

from services.selector.handlers import Reader, select
from services.selector.scoring.llm import LlmScorers
from shared.contracts.generation import Neighbour, selection_of
from shared.contracts.jobs import JobKind, JobState
from shared.contracts.manifests import Release, ReleaseLabel, ReleaseSelector, Verdict
from shared.errors import ServiceAway, Unavailable
from shared.model.merge import BaseWeights, merged_selector

LABELS = ("bank.accounts", "bank.cards")
DIALOGUE = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": "yes?"},
    {"role": "user", "content": "my card"},
]


def selector(digest):
    return ReleaseSelector(llm=digest, labels=LABELS, threshold=0)


def release_with(chosen):
    labels = {
        label: ReleaseLabel(adapter="a", ref=f"{label}@1", group="bank", template="chatml", instruction="")
        for label in LABELS
    }
    verdict = Verdict(passed=True, reasons=())
    return Release(tenant_id="t", base_model="tiny", labels=labels, selector=chosen, verdict=verdict)


@pytest.fixture
def adapter(tiny_folder, tmp_path):
    """A selector's weights, as the trainer writes them."""
    from peft import LoraConfig, get_peft_model

    from shared.model.base import load_model

    config = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    get_peft_model(load_model(tiny_folder, "float32"), config).save_pretrained(tmp_path / "selector")
    return tmp_path / "selector"


class Store:
    """Hands out one folder for every digest, as long as it answers."""

    def __init__(self, folder):
        self.folder = folder
        self.asked = []
        self.away_for = 0

    def fetch(self, digest):
        self.asked.append(digest)
        self.away_for -= 1
        if self.away_for >= 0:
            raise Unavailable("store_unavailable", "away")
        return self.folder


@pytest.fixture
def store_of_selectors(adapter):
    return Store(adapter)


class Loads:
    """Counts how often a selector was loaded into memory; a card may have no room for so many of them."""

    def __init__(self):
        self.count = 0
        self.too_many = 0

    def __call__(self):
        if self.too_many:
            self.too_many -= 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        self.count += 1


@pytest.fixture
def loads():
    return Loads()


@pytest.fixture
def scorers(tiny_folder, store_of_selectors, loads):
    return LlmScorers(lambda: tiny_folder, store_of_selectors.fetch, dtype="float32", max_tokens=400, on_load=loads)


def score(scorers, digest, tenant="t"):
    with scorers.in_use(tenant, selector(digest)):
        scorers.score_many(selector(digest), ["x"])


def test_a_selector_that_works_stays_where_the_new_one_cannot_be_loaded(scorers, store_of_selectors, loads):
    scorers.make_current("t", selector("one"))
    score(scorers, "one")
    store_of_selectors.away_for = 1
    with pytest.raises(Unavailable):
        score(scorers, "two")
    store_of_selectors.away_for = 99
    score(scorers, "one")
    scorers.prefetch(selector("one"))
    assert loads.count == 1
    assert store_of_selectors.asked == ["one", "two"]


def test_the_former_release_is_dropped_with_its_last_job_and_a_late_job_loads_it_again(scorers, loads):
    scorers.make_current("t", selector("one"))
    with scorers.in_use("t", selector("one")):
        score(scorers, "one")
        score(scorers, "two")
        scorers.make_current("t", selector("two"))
        score(scorers, "two")
        score(scorers, "one")
        assert loads.count == 3  # the second one was neither current nor in use when it was loaded at first
    score(scorers, "two")
    assert loads.count == 3
    score(scorers, "one")
    assert loads.count == 4
    score(scorers, "one")
    assert loads.count == 5


@pytest.mark.slow
def test_what_was_dropped_is_in_memory_no_more(scorers):
    def modules():
        gc.collect()
        return sum(issubclass(type(found), torch.nn.Module) for found in gc.get_objects())

    before = modules()
    scorers.make_current("t", selector("one"))
    score(scorers, "one")
    one = modules() - before
    score(scorers, "two")
    assert one > 0
    assert modules() - before == one


def test_a_tenant_whose_releases_nobody_follows_keeps_the_selector_that_it_used_last(scorers, loads):
    scorers.make_current("t", selector("one"))
    for tenant, digest in [("t", "one"), ("other", "two"), ("t", "one"), ("other", "two")]:
        score(scorers, digest, tenant)
    assert loads.count == 2
    score(scorers, "three", "other")
    score(scorers, "one")
    assert loads.count == 3
    score(scorers, "two", "other")
    assert loads.count == 4


def test_no_more_than_two_selectors_stay_without_a_job(scorers, loads):
    for tenant in ("a", "b", "c", "b", "c"):
        score(scorers, tenant, tenant)
    assert loads.count == 3
    score(scorers, "a", "a")
    assert loads.count == 4


def test_a_selector_that_no_job_uses_makes_room_on_a_full_card(scorers, loads):
    scorers.make_current("a", selector("one"))
    score(scorers, "one", "a")
    loads.too_many = 1
    score(scorers, "two", "b")
    assert loads.count == 2
    score(scorers, "two", "b")
    assert loads.count == 2
    score(scorers, "one", "a")
    assert loads.count == 3


def test_a_selector_for_which_the_card_has_no_room_costs_no_job(scorers, loads):
    loads.too_many = 2
    with pytest.raises(ServiceAway, match="no memory left for the selector"):
        score(scorers, "one")
    score(scorers, "one")
    assert loads.count == 1


def test_selectors_share_the_base_weights_that_no_lora_changes(adapter, tiny_folder):
    base = BaseWeights(tiny_folder)
    one, other = (dict(merged_selector(tiny_folder, adapter, "bfloat16", "cpu", base).named_parameters()) for _ in "ab")

    own = {name for name in one if one[name].data_ptr() != other[name].data_ptr()}

    assert own == {name for name in one if "q_proj" in name}


@pytest.mark.parametrize(("away_for", "state"), [(1, JobState.SUCCEEDED), (99, JobState.FAILED)])
def test_a_job_waits_for_its_selector_as_long_as_for_an_adapter(
    jobs, attempts, scorers, store_of_selectors, away_for, state
):
    store_of_selectors.away_for = away_for
    release = release_with(selector("one"))
    job_id = jobs.new(JobKind.SELECT, "select", {"messages": [{"role": "user", "content": "card"}]})
    work = partial(
        select,
        release=release,
        reader=Reader(
            prefetch=scorers.prefetch,
            light=lambda chosen, text: pytest.fail("it has no light part"),
            llm=lambda chosen, text: list(scorers.score_many(chosen, [text])[0]),
            near=lambda *_: [],
            base_model=lambda: "tiny",
            store_patience_seconds=0.05,
        ),
    )
    attempts.run("select", work)
    job = jobs.get(job_id)
    assert job.state is state
    found = selection_of(job)
    if state is JobState.SUCCEEDED:
        assert (found.label, found.by) == (found.best_label, "llm")
        assert found.model_dump(mode="json") == job.selection == job.result
    else:
        assert found is None


@pytest.mark.parametrize(
    ("reading", "body", "text"),
    [
        ("input", {"input": "my card", "instruction": "Be brief."}, "my card"),
        ("instruction+input", {"input": "my card", "instruction": "Be brief."}, "Be brief.\nmy card"),
        ("instruction+input", {"input": "my card"}, "my card"),
        ("input", {"messages": DIALOGUE}, "my card"),
        ("instruction+input", {"messages": DIALOGUE}, "Be brief.\nmy card"),
    ],
)
def test_it_reads_the_last_user_turn_and_the_instruction_where_the_release_says_so(jobs, attempts, reading, body, text):
    texts = []

    def score(_, scored):
        texts.append(scored)
        return [0.0, -1.0]

    release = release_with(ReleaseSelector(llm="one", labels=LABELS, threshold=0, text=reading))
    work = partial(
        select,
        release=release,
        reader=Reader(
            prefetch=lambda _: None,
            light=score,
            llm=score,
            near=lambda *_: [],
            base_model=lambda: "tiny",
            store_patience_seconds=0,
        ),
    )
    jobs.new(JobKind.SELECT, "select", body)
    attempts.run("select", work)
    assert texts == [text]


@pytest.mark.parametrize("is_sure", [True, False])
def test_a_text_that_needs_the_language_model_is_left_to_a_selector_of_the_releases_base_model(jobs, attempts, is_sure):
    chosen = ReleaseSelector(light="l", llm="one", labels=LABELS, threshold=0, cascade_threshold=0.8)
    work = partial(
        select,
        release=release_with(chosen),
        reader=Reader(
            prefetch=lambda _: None,
            light=lambda *_: [0.0, -9.0] if is_sure else [-0.7, -0.7],
            llm=lambda *_: pytest.fail("this process has another base model"),
            near=lambda *_: [],
            base_model=lambda: "another",
            store_patience_seconds=0,
        ),
    )
    job_id = jobs.new(JobKind.SELECT, "select", {"input": "card"})
    attempts.run("select", work)
    job = jobs.get(job_id)
    left = (JobState.SUCCEEDED, "select") if is_sure else (JobState.QUEUED, "select@tiny")
    assert ((job.state, job.queue), job.lost_leases) == (left, 0)


@pytest.mark.parametrize("explain", [True, False])
def test_an_explained_selection_has_all_probabilities_and_the_nearest_rows(jobs, attempts, explain):
    row = Neighbour(label="bank.cards", text="my card", similarity=1.0)
    asked = []

    def near(release, text, labels):
        asked.append((release.id, text, labels))
        return [row]

    release = release_with(ReleaseSelector(light="l", labels=("none.none", *LABELS), threshold=0))
    work = partial(
        select,
        release=release,
        reader=Reader(
            prefetch=lambda _: None,
            light=lambda *_: [math.log(p) for p in (0.3, 0.1, 0.6)],
            llm=lambda *_: pytest.fail("it has none"),
            near=near,
            base_model=lambda: "tiny",
            store_patience_seconds=0,
        ),
    )
    job_id = jobs.new(JobKind.SELECT, "select", {"input": "card", "explain": explain})
    attempts.run("select", work)
    found = selection_of(jobs.get(job_id))
    ranked = [("bank.cards", 0.6), ("none.none", 0.3), ("bank.accounts", 0.1)]
    assert [(one.label, one.probability) for one in found.probabilities] == (ranked if explain else [])
    assert found.neighbours == ((row,) if explain else ())
    assert asked == ([(release.id, "card", [label for label, _ in ranked])] if explain else [])
    assert ("probabilities" in jobs.get(job_id).selection) == explain
