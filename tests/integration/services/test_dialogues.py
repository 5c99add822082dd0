"""Dialogues through the selector: by a request's own turns, and by the id of its conversation."""

import math
from functools import partial

import pytest

from services.selector.handlers import Reader, select
from shared.contracts.dialogue import Kept
from shared.contracts.generation import selection_of
from shared.contracts.jobs import JobKind, JobState
from shared.contracts.manifests import Release, ReleaseLabel, ReleaseSelector, Verdict
from shared.contracts.reading import RequestReading
from shared.errors import StaleAttempt
from shared.ledger import calls

LABELS = ("bank.cards", "bank.loans")
CARDS = "my card was swallowed by the machine at the station"
LOANS = "how much interest would a loan over ten years cost me"
VAGUE = "what about the one which I had asked you for before"
KNOWN = {
    CARDS: (0.98, 0.02),
    LOANS: (0.02, 0.98),
    VAGUE: (0.4, 0.6),
    "hello": (0.45, 0.55),
    "do it": (0.4, 0.6),
    f"{CARDS}\ndo it": (0.9, 0.1),
}


def release(mode="dialogue"):
    labels = {
        label: ReleaseLabel(adapter="a", ref=f"{label}@1", group="bank", template="chatml", instruction="")
        for label in LABELS
    }
    chosen = ReleaseSelector(light="l", labels=LABELS, threshold=0)
    reading = mode and RequestReading(mode=mode)
    verdict = Verdict(passed=True, reasons=())
    return Release(tenant_id="t", base_model="tiny", labels=labels, selector=chosen, reading=reading, verdict=verdict)


def work(of=None):
    return partial(
        select,
        release=of or release(),
        reader=Reader(
            prefetch=lambda _: None,
            light=lambda _, text: [math.log(p) for p in KNOWN[text]],
            llm=lambda *_: pytest.fail("it has none"),
            near=lambda *_: [],
            base_model=lambda: "tiny",
            store_patience_seconds=0,
        ),
    )


@pytest.fixture
def ask(jobs, attempts):
    """Route a request of these user turns, and return its selection."""

    def routed(*turns, conversation="", kind=JobKind.GENERATE, of=None, **fields):
        messages = [{"role": "user", "content": turn} for turn in turns]
        metadata = {"conversation_id": conversation} if conversation else {}
        job_id = jobs.new(kind, "select", {"messages": messages, "metadata": metadata}, **fields)
        attempts.run("select", work(of))
        return selection_of(jobs.get(job_id))

    return routed


def test_the_label_follows_from_the_requests_own_turns(ask):
    assert (ask(VAGUE).label, ask(VAGUE).by) == ("bank.loans", "light")
    assert (ask(CARDS, VAGUE).label, ask(CARDS, VAGUE).by) == ("bank.cards", "kept")
    assert (ask(CARDS, "do it").label, ask(CARDS, "do it").by) == ("bank.cards", "dialogue")
    assert (ask(CARDS, LOANS).label, ask(CARDS, LOANS).by) == ("bank.loans", "light")


def test_text_of_programs_changes_nothing(ask):
    noise = f"<system-reminder>{LOANS}</system-reminder>"
    clean, noisy = ask(CARDS, VAGUE), ask(f"{CARDS}\n{noise}", noise, f"{noise}\n{VAGUE}")
    assert noisy.model_copy(update={"score_ms": clean.score_ms}) == clean


def test_a_conversation_that_is_named_keeps_its_label_until_a_turn_speaks_for_another(ask):
    assert ask(CARDS, conversation="c").label == "bank.cards"
    assert (ask("do it", conversation="c").label, ask(VAGUE, conversation="c").by) == ("bank.cards", "kept")
    assert ask(LOANS, conversation="c").label == "bank.loans"
    assert ask(VAGUE, conversation="c").label == "bank.loans"


def test_two_strangers_who_begin_alike_never_steer_each_other(ask):
    assert ask("hello", CARDS, conversation="one").label == "bank.cards"
    assert ask("hello", CARDS).label == "bank.cards"
    alone = ask("hello")
    assert (alone.label, alone.by) == ("bank.loans", "light")
    assert ask("hello", conversation="two").label == "bank.loans"


def test_the_same_id_under_another_key_is_another_conversation(ask):
    ask(CARDS, conversation="c", key_line="one")
    assert ask(VAGUE, conversation="c", key_line="two").label == "bank.loans"
    assert ask(VAGUE, conversation="c", key_line="one").label == "bank.cards"


def test_a_selection_reads_the_conversations_label_and_never_writes_it(ask):
    ask(LOANS, conversation="c", kind=JobKind.SELECT)
    ask(CARDS, conversation="c")
    assert ask(LOANS, conversation="c", kind=JobKind.SELECT).label == "bank.loans"
    assert ask(VAGUE, conversation="c", kind=JobKind.SELECT).label == "bank.cards"


@pytest.mark.parametrize("mode", [None, "last_turn"])
def test_a_release_that_reads_the_last_turn_neither_reads_nor_writes_labels_of_conversations(ask, mode):
    ask(CARDS, conversation="c", of=release(mode))
    assert ask(VAGUE, conversation="c").label == "bank.loans"
    ask(CARDS, conversation="c")
    assert ask(CARDS, VAGUE, conversation="c", of=release(mode)).label == "bank.loans"


def test_a_selector_that_was_given_up_writes_no_label(jobs, attempts, ledger, ask):
    body = {"input": CARDS, "metadata": {"conversation_id": "c"}}
    job_id = jobs.new(JobKind.GENERATE, "select", body)
    late = jobs.lose(job_id, "select")
    late_route = calls.route(late, queue="generate.bank", label="bank.cards", selection={}, kept=Kept("bank.cards", 1))
    with pytest.raises(StaleAttempt):
        ledger.do(late_route)
    assert ledger.do(calls.kept_label(late)) is None
    attempts.run("select", work())
    assert jobs.get(job_id).state is JobState.ROUTED
    assert ask(VAGUE, conversation="c").label == "bank.cards"
