"""The whole way of a request and of a retrain, over HTTP, through real processes."""

import io
import json
import threading

import pytest
import redis
from rich.console import Console
from typer.testing import CliRunner

from services.cli import bars
from services.cli.main import app
from shared.ledger.keys import LedgerKey
from tests.support import scripts
from tests.support.eventually import eventually
from tests.support.samples import TRAINING, rows, upload

SLOW = {"max_new_tokens": 900, "seed": 1, "temperature": 1.0}


def test_a_request_finds_an_adapter_and_the_answer_names_all_that_made_it(released):
    job = released.ended(released.submit("card limit declined", params={"max_new_tokens": 8}))
    current = released.client.get("/v1/releases/current")
    assert job["state"] == "succeeded", job["error"]
    if job["selection"]["rejected"]:
        assert job["result"]["adapter"] is None
    else:
        assert job["result"]["adapter"] == current["labels"][job["label"]]["adapter"]
    assert job["result"]["release"] == job["release"] == current["id"]
    assert job["result"]["selector"] == current["selector"]["digest"] == job["selection"]["selector"]
    assert job["result"]["base_model"] == current["base_model"]
    assert {"queued", "selecting", "routed", "running"} == set(job["stage_ms"])


@pytest.fixture(scope="module")
def reference(released):
    from services.cli.evaluate.reference import open_reference

    return open_reference(released.supervisor.settings)


@pytest.mark.parametrize("text", ["card limit declined", "balance transfer account", "flight hotel visa"])
def test_the_system_answers_as_the_reference_path_does(released, reference, text):
    from lab.run_reference import record

    job = released.ended(released.submit(text, params={"max_new_tokens": 12}))
    expected = record(text, reference.answer(text, max_new_tokens=12))
    assert job["state"] == "succeeded", job["error"]
    assert job["release"] == reference.release.id
    assert job["selection"]["label"] == expected["label"]
    # The service reads in bfloat16 where the processor has it, and again in float32 where labels are near.
    assert job["selection"]["probability"] == pytest.approx(expected["probability"], abs=0.03)
    assert job["result"]["adapter"] == expected["adapter"]
    assert job["result"]["text"] == expected["text"]


@pytest.mark.parametrize("label", ["bank.accounts", "bank.cards"])
def test_a_named_adapter_answers_as_on_the_reference_path(released, reference, label):
    job = released.ended(released.submit("card limit", label=label, params={"max_new_tokens": 24}))
    entry = reference.release.labels[label]
    assert job["result"]["adapter"] == entry.adapter
    assert job["result"]["text"] == reference.generate(entry, "card limit", max_new_tokens=24)


def test_waiting_for_a_training_that_fails_ends_with_status_1(released, monkeypatch):
    monkeypatch.setenv("SIGNALBOX_DATA_DIR", str(released.supervisor.settings.data_dir))
    content = "\n".join(json.dumps({"input": f"text {number}"}) for number in range(8))
    released.client.post("/v1/datasets", content=content.encode(), params={"name": "unanswered"})
    asked = ["train", "adapter", "--label", "bank.cards", "--dataset", "unanswered", "--wait", "--json"]
    done = CliRunner().invoke(app, asked)
    assert (done.exit_code, json.loads(done.stdout)["state"]) == (1, "failed")


def test_the_command_line_measures_the_running_release(released, tmp_path, monkeypatch):
    settings = released.supervisor.settings
    monkeypatch.setenv("SIGNALBOX_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("SIGNALBOX_BASE_MODEL", settings.base_model)
    data, drawn = tmp_path / "rows.jsonl", tmp_path / "confusion.png"
    labelled = [{**row, "label": label} for label in ("bank.accounts", "bank.cards") for row in rows(label, 4, seed=1)]
    data.write_text("\n".join(map(json.dumps, labelled)))

    shown = io.StringIO()  # of a terminal
    monkeypatch.setattr(bars, "err", Console(file=shown, force_terminal=True, width=120))

    def run(*arguments):
        done = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        assert "Warning" not in done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    (selector,) = run("evaluate", "selector", "--data", str(data), "--confusion", str(drawn), "--json")
    (system,) = run("evaluate", "system", "--data", str(data), "--limit", "2", "--max-new-tokens", "4", "--json")
    (adapter,) = run("evaluate", "adapter", "--label", "bank.cards", "--data", str(data), "--limit", "2", "--json")
    answers = run("run-reference", "my card", "--data", str(data), "--max-new-tokens", "2")

    told = ("rows read by the language model", "rows answered", "rows answered by bank.cards@1")
    assert all(what in shown.getvalue() for what in told)
    assert (selector["n"], adapter["n"]) == (8, 2)
    assert selector["intervals"]["accuracy"][0] <= selector["accuracy"] <= selector["intervals"]["accuracy"][1]
    assert {file.suffix for file in tmp_path.glob("confusion.*")} == {".png", ".json", ".md"}
    assert set(system["lines"]) == {"selector", "oracle", "routed"}
    assert len(answers) == 9
    assert {answer["adapter_ref"] for answer in answers} <= {"bank.accounts@1", "bank.cards@1", None}


class Overheard:
    """What clients send a server, in order, from now until `stop`; what its own scripts do is left out."""

    def __init__(self, url):
        self._redis = redis.Redis.from_url(url)
        self._monitor = self._redis.monitor()
        self._monitor.__enter__()
        self._said = []
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self):
        for heard in self._monitor.listen():
            if heard["command"].startswith("ECHO the-end"):
                return
            if heard["client_type"] != "lua":
                self._said.append(heard["command"])

    def stop(self):
        """All commands."""
        self._redis.echo("the-end")
        self._thread.join(10)
        self._monitor.connection.disconnect()
        return self._said


def test_a_routed_job_takes_five_ledger_calls_and_two_messages(released):
    settings = released.supervisor.settings
    ledger, broker = Overheard(settings.redis_url), Overheard(settings.broker_url)
    job_id = released.submit("card limit declined", params={"max_new_tokens": 1})
    eventually(lambda: released.redis.hget(LedgerKey.JOB.of(job_id), "result"), "the job has its result")
    names = {scripts.sha_of(op, settings.max_lost_leases): op for op in scripts.OPERATIONS}
    calls = [names[said.split()[1]] for said in ledger.stop() if said.startswith("EVALSHA")]
    messages = [said for said in broker.stop() if job_id in said]
    # `append`, the text so far, is written beside the work; a short answer goes along with `finish`.
    beside = ("append", "heartbeat", "lead", "settle", "gauges", "expire", "adopt_ended", "forget")
    # What the loops of the API's worker ask for now and then.
    beside += ("batch_take", "claim_deliveries", "take_learner", "take_rollout", "take_turn", "write_traffic")
    assert [op for op in calls if op not in beside] == ["create", "acquire_next", "route", "acquire_next", "finish"]
    assert [said.split()[0] for said in messages] == ["LPUSH", "LPUSH"]
    assert all(len(said) < 1500 for said in messages)


def test_the_probabilities_of_a_selection_are_those_of_the_release_labels(released):
    answer = released.client.post("/v1/select", {"input": "card limit declined", "wait_seconds": 30})
    named = {answer["best_label"], *(r["label"] for r in answer["runners_up"])}
    assert named == {"bank.accounts", "bank.cards"}
    assert answer["probability"] + sum(r["probability"] for r in answer["runners_up"]) == pytest.approx(1, abs=1e-4)


def test_a_named_label_skips_the_selector_and_gets_its_adapter(released):
    job = released.ended(released.submit(label="bank.cards", params={"max_new_tokens": 4, "logprobs": True}))
    assert job["selection"] is None
    assert job["result"]["adapter_ref"] == "bank.cards@1"
    assert len(job["result"]["logprobs"]) == len(job["result"]["token_ids"]) == job["result"]["generated_tokens"]


def test_the_stream_tells_every_state_and_its_pieces_are_the_answer(released):
    job_id = released.submit(label="bank.cards", params={"max_new_tokens": 40})
    events = list(released.client.stream(job_id))
    states = [event.data["state"] for event in events if event.type == "state"]
    assert states == ["routed", "running", "succeeded"]
    text = "".join(event.text for event in events)
    assert text == released.job(job_id)["result"]["text"]


def test_cancelling_stops_a_running_generation(released):
    job_id = released.submit(label="bank.cards", params=SLOW)
    for event in released.client.stream(job_id):
        if event.type == "token":
            released.client.cancel(job_id)
    assert event.data["state"] == "cancelled"
    assert released.job(job_id)["result"] is None


def test_a_deadline_stops_a_running_generation(released):
    job = released.ended(released.submit(label="bank.cards", params=SLOW, deadline_seconds=0.3))
    assert (job["state"], job["error"]["code"]) == ("failed", "deadline_exceeded")


def test_adding_a_label_makes_a_child_release_and_rolling_back_is_one_step(released):
    before = released.client.get("/v1/releases/current")
    body = {"kind": "selector.add", "labels": {"travel.trips": "travel.trips"}, "promote": True, "min_accuracy": 0}
    job = released.train(body | {"max_false_reject": 0, **TRAINING})
    result = job["result"]
    if not result["promoted"]:  # a tiny random model may lose a point: the gate is then right, and a person decides
        released.client.post(f"/v1/releases/{result['release']}/promote", {"force": True})
    after = released.client.get("/v1/releases/current")
    assert (after["id"], after["parent"]) == (result["release"], before["id"])
    assert set(after["labels"]) == {*before["labels"], "travel.trips"}
    job = released.ended(released.submit("flight hotel visa", label="travel.trips", params={"max_new_tokens": 4}))
    assert job["result"]["adapter_ref"] == "travel.trips@1"
    released.client.post("/v1/releases/rollback", {})
    assert released.client.get("/v1/releases/current")["id"] == before["id"]


def test_deleting_a_label_refuses_its_name_and_lets_jobs_of_the_old_release_end(released):
    from signalbox import ApiError

    before = released.client.get("/v1/releases/current")
    body = {"kind": "selector.delete", "labels": ["bank.accounts"], "max_false_reject": 0, **TRAINING}
    result = released.train(body)["result"]
    in_flight = [released.submit(label="bank.accounts", params=SLOW), released.submit("balance transfer account")]
    released.client.post(f"/v1/releases/{result['release']}/promote", {"force": True})
    after = released.client.get("/v1/releases/current")
    assert (set(after["labels"]), after["parent"]) == ({"bank.cards"}, before["id"])
    with pytest.raises(ApiError) as refusal:
        released.submit(label="bank.accounts")
    assert (refusal.value.code, refusal.value.status) == ("label_unknown", 422)
    for job in map(released.ended, in_flight):
        assert (job["state"], job["release"]) == ("succeeded", before["id"]), job["error"]
    routed = released.ended(released.submit("balance transfer account", params={"max_new_tokens": 4}))
    assert (routed["state"], routed["release"]) == ("succeeded", after["id"])
    assert routed["label"] in (None, "", "bank.cards")
    fate = result["deleted"]["bank.accounts"]
    assert fate["rejected"] + fate["taken"].get("bank.cards", 0) == pytest.approx(1)
    released.client.post("/v1/releases/rollback", {})
    assert released.client.get("/v1/releases/current")["id"] == before["id"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"kind": "adapter.train", "label": "a.b", "dataset": "missing"}, "dataset_not_found"),
        ({"kind": "selector.train", "labels": {"bank.cards": "bank.cards"}}, "request_invalid"),
        ({"kind": "selector.add", "labels": {"bank.cards": "bank.cards"}}, "label_exists"),
        ({"kind": "selector.delete", "labels": ["bank.cards", "bank.accounts"]}, "labels_too_few"),
        ({"kind": "selector.delete", "labels": ["law.ie"]}, "label_unknown"),
        ({"kind": "selector.train", "labels": {"x.y": "bank.cards", "bank.cards": "bank.cards"}}, "adapter_not_found"),
    ],
)
def test_a_training_job_that_cannot_work_says_why(released, body, code):
    from signalbox import ApiError

    try:
        found = released.train(body)["error"]["code"]
    except ApiError as refusal:
        found = refusal.code
    assert found == code


def test_a_data_set_of_one_row_is_refused(released):
    from signalbox import ApiError

    upload(released.client, "travel.trips", count=1)
    with pytest.raises(ApiError) as refusal:
        released.client.post("/v1/training/jobs", {"kind": "adapter.train", "label": "a.b", "dataset": "travel.trips"})
    upload(released.client, "travel.trips")
    assert refusal.value.code == "dataset_too_small"
