"""Event streams: replayed, live, resumed, bounded."""

import asyncio
import json

from services.api.infra.event_feed import QUEUE_LENGTH
from shared.contracts.jobs import JobState
from tests.support.api import client_of, code, serving


class Stream:
    """Server-sent events as they come."""

    def __init__(self, response):
        self.response = response
        self._lines = response.aiter_lines()

    async def next(self):
        """The next event; None at the end."""
        fields = {}
        async for line in self._lines:
            if not line and "data" in fields:
                return fields["event"], json.loads(fields["data"]), fields["id"]
            name, _, value = line.partition(": ")
            fields[name] = value
        return None

    async def rest(self):
        events = []
        while event := await self.next():
            events.append(event)
        return events


def listen(client, job_id, after=None, url="/v1/jobs"):
    headers = {"Last-Event-ID": after} if after else {}
    return client.stream("GET", f"{url}/{job_id}/events", headers=headers)


async def submit(api):
    return (await api["submit"].post("/v1/jobs", json={"input": "x", "label": "fin.sa"})).json()["id"]


def brief(events):
    return [data.get("state") or data.get("text") for _, data, _ in events]


async def test_the_past_is_replayed_and_the_stream_ends_with_the_job(api, release, worker):
    job_id = await submit(api)
    worker.run(job_id, "generate.fin", "positive")
    async with listen(api["submit"], job_id) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert brief(await Stream(response).rest()) == ["routed", "running", "positive", "succeeded"]


async def test_tokens_come_live_as_they_are_told(api, release, worker):
    job_id = await submit(api)
    async with listen(api["submit"], job_id) as response:
        stream = Stream(response)
        assert brief([await stream.next()]) == ["routed"]
        job = worker.take(job_id, "generate.fin")
        assert brief([await stream.next()]) == ["running"]
        for text in ("po", "si", "tive"):
            worker.tell(job, "token", text=text)
            assert brief([await stream.next()]) == [text]
        worker.end(job, JobState.SUCCEEDED, result={"text": "positive"})
        assert brief(await stream.rest()) == ["succeeded"]


async def test_a_client_that_was_cut_off_goes_on_after_its_last_event(api, release, worker):
    job_id = await submit(api)
    job = worker.take(job_id, "generate.fin")
    worker.tell(job, "token", text="one")
    async with listen(api["submit"], job_id) as response:
        stream = Stream(response)
        seen = [await stream.next() for _ in range(3)]
    worker.tell(job, "token", text="two")
    async with listen(api["submit"], job_id, after=seen[-1][2]) as response:
        stream = Stream(response)
        assert brief([await stream.next()]) == ["two"]
        worker.end(job, JobState.SUCCEEDED, result={})
        assert brief(await stream.rest()) == ["succeeded"]
    async with listen(api["submit"], job_id, after=seen[-1][2]) as response:
        assert brief(await Stream(response).rest()) == ["two", "succeeded"]


async def test_nothing_is_missing_and_nothing_comes_twice_where_a_queue_overflows(api, release, worker, ledger):
    job_id = await submit(api)
    count = 20 * QUEUE_LENGTH
    async with listen(api["submit"], job_id) as response:
        stream = Stream(response)
        await stream.next()
        job = worker.take(job_id, "generate.fin")

        def talk():
            from shared.ledger import calls

            for first in range(0, count, 1024):
                numbers = range(first, min(first + 1024, count))
                ledger.do(calls.append([(job.id, job.attempt, "token", {"text": str(n)}) for n in numbers]))
            worker.end(job, JobState.SUCCEEDED, result={})

        await asyncio.to_thread(talk)
        heard = brief(await stream.rest())
    assert heard == ["running", *map(str, range(count)), "succeeded"]


async def test_no_character_of_an_event_ends_a_line_of_the_stream(api, release, worker):
    job_id = await submit(api)
    text = "a\u2028b\u2029c\x85d\r\n\x0b\x0c\x1c\x1d\x1e"
    worker.run(job_id, "generate.fin", text)
    async with listen(api["submit"], job_id) as response:
        lines = (await response.aread()).decode().splitlines()
    assert {line.partition(":")[0] for line in lines} == {"id", "event", "data", ""}
    told = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert told[2]["text"] == text


async def test_many_listeners_of_one_job_all_hear_it(api, release, worker):
    job_id = await submit(api)
    async with client_of(api["url"], api["submit"].headers["authorization"][7:]) as client:

        async def hear():
            async with listen(client, job_id) as response:
                return brief(await Stream(response).rest())

        hearing = [asyncio.create_task(hear()) for _ in range(50)]
        await asyncio.to_thread(worker.run, job_id, "generate.fin")
        assert all(heard == ["routed", "running", "positive", "succeeded"] for heard in await asyncio.gather(*hearing))


async def test_above_the_limit_a_reader_is_told_to_come_later(settings, tokens, release):
    few = settings.model_copy(update={"max_event_readers": 1})
    async with serving(few) as (_, url), client_of(url, tokens["submit"]) as client:
        job_id = (await client.post("/v1/jobs", json={"input": "x"})).json()["id"]
        async with listen(client, job_id) as response:
            stream = Stream(response)  # kept: a forgotten iterator closes its response
            await stream.next()
            refused = await client.get(f"/v1/jobs/{job_id}/events")
            assert code(refused, 429) == "too_many_event_readers"
            assert int(refused.headers["retry-after"]) > 0


async def test_an_unknown_job_and_a_malformed_id_are_refused_before_the_stream(api, release):
    assert code(await api["submit"].get("/v1/jobs/job_none/events"), 404) == "job_not_found"
    job_id = await submit(api)
    answer = await api["submit"].get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": "(nonsense"})
    assert code(answer, 422) == "request_invalid"


async def test_a_replayed_dead_letter_is_followed_past_its_first_end(api, release, worker):
    job_id = await submit(api)
    worker.lose(job_id, "generate.fin", times=3)
    await api["admin"].post(f"/v1/jobs/{job_id}/replay")
    async with listen(api["submit"], job_id) as response:
        stream = Stream(response)
        heard = [await stream.next()]
        while not heard[-1][1].get("replayed"):
            heard.append(await stream.next())
        assert "failed" in brief(heard)
        worker.run(job_id, "generate.fin")
        assert brief(await stream.rest()) == ["running", "positive", "succeeded"]


async def test_a_server_that_stops_ends_its_streams_at_once(settings, tokens, release):
    async with serving(settings) as (app, url), client_of(url, tokens["submit"]) as client:
        job_id = (await client.post("/v1/jobs", json={"input": "x"})).json()["id"]
        async with listen(client, job_id) as response:
            stream = Stream(response)
            await stream.next()
            await app.state.clients.feed.close()
            assert await stream.rest() == []
