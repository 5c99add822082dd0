"""`/v1/jobs`: how a job gets in, what is said of it, and what is refused."""

import asyncio
import json

import pytest

from services.adapter_worker.engine.echo import EchoEngine
from services.adapter_worker.handlers import generate
from shared.contracts.dialogue import Kept
from shared.contracts.jobs import JobState
from shared.contracts.reading import RequestReading
from shared.errors import NotFound
from shared.ledger import calls
from shared.ledger.keys import LedgerKey
from shared.queue.bus import Bus
from shared.queue.celery import make_celery
from shared.worker.attempt import AttemptRunner
from shared.worker.event_writer import EventWriter
from shared.worker.leases import LeaseKeeper
from tests.support.api import ADAPTERS, code, make_release
from tests.support.echo_release import prompts

JSON = {"Content-Type": "application/json"}


async def test_a_job_without_a_label_waits_for_the_selector(api, release, ledger, broker):
    answer = await api["submit"].post("/v1/jobs", json={"input": "profits rose", "metadata": {"who": "me"}})
    assert answer.status_code == 202
    body = answer.json()
    assert answer.headers["location"] == body["url"] == f"/v1/jobs/{body['id']}"
    assert (body["state"], body["release"], body["label"]) == ("queued", release.id, None)
    job = ledger.do(calls.get(body["id"], "default"))
    assert (job.queue, job.release, job.body["input"]) == ("select", release.id, "profits rose")
    _, message = await asyncio.to_thread(broker.brpop, "select", 10)
    assert json.loads(message)["headers"]["id"] == body["id"]
    assert b"profits" not in message


@pytest.mark.parametrize(
    "name",
    [{"label": "fin.sa"}, {"adapter": "fin.sa@1"}, {"adapter": ADAPTERS["fin.sa"]}],
    ids=lambda name: str(name)[:20],
)
async def test_a_named_label_or_adapter_goes_straight_to_its_group(api, release, ledger, broker, name):
    body = (await api["submit"].post("/v1/jobs", json={"input": "x", **name})).json()
    assert (body["state"], body["label"]) == ("routed", "fin.sa")
    job = ledger.do(calls.get(body["id"], "default"))
    assert (job.queue, job.state, job.label) == ("generate.fin", JobState.ROUTED, "fin.sa")
    assert await asyncio.to_thread(broker.brpop, "generate.fin", 10)


@pytest.mark.parametrize(("mode", "kept"), [("dialogue", Kept("fin.sa", 1.0)), ("last_turn", None)])
async def test_a_named_label_becomes_that_of_its_conversation(api, registry, weights, ledger, mode, kept):
    release = make_release(reading=RequestReading(mode=mode))
    registry.releases.add(release)
    registry.releases.promote("default", release.id, force=True)
    body = {"input": "x", "metadata": {"conversation_id": "c"}}
    await api["submit"].post("/v1/jobs", json=body | {"label": "fin.sa"})
    later = (await api["submit"].post("/v1/jobs", json=body)).json()
    assert ledger.do(calls.kept_label(ledger.do(calls.get(later["id"], "default")))) == kept


async def test_an_unknown_label_is_refused_and_the_known_ones_are_listed(api, release):
    answer = await api["submit"].post("/v1/jobs", json={"input": "x", "label": "law.ie"})
    assert code(answer, 422) == "label_unknown"
    assert "fin.ha, fin.sa, med.qa" in answer.json()["detail"]


async def test_an_unknown_adapter_is_refused(api, release):
    answer = await api["submit"].post("/v1/jobs", json={"input": "x", "adapter": "fin.sa@2"})
    assert code(answer, 422) == "adapter_unknown"


async def test_without_a_release_it_says_what_to_do(api):
    answer = await api["submit"].post("/v1/jobs", json={"input": "x"})
    assert code(answer, 409) == "no_release"
    assert "promote" in answer.json()["detail"]


async def test_a_release_without_a_selector_takes_named_labels_only(api, registry, weights):
    release = make_release(selector=False)
    registry.releases.add(release)
    registry.releases.promote("default", release.id, force=True)
    assert code(await api["submit"].post("/v1/jobs", json={"input": "x"}), 409) == "no_selector"
    assert (await api["submit"].post("/v1/jobs", json={"input": "x", "label": "fin.sa"})).status_code == 202


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "body"),
        ({"input": ""}, "input"),
        ({"input": " \n"}, "input"),
        ({"input": 5}, "input"),
        ({"input": None}, "body"),
        ({"input": "x", "messages": [{"role": "user", "content": "x"}]}, "body"),
        ({"instruction": "i", "messages": [{"role": "user", "content": "x"}]}, "body"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}, "messages"),
        ({"messages": [{"role": "user", "content": "x"}, {"role": "system", "content": "y"}]}, "messages"),
        ({"messages": [{"role": "function", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0"),
        ({"messages": [{"role": "user", "content": " "}]}, "messages.0.content.text"),
        ({"messages": [{"role": "user", "content": None}]}, "messages.0"),
        ({"messages": [{"role": "user", "content": []}]}, "messages.0.content.parts"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content.parts.0.type"),
        ({"messages": [{"role": "user", "content": "x", "weight": 0}]}, "messages.0.weight"),
        ({"messages": [{"role": "user", "content": "x"}] * 1001}, "messages"),
        ({"messages": [{"role": "user", "content": "x"}, {"role": "user", "content": "x" * 32_769}]}, ""),
        ({"messages": [{"role": "system", "content": "x" * 20_001}, {"role": "user", "content": "x"}]}, ""),
        ({"input": ["x"]}, "input"),
        ({"input": "x" * 32_769}, ""),
        ({"input": "x", "label": 3}, "label"),
        ({"input": "x", "lable": "fin.sa"}, "lable"),
        ({"input": "x", "label": "fin.sa", "adapter": "fin.sa@1"}, "body"),
        ({"input": "x", "deadline_seconds": 0}, "deadline_seconds"),
        ({"input": "x", "deadline_seconds": 1e9}, "deadline_seconds"),
        ({"input": "x", "params": {"max_new_tokens": 0}}, "params.max_new_tokens"),
        ({"input": "x", "params": {"max_new_tokens": "8"}}, "params.max_new_tokens"),
        ({"input": "x", "params": {"max_new_tokens": 4096}}, ""),
        ({"input": "x", "params": {"temperature": -1}}, "params.temperature"),
        ({"input": "x", "params": {"top_p": 0}}, "params.top_p"),
        ({"input": "x", "params": {"top_k": -1}}, "params.top_k"),
        ({"input": "x", "params": {"seed": 1 << 63}}, "params.seed"),
        ({"input": "x", "params": {"stop": ["x"] * 9}}, "params.stop"),
        ({"input": "x", "params": {"stop": [""]}}, "params.stop.0"),
        ({"input": "x", "params": {"logprobs": 5}}, "params.logprobs"),
        ({"input": "x", "priority": "urgent"}, "priority"),
        ({"input": "x", "params": {"beam": 4}}, "params.beam"),
        ({"input": "x", "metadata": {"a": 1}}, "metadata.a"),
        ({"input": "x", "metadata": {str(n): "" for n in range(17)}}, "metadata"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_bad_input_is_refused_by_field_and_nothing_is_written(api, release, ledger, body, field):
    answer = await api["submit"].post("/v1/jobs", json=body)
    assert code(answer, 422)
    assert [one["field"] for one in answer.json().get("errors", [])][:1] == ([field] if field else [])
    assert not ledger.redis.keys(LedgerKey.JOB.pattern)


@pytest.mark.parametrize(
    ("content", "headers", "status", "expected"),
    [
        (b'{"input": "\xff\xfe"}', JSON, 400, "not_utf8"),
        (b'{"input": "x"', JSON, 400, "json_malformed"),
        (b'{"input": "x", "input": "y"}', JSON, 400, "json_malformed"),
        (b'{"input": "x", "params": {"seed": 1, "seed": 2}}', JSON, 400, "json_malformed"),
        (b'{"input": "\\ud800"}', JSON, 422, "request_invalid"),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', JSON, 422, "request_invalid"),
        (b'{"input": "x", "params": {"temperature": NaN}}', JSON, 422, "request_invalid"),
        (b"[]", JSON, 422, "request_invalid"),
        (b"[" * 100_000, JSON, 400, "body_malformed"),
        (b'{"input": "x"}', {"Content-Type": "text/plain"}, 422, "request_invalid"),
        (b'{"input": "' + b"x" * (1 << 20) + b'"}', JSON, 413, "body_too_large"),
    ],
    ids=[
        "non-utf-8",
        "cut",
        "twice",
        "twice inside",
        "surrogate",
        "surrogate in a message",
        "nan",
        "list",
        "deep",
        "content type",
        "huge",
    ],
)
async def test_a_body_that_cannot_be_read_is_a_problem_too(api, release, content, headers, status, expected):
    answer = await api["submit"].post("/v1/jobs", content=content, headers=headers)
    assert code(answer, status) == expected


async def test_a_huge_body_without_a_length_is_cut_off(api, release):
    async def endless():
        for _ in range(64):
            yield b"x" * 65_536

    assert code(await api["submit"].post("/v1/jobs", content=endless(), headers=JSON), 413) == "body_too_large"


async def test_an_unknown_path_and_method_are_problems(api):
    assert code(await api["submit"].get("/v1/nothing"), 404) == "path_not_found"
    answer = await api["submit"].put("/v1/jobs")
    assert code(answer, 405) == "method_not_allowed"
    assert "POST" in answer.headers["allow"]


async def test_the_view_of_a_job_tells_its_whole_way(api, release, worker):
    job_id = (await api["submit"].post("/v1/jobs", json={"input": "x", "label": "fin.sa"})).json()["id"]
    view = (await api["submit"].get(f"/v1/jobs/{job_id}")).json()
    assert (view["state"], view["waiting_for_group"]) == ("routed", True)
    worker.run(job_id, "generate.fin", "positive")
    view = (await api["submit"].get(f"/v1/jobs/{job_id}")).json()
    assert (view["state"], view["result"]["text"], view["waiting_for_group"]) == ("succeeded", "positive", False)
    assert set(view["stage_ms"]) == {"queued", "routed", "running"}
    assert view["attempt"] == 1


async def test_a_job_with_a_live_worker_is_not_waiting_for_its_group(api, release, ledger):
    ledger.do(calls.heartbeat("worker", ["generate.fin"], [], {}, 15))
    job_id = (await api["submit"].post("/v1/jobs", json={"input": "x", "label": "fin.sa"})).json()["id"]
    assert not (await api["submit"].get(f"/v1/jobs/{job_id}")).json()["waiting_for_group"]


async def test_a_list_says_of_each_job_whether_its_group_is_missing(api, release, ledger):
    ledger.do(calls.heartbeat("worker", ["generate.fin"], [], {}, 15))
    for label in ("fin.sa", "med.qa"):
        await api["submit"].post("/v1/jobs", json={"input": "x", "label": label})
    items = (await api["submit"].get("/v1/jobs")).json()["items"]
    assert {item["label"]: item["waiting_for_group"] for item in items} == {"fin.sa": False, "med.qa": True}


async def test_lists_page_by_cursor_and_filter(api, release):
    made = [
        (await api["submit"].post("/v1/jobs", json={"input": str(n), "label": "fin.sa"})).json()["id"] for n in range(5)
    ]
    await api["submit"].post("/v1/jobs", json={"input": "x"})
    seen, before = [], ""
    while before is not None:
        page = (await api["submit"].get(f"/v1/jobs?state=routed&limit=2&before={before}")).json()
        seen += [job["id"] for job in page["items"]]
        before = page["next"]
    assert seen == made[::-1]
    assert code(await api["submit"].get("/v1/jobs?before=(nonsense"), 422) == "request_invalid"
    assert code(await api["submit"].get("/v1/jobs?limit=1000"), 422) == "request_invalid"


async def test_a_waiting_job_is_cancelled_at_once_and_a_final_one_stays(api, release, worker):
    waiting, done = [
        (await api["submit"].post("/v1/jobs", json={"input": "x", "label": "fin.sa"})).json()["id"] for _ in range(2)
    ]
    worker.run(done, "generate.fin")
    assert (await api["submit"].delete(f"/v1/jobs/{waiting}")).json() == {"id": waiting, "state": "cancelled"}
    assert (await api["submit"].delete(f"/v1/jobs/{done}")).json()["state"] == "succeeded"
    assert code(await api["submit"].delete("/v1/jobs/job_none"), 404) == "job_not_found"


async def test_feedback_becomes_a_row_of_the_data_set_feedback(api, release, worker, registry):
    job_id = (await api["submit"].post("/v1/jobs", json={"input": "profits rose", "label": "fin.sa"})).json()["id"]
    url = f"/v1/jobs/{job_id}/feedback"
    assert code(await api["submit"].post(url, json={"rating": 1}), 409) == "job_unfinished"
    worker.run(job_id, "generate.fin", "positive")
    assert code(await api["submit"].post(url, json={}), 422) == "request_invalid"
    assert code(await api["submit"].post(url, json={"label": "Fin/SA"}), 422) == "label_malformed"
    assert code(await api["submit"].post(url, json={"rating": 2}), 422) == "request_invalid"
    assert (await api["submit"].post(url, json={"rating": 1})).status_code == 200
    row = registry.datasets.rows("default", "feedback")[0]
    assert (row.input, row.output, row.label) == ("profits rose", "positive", "fin.sa")
    await api["submit"].post(url, json={"label": "fin.ha", "output": "yes", "rating": -1})
    row = registry.datasets.rows("default", "feedback")[0]
    assert (row.output, row.label) == ("yes", "fin.ha")
    assert (await api["submit"].get(f"/v1/jobs/{job_id}")).json()["feedback"]["label"] == "fin.ha"


async def test_feedback_is_merged_with_what_was_said_before_and_its_history_is_kept(api, release, worker, registry):
    job_id = (await api["submit"].post("/v1/jobs", json={"input": "profits rose", "label": "fin.sa"})).json()["id"]
    worker.run(job_id, "generate.fin", "positive")
    url = f"/v1/jobs/{job_id}/feedback"
    await api["submit"].post(url, json={"label": "fin.ha"})
    answer = (await api["admin"].post(url, json={"rating": -1})).json()["feedback"]
    assert (answer["label"], answer["rating"]) == ("fin.ha", -1)
    shown = (await api["submit"].get(f"/v1/jobs/{job_id}")).json()["feedback"]
    assert [(entry.get("label"), entry.get("rating")) for entry in shown["history"]] == [("fin.ha", None), (None, -1)]
    assert len({entry["key"] for entry in shown["history"]}) == 2
    assert [row.label for row in registry.datasets.rows("default", "feedback")] == ["fin.ha"]
    await api["admin"].post(url, json={"accept": False})
    with pytest.raises(NotFound):
        registry.datasets.rows("default", "feedback")


async def test_a_label_that_the_release_lacks_is_meant_or_refused(api, release, worker, registry):
    job_id = (await api["submit"].post("/v1/jobs", json={"input": "x", "label": "fin.sa"})).json()["id"]
    worker.run(job_id, "generate.fin")
    url = f"/v1/jobs/{job_id}/feedback"
    assert code(await api["submit"].post(url, json={"label": "hr.nope"}), 422) == "label_unknown"
    assert (await api["submit"].post(url, json={"label": "hr.nope", "new": True})).status_code == 200
    assert [row.label for row in registry.datasets.rows("default", "feedback")] == ["hr.nope"]


async def test_feedbacks_at_the_same_time_are_all_kept_and_their_number_is_limited(api, release, worker):
    job_id = (await api["submit"].post("/v1/jobs", json={"input": "x", "label": "fin.sa"})).json()["id"]
    worker.run(job_id, "generate.fin")
    url = f"/v1/jobs/{job_id}/feedback"
    said = await asyncio.gather(*(api["submit"].post(url, json={"rating": 1}) for _ in range(4)))
    assert {answer.status_code for answer in said} <= {200, 503}
    kept = len((await api["submit"].get(f"/v1/jobs/{job_id}")).json()["feedback"]["history"])
    assert kept == sum(answer.is_success for answer in said)
    for _ in range(20 - kept):
        assert (await api["submit"].post(url, json={"rating": 1})).is_success
    assert code(await api["submit"].post(url, json={"rating": 1}), 409) == "feedback_full"


async def test_dead_letters_are_listed_and_replayed_by_admins(api, release, worker, broker):
    job_id = (await api["submit"].post("/v1/jobs", json={"input": "x", "label": "fin.sa"})).json()["id"]
    worker.lose(job_id, "generate.fin", times=3)
    assert code(await api["submit"].get("/v1/jobs/dead"), 403) == "scope_missing"
    dead = (await api["admin"].get("/v1/jobs/dead")).json()["items"]
    assert [(job["id"], job["error"]["code"]) for job in dead] == [(job_id, "attempts_exhausted")]
    broker.delete("generate.fin")
    assert (await api["admin"].post(f"/v1/jobs/{job_id}/replay")).status_code == 202
    assert await asyncio.to_thread(broker.brpop, "generate.fin", 10)
    assert (await api["admin"].get(f"/v1/jobs/{job_id}")).json()["state"] == "routed"
    assert code(await api["admin"].post(f"/v1/jobs/{job_id}/replay"), 404) == "not_a_dead_letter"


async def test_a_dropped_dead_letter_is_listed_no_more_and_expires(api, release, worker, ledger):
    job_id = (await api["submit"].post("/v1/jobs", json={"input": "x", "label": "fin.sa"})).json()["id"]
    url = f"/v1/jobs/dead/{job_id}"
    assert code(await api["admin"].delete(url), 404) == "not_a_dead_letter"
    worker.lose(job_id, "generate.fin", times=3)
    assert code(await api["submit"].delete(url), 403) == "scope_missing"
    assert (await api["admin"].delete(url)).status_code == 204
    assert (await api["admin"].get("/v1/jobs/dead")).json()["items"] == []
    assert (await api["submit"].get(f"/v1/jobs/{job_id}")).json()["state"] == "failed"
    assert ledger.redis.ttl(LedgerKey.JOB.of(job_id)) > 0


async def test_what_is_asked_of_the_answer_reaches_the_worker_and_comes_back(api, release, ledger, settings, tmp_path):
    params = {"logprobs": True, "top_logprobs": 1, "n": 2}
    ask = {"input": "x y", "label": "fin.sa", "priority": "batch", "params": params}
    job_id = (await api["submit"].post("/v1/jobs", json=ask)).json()["id"]
    engine = EchoEngine()
    tools = {"engine": engine, "base_model": "tiny", "fetch": lambda _: tmp_path, "store_patience_seconds": 0}
    tools["prompts"] = prompts
    leases = LeaseKeeper(ledger, settings, owner="worker", queues=[], info=dict)
    bus = Bus(make_celery(settings, "test"))
    attempts = AttemptRunner(ledger, bus, leases, EventWriter(ledger), "worker")
    await asyncio.to_thread(attempts.run, "generate.fin", lambda attempt: generate(attempt, release, **tools))
    job = (await api["submit"].get(f"/v1/jobs/{job_id}")).json()
    assert job["request"]["priority"] == "batch"
    result = job["result"]
    assert (len(result["token_ids"]), result["logprobs"]) == (3, [0.0, 0.0, 0.0])
    first, second = result["choices"]
    assert {name: first["logprobs"][name] for name in ("token_ids", "logprobs")}.items() <= result.items()
    assert (first["index"], first["text"], first["finish_reason"]) == (0, result["text"], result["finish_reason"])
    assert second == first | {"index": 1}
    assert "".join(bytes.fromhex(token).decode() for token in first["logprobs"]["token_bytes"]) == first["text"]
    assert [len(top) for top in first["logprobs"]["top"]] == [1, 1, 1]
    assert result["usage"] == {"prompt_tokens": result["prompt_tokens"], "completion_tokens": 6}
    lines = (await api["submit"].get(f"/v1/jobs/{job_id}/events")).text.splitlines()
    told = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith('data: {"text"')]
    for choice in (first, second):
        pieces = [piece for piece in told if piece["index"] == choice["index"]]
        assert "".join(piece["text"] for piece in pieces) == choice["text"]
        for name, values in choice["logprobs"].items():
            assert [value for piece in pieces for value in piece["logprobs"][name]] == values


async def test_parameters_out_of_bounds_are_refused_with_the_way_out(api, release):
    for params, way in (
        ({"top_logprobs": 2}, "set logprobs to true"),
        ({"logit_bias": {"yes": 1}}, "token ids of the base model"),
        ({"n": 9}, "less than or equal to 8"),
    ):
        answer = await api["submit"].post("/v1/jobs", json={"input": "x", "label": "fin.sa", "params": params})
        assert answer.status_code == 422
        assert way in answer.text


CONVERSATION = [
    {"role": "system", "content": "Name the mood."},
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": "which text?"},
    {"role": "user", "content": [{"type": "text", "text": "profits rose"}]},
]


async def test_a_conversation_is_shown_as_it_was_written_and_its_last_turn_makes_the_row(
    api, release, worker, registry
):
    body = {"messages": CONVERSATION, "label": "fin.sa"}
    job_id = (await api["submit"].post("/v1/jobs", json=body)).json()["id"]
    request = (await api["submit"].get(f"/v1/jobs/{job_id}")).json()["request"]
    assert request["messages"] == CONVERSATION
    assert not {"input", "instruction"} & set(request)
    worker.run(job_id, "generate.fin", "positive")
    assert (await api["submit"].post(f"/v1/jobs/{job_id}/feedback", json={"rating": 1})).status_code == 200
    row = registry.datasets.rows("default", "feedback")[0]
    assert (row.instruction, row.input, row.output) == ("Name the mood.", "profits rose", "positive")


async def test_an_input_is_shown_as_it_was_written(api, release):
    body = {"input": "profits rose", "instruction": "Name the mood."}
    job_id = (await api["submit"].post("/v1/jobs", json=body)).json()["id"]
    request = (await api["submit"].get(f"/v1/jobs/{job_id}")).json()["request"]
    assert body.items() <= request.items()
    assert "messages" not in request


async def test_the_document_says_what_the_fields_mean(api):
    schemas = (await api["anonymous"].get("/openapi.json")).json()["components"]["schemas"]
    priority = schemas["JobRequest"]["properties"]["priority"]
    assert (priority["enum"], priority["default"]) == (["interactive", "batch"], "interactive")
    assert "interactive jobs before" in priority["description"]
    assert "natural logarithm" in schemas["Params"]["properties"]["logprobs"]["description"]


async def test_jobs_are_found_by_label_rejection_probability_feedback_key_and_time(api, release, worker, ledger):
    submit = api["submit"]

    async def routed(text, label, probability):
        """A job as the selector leaves it."""
        job_id = (await submit.post("/v1/jobs", json={"input": text})).json()["id"]
        job = worker.take(job_id, "select")
        selection = {"label": label, "probability": probability, "rejected": label is None}
        queue = "generate.base" if label is None else "generate.fin"
        ledger.do(calls.route(job, queue=queue, label=label or "", selection=selection))
        worker.run(job_id, queue)
        return job_id

    async def found(**query):
        return [job["id"] for job in (await submit.get("/v1/jobs", params=query)).json()["items"]]

    sure, unsure, rejected = (
        await routed("a", "fin.sa", 0.97),
        await routed("b", "fin.ha", 0.41),
        await routed("c", None, 0.2),
    )
    named = (await submit.post("/v1/jobs", json={"input": "x", "label": "fin.sa"})).json()["id"]
    await submit.post(f"/v1/jobs/{unsure}/feedback", json={"rating": 1})
    assert await found(label="fin.sa") == [named, sure]
    assert await found(rejected=True) == [rejected]
    assert await found(rejected=False) == [named, unsure, sure]
    assert await found(max_probability=0.5) == [rejected, unsure]
    assert await found(min_probability=0.3, max_probability=0.97) == [unsure, sure]
    assert await found(feedback=True) == [unsure]
    assert await found(feedback=False, label="fin.ha") == []
    shown = (await submit.get(f"/v1/jobs/{unsure}")).json()
    assert await found(since=shown["created_at"].replace("+00:00", "Z"), state="succeeded", label="fin.ha") == [unsure]
    assert await found(until="2020-01-01T00:00:00Z") == []
    assert await found(key=shown["key"], limit=2) == [named, rejected]
    assert await found(key="key_of_nobody") == []
    assert code(await submit.get("/v1/jobs?since=yesterday"), 422) == "request_invalid"


async def test_found_jobs_come_page_by_page_also_from_several_indexes(api, release, worker, ledger):
    made = []
    for number in range(7):
        made.append((await api["submit"].post("/v1/jobs", json={"input": str(number)})).json()["id"])
        job = worker.take(made[-1], "select")
        selection = {"label": "fin.sa", "probability": (number % 5) / 5}
        ledger.do(calls.route(job, queue="generate.fin", label="fin.sa", selection=selection))
    query, seen = "/v1/jobs?min_probability=0.1&limit=2", []
    cursor = ""
    while cursor is not None:
        page = (await api["submit"].get(f"{query}&before={cursor}")).json()
        seen += [job["id"] for job in page["items"]]
        cursor = page["next"]
    assert seen == [job_id for number, job_id in reversed(list(enumerate(made))) if number % 5]


async def test_a_list_reads_and_shows_large_fields_only_where_they_are_asked_for(api, release, worker, ledger):
    ask = {"input": "x" * 20_000, "label": "fin.sa", "metadata": {"ticket": "7"}}
    job_id = (await api["submit"].post("/v1/jobs", json=ask)).json()["id"]
    worker.run(job_id, "generate.fin", "y" * 20_000)
    await api["submit"].post(f"/v1/jobs/{job_id}/feedback", json={"rating": 1})
    whole = (await api["submit"].get(f"/v1/jobs/{job_id}")).json()

    async def listed(**query):
        answer = await api["submit"].get("/v1/jobs", params=query)
        (item,) = answer.json()["items"]
        return item, len(answer.content)

    plain, size = await listed()
    large = {"request": {"request", "metadata"}, "result": {"result"}, "feedback": {"feedback"}}
    assert plain == {name: value for name, value in whole.items() if name not in set().union(*large.values())}
    assert size < 2000
    for name, fields in large.items():
        item, _ = await listed(include=name)
        assert item == plain | {field: whole[field] for field in fields}
    assert (await listed(include=["request", "result", "feedback"]))[0] == whole
    assert code(await api["submit"].get("/v1/jobs?include=body"), 422) == "request_invalid"
    ledger.redis.config_resetstat()
    await listed()
    assert ledger.redis.info("commandstats").get("cmdstat_hgetall") is None
