"""Converts prompts to token ids: user text stays text, and only the input may be shortened."""

import functools
import itertools
import json
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shared.contracts.prompts import CHATML_END, Part, Segment
from shared.errors import Invalid

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# `split_special_tokens` sets a state of the Rust tokenizer, which another thread could change before it is used.
_TOKENIZER = threading.Lock()
# That option has no effect on added tokens that are not marked as special, such as `<think>` in many vocabularies.
_CONTROL = re.compile(r"[<\[]\S+[>\]]")


def encode(tokenizer: "PreTrainedTokenizerBase", segments: Sequence[Segment], max_tokens: int) -> list[int]:
    """Return the ids of a prompt, at most `max_tokens` of them; an input that is too long loses its middle.

    Special tokens are recognised only in `TEMPLATE` segments. Raises `Invalid` where the prompt does not fit
    even without its input.
    """
    if any(segment.is_joined for segment in segments):
        from shared.model.joined import encode_joined

        return encode_joined(tokenizer, segments, max_tokens)
    segments = [segment for segment in segments if segment.part in (Part.TEMPLATE, Part.USER)]
    pieces = [_segment_ids(tokenizer, segment) for segment in segments]
    start = bos_ids(tokenizer)
    excess = len(start) + sum(map(len, pieces)) - max_tokens
    if excess > 0:
        pieces = _shortened(segments, pieces, excess, max_tokens)
    return start + [token for piece in pieces for token in piece]


def encode_text(tokenizer: "PreTrainedTokenizerBase", text: str, *, allow_special: bool = False) -> list[int]:
    """Return the ids of plain text, without start or end tokens; by default the name of a control token stays text."""
    with _TOKENIZER:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=not allow_special)
    if allow_special or control_ids(tokenizer).isdisjoint(ids):
        return ids
    pieces = _cut_controls(tokenizer, text)
    if len(pieces) == 1:  # a control token of one character is that character
        return ids
    return [token for piece in pieces for token in encode_text(tokenizer, piece)]


@functools.lru_cache(maxsize=8)
def control_ids(tokenizer: "PreTrainedTokenizerBase") -> frozenset[int]:
    """Return the ids of control tokens: all tokens marked as special, and added tokens like `<think>`.

    The unknown token is none of them: it stands for characters that the vocabulary lacks.
    """
    added = {number for number, token in tokenizer.added_tokens_decoder.items() if _CONTROL.fullmatch(token.content)}
    return frozenset({*tokenizer.all_special_ids, *added} - {tokenizer.unk_token_id})


def control_names(tokenizer: "PreTrainedTokenizerBase") -> frozenset[str]:
    """Return the names of control tokens, the unknown token's among them where it is marked as special."""
    controls = control_ids(tokenizer)
    added = tokenizer.added_tokens_decoder.items()
    return frozenset(token.content for number, token in added if token.special or number in controls)


def _cut_controls(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[str]:
    """Return the text in pieces; a cut goes through the name of each control token in it."""
    with _TOKENIZER:
        found = tokenizer(text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True)
    controls = control_ids(tokenizer)
    spans = zip(found["input_ids"], found["offset_mapping"], strict=True)
    cuts = [(start + end) // 2 for token, (start, end) in spans if token in controls and end - start > 1]
    return [text[start:end] for start, end in itertools.pairwise([0, *cuts, len(text)])]


def _segment_ids(tokenizer: "PreTrainedTokenizerBase", segment: Segment) -> list[int]:
    return encode_text(tokenizer, segment.text, allow_special=segment.part is Part.TEMPLATE)


def _shortened(segments: Sequence[Segment], pieces: list[list[int]], excess: int, max_tokens: int) -> list[list[int]]:
    room = sum(len(ids) for segment, ids in zip(segments, pieces, strict=True) if segment.is_input) - excess
    if room < 1:
        raise prompt_too_long(max_tokens, room)
    return [keep_ends(ids, room) if segment.is_input else ids for segment, ids in zip(segments, pieces, strict=True)]


def prompt_too_long(max_tokens: int, room: int) -> Invalid:
    """Make the error for a prompt in which its input has `room` tokens, none or fewer."""
    return Invalid(
        "prompt_too_long",
        f"the prompt without its input already fills {max_tokens - room} of {max_tokens} tokens: "
        "shorten the instruction or the tools, or raise the limit",
    )


def keep_ends(ids: list[int], room: int) -> list[int]:
    """Return the first and last ids, `room` in all."""
    # A question usually stands at the start or end of a long text, not in its middle.
    tail = room // 2
    return ids[: room - tail] + (ids[-tail:] if tail else [])


def bos_ids(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """Return the start token in a list where the tokenizer puts one before every text, else an empty list."""
    with _TOKENIZER:
        ids: list[int] = tokenizer.encode("", split_special_tokens=False)
    return ids[:1] if ids and ids[0] == tokenizer.bos_token_id else []


def end_id(tokenizer: "PreTrainedTokenizerBase", template: str = "plain") -> int:
    """Return the token that ends an answer: `<|im_end|>` for the ChatML template where the vocabulary has it, else EOS.

    Raises `Invalid` where the tokenizer has neither.
    """
    if template == "chatml":
        with _TOKENIZER:
            ids: list[int] = tokenizer.encode(CHATML_END, add_special_tokens=False, split_special_tokens=False)
        if len(ids) == 1:
            return ids[0]
    return eos_id(tokenizer)


def eos_id(tokenizer: "PreTrainedTokenizerBase") -> int:
    """Return the tokenizer's own end token; raises `Invalid` where it has none."""
    if tokenizer.eos_token_id is None:
        raise Invalid(
            "tokenizer_without_end",
            "the base model's tokenizer names no end-of-sequence token: add eos_token to its configuration",
        )
    return int(tokenizer.eos_token_id)


def end_token_ids(tokenizer: "PreTrainedTokenizerBase", folder: Path | None = None) -> frozenset[int]:
    """Return the ids that end an answer, whatever its template: the tokenizer's own end token and ChatML's.

    Those that the model in `folder` names in its generation_config.json end it, too.
    """
    ids = {tokenizer.eos_token_id, tokenizer.get_vocab().get(CHATML_END)}
    return frozenset(token for token in ids if token is not None) | (_named_ends(folder) if folder else frozenset())


def _named_ends(folder: Path) -> frozenset[int]:
    try:
        named = json.loads((folder / "generation_config.json").read_bytes()).get("eos_token_id")
    except (OSError, ValueError, AttributeError):
        return frozenset()
    ids = named if isinstance(named, list) else [named]
    return frozenset(number for number in ids if type(number) is int)
