"""13: with one tenant's key, no route tells or changes anything of another's."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx

from shared.contracts.manifests import AdapterManifest, Release, ReleaseLabel, Verdict
from shared.contracts.rows import Row
from shared.ledger import calls
from tests.chaos.material import write_adapter
from tests.chaos.outcome import Outcome, Promise
from tests.chaos.sizes import Size
from tests.chaos.world import Plan, World, until

_MARK = "zq7secret"
"""In everything that the first tenant owns, and in nothing that the second one sends."""
_OWNER, _STRANGER = f"{_MARK}tenant", "strangers"
_OPEN = {"/healthz", "/readyz", "/metrics"}
_PATIENCE_SECONDS = 30.0
_METHODS = ("get", "post", "put", "patch", "delete")


class Request(NamedTuple):
    """One call that the second tenant makes."""

    method: str
    path: str
    template: str
    body: Any = None
    query: dict[str, str] | None = None

    @property
    def names_a_thing(self) -> bool:
        """Whether its path names something of the first tenant's."""
        return "{" in self.template


def plan(size: Size) -> Plan:
    """No trainer: training jobs wait, so that they can be meddled with."""
    return Plan(lease_seconds=size.lease_seconds)


def prove(world: World, size: Size) -> Outcome:
    """Every route of the OpenAPI page, with every name of the first tenant's in every place that takes one."""
    owner, stranger = (world.new_key(tenant_id=tenant) for tenant in (_OWNER, _STRANGER))
    ids = [one for number in range(size.resources) for one in own_things(world, owner, number)]
    with http_of(world, owner) as mine, http_of(world, stranger) as theirs:
        document = mine.get("/openapi.json").json()
        requests = list(all_requests(document, ids))
        before = snapshot(mine, document, ids)
        own: set[str] = set()
        leaks = [leak for request in requests for leak in leaks_of(theirs, request, own)]
        changed = [path for path, seen in snapshot(mine, document, ids).items() if seen != before[path]]
    routes = {(request.method, request.template) for request in requests}
    outcome = Outcome({"requests": len(requests), "routes": len(routes), "names": len(ids)})
    outcome.at_most("leaks_to_another_tenant", len(leaks), 0, spread="; ".join(sorted(set(leaks)))[:300])
    outcome.at_most("changes_by_another_tenant", len(changed), 0, spread="; ".join(changed)[:300])
    outcome.at_least("routes_tried", len(routes), len(list(operations(document))))
    outcome.at_least("answers_with_the_mark_to_its_owner", sum(_MARK in seen for seen in before.values()), 1)
    return outcome


def http_of(world: World, key: str) -> httpx.Client:
    """A client of this key."""
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.Client(base_url=world.supervisor.api_url, headers=headers, timeout=10)


# What the first tenant owns.


def own_things(world: World, key: str, number: int) -> list[str]:
    """One of everything; answers all names that it goes by."""
    client = world.client_of(key)
    manifest = _adapter(world, number)
    dataset = world.registry.datasets.add(_OWNER, f"{_MARK}{number}", [Row(input=f"{_MARK} {n}") for n in range(4)])
    release = _release(world, manifest, number)
    world.registry.releases.promote(_OWNER, release.id, force=True)
    label = manifest.label
    job_id = client.post("/v1/jobs", {"input": f"{_MARK} {number}", "label": "bank.cards", "metadata": {"m": _MARK}})[
        "id"
    ]
    world.wait_ended([job_id], _PATIENCE_SECONDS)
    client.post(f"/v1/jobs/{job_id}/feedback", {"rating": 1, "output": _MARK})
    dead_id = client.post("/v1/jobs", {"input": _MARK, "label": label})["id"]
    _kill(world, dead_id)
    train = {"kind": "adapter.train", "label": label, "dataset": dataset.id}
    training_id = client.post("/v1/training/jobs", train)["id"]
    file_id = client.upload_file(_MARK.encode(), f"{_MARK}.jsonl").id
    batch_id = client.create_batch(file_id, metadata={"m": _MARK}).id
    assert until(lambda: client.batch(batch_id).is_final, _PATIENCE_SECONDS)  # its line is no request
    things = [dataset.id, dataset.name, manifest.ref, label, manifest.digest, release.id, file_id, batch_id]
    return [job_id, dead_id, training_id, *things]


def _adapter(world: World, number: int) -> AdapterManifest:
    folder = write_adapter(world.folder / f"own-{number}-{world.random.random()}", 5000 + number)
    label = f"nobody.{_MARK}{number}"  # of a group without workers: its jobs wait
    manifest = AdapterManifest(
        tenant_id=_OWNER, label=label, version=0, digest="", base_model=world.base_model, instruction=_MARK
    )
    return world.registry.adapters.add(folder, manifest)


def _release(world: World, manifest: AdapterManifest, number: int) -> Release:
    served = world.release.labels["bank.cards"]
    entry = ReleaseLabel(
        adapter=manifest.digest, ref=manifest.ref, group="nobody", template="chatml", instruction=_MARK
    )
    labels = ("bank.cards", manifest.label)
    selector = world.release.selector
    assert selector is not None
    release = Release(
        tenant_id=_OWNER,
        parent=world.registry.releases.current_id(_OWNER),
        base_model=world.base_model,
        labels=dict(zip(labels, (served, entry), strict=True)),
        selector=selector.model_copy(update={"labels": labels}),
        verdict=Verdict(passed=True, reasons=()),
        made_by=f"{_MARK}{number}",
    )
    world.registry.releases.add(release)
    return release


def _kill(world: World, job_id: str) -> None:
    """Lose lease after lease, until the job is a dead letter."""
    do = world.supervisor.ledger.do

    def is_dead() -> bool:
        if world.states([job_id])[job_id] == "routed":
            do(calls.acquire(job_id, "generate.nobody", "nobody", 0))
        do(calls.expire("generate.nobody"))
        return world.states([job_id])[job_id] == "failed"

    assert until(is_dead, _PATIENCE_SECONDS)


def snapshot(http: httpx.Client, document: dict[str, Any], ids: list[str]) -> dict[str, str]:
    """Everything that the owner can read, by path; without what changes by itself."""
    paths = [
        request.path
        for request in all_requests(document, ids)
        if request.method == "get" and request.template not in _OPEN and not request.path.endswith("/events")
    ]
    return {path: _text_of(http.get(path)) for path in paths}


def _text_of(answer: httpx.Response) -> str:
    """What an answer says, whatever the order of its members; of a file its content."""
    is_json = answer.headers["content-type"].startswith("application/json")
    return json.dumps(answer.json(), sort_keys=True) if is_json else answer.text


# What the second tenant tries.


def leaks_of(http: httpx.Client, request: Request, own: set[str]) -> list[str]:
    """What an answer gives away; a stream that does not end counts as given.

    Where the request makes something of that name for the second tenant, its path joins `own`.
    """
    name = f"{request.method} {request.template}"
    try:
        answer = http.request(request.method, request.path, json=request.body, params=request.query)
    except httpx.TimeoutException:
        return [f"{name} streams"]
    found = []
    if _MARK in answer.text.replace(request.path, "") and not _sent_mark(request):
        found.append(f"{name} tells")
    if answer.status_code == 201 and "location" in answer.headers:
        own.add(answer.headers["location"])
    if request.names_a_thing and answer.is_success and request.path not in own:
        found.append(f"{name} answers {answer.status_code}")
    return found


def _sent_mark(request: Request) -> bool:
    """Whether the mark was in the request itself, which an error may repeat."""
    return _MARK in json.dumps([request.path, request.body, request.query])


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every method and path of the page."""
    for template, methods in document["paths"].items():
        for method in _METHODS:
            if method in methods:
                yield method, template, methods[method]


def all_requests(document: dict[str, Any], ids: list[str]) -> Iterator[Request]:
    """Every operation, with each name in its path, its query and each text of its body."""
    for method, template, operation in operations(document):
        parameters = operation.get("parameters", [])
        in_path = [one["name"] for one in parameters if one["in"] == "path"]
        in_query = [one["name"] for one in parameters if one["in"] == "query" and "string" in json.dumps(one["schema"])]
        for one in ids if in_path or "requestBody" in operation or in_query else [""]:
            path = template
            for name in in_path:
                path = path.replace(f"{{{name}}}", one)
            for body in bodies(document, operation, one):
                yield Request(method, path, template, body)
            for name in in_query:
                yield Request(method, path, template, query={name: one})


def bodies(document: dict[str, Any], operation: dict[str, Any], name: str) -> Iterator[Any]:
    """Bodies of the operation's schema, the least and the fullest, with a name wherever there is text."""
    schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    if schema is None:
        yield None
        return
    for one in variants(document, schema):
        yield filled(document, one, name, is_full=False)
        yield filled(document, one, name, is_full=True)


def variants(document: dict[str, Any], schema: dict[str, Any]) -> list[dict[str, Any]]:
    """The alternatives of a schema, `null` aside."""
    schema = resolved(document, schema)
    some = schema.get("oneOf") or schema.get("anyOf")
    return [v for s in some for v in variants(document, s) if v.get("type") != "null"] if some else [schema]


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """The schema that a reference names."""
    if "$ref" not in schema:
        return schema
    return dict(document["components"]["schemas"][schema["$ref"].rpartition("/")[2]])


def filled(document: dict[str, Any], schema: dict[str, Any], name: str, *, is_full: bool) -> Any:
    """A value of this schema."""
    schema = variants(document, schema)[0]
    if "const" in schema or "enum" in schema:
        return schema.get("const", schema.get("enum", [None])[0])
    match schema.get("type"):
        case "object":
            wanted = schema.get("properties", {})
            chosen = wanted if is_full else {key: wanted[key] for key in schema.get("required", [])}
            value = {key: filled(document, sub, name, is_full=False) for key, sub in chosen.items()}
            return value or ({name: name} if schema.get("additionalProperties") else {})
        case "array":
            return [filled(document, schema.get("items", {"type": "string"}), name, is_full=False)]
        case "integer":
            return schema.get("default", schema.get("minimum", 1))
        case "number":
            return schema.get("default", schema.get("maximum", 1))
        case "boolean":
            return schema.get("default", False)
    return name


PROMISE = Promise(13, "Tenants are apart", plan, prove)
