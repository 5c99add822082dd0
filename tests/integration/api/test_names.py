"""No name that the API takes may end with a newline, or hold digits that only look like digits."""

import pytest

from tests.support.api import code

NEWLINE, ARABIC_THREE = "\n", "\u0663"
ROWS = '{"input": "a", "output": "b"}\n'
LABEL, DATASET = "fin.sa\n", "rows\n"


def training(kind, **fields):
    return ("POST", "/v1/training/jobs", {"json": {"kind": kind, **fields}})


def upload(**form):
    return ("POST", "/v1/adapters", {"data": {"label": "fin.sa", **form}, "files": {"file": ("a.tar", b"x")}})


REQUESTS = [
    ("POST", "/v1/jobs", {"json": {"input": "x", "label": LABEL}}),
    ("POST", "/v1/jobs", {"json": {"input": "x", "adapter": "fin.sa@1\n"}}),
    ("POST", "/v1/datasets", {"params": {"name": DATASET}, "content": ROWS}),
    upload(label=LABEL),
    upload(template="chatml\n"),
    upload(sha256="a" * 64 + "\n"),
    training("adapter.train", label=LABEL, dataset="rows"),
    training("adapter.train", label="fin.sa", dataset=DATASET),
    training("selector.train", labels={LABEL: "rows", "fin.ha": "rows"}),
    training("selector.train", labels={"fin.sa": "rows", "fin.ha": "rows"}, groups={"fin.sa": "fin\n"}),
    training("selector.train", labels={"fin.sa": "rows", "fin.ha": "rows"}, adapters={"fin.sa": "fin.sa@1\n"}),
    training("selector.delete", labels=[LABEL]),
    training("selector.train\n", labels={"fin.sa": "rows", "fin.ha": "rows"}),
    ("POST", "/v1/releases/edit", {"json": {"remove": [LABEL]}}),
    ("POST", "/v1/releases/edit", {"json": {"groups": {"fin.sa": "fin\n"}}}),
    ("POST", "/v1/releases/rollback", {"json": {"to": "rel_1\n"}}),
    ("POST", "/v1/releases/rel_1%0A/promote", {"json": {}}),
    ("GET", "/v1/adapters/fin.sa%0A", {}),
    ("GET", "/v1/adapters/fin.sa@1%0A", {}),
    ("GET", "/v1/datasets/rows%0A", {}),
    ("GET", "/v1/jobs", {"params": {"before": "1\n"}}),
    ("GET", "/v1/jobs", {"params": {"before": ARABIC_THREE}}),
    ("GET", "/v1/jobs", {"params": {"state": "queued\n"}}),
    ("GET", "/v1/jobs", {"params": {"kind": "train\n"}}),
]


@pytest.fixture
async def ended(admin, release, worker):
    """The id of a job that has ended."""
    job_id = (await admin.post("/v1/jobs", json={"input": "x", "label": "fin.sa"})).json()["id"]
    worker.run(job_id, "generate.fin")
    return job_id


@pytest.mark.parametrize(("method", "path", "body"), REQUESTS)
async def test_a_name_with_a_newline_or_another_scripts_digit_is_refused(admin, release, method, path, body):
    answer = await admin.request(method, path, **body)
    assert answer.status_code in (404, 422), answer.text
    assert code(answer, answer.status_code)


async def test_a_jobs_own_routes_take_its_very_id_alone(admin, ended):
    for method, path in [("GET", ""), ("DELETE", ""), ("GET", "/events"), ("POST", "/replay")]:
        answer = await admin.request(method, f"/v1/jobs/{ended}%0A{path}")
        assert code(answer, 404)
    assert code(await admin.delete(f"/v1/jobs/dead/{ended}%0A"), 404)
    feedback = await admin.post(f"/v1/jobs/{ended}/feedback", json={"label": LABEL})
    assert code(feedback, 422) == "label_malformed" or feedback.json()["code"] == "request_invalid"


async def test_nothing_of_a_refused_name_is_stored(admin, release, ledger):
    before = set(ledger.redis.scan_iter("sb:*"))
    for method, path, body in REQUESTS:
        await admin.request(method, path, **body)
    assert {key for key in ledger.redis.scan_iter("sb:*") if key not in before and "\n" in key} == set()
    assert (await admin.get("/v1/adapters")).json()["items"] == []
    assert (await admin.get("/v1/datasets")).json()["items"] == []
    assert (await admin.get("/v1/jobs")).json()["items"] == []
