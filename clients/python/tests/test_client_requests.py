"""What is sent, how a refusal is read, and when a request is sent again."""

import gzip
import inspect
import io
import json
import tarfile

import httpx
import pytest

from signalbox import (
    ApiError,
    AsyncSignalbox,
    AuthenticationError,
    ConflictError,
    InvalidRequestError,
    Job,
    JobFailed,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    Signalbox,
    SignalboxError,
    Unreachable,
    calls,
    feedback,
    stored,
    uploads,
)
from signalbox.requests import MAX_PAUSE_SECONDS, Request, Target, answer, api_error, pause_before_retry, target_of

GET, POST = Request("GET", "/x"), Request("POST", "/x")
KEYED = Request("POST", "/x", headers={"Idempotency-Key": "k"})
TARGET = Target("http://api", "sbk_1", 60.0)


def refusal(status, headers=None, **problem):
    return api_error(httpx.Response(status, headers=headers, json=problem))


def pause(request, error, retries=0):
    return pause_before_retry(request, error, retries, max_retries=2)


def is_retried(request, error, retries=0):
    try:
        return pause(request, error, retries) > 0
    except SignalboxError as raised:
        return raised is not error


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequestError),
        (401, AuthenticationError),
        (403, PermissionDeniedError),
        (404, NotFoundError),
        (405, ApiError),
        (409, ConflictError),
        (413, InvalidRequestError),
        (422, InvalidRequestError),
        (429, RateLimitError),
        (500, ServerError),
        (503, ServerError),
    ],
)
def test_a_refusal_is_an_error_of_its_kind(status, kind):
    problem = {"code": "some_code", "detail": "do this", "retryable": True, "errors": [{"field": "input"}]}
    error = refusal(status, {"Retry-After": "7", "X-Request-Id": "req_1"}, **problem)
    assert type(error) is kind
    assert (error.code, error.detail, str(error), error.status) == ("some_code", "do this", "do this", status)
    assert (error.retryable, error.retry_after_seconds, error.request_id) == (True, 7.0, "req_1")
    assert error.body["errors"] == [{"field": "input"}]


@pytest.mark.parametrize("content", [b"<html>Bad gateway</html>", b"[]", b"\xff"])
def test_a_refusal_of_something_in_between_is_read_by_its_status(content):
    error = api_error(httpx.Response(502, content=content))
    assert (error.code, error.retryable, error.retry_after_seconds) == ("http_502", True, None)
    assert "502" in error.detail


def test_an_answer_that_is_no_json_says_so():
    response = httpx.Response(200, content=b"<html>", request=httpx.Request("GET", "http://api/x"))
    with pytest.raises(ApiError, match="check that the address is that of the API"):
        answer(GET, response)
    assert answer(GET, httpx.Response(204)) is None


def test_only_what_cannot_happen_twice_is_sent_again():
    away = refusal(503, code="ledger_unavailable", retryable=True)
    assert is_retried(GET, away)
    assert is_retried(Request("DELETE", "/x"), away)
    assert is_retried(KEYED, away)
    assert not is_retried(POST, away)


def test_what_a_retry_cannot_mend_is_raised_at_once():
    assert not is_retried(GET, refusal(404, code="job_not_found", retryable=False))
    assert not is_retried(KEYED, refusal(500, code="internal_error", retryable=False))
    assert is_retried(KEYED, refusal(409, code="idempotency_in_flight", retryable=False))


def test_a_request_that_never_left_is_sent_again_whatever_it_is():
    assert is_retried(POST, TARGET.unreachable(httpx.ConnectError("refused")))
    assert not is_retried(POST, TARGET.unreachable(httpx.ReadTimeout("no answer")))
    assert is_retried(KEYED, TARGET.unreachable(httpx.ReadTimeout("no answer")))


def test_retries_end():
    away = TARGET.unreachable(httpx.ConnectError("refused"))
    assert [is_retried(GET, away, retries) for retries in range(4)] == [True, True, False, False]


def test_pauses_grow_and_are_never_shorter_than_the_server_asks():
    away = refusal(503, retryable=True)
    assert 0.3 < pause(GET, away) <= 0.5 < pause(GET, away, 1) <= 1.0
    assert pause(GET, refusal(429, {"Retry-After": "9"}, retryable=True)) == 9.0
    too_long = {"Retry-After": str(MAX_PAUSE_SECONDS + 1)}
    assert not is_retried(GET, refusal(429, too_long, retryable=True))


def test_every_call_that_makes_something_has_a_key_of_its_own():
    made = [
        calls.submit("x"),
        calls.submit("x"),
        calls.train("adapter.train"),
        stored.promote("rel_1"),
        stored.rollback(),
    ]
    made += [feedback.feedback("job_1", rating=1), calls.select("x"), uploads.upload_dataset(b"{}", "d")]
    keys = [call.request.headers["Idempotency-Key"] for call in made]
    assert len(set(keys)) == len(made)
    assert calls.submit("x", idempotency_key="mine").request.headers == {"Idempotency-Key": "mine"}
    assert not calls.post("/x", {}).request.is_repeatable


def test_a_submit_sends_what_was_given_and_nothing_else():
    assert calls.submit("hi").request.json == {"input": "hi"}
    given = {"label": "a.b", "max_new_tokens": 4, "params": {"seed": 1}, "metadata": {"m": "1"}}
    sent = calls.submit("hi", **given).request.json
    assert sent == {"input": "hi", "label": "a.b", "params": {"max_new_tokens": 4, "seed": 1}, "metadata": {"m": "1"}}


def test_a_training_job_is_found_under_its_own_path():
    train = calls.train("adapter.train", label="a.b").parse({"id": "job_1", "kind": "train", "state": "queued"})
    assert calls.job(train).request.path == "/v1/training/jobs/job_1"
    assert calls.job("job_1").request.path == "/v1/jobs/job_1"


def test_a_record_keeps_what_it_does_not_know():
    raw = {"id": "job_1", "state": "succeeded", "tomorrow": 1, "selection": {"label": "a.b", "margin": 2}}
    job = Job.from_dict({**raw, "result": {"text": "yes"}})
    assert (job.is_final, job.text, job.selection.label, job.selection.raw["margin"]) == (True, "yes", "a.b", 2)
    assert job.to_dict() == {**raw, "result": {"text": "yes"}}
    assert Job.from_dict({"id": "job_1", "state": "queued"}).text is None


def test_a_selection_that_failed_is_the_jobs_own_error():
    failed = Job(id="job_1", state="failed", error={"code": "selector_broken", "detail": "mend it"})
    with pytest.raises(JobFailed, match="mend it"):
        calls.selection_of(failed)
    with pytest.raises(JobFailed, match="was cancelled"):
        calls.selection_of(Job(id="job_1", state="cancelled"))


def test_rows_are_sent_from_memory_a_file_or_a_gzipped_file(tmp_path):
    rows = [{"input": "ä"}, {"input": "b"}]
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    plain, zipped = tmp_path / "demo.v1.jsonl", tmp_path / "demo.v1.jsonl.gz"
    plain.write_bytes(content)
    zipped.write_bytes(gzip.compress(content))
    for given in (rows, content, plain, str(zipped)):
        assert uploads.upload_dataset(given, "").request.content == content
    assert uploads.upload_dataset(zipped).request.params == {"name": "demo.v1"}


def test_a_models_folder_in_a_hub_cache_and_the_adapter_before_its_training_are_packed(tmp_path):
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "abc"
    (snapshot / "pissa_init").mkdir(parents=True)
    blobs.mkdir()
    (tmp_path / "refs").mkdir()
    (tmp_path / "refs" / "main").write_text("abc")
    names = [f"{folder}{name}" for folder in ("", "pissa_init/") for name in uploads._ADAPTER_FILES]
    for number, name in enumerate([*names, "optimizer.pt"]):
        (blobs / str(number)).write_bytes(b"%d" % number)
        (snapshot / name).symlink_to(blobs / str(number))
    archive = uploads.upload_adapter(tmp_path, "a.b", confirm_base=True).request
    with tarfile.open(fileobj=io.BytesIO(archive.files["file"][1])) as tar:
        assert tar.getnames() == names
        assert [tar.extractfile(name).read() for name in names] == [b"0", b"1", b"2", b"3"]
        assert all(member.isreg() for member in tar)
    assert archive.data["confirm_base"] == "true"


def test_an_adapter_is_packed_alike_each_time_and_refused_where_a_file_is_missing(tmp_path):
    with pytest.raises(SignalboxError, match=r"lacks adapter_config.json and adapter_model.safetensors"):
        uploads.upload_adapter(tmp_path, "a.b")
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    (tmp_path / "optimizer.pt").write_bytes(b"not sent")
    first, second = (uploads.upload_adapter(tmp_path, "a.b").request for _ in range(2))
    assert first.data == second.data
    with tarfile.open(fileobj=io.BytesIO(first.files["file"][1])) as tar:
        assert tar.getnames() == ["adapter_config.json", "adapter_model.safetensors"]


@pytest.mark.parametrize(
    ("beside", "says"),
    [
        ("adapter_model.bin", "its weights are a pickle; .* with safe_serialization=True"),
        ("checkpoint-9/adapter_config.json", "name a folder inside it, such as checkpoint-9"),
        ("notes.txt", "save it with PEFT again"),
    ],
)
def test_what_a_folder_holds_in_place_of_an_adapter_is_named(tmp_path, beside, says):
    (tmp_path / beside).parent.mkdir(exist_ok=True)
    (tmp_path / beside).write_bytes(b"{}")
    with pytest.raises(SignalboxError, match=says):
        uploads.upload_adapter(tmp_path, "a.b")


def test_address_and_key_come_from_the_environment_where_none_is_given(monkeypatch):
    monkeypatch.setenv("SIGNALBOX_API_URL", "http://there:8000/")
    monkeypatch.setenv("SIGNALBOX_API_KEY", "sbk_env")
    assert target_of(None, None, 1.0) == Target("http://there:8000", "sbk_env", 1.0)
    assert target_of("http://here", "", 1.0) == Target("http://here", "", 1.0)
    monkeypatch.delenv("SIGNALBOX_API_URL")
    with pytest.raises(SignalboxError, match="SIGNALBOX_API_URL"):
        Signalbox()


def test_both_clients_have_the_same_methods_with_the_same_parameters():
    def methods(client):
        return {
            name: list(inspect.signature(getattr(client, name)).parameters)
            for name in dir(client)
            if not name.startswith("_")
        }

    assert methods(Signalbox) == methods(AsyncSignalbox)
    assert methods(Signalbox)["cancel"] == ["self", "job"]
    assert Signalbox.submit.__doc__.startswith("Submit one text")


def test_an_address_where_nothing_listens_is_one_error_after_the_retries():
    with Signalbox("http://127.0.0.1:1", max_retries=1) as client, pytest.raises(Unreachable, match="no API answers"):
        client.models()


def test_a_file_is_named_without_the_endings_of_its_form_and_says_how_it_is_read(tmp_path):
    file = tmp_path / "faq.v2.csv.zst"
    file.write_bytes(b"as it is")
    columns = {"input": 'Frage, "kurz"', "output": "Antwort"}
    for call in (uploads.upload_dataset, uploads.check_dataset):
        request = call(file, columns=columns, accept_labels=True).request
        assert request.content == b"as it is"
        assert request.params["columns"] == '"input=Frage, ""kurz""",output=Antwort'
        assert request.params["accept_labels"] == "true"
    assert uploads.upload_dataset(file).request.params == {"name": "faq.v2"}
    assert uploads.check_dataset(file).request.path == "/v1/datasets/check"
    assert "template" not in uploads.check_dataset(file).request.params
    assert uploads.check_dataset(file, template="plain").request.params["template"] == "plain"


def test_a_file_that_is_named_as_if_it_were_packed_is_sent_as_it_is(tmp_path):
    file = tmp_path / "rows.jsonl.gz"
    file.write_bytes(b'{"input": "a"}\n')
    assert uploads.upload_dataset(file).request.content == b'{"input": "a"}\n'
    file.write_bytes(gzip.compress(b"x")[:-3])
    with pytest.raises(SignalboxError, match="gzip it again, whole"):
        uploads.upload_dataset(file)
