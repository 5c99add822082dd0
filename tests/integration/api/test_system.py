"""`/healthz`, `/readyz`, `/metrics`, `/openapi.json`."""

from shared.ledger import calls


async def test_readiness_names_every_part(api, release, ledger, store):
    body = (await api["anonymous"].get("/readyz")).json()
    assert body["ready"]
    parts = body["parts"]
    servers = {"ledger", "broker", "store"}
    settings = {f"{server}_settings" for server in servers}
    assert set(parts) == {*servers, *settings, "release", "consumers", "base_model"}
    assert {name for name, part in parts.items() if part["needed"]} == {"ledger", "ledger_settings", "base_model"}
    assert parts["base_model"]["ok"]
    assert parts["release"] == {"ok": True, "detail": release.id, "needed": False}
    consumers = (await api["anonymous"].get("/readyz")).json()["parts"]["consumers"]
    assert (consumers["ok"], "generate.fin" in consumers["detail"]) == (False, True)
    ledger.do(calls.heartbeat("worker", release.queues, [], {}, 15))
    assert (await api["anonymous"].get("/readyz")).json()["parts"]["consumers"]["ok"]


async def test_a_release_whose_workers_serve_another_base_model_is_not_ready(api, release, ledger):
    ledger.do(calls.heartbeat("worker", ["generate.fin", "generate.fin@another"], [], {}, 15))
    answer = await api["anonymous"].get("/readyz")
    said = answer.json()["parts"]["base_model"]["detail"]
    assert (answer.status_code, answer.json()["ready"]) == (503, False)
    assert f"release {release.id} needs base model tiny" in said
    assert "(generate.fin: another): set SIGNALBOX_BASE_MODEL" in said
    ledger.do(calls.heartbeat("right", ["generate.fin", "generate.fin@tiny"], [], {}, 15))
    assert (await api["anonymous"].get("/readyz")).status_code == 200


async def test_metrics_tell_queues_states_and_requests_without_ids(api, release, ledger):
    ledger.do(calls.heartbeat("worker", ["generate.fin"], [], {}, 15))
    job_id = (await api["submit"].post("/v1/jobs", json={"input": "x", "label": "fin.sa"})).json()["id"]
    await api["submit"].get(f"/v1/jobs/{job_id}")
    await api["submit"].get("/v1/jobs/job_none")
    await api["submit"].get("/nothing/here")
    text = (await api["anonymous"].get("/metrics")).text
    for line in (
        'signalbox_queue_waiting{queue="generate.fin"} 1.0',
        'signalbox_queue_running{queue="generate.fin"} 0.0',
        'signalbox_queue_consumers{queue="generate.fin"} 1.0',
        'signalbox_jobs{state="routed"} 1.0',
        'signalbox_http_request_seconds_count{method="POST",route="/v1/jobs",status="202"} 1.0',
        'signalbox_http_request_seconds_count{method="GET",route="/v1/jobs/{job_id}",status="200"} 1.0',
        'signalbox_http_request_seconds_count{method="GET",route="other",status="404"} 1.0',
        'signalbox_refused_total{reason="job_not_found",status="404"} 1.0',
        'signalbox_refused_total{reason="path_not_found",status="404"} 1.0',
        'signalbox_jobs_given_up{reason="deadline_exceeded"} 0.0',
        "signalbox_accept_seconds_count 1.0",
        "signalbox_ledger_up 1.0",
    ):
        assert line in text
    assert job_id not in text
    assert "default" not in text


async def test_the_api_describes_itself(api):
    paths = (await api["anonymous"].get("/openapi.json")).json()["paths"]
    assert paths["/v1/adapters"]["post"]["requestBody"]["content"]["multipart/form-data"]
    assert paths["/v1/jobs"]["post"]["security"]


async def test_every_route_documents_what_else_it_may_answer(api):
    document = (await api["anonymous"].get("/openapi.json")).json()
    for path, methods in document["paths"].items():
        for operation in methods.values():
            statuses = set(operation["responses"])
            assert statuses >= (
                {"401", "403", "404", "409", "422", "429", "503"} if path.startswith("/v1/") else {"503"}
            )
            assert all(
                "application/problem+json" in operation["responses"][s]["content"] for s in statuses & {"401", "503"}
            )
