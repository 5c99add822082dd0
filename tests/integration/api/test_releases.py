"""`/v1/releases` and `/v1/models`; and jobs that are accepted while the pointer moves."""

import asyncio

from shared.ledger import calls
from shared.ledger.keys import LedgerKey
from tests.support.api import code, make_release


def add(registry, **fields):
    release = make_release(**fields)
    registry.releases.add(release)
    return release


async def test_a_promoted_release_is_current_at_once(api, release, registry, admin):
    smaller = add(registry, labels=("fin.sa",), parent=release.id)
    answer = await admin.post(f"/v1/releases/{smaller.id}/promote", json={"force": True})
    assert (answer.status_code, answer.json()["current"]) == (200, True)
    assert (await admin.get("/v1/releases/current")).json()["id"] == smaller.id
    assert code(await api["submit"].post("/v1/jobs", json={"input": "x", "label": "med.qa"}), 422) == "label_unknown"
    models = (await api["submit"].get("/v1/models")).json()
    assert [model["id"] for model in models["data"]] == ["tiny", "base", "auto", "fin.sa", "fin.sa@1"]
    listed = (await admin.get("/v1/releases")).json()
    assert listed["current"] == smaller.id
    assert [(item["id"], item["current"]) for item in listed["items"]] == [(release.id, False), (smaller.id, True)]


async def test_gate_parent_and_workers_are_asked(api, release, registry, admin):
    failed = add(registry, parent=release.id, passed=False)
    stranger = add(registry, parent="rel_none", made_by="x")
    unserved = add(registry, parent=release.id, made_by="y")
    assert code(await admin.post(f"/v1/releases/{failed.id}/promote"), 409) == "gate_failed"
    assert code(await admin.post(f"/v1/releases/{stranger.id}/promote", json={"force": True}), 409) == "stale_parent"
    refused = await admin.post(f"/v1/releases/{unserved.id}/promote")
    assert code(refused, 409) == "group_without_worker"
    assert "signalbox worker --group " in refused.json()["detail"]
    assert code(await admin.post("/v1/releases/rel_none/promote"), 404) == "release_not_found"
    assert code(await admin.post(f"/v1/releases/{failed.id}/promote", json={"force": 1}), 422) == "request_invalid"
    assert (await admin.get("/v1/releases/current")).json()["id"] == release.id


async def test_rollback_goes_to_the_parent_or_where_it_is_told(api, release, registry, admin, ledger):
    ledger.do(calls.heartbeat("worker", release.queues, [], {}, 15))
    assert code(await admin.post("/v1/releases/rollback"), 409) == "no_parent"
    second = add(registry, parent=release.id, made_by="second")
    assert (await admin.post(f"/v1/releases/{second.id}/promote")).status_code == 200
    assert (await admin.post("/v1/releases/rollback")).json()["id"] == release.id
    assert (await admin.post("/v1/releases/rollback", json={"to": second.id})).json()["id"] == second.id


def serve(ledger, release, base_model):
    """One worker of this base model, for all groups."""
    own = [f"{queue}@{base_model}" for queue in release.queues]
    ledger.do(calls.heartbeat(f"worker-{base_model}", [*release.queues, *own], [], {}, 15))


async def test_a_worker_of_any_group_serves_what_a_release_brings_by_its_base_model(release, registry, admin, ledger):
    own, other = (add(registry, parent=release.id, made_by=pin, base_model=pin) for pin in ("tiny", "another"))
    assert code(await admin.post(f"/v1/releases/{own.id}/promote"), 409) == "group_without_worker"
    any_group = ["generate.*", "generate.*@tiny", "generate.base", "generate.base@tiny"]
    ledger.do(calls.heartbeat("any", any_group, [], {}, 15))
    assert code(await admin.post(f"/v1/releases/{other.id}/promote"), 409) == "base_model_mismatch"
    assert (await admin.post(f"/v1/releases/{own.id}/promote")).status_code == 200
    parts = (await admin.get("/readyz")).json()["parts"]
    assert parts["consumers"]["ok"]  # before it has taken them up
    ledger.do(calls.leave_queues("any", any_group))
    parts = (await admin.get("/readyz")).json()["parts"]
    assert (parts["consumers"]["ok"], "generate.*" in parts["consumers"]["detail"]) == (False, False)


async def test_a_release_whose_base_model_no_worker_serves_is_neither_promoted_nor_rolled_back_to(
    api, release, registry, admin, ledger
):
    second = add(registry, parent=release.id, made_by="second", base_model="another")
    serve(ledger, release, "tiny")
    refused = await admin.post(f"/v1/releases/{second.id}/promote")
    assert code(refused, 409) == "base_model_mismatch"
    assert f"release {second.id} needs base model another" in refused.json()["detail"]
    assert "generate.base: tiny" in refused.json()["detail"]
    assert "set SIGNALBOX_BASE_MODEL" in refused.json()["detail"]
    assert (await admin.post(f"/v1/releases/{second.id}/promote", json={"force": True})).status_code == 200
    assert (await admin.post("/v1/releases/rollback")).json()["id"] == release.id
    back = await admin.post("/v1/releases/rollback", json={"to": second.id})
    assert code(back, 409) == "base_model_mismatch"
    serve(ledger, second, "another")
    assert (await admin.post("/v1/releases/rollback", json={"to": second.id})).json()["id"] == second.id


async def test_a_group_with_labels_of_two_base_models_needs_workers_of_both(api, release, registry, admin, ledger):
    kept = release.labels["fin.ha"].model_copy(update={"base_model": "older"})
    mixed = release.model_copy(update={"parent": release.id, "labels": {**release.labels, "fin.ha": kept}})
    registry.releases.add(mixed)
    serve(ledger, mixed, "tiny")
    refused = await admin.post(f"/v1/releases/{mixed.id}/promote")
    assert code(refused, 409) == "base_model_mismatch"
    assert "needs base model older" in refused.json()["detail"]
    ledger.do(calls.heartbeat("older", ["generate.fin", "generate.fin@older"], [], {}, 60))
    assert (await admin.post(f"/v1/releases/{mixed.id}/promote")).status_code == 200
    assert (await admin.get("/readyz")).json()["parts"]["base_model"]["detail"] == "older, tiny"


async def test_a_rollback_may_be_forced(api, release, registry, admin):
    second = add(registry, parent=release.id, made_by="second")
    registry.releases.promote("default", second.id, force=True)
    assert code(await admin.post("/v1/releases/rollback"), 409) == "group_without_worker"
    assert (await admin.post("/v1/releases/rollback", json={"force": True})).json()["id"] == release.id


async def test_a_repeated_promotion_gets_its_first_answer(api, release, registry, admin):
    second = add(registry, parent=release.id)
    headers = {"Idempotency-Key": "k"}
    first = await admin.post(f"/v1/releases/{second.id}/promote", json={"force": True}, headers=headers)
    again = await admin.post(f"/v1/releases/{second.id}/promote", json={"force": True}, headers=headers)
    assert (first.status_code, again.status_code, again.json()) == (200, 200, first.json())
    assert again.headers["idempotent-replayed"] == "true"


async def test_jobs_accepted_while_releases_move_all_get_in_under_one_that_was_current(api, release, registry, ledger):
    accepted = []
    is_moving = True

    async def submit():
        while is_moving:
            answer = await api["submit"].post("/v1/jobs", json={"input": "x", "label": "fin.sa"})
            assert answer.status_code == 202, answer.text
            accepted.append(answer.json())

    def move():
        current, ids = release.id, [release.id]
        for number in range(20):
            successor = add(registry, parent=current, made_by=str(number))
            registry.releases.promote("default", successor.id, force=True)
            ids.append(current := successor.id)
        return ids

    submitting = [asyncio.create_task(submit()) for _ in range(8)]
    known = await asyncio.to_thread(move)
    is_moving = False
    await asyncio.gather(*submitting)
    assert {job["release"] for job in accepted} <= set(known)
    for job in accepted:
        assert ledger.redis.hget(LedgerKey.JOB.of(job["id"]), "release") == job["release"]


async def test_without_a_release_models_lists_what_is_known(api, ledger):
    assert (await api["submit"].get("/v1/models")).json()["data"] == []
    ledger.do(calls.heartbeat("worker", ["generate.fin", "generate.fin@tiny"], [], {}, 15))
    assert [model["id"] for model in (await api["submit"].get("/v1/models")).json()["data"]] == ["tiny"]
    assert code(await api["submit"].get("/v1/releases/current"), 409) == "no_release"


async def test_a_tenant_with_a_release_from_before_tenants_were_noted_is_noted_when_it_asks(api, registry, ledger):
    theirs = make_release(tenant_id="other", selector=False)
    ledger.redis.hset(LedgerKey.RELEASES.of("other"), theirs.id, theirs.model_dump_json())
    ledger.redis.set(LedgerKey.RELEASE.of("other"), theirs.id)
    assert registry.releases.tenants() == set()
    models = (await api["other"].get("/v1/models")).json()["data"]
    assert [model["id"] for model in models][:3] == ["tiny", "base", "fin.ha"]
    assert registry.releases.tenants() == {"other"}
    assert code(await api["submit"].get("/v1/releases/current"), 409) == "no_release"
    assert registry.releases.tenants() == {"other"}
