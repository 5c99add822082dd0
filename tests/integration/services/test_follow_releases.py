"""Worker and selector take the releases of every tenant, as they are promoted."""

import pytest
from structlog.testing import capture_logs

from services.adapter_worker import app as adapter_worker
from services.adapter_worker.adapters.prefetch import Prefetcher
from services.adapter_worker.engine.echo import EchoEngine
from services.adapter_worker.groups import named_groups, open_groups
from services.selector import app as selector
from services.selector.scoring.batcher import Batcher
from services.selector.scoring.llm import LlmScorers
from services.trainer.training.light import fit_light
from shared.adapter_files import CONFIG_NAME, WEIGHTS_NAME
from shared.contracts.manifests import BaseModelManifest, Release, ReleaseLabel, ReleaseSelector, Verdict
from shared.contracts.rollouts import Rollout, RolloutStep
from shared.errors import Invalid
from shared.ledger import calls
from shared.ledger.keys import LedgerKey
from shared.model.base import base_model_id
from shared.names import DEFAULT_TENANT, generate_queue
from shared.worker.probes import readiness
from shared.worker.service import Service
from tests.support.eventually import eventually

LABELS = ("bank.accounts", "bank.cards")
VERDICT = Verdict(passed=True, reasons=())


@pytest.fixture
def base(tiny_folder):
    """The base model that is served; nobody loads it here."""
    return BaseModelManifest(id=base_model_id(tiny_folder), shapes={})


@pytest.fixture
def promote(registry, store, tmp_path, base):
    """Make and promote a release of a tenant, with two adapters and a selector of its own."""
    store.ensure_bucket()

    def weights(name):
        folder = tmp_path / name
        folder.mkdir()
        (folder / CONFIG_NAME).write_text(f'{{"name": "{name}"}}')
        (folder / WEIGHTS_NAME).write_bytes(name.encode())
        return registry.weights.put(folder)

    def entry(label, name):
        return ReleaseLabel(
            adapter=weights(f"{name}-{label}"), ref=f"{label}@1", group="bank", template="chatml", instruction=""
        )

    def make(tenant_id, number=1, **fields):
        name = f"{tenant_id}-{number}"
        texts = {label: [f"{label} {name} {n}" for n in range(4)] for label in LABELS}
        light = registry.weights.put_light(fit_light(texts).save(tmp_path / f"{name}.safetensors"))
        release = Release(
            tenant_id=tenant_id,
            verdict=VERDICT,
            **{
                "base_model": base.id,
                "labels": {label: entry(label, name) for label in LABELS},
                "selector": ReleaseSelector(light=light, llm=weights(name), labels=LABELS),
                **fields,
            },
        )
        registry.releases.promote(tenant_id, registry.releases.add(release), force=True)
        return release

    return make


@pytest.fixture
def service(settings, tiny_folder):
    quick = settings.model_copy(
        update={"pointer_poll_seconds": 0.1, "adapter_slots": 6, "base_model": str(tiny_folder)}
    )
    return Service(quick, "test", ["generate.bank"], concurrency=1)


def adapters_of(*releases):
    return {entry.adapter for release in releases for entry in release.labels.values()}


@pytest.fixture
def worker(service, base):
    """An adapter worker's engine, and what follows releases for it."""
    watches = []

    def start(base=base):
        engine, fetch = EchoEngine(), service.registry.weights.fetch
        ahead = Prefetcher(fetch, is_busy=lambda: False, is_full=lambda: False)
        watches.append(adapter_worker.follow_releases(service, engine, ["bank"], fetch, ahead, base))
        return engine

    yield start
    for watch in watches:
        watch.stop()


def test_a_worker_has_the_adapters_of_all_tenants_and_takes_each_promotion(service, worker, promote):
    own, other = promote(DEFAULT_TENANT), promote("b")
    engine = worker()
    assert engine.resident == adapters_of(own, other)
    assert service.info["release"] == own.id
    assert service.info["releases"] == {DEFAULT_TENANT: own.id, "b": other.id}
    next_of_b = promote("b", 2, parent=other.id)
    eventually(lambda: service.info["releases"]["b"] == next_of_b.id, "the promotion of another tenant is taken")
    assert engine.resident == adapters_of(own, next_of_b, other)  # the parent's, for jobs in flight
    assert service.info["release"] == own.id
    third = promote("c")  # had no release when the worker started
    eventually(lambda: service.info["releases"].get("c") == third.id, "a tenant's first release is taken")


def test_where_room_is_scarce_current_releases_come_before_parents(service, worker, promote):
    old = promote(DEFAULT_TENANT)
    own, other, third = promote(DEFAULT_TENANT, 2, parent=old.id), promote("b"), promote("c")
    assert worker().resident == adapters_of(own, other, third)


def test_a_tenant_whose_parent_is_lost_keeps_no_other_from_its_adapters(ledger, worker, promote):
    old = promote("b")
    other, own = promote("b", 2, parent=old.id), promote(DEFAULT_TENANT)
    ledger.redis.hdel(LedgerKey.RELEASES.of("b"), old.id)
    assert worker().resident == adapters_of(own, other)


def warnings(logs):
    return [entry["release"] for entry in logs if entry["event"] == "release_of_other_base_model"]


def test_a_release_made_for_another_base_model_is_named_once_and_none_of_the_workers(worker, promote, base):
    own, strange = promote(DEFAULT_TENANT), promote("b", base_model="another")
    newer = promote("c", base_manifest="f" * 64)
    next_of_b = promote("b", 2, parent=strange.id)
    same = promote("d", base_manifest=base.digest)
    with capture_logs() as logs:
        engine = worker()
    assert warnings(logs) == [newer.id]
    assert engine.resident <= adapters_of(own, newer, next_of_b, same)
    with capture_logs() as logs:
        other = worker(BaseModelManifest(id="another", shapes={}))
    assert warnings(logs) == [own.id, next_of_b.id, newer.id, same.id]
    assert other.resident == adapters_of(strange)  # for jobs in flight


def test_a_worker_whose_base_model_no_current_release_needs_is_not_ready(service, worker, promote, base):
    own = promote(DEFAULT_TENANT, base_model="another")
    worker()
    assert f"serves {base.id}" in service.misfit
    assert "need another: set SIGNALBOX_BASE_MODEL" in service.misfit
    answer = readiness(service.leases, service.settings.broker_url, service.hindrances())
    assert (answer.ok, service.misfit in answer.text) == (False, True)
    promote("b", labels={}, selector=None)  # of no group that this worker serves
    promote(DEFAULT_TENANT, 2, parent=own.id)
    eventually(lambda: not service.misfit, "a release for this base model is current")


def test_a_worker_without_a_release_is_ready(service, worker):
    worker()
    assert service.misfit == ""


class Scores:
    """Stands where the language model would: keeps which selectors it was loaded for."""

    def __init__(self, base=None):
        self.loaded = []
        self.base = base

    def score_many(self, chosen, texts):
        self.loaded.append(chosen)
        return [[0.0] * len(chosen.labels) for _ in texts]


@pytest.fixture
def selecting(service):
    """A selector that follows releases: what its language models were loaded for, and what it had fetched before."""
    watches = []

    def start():
        scores, fetched = Scores(), []
        base = selector.ServedBase(service)
        batcher = Batcher(scores.score_many, max_batch=1, max_wait_ms=0)
        fetch = service.registry.weights.fetch
        scorers = LlmScorers(base.folder, fetch, dtype="float32", max_tokens=64, on_load=lambda: None)

        def warm_up(chosen):
            batcher.score(chosen, "warm-up")

        watches.append(selector.follow_releases(service, fetched.append, warm_up, scorers, base))
        return scores.loaded, fetched

    yield start
    for watch in watches:
        watch.stop()


def test_a_selector_takes_the_promotion_of_any_tenant(service, selecting, promote):
    own, other = promote(DEFAULT_TENANT), promote("b")
    loaded, fetched = selecting()
    assert loaded == fetched == [own.selector, other.selector]
    next_of_b = promote("b", 2, parent=other.id)
    eventually(lambda: next_of_b.selector in loaded, "the promotion of another tenant is taken")
    assert service.info["releases"] == {DEFAULT_TENANT: own.id, "b": next_of_b.id}
    assert service.info["release"] == own.id


def test_a_selector_loads_what_few_tenants_need_and_has_the_rest_on_the_disk(service, selecting, promote):
    found = [promote(tenant_id).selector for tenant_id in (DEFAULT_TENANT, "a", "b", "c")]
    loaded, prefetched = selecting()
    assert loaded == prefetched == found[: selector.WARM_TENANTS]
    for cold in found[selector.WARM_TENANTS :]:
        assert (service.settings.cache_dir / "adapters" / cold.llm).is_dir()
        assert (service.settings.cache_dir / "light" / f"{cold.light}.safetensors").is_file()


def test_a_selector_says_which_base_model_it_serves_once_it_needs_one(service, tiny_folder):
    base = selector.ServedBase(service)
    assert "base_model" not in service.info
    assert base.folder() == tiny_folder
    assert base.manifest.id == base_model_id(tiny_folder)
    assert service.info["base_model"] == base.manifest.id
    assert service.info["base_manifest"] == base.manifest.digest


def test_a_selector_names_a_release_made_for_another_base_model_and_is_not_ready(service, selecting, promote):
    strange = promote(DEFAULT_TENANT, base_model="another")
    with capture_logs() as logs:
        loaded, fetched = selecting()
    assert warnings(logs) == [strange.id]
    assert (loaded, fetched) == ([], [strange.selector])
    assert "need another: set SIGNALBOX_BASE_MODEL" in service.misfit
    light = strange.selector.model_copy(update={"llm": ""})
    promote(DEFAULT_TENANT, 2, parent=strange.id, base_model="another", selector=light)
    eventually(lambda: not service.misfit, "a light selector needs no base model")


def served(ledger):
    return {gauge.queue for gauge in ledger.do(calls.gauges()).queues if gauge.consumers}


def test_a_worker_of_any_group_takes_up_what_nobody_serves_and_leaves_what_somebody_does(
    settings, tiny_folder, promote, base, ledger
):
    quick = settings.model_copy(update={"pointer_poll_seconds": 0.1, "base_model": str(tiny_folder)})
    groups = named_groups("*")
    service = Service(quick, "test", [generate_queue(group) for group in groups], concurrency=1)
    service.serve_base(base.id)
    ledger.do(calls.heartbeat("named", ["generate.bank"], [], {}, 60))
    fetch = service.registry.weights.fetch
    ahead = Prefetcher(fetch, is_busy=lambda: False, is_full=lambda: False)
    watch = adapter_worker.follow_releases(service, EchoEngine(), groups, fetch, ahead, base)
    try:
        promote("default")
        eventually(lambda: "default" in service.info.get("releases", {}), "the release is adopted")
        assert groups == ["*", "base"]
        ledger.do(calls.leave_queues("named", ["generate.bank"]))
        eventually(lambda: "bank" in groups, "the group is taken up")
    finally:
        watch.stop()
    assert {"generate.bank", f"generate.bank@{base.id}"} <= set(service._queues)
    assert len(service.info["resident"]) == len(LABELS)


def test_a_worker_of_any_group_makes_ready_for_a_candidate_that_is_rolled_out(service, promote, registry, base, ledger):
    groups = named_groups("*")
    service.serve_base(base.id)
    fetch, engine = service.registry.weights.fetch, EchoEngine()
    ahead = Prefetcher(fetch, is_busy=lambda: False, is_full=lambda: False)
    current = promote("default")
    watch = adapter_worker.follow_releases(service, engine, groups, fetch, ahead, base)
    try:
        new = promote("other").labels["bank.cards"].model_copy(update={"group": "insurance"})
        candidate = current.model_copy(
            update={"labels": {**current.labels, "insurance.claims": new}, "parent": current.id}
        )
        registry.releases.add(candidate)
        assert "insurance" not in groups
        ledger.do(calls.begin_rollout(rollout_of(candidate)))
        eventually(lambda: "insurance" in groups, "the candidate's group is taken up")
        eventually(lambda: new.adapter in engine.resident, "its adapter is loaded")
        eventually(lambda: "generate.insurance" in service._queues, "its queue is consumed")
    finally:
        watch.stop()


def rollout_of(candidate):
    return Rollout(
        id="rol_1",
        tenant_id=candidate.tenant_id,
        release=candidate.id,
        current=candidate.parent,
        strategy="canary",
        steps=(RolloutStep(percent=50, seconds=0, requests=1),),
        created_at=1.0,
    )


def test_a_worker_of_named_groups_takes_up_no_other(service, promote):
    assert open_groups(service, ["base"], [promote("default")]) == []


def test_any_group_is_a_group_with_base_and_other_signs_are_none():
    assert named_groups("travel, *") == ["travel", "*", "base"]
    assert named_groups("*,base") == ["*", "base"]
    with pytest.raises(Invalid, match="is not a group name"):
        named_groups("h*")
