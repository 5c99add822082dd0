"""Releases whose labels are answered by two base models, and what a rebase's body may say."""

import pytest
from pydantic import ValidationError

from services.api.rebases.adapters import Known, fitting, training_again
from shared.contracts.jobs import JobKind, NewJob, Stage
from shared.contracts.manifests import AdapterManifest, BaseModelManifest, Release, ReleaseLabel, Verdict
from shared.contracts.training import parse_training

NEW = BaseModelManifest(
    id="new", shapes={f"model.layers.0.self_attn.{name}_proj": (8, 8) for name in "qkv"}, usual_template="plain"
)


def entry(label, **more):
    return ReleaseLabel(
        adapter="a" * 64, ref=f"{label}@1", group=label.partition(".")[0], template="chatml", instruction="", **more
    )


def release(**more):
    labels = {"bank.cards": entry("bank.cards"), "bank.loans": entry("bank.loans", **more)}
    return Release(
        tenant_id="t", base_model="new", labels=labels, verdict=Verdict(passed=True, reasons=()), created_at="2026"
    )


def test_a_label_may_keep_a_base_model_of_its_own():
    mixed = release(base_model="old")
    assert (mixed.base_of("bank.cards"), mixed.base_of("bank.loans"), mixed.base_of("")) == ("new", "old", "new")
    assert mixed.bases == {"new", "old"}
    assert mixed.bases_of_queues == {"generate.base": ["new"], "generate.bank": ["new", "old"]}


def test_a_release_of_one_base_model_has_the_id_that_it_had():
    assert release(base_model="").id == release().id
    assert release(base_model="old").id != release().id


def selector(**more):
    body = {"kind": "selector.train", "labels": {"bank.cards": "a", "bank.loans": "b"}, "parent": "rel_1"}
    return parse_training(body | {"base_model": "new", "rebase": {"jobs": {"bank.cards": "job_1"}}} | more)


@pytest.mark.parametrize(
    "wrong",
    [{"parent": ""}, {"base_model": ""}, {"rebase": {"jobs": {"bank.cards": "job_1"}, "kept": ["bank.cards"]}}],
)
def test_a_rebase_names_its_release_its_base_model_and_each_label_once(wrong):
    assert selector().rebase.failed == "leave_out"
    with pytest.raises(ValidationError):
        selector(**wrong)


def test_lists_tell_a_rebase_from_other_trainings_and_older_trainers_read_the_others():
    body = selector().model_dump(mode="json")
    job = NewJob(id="job_2", tenant_id="t", kind=JobKind.TRAIN, stage=Stage.TRAIN, queue="train", body=body)
    assert job.trains["rebase"] is True
    plain = parse_training({"kind": "adapter.train", "label": "bank.cards", "dataset": "a"}).model_dump(mode="json")
    assert not {"rebase", "base_model"} & set(plain)


def known(job=None, **fields):
    manifest = AdapterManifest(tenant_id="t", label="bank.cards", version=1, digest="", base_model="old", **fields)
    return Known(entry("bank.cards"), manifest, job)


@pytest.mark.parametrize(
    ("of", "source", "rank"),
    [
        (known(report={"dataset": "ds", "training": {"settings": {"rank": 3}}}), "adapter", 3),
        (known(job={"kind": "adapter.train", "settings": {"rank": 4}}, report={"dataset": "ds"}), "job", 4),
        (known(info={"rank": 5, "alpha": 10.0, "method": "rslora", "target_modules": ["q_proj"]}), "config", 5),
        (known(), "config", 8),
    ],
)
def test_the_settings_of_a_training_come_from_the_adapter_then_its_job_then_its_config(of, source, rank):
    again = training_again("bank.cards", of, NEW, dataset="ds", template="plain", confirm_cost=False)
    assert (of.source, again.settings.rank, again.settings.template) == (source, rank, "plain")
    assert (again.base_model, again.dataset) == ("new", "ds")


def test_layers_that_the_new_base_model_lacks_give_way_to_its_own():
    assert fitting({"target_modules": ["q_proj", "k_proj"], "rank": 2}, NEW)["target_modules"] == ["q_proj", "k_proj"]
    assert fitting({"target_modules": ["gate_up_proj"], "rank": 2}, NEW) == {"rank": 2}
    assert fitting({"target_modules": "all-linear"}, NEW) == {"target_modules": "all-linear"}
