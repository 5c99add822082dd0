"""Rows are trained under the prompt that a release serves, and what has no prefix is as it always was."""

import pytest

from services.trainer.data.task_rows import as_training
from shared.contracts.built_in_templates import adapter_prompt
from shared.contracts.entries import entry_of
from shared.contracts.generation import GenerationBody
from shared.contracts.manifests import AdapterManifest, Release, ReleaseLabel, Verdict
from shared.contracts.multitask import check_prefixes, usual_prefix
from shared.contracts.rows import Row
from shared.prompts.of_job import turns_of

SHARED = AdapterManifest(
    tenant_id="t",
    label="bank.cards",
    version=3,
    digest="a" * 64,
    base_model="tiny",
    instruction="Answer.",
    labels={"bank.cards": "Task: bank.cards", "bank.loans": "Task: bank.loans"},
)
TURNS = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]


@pytest.mark.parametrize(
    ("row", "body"),
    [
        (Row(instruction="Sort.", input="my limit", output="a"), {"input": "my limit", "instruction": "Sort."}),
        (Row(messages=TURNS), {"messages": TURNS[:1]}),
        (
            Row(messages=[{"role": "system", "content": "Be brief."}, *TURNS]),
            {"messages": [{"role": "system", "content": "Be brief."}, *TURNS[:1]]},
        ),
    ],
    ids=["instruction", "conversation", "conversation with a system turn"],
)
def test_a_row_is_trained_under_the_prompt_that_is_served(row, body):
    entry = entry_of("bank.loans", SHARED).model_copy(update={"instruction": row.instruction})
    (trained,) = as_training([row], entry.prefix)
    served = turns_of(GenerationBody.model_validate(body), entry)
    assert adapter_prompt("chatml", trained.prompt) == adapter_prompt("chatml", served)
    assert "Task: bank.loans\n" in str(trained.prompt[0].text) + "\n"


def test_rows_without_a_prefix_stay_as_they_are():
    row = Row(instruction="Sort.", input="my limit", output="a")
    assert as_training([row]) == as_training([row], "")
    assert as_training([row])[0].instruction == "Sort."


def test_an_entry_has_the_prefix_of_its_label_though_another_labels_version_names_the_weights():
    assert entry_of("bank.loans", SHARED).prefix == "Task: bank.loans"
    assert entry_of("bank.other", SHARED).prefix == "Task: bank.cards"  # it is asked as the version is
    assert entry_of("bank.cards", SHARED.model_copy(update={"labels": {}})).prefix == ""


def test_a_release_without_prefixes_keeps_its_id():
    entry = ReleaseLabel(adapter="a" * 64, ref="bank.cards@1", group="bank", template="chatml", instruction="")
    fields = {"tenant_id": "t", "base_model": "tiny", "verdict": Verdict(passed=True, reasons=()), "created_at": "2026"}
    known = Release(labels={"bank.cards": entry}, **fields)
    assert known.id == "rel_69271249e52b2d34"  # as before there were prefixes
    assert Release(labels={"bank.cards": entry.model_copy(update={"prefix": "Task"})}, **fields).id != known.id


def test_two_tasks_never_have_one_prefix():
    check_prefixes({label: usual_prefix(label) for label in ("bank.cards", "bank.loans", "default.cards")})
    with pytest.raises(ValueError, match="give each its own"):
        check_prefixes({"bank.cards": "Sort this.", "bank.loans": " sort  THIS."})
