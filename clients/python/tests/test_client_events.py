"""The parser of server-sent events, and when a job's stream is opened again."""

import json

import pytest

from signalbox import Answer, Event, ServerError, Unreachable, WaitTimeout
from signalbox.sse import GIVE_UP_SECONDS, RESUME_SECONDS, EventParser, EventStream

WHOLE = (
    ': comment\r\n\r\nid: 1-0\r\nevent: state\r\ndata: {"state":"running"}\r\n\r\n'
    'id:2-0\nevent:token\ndata:{"text":"a\u2028b\x85c"}\n\nretry: 5\r'
    'id: 3-0\revent: token\rdata: {\rdata: "text":"d"}\r\r'
)
EXPECTED = [
    ("1-0", "state", {"state": "running"}),
    ("2-0", "token", {"text": "a\u2028b\x85c"}),
    ("3-0", "token", {"text": "d"}),
]


def parsed(*pieces):
    parser = EventParser()
    return [(event.id, event.type, event.data) for piece in pieces for event in parser.feed(piece)]


def test_every_cut_of_a_stream_gives_the_same_events():
    text = WHOLE + "\n"
    assert parsed(text) == EXPECTED
    assert parsed(*text) == EXPECTED
    assert [parsed(text[:at], text[at:]) for at in range(len(text))] == [EXPECTED] * len(text)


def test_an_event_that_was_cut_off_is_not_an_event():
    assert parsed('id: 1-0\nevent: token\ndata: {"text": "half"}\n') == []


def test_an_event_without_data_is_none_and_lends_nothing_to_the_next():
    assert parsed("event: token\nid: 9-9\n\n", "data: {}\n\n") == [("", "message", {})]


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def stream(clock):
    return EventStream("/v1/jobs/job_1/events", clock=clock)


def feed(stream, event_id, **state):
    return list(stream.feed(f"id: {event_id}\nevent: state\ndata: {json.dumps(state)}\n\n"))


def lost(**more):
    return Unreachable("api_unreachable", "gone", retryable=True, **more)


def test_a_stream_goes_on_after_the_last_event_it_gave(stream):
    assert "Last-Event-ID" not in stream.open().headers
    feed(stream, "5-0", state="running")
    stream.fail(lost())
    assert stream.open().headers["Last-Event-ID"] == "5-0"
    assert list(stream.feed('data: {"half": 1}\n')) == []
    stream.open()
    assert list(stream.feed("\n")) == []  # what a lost connection had begun is forgotten


def test_a_stream_ends_with_the_job_and_not_with_a_server_that_stops(stream):
    stream.open()
    feed(stream, "1-0", state="running")
    stream.close()
    assert not stream.is_over
    stream.open()
    feed(stream, "2-0", state="succeeded")
    stream.close()
    assert stream.is_over


def test_the_end_of_a_run_before_a_replay_is_not_the_end(stream):
    stream.open()
    feed(stream, "1-0", state="failed")
    feed(stream, "2-0", state="queued", replayed=True)
    stream.close()
    assert not stream.is_over


def test_the_stream_of_a_job_that_ended_before_is_over_when_it_is_empty_twice(clock):
    stream = EventStream("/path", after="9-0", clock=clock)
    for is_over in (False, True):
        stream.open()
        stream.close()
        assert stream.is_over is is_over


def test_an_api_that_stays_away_is_given_up_but_every_event_starts_the_time_anew(stream, clock):
    stream.fail(lost())
    clock.now = GIVE_UP_SECONDS - 1
    feed(stream, "1-0", state="running")
    stream.fail(lost())
    clock.now += GIVE_UP_SECONDS
    stream.fail(lost())
    clock.now += 1
    with pytest.raises(Unreachable):
        stream.fail(lost())


def test_a_refusal_that_stays_is_raised_at_once_and_one_that_passes_is_waited_for(stream):
    with pytest.raises(ServerError):
        stream.fail(ServerError("internal_error", "it failed"))
    stream.fail(lost(retry_after_seconds=3.0))
    assert stream.pause_seconds == 3.0
    stream.open()
    stream.close()
    assert stream.pause_seconds == RESUME_SECONDS


def test_a_deadline_shortens_reads_and_ends_the_wait(clock):
    stream = EventStream("/path", deadline=10.0, clock=clock)
    clock.now = 4.0
    assert stream.open().timeout_seconds == 6.0
    clock.now = 10.0
    with pytest.raises(WaitTimeout, match="goes on"):
        feed(stream, "1-0", state="running")
    with pytest.raises(WaitTimeout):
        stream.fail(lost())
    with pytest.raises(WaitTimeout):
        stream.open()


def texts_of(*events):
    answer = Answer()
    return [answer.add(Event(type=kind, data=data)) for kind, data in events]


def test_an_answer_grows_and_a_later_try_begins_it_anew():
    state, first = ("state", {"state": "running"}), ("token", {"text": "one ", "attempt": 1})
    later = [("restart", {"try": 2, "attempt": 2}), ("token", {"text": "1", "attempt": 2})]
    assert texts_of(state, first, first, state, *later) == ["", "one ", "one one ", "one one ", "", "1"]
    assert texts_of(first, later[1]) == ["one ", "1"]  # a stream that goes on after the restart


def test_an_answer_is_the_text_of_one_choice_among_others():
    events = [
        Event(type="token", data={"text": text, "index": index}) for index, text in [(0, "a"), (1, "x"), (0, "b")]
    ]
    for answer, texts in ((Answer(), ["a", "a", "ab"]), (Answer(1), ["", "x", "x"])):
        assert [answer.add(event) for event in events] == texts


def test_an_answer_of_a_server_that_names_no_attempts_is_all_its_text():
    assert texts_of(("token", {"text": "a"}), ("token", {"text": "b"})) == ["a", "ab"]
