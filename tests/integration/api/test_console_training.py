"""Trainings on the console: estimated, started, followed, cancelled."""

import asyncio
from contextlib import aclosing

import pytest

from shared.contracts.jobs import JobState
from shared.security import api_keys
from shared.security.api_keys import Scope
from tests.support.console import as_part, signed_in, words

PATH = "/console/training"
ROWS = b"".join(b'{"input": "%d"}\n' % number for number in range(6))
ADAPTER = {"kind": "adapter.train", "label": "fin.sa", "dataset": "demo", "epochs": "5", "learning_rate": "0.0004"}


@pytest.fixture
async def trainer(api, tokens):
    await api["train"].post("/v1/datasets?name=demo", content=ROWS)
    async with aclosing(await signed_in(api["url"], tokens["train"])) as client:
        yield client


async def started(client, **more):
    answer = await client.post(PATH, data=ADAPTER | more, headers={"HX-Request": "true"})
    assert answer.status_code == 204, answer.text
    return answer.headers["HX-Redirect"].rpartition("/")[2]


def told(worker, job_id, steps=3):
    """A trainer that has begun: the job, and progress of some steps."""
    job = worker.take(job_id, "train")
    worker.tell(job, "progress", stage="data_checked", warnings=["<b>few rows</b>"])
    for step in range(1, steps + 1):
        more = {"loss": 2.0 / step, "learning_rate": 1e-4 * step, "seconds_left": 9.0, "tokens": 100 * step}
        worker.tell(job, "progress", stage="training", step=step, steps=10, device="cpu", precision="float32", **more)
        if step == 2:
            worker.tell(job, "progress", stage="checkpoint", step=2)
    return job


async def test_without_any_the_page_says_how_to_begin(api, tokens):
    async with aclosing(await signed_in(api["url"], tokens["train"])) as client:
        page = words(await client.get(PATH))
        assert "Nothing was trained yet" in page
        assert "There is no data set yet" in page
        assert "signalbox trainer" in page


async def test_an_estimate_starts_nothing_and_shows_the_command(trainer, api):
    answer = await trainer.post(f"{PATH}/estimate", data=ADAPTER | {"rank": "16", "more": '{"settings": {"seed": 7}}'})
    assert answer.status_code == 200, answer.text
    page = words(answer)
    assert "Nothing was started" in page
    assert "signalbox train adapter --label fin.sa --dataset demo" in page
    assert '"rank": "16"' in page
    assert (await api["train"].get("/v1/training/jobs")).json()["items"] == []


async def test_what_the_form_leaves_as_it_is_stays_out_of_the_request(trainer, api, ledger):
    job_id = await started(trainer, rank="16")
    request = (await api["train"].get(f"/v1/training/jobs/{job_id}")).json()["request"]
    assert (request["label"], request["settings"]["rank"], request["settings"]["epochs"]) == ("fin.sa", 16, 5)


async def test_a_selector_is_trained_over_lines_of_labels(trainer, api):
    form = {"kind": "selector.train", "labels": "fin.sa = demo\n\n fin.ha=demo ", "selector": "light"}
    answer = await trainer.post(PATH, data=form, headers={"HX-Request": "true"})
    assert answer.status_code == 204, answer.text
    [job] = (await api["train"].get("/v1/training/jobs")).json()["items"]
    assert job["trains"] == {"kind": "selector.train", "labels": ["fin.ha", "fin.sa"]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dataset": "none"}, "no data set 'none'"),
        ({"label": "a b"}, "is not a label"),
        ({"rank": "many"}, "settings.rank"),
        ({"more": "{"}, "no JSON"),
        ({"more": "[]"}, "no JSON object"),
        ({"kind": "selector.train", "labels": "fin.sa"}, "one `label = data set` a line"),
        ({"kind": "selector.magic", "labels": ""}, "selector.magic"),
    ],
)
async def test_a_wrong_form_is_refused_with_what_is_wrong(trainer, api, change, said):
    for path in (PATH, f"{PATH}/estimate"):
        answer = await trainer.post(path, data=ADAPTER | change, headers={"HX-Request": "true"})
        assert answer.status_code in (404, 422)
        assert said in words(answer), answer.text
    assert (await api["train"].get("/v1/training/jobs")).json()["items"] == []


async def test_a_running_training_shows_losses_speed_checkpoints_and_log(trainer, worker):
    job_id = await started(trainer)
    told(worker, job_id)
    answer = await trainer.get(f"{PATH}/{job_id}")
    page = words(answer)
    assert "Step 3 of 10" in page
    assert "Loss 0.667" in page
    assert "the last at step 2" in page
    assert 'data-value="2.0"' in answer.text
    assert "<b>few rows</b>" in page
    assert "<b>few rows</b>" not in answer.text
    assert "step 3 of 10" in words(await trainer.get(PATH))


async def test_a_stream_sends_what_is_new_and_its_end(trainer, worker):
    job_id = await started(trainer)
    job = told(worker, job_id)
    async with asyncio.timeout(20), trainer.stream("GET", f"{PATH}/{job_id}/stream") as stream:
        seen = ""
        async for text in stream.aiter_text():
            seen += text
            if "Step</dt><dd>3 of 10" in seen and job:
                worker.end(job, JobState.SUCCEEDED, result={"ref": "fin.sa@1", "label": "fin.sa"})
                job = None
            if "event: ended" in seen:
                break
    assert "fin.sa@1" in seen


async def test_a_cancelled_training_is_cancelled(trainer, api):
    job_id = await started(trainer)
    assert "cancelled" in words(await trainer.post(f"{PATH}/{job_id}/cancel"))
    assert (await api["train"].get(f"/v1/training/jobs/{job_id}")).json()["state"] == "cancelled"


async def test_a_reader_sees_and_starts_nothing(api, trainer, ledger):
    job_id = await started(trainer)
    _, token = api_keys.create(ledger.redis, frozenset({Scope.READ}))
    async with aclosing(await signed_in(api["url"], token)) as reader:
        assert "scope train starts trainings" in words(await reader.get(PATH))
        assert "needs a key with the scope train" in (await reader.get(f"{PATH}/{job_id}")).text
        for path in (PATH, f"{PATH}/estimate", f"{PATH}/{job_id}/cancel"):
            answer = await as_part(reader).post(path, data=ADAPTER)
            assert (answer.status_code, "'train'" in words(answer)) == (403, True)


async def test_another_tenant_sees_nothing(api, tokens, trainer):
    job_id = await started(trainer)
    async with aclosing(await signed_in(api["url"], tokens["other"])) as other:
        assert job_id not in (await other.get(PATH)).text
        for answer in (await other.get(f"{PATH}/{job_id}"), await other.post(f"{PATH}/{job_id}/cancel")):
            assert answer.status_code == 404
        assert (await other.get(f"{PATH}/{job_id}/stream")).status_code == 404


@pytest.mark.parametrize("headers", [{"X-CSRF-Token": "x"}, {"Sec-Fetch-Site": "cross-site"}])
async def test_a_foreign_form_starts_nothing(trainer, api, headers):
    assert (await trainer.post(PATH, data=ADAPTER, headers=headers)).status_code == 403
    assert (await api["train"].get("/v1/training/jobs")).json()["items"] == []
