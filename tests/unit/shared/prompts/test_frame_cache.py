"""Frames of conversations with tools: few are kept, in so many characters."""

from shared.contracts.prompts import Part, Segment
from shared.errors import Invalid
from shared.prompts.frame_cache import FrameCache


def test_a_frame_is_made_once_and_the_one_that_was_used_longest_ago_goes_first():
    cache, made = FrameCache(most_chars=3 * 5_000), []

    def ask(key):
        frame = (Segment(Part.TEMPLATE, key * 800),)
        return cache.of(key, lambda: made.append(key) or frame)

    for key in "abcabdabc":
        ask(key)
    assert made == ["a", "b", "c", "d", "c"]
    assert cache.chars <= 15_000


def test_a_frame_that_is_too_large_is_not_kept_and_a_refusal_is():
    cache, made = FrameCache(most_chars=10_000), []
    for _ in range(2):
        cache.of("large", lambda: made.append("large") or (Segment(Part.TEMPLATE, "x" * 9_000),))
        cache.of("refused", lambda: made.append("refused") or Invalid("template_refuses", "no"))
    assert made == ["large", "refused", "large"]
