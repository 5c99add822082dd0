"""One listener's queue: bounded, and honest about gaps."""

import asyncio

from services.api.infra.event_feed import QUEUE_LENGTH, Event, Reader

TOKEN = Event("1-0", "token", "{}")


async def test_events_are_taken_in_order_in_one_go():
    reader = Reader("j")
    events = [Event(f"{number}-0", "token", "{}") for number in range(3)]
    for event in events:
        reader.offer(event)
    assert await reader.take() == events


async def test_beyond_the_bound_there_is_a_gap_once_and_then_new_events():
    reader = Reader("j")
    for _ in range(QUEUE_LENGTH + 5):
        reader.offer(TOKEN)
    assert await reader.take() is None
    reader.offer(TOKEN)
    assert await reader.take() == [TOKEN]


async def test_closing_wakes_a_listener_that_waits():
    reader = Reader("j")
    waiting = asyncio.create_task(reader.take())
    await asyncio.sleep(0)  # one turn of the loop: it waits now
    reader.close()
    assert await waiting is None


def test_only_a_final_state_ends_a_stream():
    assert Event("1-0", "state", '{"state": "succeeded"}').is_final
    assert not Event("1-0", "state", '{"state": "running"}').is_final
    assert not Event("1-0", "token", '{"text": "succeeded"}').is_final


async def test_who_waits_for_the_end_alone_is_woken_by_nothing_else():
    reader = Reader("j", ends_only=True)
    waiting = asyncio.create_task(reader.take())
    end = Event("3-0", "state", '{"state": "succeeded"}')
    for event in (TOKEN, Event("2-0", "state", '{"state": "running"}')):
        reader.offer(event)
    await asyncio.sleep(0)  # one turn of the loop: it waits now
    assert not waiting.done()
    reader.offer(end)
    assert await waiting == [end]
