"""A selector that cannot be fetched just then."""

from functools import partial

import pytest

from services.selector.handlers import select
from services.selector.scoring.llm import LlmScorers
from shared.contracts.generation import selection_of
from shared.contracts.jobs import JobKind, JobState
from shared.contracts.manifests import Release, ReleaseLabel, ReleaseSelector, Verdict
from shared.errors import Unavailable

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


@pytest.fixture
def scorers(tiny_folder, store_of_selectors):
    return LlmScorers(
        lambda: tiny_folder, store_of_selectors.fetch, dtype="float32", max_tokens=400, on_load=lambda: None
    )


def test_selectors_that_work_stay_until_the_new_one_is_loaded(scorers, store_of_selectors):
    for digest in ("one", "two"):
        scorers.score_many(selector(digest), ["x"])
    store_of_selectors.away_for = 1
    with pytest.raises(Unavailable):
        scorers.score_many(selector("three"), ["x"])
    store_of_selectors.away_for = 99
    for digest in ("one", "two"):
        scorers.score_many(selector(digest), ["x"])
        scorers.prefetch(selector(digest))
    store_of_selectors.away_for = 0
    scorers.score_many(selector("three"), ["x"])
    assert store_of_selectors.asked == ["one", "two", "three", "three"]


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
        prefetch=scorers.prefetch,
        light=lambda chosen, text: pytest.fail("it has no light part"),
        llm=lambda chosen, text: list(scorers.score_many(chosen, [text])[0]),
        store_patience_seconds=0.05,
    )
    attempts.run(job_id, "select", work)
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
def test_it_reads_the_last_user_turn_and_the_instruction_where_the_release_says_so(
    jobs, ledger, attempts, reading, body, text
):
    texts = []

    def score(_, scored):
        texts.append(scored)
        return [0.0, -1.0]

    release = release_with(ReleaseSelector(llm="one", labels=LABELS, threshold=0, text=reading))
    work = partial(
        select,
        release=release,
        prefetch=lambda _: None,
        light=score,
        llm=score,
        ledger=ledger,
        attempts=attempts,
        store_patience_seconds=0,
    )
    attempts.run(jobs.new(JobKind.SELECT, "select", body), "select", work)
    assert texts == [text]
