"""The console's pages of releases: what each holds, in what two differ, what moves the pointer, and who may."""

import pytest

from shared.contracts.judged import JudgedRow, report_at
from shared.contracts.labels import BACKGROUND
from shared.ledger import calls
from shared.security import api_keys
from shared.security.api_keys import Scope
from tests.support.api import make_release
from tests.support.console import as_part, signed_in, words

HOSTILE = "<script>alert(1)</script> & a card"


def judged(text, confidence, label="fin.sa", best_label="fin.sa"):
    return JudgedRow(
        text=text, text_hash=text[-16:], label=label, best_label=best_label, probability=0.9, confidence=confidence
    )


ROWS = [
    judged(HOSTILE, 0.55),
    judged("where is my money", 0.9),
    judged("a loan", 0.7, label="fin.ha"),
    judged("weather", 0.3, label=BACKGROUND),
]


@pytest.fixture
def store_release(registry, weights):
    """Stores a release that keeps the rows which it was judged on."""

    def add(rows=ROWS, **fields):
        kept = {"judged": registry.datasets.put_judged("default", rows)} if rows else {}
        release = make_release(report={**report_at(rows, 0.5), **kept} if rows else {}, **fields)
        registry.releases.add(release)
        return release

    return add


@pytest.fixture
def current(store_release, registry):
    release = store_release()
    registry.releases.promote("default", release.id, force=True)
    return release


@pytest.fixture
async def visit(api, ledger):
    """Signs a new key in."""
    clients = []

    async def enter(*scopes, tenant="default"):
        token = api_keys.create(ledger.redis, frozenset(scopes or {Scope.ADMIN}), tenant_id=tenant)[1]
        clients.append(await signed_in(api["url"], token))
        return clients[-1]

    yield enter
    for client in clients:
        await client.aclose()


def serve(ledger, release):
    ledger.do(calls.heartbeat("worker", [*release.queues, *(f"{q}@tiny" for q in release.queues)], [], {}, 60))


async def test_before_the_first_release_the_page_says_what_makes_one(visit):
    shown = words(await (await visit()).get("/console/releases"))
    assert "There is no release yet" in shown
    assert "signalbox train selector --wait" in shown


async def test_the_list_says_which_is_current_since_when(visit, current, store_release):
    other = store_release(parent=current.id, passed=False)
    page = await (await visit(Scope.SUBMIT)).get("/console/releases")
    assert page.status_code == 200
    assert words(page).index(other.id) < words(page).index(f"{current.id} current")  # the newest first
    assert f"/console/releases/compare?one={current.id}&amp;other={other.id}" in page.text


async def test_a_release_shows_accuracy_calibration_confusion_and_threshold(visit, current):
    page = await (await visit()).get(f"/console/releases/{current.id}")
    shown = words(page)
    assert "0.750 of 4 validation rows go where they belong" in shown
    assert shown.index("fin.ha 0.000") < shown.index("fin.sa 1.000")  # the least accurate first
    assert "med.qa" in shown  # not measured
    assert '<svg class="calibration"' in page.text
    assert 'title="1 of 1 rows">1.00' in page.text  # fin.ha goes to fin.sa
    assert "Of the rows with a label, rejected 0.0 % 0.0 %" in shown


async def test_an_older_release_says_what_it_lacks(visit, release):
    shown = words(await (await visit()).get(f"/console/releases/{release.id}"))
    assert "This release is older than the diagram" in shown
    assert "has no counts of confusion" in shown
    assert "older than the validation rows that others keep" in shown


async def test_the_slider_counts_the_last_days_jobs_of_this_selector(visit, current, api, worker, ledger):
    digest = current.selector.digest
    for confidence, selector in ((0.2, digest), (0.6, digest), (0.95, digest), (0.1, "another")):
        job = (await api["submit"].post("/v1/jobs", json={"input": "x"})).json()
        selection = {"label": "fin.sa", "confidence": confidence, "selector": selector}
        ledger.do(
            calls.route(worker.take(job["id"], "select"), queue="generate.fin", label="fin.sa", selection=selection)
        )
    page = await (await visit()).get(f"/console/releases/{current.id}")
    shown = words(page)
    assert "Of the last day's 4 jobs, 3 are counted here; 1 others were selected by another selector" in shown
    assert "Of the last day's jobs, rejected 33.3 % 33.3 %" in shown
    assert "0.7 66.7 % 50.0 % 33.3 % 100.0 %" in shown  # threshold, jobs, rows right, rejected with and without label


async def test_texts_and_traffic_need_the_scope_read(visit, current, store_release):
    other = store_release([judged(row.text, 0.4, row.label, row.best_label) for row in ROWS], parent=current.id)
    for path in (current.id, f"compare?one={current.id}&other={other.id}"):
        shown = words(await (await visit(Scope.PROMOTE)).get(f"/console/releases/{path}"))
        assert "needs a key with the scope read" in shown or "need a key with the scope read" in shown
        assert "a card" not in shown


async def test_two_releases_are_compared_row_by_row_and_texts_stay_text(visit, current, store_release):
    other = store_release(
        [judged(row.text, 0.4, row.label, row.best_label) for row in ROWS], labels=("fin.sa",), parent=current.id
    )
    page = await (await visit(Scope.READ)).get(f"/console/releases/compare?one={current.id}&other={other.id}")
    shown = words(page)
    assert "Labels that go: fin.ha , med.qa" in shown
    assert "fin.sa 1.000 0.000 -1.000" in shown
    assert "3 of the 4 rows that both were judged on change: 0 to where they belong, 2 away from there" in shown
    assert "<script>alert(1)" not in page.text
    assert HOSTILE in shown


async def test_another_tenant_sees_nothing(visit, current):
    stranger = await visit(tenant="other")
    assert current.id not in (await stranger.get("/console/releases")).text
    answer = await stranger.get(f"/console/releases/{current.id}")
    assert (answer.status_code, "release_not_found" in answer.text) == (404, True)
    compared = await stranger.get(f"/console/releases/compare?one={current.id}&other={current.id}")
    assert compared.status_code == 404


async def test_a_release_is_promoted_and_the_former_one_returned_to(visit, current, store_release, registry, ledger):
    other = store_release(parent=current.id)
    serve(ledger, other)
    visitor = as_part(await visit(Scope.PROMOTE))
    page = words(await visitor.get(f"/console/releases/{other.id}"))
    assert "Workers serve every group of it." in page
    assert f"signalbox releases promote {other.id}" in page
    moved = await visitor.post(f"/console/releases/{other.id}/promote")
    assert (moved.status_code, moved.headers["hx-redirect"]) == (200, f"/console/releases/{other.id}")
    assert registry.releases.current_id("default") == other.id
    page = words(await visitor.get(f"/console/releases/{current.id}"))
    assert f"signalbox releases rollback --to {current.id}" in page
    assert (await visitor.post(f"/console/releases/{current.id}/return")).status_code == 200
    assert registry.releases.current_id("default") == current.id


async def test_what_refuses_a_promotion_is_said_as_it_is(visit, current, store_release, registry):
    failed = store_release(parent=current.id, passed=False)
    unserved = store_release(parent=current.id, made_by="x")
    stale = store_release(parent="rel_none")
    visitor = as_part(await visit(Scope.PROMOTE))
    shown = words(await visitor.get(f"/console/releases/{failed.id}"))
    assert "fin.sa lost 3 points" in shown
    assert "no live worker serves generate.fin: start one: signalbox worker --group fin" in shown
    refusals = [(failed, "gate_failed"), (unserved, "group_without_worker"), (stale, "stale_parent")]
    for release, why in refusals:
        answer = await visitor.post(f"/console/releases/{release.id}/promote")
        assert (answer.status_code, why in answer.text) == (409, True)
    forced = await visitor.post(f"/console/releases/{failed.id}/promote", data={"force": "true"})
    assert (forced.status_code, "scope_missing" in forced.text) == (403, True)
    assert registry.releases.current_id("default") == current.id
    admin = as_part(await visit())
    answer = await admin.post(f"/console/releases/{stale.id}/promote", data={"force": "true"})
    assert (answer.status_code, "stale_parent" in answer.text) == (409, True)
    assert (await admin.post(f"/console/releases/{failed.id}/promote", data={"force": "true"})).status_code == 200


async def test_a_threshold_makes_a_candidate(visit, current, registry):
    visitor = as_part(await visit(Scope.TRAIN))
    made = await visitor.post(f"/console/releases/{current.id}/threshold", data={"threshold": "0.52"})
    assert made.status_code == 200, made.text
    candidate = registry.releases.get("default", made.headers["hx-redirect"].rpartition("/")[2])
    assert (candidate.selector.threshold, candidate.parent, candidate.verdict.passed) == (0.52, current.id, True)
    wrong = await visitor.post(f"/console/releases/{current.id}/threshold", data={"threshold": "2"})
    assert (wrong.status_code, "less than or equal to 1" in wrong.text) == (422, True)


@pytest.mark.parametrize(
    ("act", "scope"), [("promote", "promote"), ("return", "promote"), ("threshold", "train")], ids=str
)
async def test_a_wrong_key_is_told_the_scope_and_another_site_is_refused(visit, current, act, scope):
    address, fields = f"/console/releases/{current.id}/{act}", {"threshold": "0.5"}
    visitor = as_part(await visit(Scope.READ))
    answer = await visitor.post(address, data=fields)
    assert (answer.status_code, f"lacks the scope '{scope}'" in words(answer)) == (403, True)
    admin = as_part(await visit())
    foreign = await admin.post(address, data=fields, headers={"Sec-Fetch-Site": "cross-site"})
    assert (foreign.status_code, "form_foreign" in foreign.text) == (403, True)
    admin.headers["X-CSRF-Token"] = "of another session"
    assert (await admin.post(address, data=fields)).status_code == 403


@pytest.mark.slow
async def test_ten_thousand_labels_are_paged(visit, registry, weights):
    entry = make_release().labels["fin.sa"]
    wide = make_release().model_copy(
        update={"selector": None, "labels": {f"fin.t{n:05}": entry for n in range(10_000)}}
    )
    registry.releases.add(wide)
    visitor = await visit()
    first = await visitor.get(f"/console/releases/{wide.id}")
    assert (first.status_code, "Page 1 of 100" in words(first)) == (200, True)
    assert len(first.content) < 100_000
    last = await visitor.get(f"/console/releases/{wide.id}?labels=100")
    assert "fin.t09999" in words(last)
