"""What a traffic log takes out of texts: by built-in patterns, by a tenant's own, in time whatever they are."""

import time

import pytest

from services.api.traffic.redaction import MOST_KEPT_CHARS, Redactor
from shared.contracts.traffic import BUILT_IN, MAX_PATTERNS, RedactionPattern, TrafficPolicy
from shared.errors import Invalid


def redacted(text, *patterns, leave_out=()):
    return Redactor(TrafficPolicy(patterns=patterns, leave_out=leave_out)).redact(text)


def pattern(expression, replacement=None, name="own"):
    return RedactionPattern(name=name, expression=expression, replacement=replacement)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("write to ann.b+c@exämple.co.uk, or почта@пример.рф.", "write to [email], or [email]."),
        ("call +49 (0)30 1234-567, (555) 123-4567 or 555-1234", "call [phone], [phone] or [phone]"),
        ("ring 030 1234567 or 06 12 34 56 78", "ring [phone] or [phone]"),
        ("card 4111 1111 1111 1111, exp 12/27", "card [card], exp 12/27"),
        ("pay DE89 3704 0044 0532 0130 00 now", "pay [iban] now"),
        ("key sk-proj-abcDEF123456789 and sbk_abcdefgh12345", "key [secret] and [secret]"),
        ("Authorization: Bearer abc.def-12345678", "Authorization: [secret]"),
        ("eyJhbGciOi.eyJzdWIiOiIx.SflKxwRJ expired", "[secret] expired"),
        ("AKIAIOSFODNN7EXAMPLE", "[secret]"),
        ("my password: hunter2, please", "my password: [secret], please"),
        ('{"api_key": "abc"}', '{"api_key": "[secret]"}'),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY----- there", "[secret] there"),
        ("from 10.0.0.1, fe80::1, ::1 and 2001:db8:0:0:0:0:0:1", "from [ip], [ip], [ip] and [ip]"),
        ("order 1234567", "order [number]"),
        ("我的电话是13812345678谢谢, رقمي ٠١٢٣٤٥٦٧٨٩", "我的电话是[number]谢谢, رقمي [number]"),
        ("at 12:30 on 2024-05-06, v1.2.3 of std::string for 1,234,567 users", None),
        ("", ""),
        ("日本語のテキスト", None),
    ],
)
def test_the_built_in_patterns_take_out_what_tells_who_it_was(text, kept):
    assert redacted(text) == (text if kept is None else kept)


def test_half_a_character_is_replaced_and_no_reason_to_fail():
    assert redacted("a\ud800b ann@example.org") == "a\ufffdb [email]"


def test_a_built_in_pattern_may_be_left_out():
    assert redacted("ann@example.org 10.0.0.1", leave_out=("email",)) == "ann@example.org [ip]"
    text = "ann@example.org 10.0.0.1 1234567 +49 30 1234567 sk-abcdefghij"
    assert redacted(text, leave_out=BUILT_IN) == text


def test_own_patterns_come_first_and_may_keep_groups():
    ticket = pattern(r"\b([A-Z]{2,5})-([0-9]+)\b", r"\1-\2?", name="ticket")
    assert redacted("see AB-1234567", pattern(r"\b([A-Z]{2,5})-[0-9]+\b", r"\1-…")) == "see AB-…"
    assert redacted("see AB-12", ticket) == "see AB-12?"
    assert redacted("see AB-12", pattern(r"[A-Z]+-[0-9]+", name="ticket")) == "see [ticket]"
    assert redacted("ab", pattern(r"(a)|(b)", r"<\1\2>")) == "<a><b>"
    assert redacted("ab", pattern("a", "")) == "b"
    assert redacted("a", pattern("a", r"\0\0 \n [почта]")) == r"aa \n [почта]"


@pytest.mark.parametrize(
    ("expression", "replacement", "why"),
    [
        ("(x", None, "missing )"),
        ("(?=a)", None, "(?="),
        (r"(a)\1", None, "escape"),
        ("(a{1000}){1000}", None, "repetition"),
        (r"(?:\pL{500}){2}", None, "too large"),
        ("a*", None, "empty text"),
        ("$", None, "empty text"),
        ("(a)", r"\2", "group 2 of 1"),
    ],
)
def test_a_pattern_that_cannot_be_used_says_why(expression, replacement, why):
    with pytest.raises(Invalid) as refused:
        redacted("x", pattern(expression, replacement, name="mine"))
    assert refused.value.code == "pattern_invalid"
    assert "'mine'" in refused.value.detail
    assert why in refused.value.detail


HOSTILE = [
    *(
        "a" * 100_000,
        "1" * 100_000,
        "ann@" * 25_000,
        "1 " * 50_000,
        "a:" * 50_000,
        "+1 " * 30_000,
        "eyJaaaaaa." * 10_000,
    ),
    *(
        "token=" * 16_000,
        "-----BEGIN PRIVATE KEY-----" * 4_000,
        "漢字" * 50_000,
        "\U0001f600" * 100_000,
        "0a:" * 30_000,
    ),
]


def seconds(redactor, text):
    started = time.process_time()
    assert len(redactor.redact(text)) <= MOST_KEPT_CHARS
    return time.process_time() - started


@pytest.mark.parametrize("expression", ["(a+)+$", "(a|aa)+$", "(.*)(.*)(.*)(.*)z", "a|.*b", "(x+x+)+y", r"\b", "."])
def test_what_would_run_away_elsewhere_ends_in_time_on_any_text(expression):
    redactor = Redactor(TrafficPolicy(patterns=(pattern(expression, r"\0\0\0\0"),)))
    assert max(seconds(redactor, text) for text in HOSTILE) < 1


def test_as_many_patterns_as_there_may_be_end_in_time_and_grow_no_text_without_bound():
    many = tuple(pattern(".", r"\0" * 50, name=f"p{number}") for number in range(MAX_PATTERNS))
    redactor = Redactor(TrafficPolicy(patterns=many))
    assert max(seconds(redactor, text) for text in HOSTILE) < 1


def test_nothing_is_kept_of_what_a_cut_may_have_parted():
    secret = "4111 1111 1111 1111"
    for before in range(39_980, 40_001):
        kept = redacted("k" * 4000 + " sk-" + "x" * (before - 4004) + " " + secret)
        assert "4111" not in kept
        assert kept.startswith("k" * 2000)


def test_of_a_text_with_very_many_matches_only_the_beginning_is_kept():
    assert redacted("a1 " * 1_000 + "b ann@example.org", pattern("1", "")) == "a " * 1_000 + "b "
    assert redacted("a1 " * 1_002, pattern("1", "")) == "a " * 1_000 + "a"
    assert redacted("a1 " * 999 + "ann@example.org", pattern("1", "")) == "a " * 999 + "[email]"
