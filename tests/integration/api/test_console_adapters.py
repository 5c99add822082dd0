"""The console's page Adapters: the list, uploads check by check, export, retirement, deletion."""

import json

import pytest

from services.api.console import sessions
from services.api.console.pages.adapters import LISTED
from shared.adapter_files import CONFIG_NAME, WEIGHTS_NAME, Step
from shared.contracts.jobs import JobState
from shared.contracts.manifests import AdapterManifest
from shared.ledger import calls
from shared.security import api_keys
from shared.security.api_keys import Scope
from tests.support.adapter_samples import CONFIG, archive, lora_tensors, safetensors
from tests.support.console import as_part, signed_in, words

TRAINER = {Scope.TRAIN}


@pytest.fixture
async def visit(api, tokens, ledger):
    """`visit(name or scopes)` signs in with the key of a name, or with a new one of these scopes."""
    opened = []

    async def sign_in(who="admin"):
        token = tokens[who] if isinstance(who, str) else api_keys.create(ledger.redis, frozenset(who))[1]
        opened.append(await signed_in(api["url"], token))
        return opened[-1]

    yield sign_in
    for one in opened:
        await one.aclose()


@pytest.fixture
def store_adapter(registry, tmp_path):
    """Stores a version of a label with weights of its own."""
    count = 0

    def add(label="fin.sa", tenant_id="default", **fields):
        nonlocal count
        count += 1
        folder = tmp_path / f"made-{count}"
        folder.mkdir()
        (folder / CONFIG_NAME).write_text(json.dumps(CONFIG))
        (folder / WEIGHTS_NAME).write_bytes(safetensors(lora_tensors(), fill=count))
        manifest = AdapterManifest(tenant_id=tenant_id, label=label, version=0, digest="", base_model="tiny", **fields)
        return registry.adapters.add(folder, manifest)

    return add


def send(client, data, **fields):
    return client.post("/console/adapters", data={"label": "fin.sa", **fields}, files={"file": ("a.zip", data)})


def outcomes(answer):
    """How each check ended, as the page marks it."""
    return [line.split('"')[1] for line in answer.text.splitlines() if line.startswith('<li class="')]


async def test_without_an_adapter_the_page_says_how_to_get_one(visit, base):
    page = await (await visit()).get("/console/adapters")
    assert page.status_code == 200
    assert "There is no adapter yet." in words(page)
    assert '<details id="upload" open>' in page.text


async def test_an_upload_is_stored_and_each_check_is_shown(visit, base, registry):
    answer = await send(as_part(await visit(TRAINER)), archive(), template="plain", instruction="Judge.")
    assert answer.status_code == 201
    assert outcomes(answer) == ["passed"] * len(Step)
    stored = registry.adapters.get("default", "fin.sa@1")
    assert (stored.template, stored.instruction) == ("plain", "Judge.")
    assert "its config names 'base', a base model unknown here" in words(answer), "notes are shown"
    assert "signalbox releases edit --add fin.sa=fin.sa@1 --promote" in words(answer)


async def test_a_refused_upload_says_which_check_failed_and_why_and_stores_nothing(visit, base, registry):
    answer = await send(as_part(await visit(TRAINER)), archive({**CONFIG, "r": 100_000}))
    assert answer.status_code == 422
    at = list(Step).index(Step.RANK)
    assert outcomes(answer) == ["passed"] * at + ["failed"] + ["not_reached"] * (len(Step) - at - 1)
    assert "rank 100000 is above the limit of 256: train a smaller one" in words(answer)
    assert registry.adapters.list_all("default") == []


async def test_a_wrong_field_is_named(visit, base):
    answer = await send(as_part(await visit(TRAINER)), archive(), sha256="no digest")
    assert (answer.status_code, "sha256" in words(answer)) == (422, True)
    answer = await send(as_part(await visit(TRAINER)), archive(), label="No Label")
    assert (answer.status_code, "is not a label" in words(answer)) == (422, True)


async def test_a_form_of_another_site_or_session_is_refused(visit, base, registry):
    client = as_part(await visit(TRAINER))
    foreign = {"Sec-Fetch-Site": "cross-site"}
    files = {"file": ("a.zip", archive())}
    for headers in (foreign, {sessions.CSRF_HEADER: "another"}, {sessions.CSRF_HEADER: ""}):
        answer = await client.post("/console/adapters", data={"label": "fin.sa"}, files=files, headers=headers)
        assert (answer.status_code, "form_foreign" in answer.text) == (403, True)
    assert registry.adapters.list_all("default") == []


async def test_what_a_key_may_not_do_names_the_scope(visit, base, store_adapter):
    store_adapter()
    client = await visit({Scope.READ})
    page = await client.get("/console/adapters/fin.sa@1")
    assert "This key lacks the scope train" in words(page)
    assert "This key lacks the scope promote" in words(page)
    as_part(client)
    assert "'train'" in words(await send(client, archive()))
    assert "'train'" in words(await client.get("/console/adapters/fin.sa@1/export"))
    assert "'train'" in words(await client.delete("/console/adapters/fin.sa@1"))
    assert "'promote'" in words(await client.post("/console/adapters/fin.sa@1/retire", data={"at": "2030-01-01T00:00"}))


async def test_another_tenant_sees_nothing(visit, base, store_adapter):
    store_adapter()
    client = await visit("other")
    assert "fin.sa@1" not in (await client.get("/console/adapters")).text
    for path in ("", "/export"):
        assert (await client.get(f"/console/adapters/fin.sa@1{path}")).status_code == 404


async def test_what_people_wrote_is_shown_as_text(visit, base, store_adapter):
    store_adapter(instruction="<script>alert(1)</script>" + "x" * 30_000, notes=("<img src=x>",))
    page = await (await visit()).get("/console/adapters/fin.sa@1")
    assert "&lt;script&gt;alert(1)" in page.text
    assert "&lt;img src=x&gt;" in page.text
    assert "characters more" in page.text, "a long text is cut"
    page = await (await visit()).get("/console/adapters", params={"text": "<b>"})
    assert ("<b>" in page.text, "&lt;b&gt;" in page.text) == (False, True)


async def test_many_versions_are_paged_and_filtered_by_label(visit, base, store_adapter):
    for number in range(LISTED + 20):
        store_adapter(f"bank.a{number:02}")
    client = await visit()
    page = words(await client.get("/console/adapters"))
    assert f"1 to {LISTED} of {LISTED + 20} versions" in page
    assert ("bank.a00@1" in page, f"bank.a{LISTED}@1" in page) == (True, False)
    page = words(await client.get("/console/adapters?page=2"))
    assert f"{LISTED + 1} to {LISTED + 20}" in page
    assert f"bank.a{LISTED}@1" in page
    page = words(await client.get("/console/adapters?text=A03"))
    assert ("1 to 1 of 1 versions" in page, "bank.a03@1" in page) == (True, True)
    assert "No version here" in words(await client.get("/console/adapters?text=nothing"))


async def test_it_says_who_holds_an_adapter_and_how_much_it_is_asked(visit, base, release, store_adapter, ledger, api):
    stored = store_adapter()
    ledger.do(calls.heartbeat("worker-7", ["generate.fin"], [], {"resident": [stored.digest]}, 60))
    client = await visit()
    job = (await api["admin"].post("/v1/jobs", json={"input": "up?", "label": "fin.sa"})).json()["id"]
    taken = ledger.do(calls.acquire(job, "generate.fin", "worker", 60))
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    ledger.do(calls.finish(taken, JobState.SUCCEEDED, result={"text": "up", "usage": usage}))
    page = words(await client.get("/console/adapters/fin.sa@1"))
    assert "worker-7 fin" in page
    assert "100.0 % of 1 requests: 1, with" in page
    assert "1 worker 100.0 %" in words(await client.get("/console/adapters"))
    trainer = await visit(TRAINER)
    assert "needs a key with the scope read or submit" in words(await trainer.get("/console/adapters/fin.sa@1"))


async def test_it_is_retired_and_the_date_taken_back(visit, base, registry, store_adapter):
    store_adapter()
    client = as_part(await visit({Scope.PROMOTE}))
    answer = await client.post("/console/adapters/fin.sa@1/retire", data={"at": "2030-01-02T03:04"})
    assert "From 2030-01-02 03:04 UTC" in words(answer)
    (retirement,) = registry.retirements.list_all("default")
    assert retirement.at.isoformat() == "2030-01-02T03:04:00+00:00"
    assert "retires 2030-01-02" in words(await client.get("/console/adapters"))
    answer = await client.post("/console/adapters/fin.sa@1/retire")
    assert "It is not retired any more." in words(answer)
    assert registry.retirements.list_all("default") == []


async def test_a_live_adapter_is_neither_retired_at_once_nor_deleted(visit, base, release, registry, store_adapter):
    store_adapter()
    client = await visit()
    assert "Delete…</button>" in (page := (await client.get("/console/adapters/fin.sa@1")).text)
    assert 'data-opens="delete" disabled' in page
    as_part(client)
    answer = await client.post("/console/adapters/fin.sa@1/retire", data={"at": "2020-01-01T00:00"})
    assert (answer.status_code, "adapter_routed" in answer.text) == (409, True)
    answer = await client.delete("/console/adapters/fin.sa@1")
    assert (answer.status_code, "adapter_in_use" in answer.text) == (409, True)
    assert registry.adapters.get("default", "fin.sa@1")


async def test_it_is_deleted_and_the_list_comes_next(visit, base, registry, store_adapter):
    store_adapter()
    answer = await as_part(await visit(TRAINER)).delete("/console/adapters/fin.sa@1")
    assert answer.headers["hx-redirect"] == "/console/adapters"
    assert registry.adapters.list_all("default") == []


async def test_the_export_is_that_of_the_api(visit, api, base, store_adapter):
    store_adapter()
    ours = await (await visit(TRAINER)).get("/console/adapters/fin.sa@1/export")
    theirs = await api["train"].get("/v1/adapters/fin.sa@1/export")
    assert ours.headers["content-disposition"] == theirs.headers["content-disposition"]
    assert ours.content == theirs.content
