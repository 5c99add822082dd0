"""A chat's stream over several connections: each text once, errors as errors."""

import json

import pytest

from signalbox import ConflictError, ServerError, Unreachable
from signalbox.chat import ChatStream, chat, chat_stream
from signalbox.chat_results import Chat, ChatChunk
from signalbox.evaluation import evaluation_of
from signalbox.results import Selection


def line(text=None, index=0, **more):
    delta = {} if text is None else {"content": text}
    return f"data: {json.dumps({'id': 'c', 'choices': [{'index': index, 'delta': delta}], **more})}\n\n"


@pytest.fixture
def stream():
    return chat_stream("hi", "auto", {}, "once")


def texts(stream, *lines):
    stream.open()
    return [(chunk.index, chunk.text) for chunk in stream.feed("".join(lines)) if chunk.text]


def test_a_text_is_a_users_turn_and_every_request_has_a_key():
    request = chat("hi", temperature=None, max_completion_tokens=5).request
    expected = {"model": "auto", "messages": [{"role": "user", "content": "hi"}], "max_completion_tokens": 5}
    assert request.json == expected
    assert request.is_repeatable


def test_it_is_over_at_done_and_not_before(stream):
    assert texts(stream, line("a")) == [(0, "a")]
    stream.close()
    assert not stream.is_over
    assert texts(stream, line("a"), "data: [DONE]\n\n") == []
    assert stream.is_over


def test_what_was_told_before_is_left_out_wherever_the_pieces_end(stream):
    assert texts(stream, line("one "), line("x", index=1), line("two")) == [(0, "one "), (1, "x"), (0, "two")]
    stream.fail(Unreachable("api_unreachable", "gone", retryable=True))
    again = texts(stream, line("one tw"), line("o three"), line("xyz", index=1), line(" four"))
    assert again == [(0, " three"), (1, "yz"), (0, " four")]


def test_chunks_without_text_are_told_again(stream):
    ends = line(signalbox={"label": "a.b"})
    assert [chunk.signalbox for chunk in stream.feed(ends)] == [{"label": "a.b"}]


def call_of(its_id):
    return {"id": its_id, "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}


def call_line(its_id, number):
    delta = {"tool_calls": [{"index": number, **call_of(its_id)}]}
    return f"data: {json.dumps({'id': 'c', 'choices': [{'index': 0, 'delta': delta}]})}\n\n"


def test_a_call_is_told_once_by_all_connections_together(stream):
    def called(*lines):
        stream.open()
        return [call.id for chunk in stream.feed("".join(lines)) for call in chunk.tool_calls]

    assert called(line("I look."), call_line("a", 0)) == ["a"]
    stream.fail(Unreachable("api_unreachable", "gone", retryable=True))
    assert called(line("I look."), call_line("a", 0), call_line("b", 1), line()) == ["b"]


def test_calls_of_a_whole_answer_are_typed_and_the_message_goes_back_as_it_is():
    message = {"role": "assistant", "content": None, "tool_calls": [call_of("a")]}
    answer = Chat.from_dict({"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]})
    (call,) = answer.tool_calls
    assert (call.id, call.name, call.parsed, answer.text) == ("a", "get_weather", {"city": "Paris"}, "")
    assert answer.message == message


@pytest.mark.parametrize(
    ("status", "kind", "more"), [(503, ServerError, {"retryable": True}), (409, ConflictError, {})]
)
def test_an_error_in_the_stream_is_raised(stream, status, kind, more):
    body = {"error": {"message": "m"}, "status": status, "code": "x", "detail": "wait", **more}
    with pytest.raises(kind, match="wait") as caught:
        list(stream.feed(f"data: {json.dumps(body)}\n\n"))
    assert (caught.value.code, caught.value.retryable) == ("x", bool(more))


def test_an_answer_that_became_another_is_not_asked_for_again(stream):
    with pytest.raises(ServerError):
        stream.fail(ServerError("stream_restarted", "otherwise", retryable=True))


def test_a_chunk_of_usage_alone_has_no_text():
    assert ChatChunk.from_dict({"id": "c", "choices": [], "usage": {"total_tokens": 3}}).text == ""
    assert isinstance(chat_stream("x", "base", {}, None), ChatStream)


def test_an_evaluation_counts_by_label_and_keeps_what_was_wrong():
    rows = [{"input": text, "label": label} for text, label in (("a", "x.a"), ("b", "x.a"), ("c", "none.none"))]
    found = evaluation_of(rows, [Selection(label="x.a"), Selection(label="x.b"), Selection(label=None)])
    assert (found.rows, found.right, found.rejected) == (3, 2, 1)
    assert found.per_label == {"x.a": (2, 1), "none.none": (1, 1)}
    assert found.accuracy == pytest.approx(2 / 3)
    assert [(row["input"], selection.label) for row, selection in found.wrong] == [("b", "x.b")]
