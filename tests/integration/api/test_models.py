"""What requests may name: the list of models, and aliases."""

import asyncio
import json

import openai
import pytest

from shared.registry.restore import restore
from tests.support.api import ADAPTERS, code, make_release

ALIAS = {"alias": "openai/gpt-4o-mini", "model": "fin.sa"}


@pytest.fixture(autouse=True)
def _released(release):
    """Every test has a current release."""


@pytest.fixture
async def client(api, tokens):
    async with openai.AsyncOpenAI(base_url=f"{api['url']}/v1", api_key=tokens["submit"], max_retries=0) as client:
        yield client


async def names(api, key="submit"):
    return [model["id"] for model in (await api[key].get("/v1/models")).json()["data"]]


async def test_the_list_holds_exactly_what_may_be_named(client, release):
    listed = [model async for model in client.models.list()]
    versions = [name for label in sorted(ADAPTERS) for name in (label, f"{label}@1")]
    assert [model.id for model in listed] == ["tiny", "base", "auto", *versions]
    for model in listed:
        found = await client.models.retrieve(model.id)
        assert (found.id, found.object, found.owned_by) == (model.id, "model", "signalbox")
    sa = next(model for model in listed if model.id == "fin.sa@1")
    assert sa.signalbox == {
        "kind": "adapter",
        "label": "fin.sa",
        "version": 1,
        "digest": ADAPTERS["fin.sa"],
        "template": "chatml",
        "selected": True,
        "metrics": {},
        "base_model": "tiny",
        "release": release.id,
    }


async def test_a_digest_names_its_model(client):
    assert (await client.models.retrieve(ADAPTERS["fin.ha"])).signalbox["label"] == "fin.ha"


async def test_an_unknown_model_is_a_404(client):
    with pytest.raises(openai.NotFoundError) as caught:
        await client.models.retrieve("gpt-5")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


async def test_an_alias_is_listed_asked_and_removed(api, client, worker):
    assert (await api["admin"].put("/v1/aliases", json=ALIAS)).json()["model"] == "fin.sa"
    assert (await client.models.retrieve(ALIAS["alias"])).signalbox["model"] == "fin.sa"
    asking = asyncio.create_task(
        client.with_options(default_headers={"Prefer": "respond-async"}).chat.completions.with_raw_response.create(
            model=ALIAS["alias"], messages=[{"role": "user", "content": "x"}]
        )
    )
    job = json.loads((await asking).content)
    assert job["label"] == "fin.sa"
    assert (await api["admin"].delete(f"/v1/aliases/{ALIAS['alias']}")).status_code == 204
    assert ALIAS["alias"] not in await names(api)
    assert code(await api["admin"].delete(f"/v1/aliases/{ALIAS['alias']}"), 404) == "alias_not_found"


async def test_an_alias_belongs_to_its_tenant(api, registry):
    await api["admin"].put("/v1/aliases", json=ALIAS)
    theirs = make_release(tenant_id="other", selector=False)
    registry.releases.add(theirs)
    registry.releases.promote("other", theirs.id, force=True)
    assert ALIAS["alias"] in await names(api)
    assert ALIAS["alias"] not in await names(api, "other")


async def test_an_alias_points_to_another_model_once_it_is_set_again(api):
    for model in ("fin.sa", "auto"):
        await api["admin"].put("/v1/aliases", json=ALIAS | {"model": model})
    listed = (await api["submit"].get("/v1/aliases")).json()["items"]
    assert [(one["alias"], one["model"]) for one in listed] == [(ALIAS["alias"], "auto")]


@pytest.mark.parametrize(
    ("alias", "model", "why"),
    [
        ("auto", "fin.sa", "alias_taken"),
        ("fin.sa@1", "fin.ha", "alias_taken"),
        ("gpt", "fin.nope", "model_unknown"),
        ("gpt 4", "auto", "request_invalid"),
        ("x" * 129, "auto", "request_invalid"),
    ],
)
async def test_an_alias_of_a_taken_name_or_an_unknown_model_is_refused(api, alias, model, why):
    assert code(await api["admin"].put("/v1/aliases", json={"alias": alias, "model": model}), 422) == why


async def test_a_label_of_the_same_name_comes_before_an_alias(api, registry, release, client):
    await api["admin"].put("/v1/aliases", json={"alias": "med.new", "model": "fin.sa"})
    entry = release.labels["med.qa"].model_copy(update={"group": "med"})
    made = release.model_copy(update={"parent": release.id, "labels": {**release.labels, "med.new": entry}})
    registry.releases.add(made)
    registry.releases.promote("default", made.id, force=True)
    await api["app"].state.clients.releases.refresh("default")
    assert (await client.models.retrieve("med.new")).signalbox["kind"] == "label"


async def test_an_alias_whose_model_is_gone_says_so_and_is_not_listed(api, registry, release, client):
    await api["admin"].put("/v1/aliases", json=ALIAS)
    left = make_release(labels=("fin.ha",), parent=release.id)
    registry.releases.add(left)
    registry.releases.promote("default", left.id, force=True)
    await api["app"].state.clients.releases.refresh("default")
    assert ALIAS["alias"] not in await names(api)
    with pytest.raises(openai.NotFoundError, match=r"stands for 'fin\.sa'"):
        await client.chat.completions.create(model=ALIAS["alias"], messages=[{"role": "user", "content": "x"}])


async def test_aliases_come_back_after_the_loss_of_a_ledger(api, registry, ledger, store):
    await api["admin"].put("/v1/aliases", json=ALIAS)
    ledger.redis.flushdb()
    assert sum(one.aliases for one in restore(ledger.redis, store)) >= 1  # other tests' objects are there, too
    assert registry.aliases.get("default", ALIAS["alias"]).model == "fin.sa"


async def test_the_command_line_lists_and_names_models(command):
    async def run(*words):
        out, err = await asyncio.to_thread(command(*words).communicate)
        return out, err

    out, err = await run("models", "alias", "gpt-4o-mini", "auto", "--json")
    assert json.loads(out)["alias"] == "gpt-4o-mini", err
    out, _ = await run("models", "list", "--json")
    assert {"id": "gpt-4o-mini", "kind": "alias", "model": "auto"}.items() <= json.loads(out)[-1].items()
    out, _ = await run("models", "unalias", "gpt-4o-mini")
    assert "deleted gpt-4o-mini" in out
