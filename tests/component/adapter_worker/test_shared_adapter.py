"""One adapter that serves several labels: each is asked under its own prefix, and all of them take one slot."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from services.adapter_worker.handlers import generation_request
from shared.contracts.built_in_templates import BUILT_IN
from shared.contracts.jobs import Job, JobKind, Stage
from shared.contracts.manifests import ReleaseLabel
from shared.contracts.prompts import render
from shared.prompts.bound import without_vocabulary

ENTRIES = {
    label: ReleaseLabel(
        adapter="plain",
        ref=f"{label}@1",
        group="bank",
        template="chatml",
        instruction="Answer.",
        prefix=f"Task: {label}",
    )
    for label in ("bank.cards", "bank.loans")
}
TEMPLATE = without_vocabulary(BUILT_IN["chatml"])


def a_request(label, number=0, **body):
    body = {"input": "my limit", "params": {"max_new_tokens": 8, "temperature": 0}, **body}
    job = Job(
        id=f"{label}-{number}",
        tenant_id="t",
        kind=JobKind.GENERATE,
        stage=Stage.GENERATE,
        queue="generate.bank",
        state="running",
        attempt=1,
        label=label,
        body=body,
        timestamps={"queued": time.time() * 1000, "running": time.time() * 1000},
    )
    return generation_request(job, ENTRIES[label], TEMPLATE)


def test_two_labels_of_one_digest_are_answered_in_one_batch_each_under_its_own_prefix(kit):
    folder = kit.adapter("plain", seed=1)
    with_one_slot = kit.engine(adapter_slots=1)
    together = 0

    def watch(_piece: object) -> None:
        nonlocal together
        together = max(together, with_one_slot.running_count)

    try:
        with_one_slot.load_adapter("plain", folder)
        requests = [a_request(label, number) for number in range(4) for label in ENTRIES]
        with ThreadPoolExecutor(len(requests)) as pool:
            found = list(pool.map(lambda request: with_one_slot.generate(request, watch), requests))
        assert with_one_slot.resident == {"plain"}
    finally:
        with_one_slot.close()
    assert together > 1
    told = {
        request.job_id.rpartition("-")[0]: one.choices[0].token_ids
        for request, one in zip(requests, found, strict=True)
    }
    for label, tokens in told.items():
        request = a_request(label)
        ids = kit.tokenizer(render(request.prompt), add_special_tokens=False)["input_ids"]
        alone, _ = kit.solo(folder, ids, 8)
        ends = set(request.end_ids) | {kit.tokenizer.convert_tokens_to_ids("<|im_end|>")}
        assert list(tokens) == [token for token in alone if token not in ends]
    assert told["bank.cards"] != told["bank.loans"]  # the text is the same: only the prefixes differ


@pytest.mark.parametrize(
    ("body", "system"),
    [
        ({}, "Task: bank.cards\nAnswer."),
        ({"instruction": "Be brief."}, "Task: bank.cards\nBe brief."),
        ({"instruction": ""}, "Task: bank.cards\nAnswer."),
    ],
)
def test_the_prefix_stands_before_the_instruction_whoever_wrote_it(body, system):
    assert render(a_request("bank.cards", **body).prompt).startswith(f"<|im_start|>system\n{system}<|im_end|>")


def test_the_prefix_stays_where_old_turns_go():
    turns = [("user", "one"), ("assistant", "two"), ("user", "three")]
    messages = [{"role": role, "content": text} for role, text in turns]
    request = a_request("bank.cards", input=None, messages=messages)
    shorter = render(request.shorter(1))
    assert "Task: bank.cards\nAnswer." in shorter
    assert "one" not in shorter
