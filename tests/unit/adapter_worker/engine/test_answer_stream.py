"""Which piece of a text has the log-probability of which token."""

from hypothesis import given
from hypothesis import strategies as st

from services.adapter_worker.engine.answer_stream import AnswerStream, TokenScore, logprobs_of, scored


def score(number):
    return TokenScore(scored(number, -number / 8, "61"))


def pieces_of(texts, stops):
    """Push the texts, one a token, up to a stop string; returns (text, numbers of tokens) of each piece."""
    stream, shown = AnswerStream(stops), []
    for number, text in enumerate(texts):
        shown.append(stream.push(text, score(number)))
        if stream.is_stopped:
            break
    shown.append(stream.end())
    return [(text, [one.token.token_id for one in scores]) for text, scores in shown]


def test_tokens_that_are_held_back_come_with_the_text_that_shows_them():
    # "b" may begin the stop string, "" is a part of a character that the next token completes.
    assert pieces_of(["a", "b", "", "é", "c"], ["bx"]) == [
        ("a", [0]), ("", []), ("", []), ("bé", [1, 2, 3]), ("c", [4]), ("", []),
    ]  # fmt: skip


def test_a_token_that_is_shown_in_part_comes_with_its_first_piece():
    assert pieces_of(["ab", "c"], ["bx"]) == [("a", [0]), ("bc", [1]), ("", [])]


def test_what_a_stop_string_cuts_off_is_not_shown():
    assert pieces_of(["a", "b", "x", "never"], ["bx"]) == [("a", [0]), ("", []), ("", []), ("", [])]
    assert pieces_of(["ab", "x"], ["bx"]) == [("a", [0]), ("", []), ("", [])]


def test_what_is_held_back_at_the_end_and_tokens_without_text_are_shown_last():
    assert pieces_of(["a", "b"], ["bx"])[-1] == ("b", [1])
    assert pieces_of(["a", "", ""], ["bx"])[-1] == ("", [1, 2])


@given(
    st.lists(st.sampled_from(["", "a", "b", "ab", "ba", "xab"]), max_size=12), st.lists(st.sampled_from(["ab", "x"]))
)
def test_no_token_comes_twice_and_none_is_lost_before_a_stop(texts, stops):
    pieces = pieces_of(texts, stops)
    numbers = [number for _, of_piece in pieces for number in of_piece]
    assert numbers == list(range(len(numbers)))
    text, whole = "".join(text for text, _ in pieces), "".join(texts)
    cuts = [whole.index(stop) for stop in stops if stop in whole]
    assert text == whole[: min(cuts, default=len(whole))]
    if not cuts:
        assert len(numbers) == len(texts)
    assert "".join(texts[number] for number in numbers).startswith(text)


def test_scores_without_alternatives_have_none():
    assert logprobs_of([score(1), score(2)]).model_dump() == {
        "token_ids": (1, 2), "logprobs": (-0.125, -0.25), "token_bytes": ("61", "61"), "top": (),
    }  # fmt: skip
