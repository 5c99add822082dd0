"""Encodes the segments of a prompt together, as one text in which only the template's control tokens are borders.

The tokenizer that does so knows none of its control tokens: in their place stand borders with random names, which no
text can hold. So text between two control tokens is encoded as in the tokenizer's own chat template, and what a user
calls a control token is text.
"""

import functools
import itertools
import json
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from shared.contracts.prompts import Part, Segment
from shared.errors import Invalid
from shared.model.tokens import bos_ids, control_ids, eos_id, keep_ends, prompt_too_long

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

_Strip = tuple[bool, bool]
"""Whether a control token takes the white space before it and after it (`lstrip`, `rstrip` of an added token)."""
_STRIPS: tuple[_Strip, ...] = ((False, False), (False, True), (True, False), (True, True))


class _Bordered(NamedTuple):
    """A tokenizer without its control tokens."""

    tokenizer: "Tokenizer"
    borders: Mapping[_Strip, str]
    cut: str
    """A border that is left out of the ids: it parts a text that would become a control token."""
    ids: Mapping[int, int]
    """Its ids of added tokens, and those of the tokenizer that it was made of."""
    controls: Mapping[str, tuple[int, _Strip]]
    """Control tokens by name."""

    def split(self, text: str) -> Iterator[str]:
        """Yield a template's text in pieces, each a control token or text between two."""
        names = sorted(self.controls, key=len, reverse=True)
        return filter(None, re.split(f"({'|'.join(map(re.escape, names))})", text) if names else [text])


class _Line(NamedTuple):
    """A prompt as one text: borders stand for control tokens, whose ids are `controls` in their order."""

    text: str
    controls: Sequence[int]
    inputs: Sequence[tuple[int, int]]
    """The spans of inputs in the text."""


class _Token(NamedTuple):
    id: int
    start: int
    end: int


def encode_joined(tokenizer: "PreTrainedTokenizerBase", segments: Sequence[Segment], max_tokens: int) -> list[int]:
    """Return the ids of joined segments, at most `max_tokens`; an input that is too long loses its middle.

    Raises `Invalid` where the prompt does not fit even without its input.
    """
    bordered = _bordered(tokenizer)
    line = _line(tokenizer, bordered, segments)
    tokens = _tokens(bordered, line, control_ids(tokenizer))
    excess = len(tokens) - max_tokens
    return [token.id for token in (_shortened(tokens, line.inputs, excess, max_tokens) if excess > 0 else tokens)]


def _line(tokenizer: "PreTrainedTokenizerBase", bordered: _Bordered, segments: Sequence[Segment]) -> _Line:
    text, controls, inputs = "", [], []
    for part, piece, is_input in _pieces(tokenizer, bordered, segments):
        if isinstance(piece, str):
            inputs += [(len(text), len(text) + len(piece))] if is_input else []
            text += piece
        else:
            controls.append(piece)
            text += bordered.borders[_strip_of(bordered, piece) if part is Part.TEMPLATE else (False, False)]
    return _Line(text, controls, inputs)


def _pieces(
    tokenizer: "PreTrainedTokenizerBase", bordered: _Bordered, segments: Sequence[Segment]
) -> Iterator[tuple[Part, str | int, bool]]:
    """Yield texts and ids of control tokens."""
    for segment in segments:
        if segment.part is Part.USER:
            yield segment.part, segment.text, segment.is_input
        elif segment.part is Part.TEMPLATE:
            for piece in bordered.split(segment.text):
                yield segment.part, bordered.controls[piece][0] if piece in bordered.controls else piece, False
        else:
            ids = bos_ids(tokenizer) if segment.part is Part.START else [eos_id(tokenizer)]
            yield from ((segment.part, number, False) for number in ids)


def _strip_of(bordered: _Bordered, number: int) -> _Strip:
    return next(strip for other, strip in bordered.controls.values() if other == number)


def _tokens(bordered: _Bordered, line: _Line, forbidden: frozenset[int]) -> list[_Token]:
    """Return the tokens of a prompt; a text that would become a control token is cut until it does not."""
    text, cuts = line.text, set[int]()
    while True:
        found = _encoded(bordered, text, line.controls, cuts)
        wrong = [one for one in found if not one.is_control and one.token.id in forbidden and one.length > 1]
        if not wrong:
            return [one.token for one in found]
        cuts |= {(one.token.start + one.token.end) // 2 for one in wrong}


class _Found(NamedTuple):
    token: _Token
    is_control: bool

    @property
    def length(self) -> int:
        return self.token.end - self.token.start


def _encoded(bordered: _Bordered, text: str, controls: Sequence[int], cuts: set[int]) -> list[_Found]:
    """Encode a prompt that is cut at these places; offsets are those of the text without cuts."""
    places = sorted(cuts)
    parts = (text[start:end] for start, end in itertools.pairwise([0, *places, len(text)]))
    encoding = bordered.tokenizer.encode(bordered.cut.join(parts), add_special_tokens=False)
    borders = {bordered.tokenizer.token_to_id(name) for name in bordered.borders.values()}
    cut_id, shift, following = bordered.tokenizer.token_to_id(bordered.cut), 0, iter(controls)
    found = []
    for number, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
        if number == cut_id:
            shift += len(bordered.cut)
            continue
        is_control = number in borders
        known = next(following) if is_control else bordered.ids.get(number, number)
        found.append(_Found(_Token(known, start - shift, end - shift), is_control))
    return found


def _shortened(
    tokens: list[_Token], inputs: Sequence[tuple[int, int]], excess: int, max_tokens: int
) -> Sequence[_Token]:
    inside = [
        at
        for at, token in enumerate(tokens)
        if any(start <= token.start and token.end <= end and token.start < end for start, end in inputs)
    ]
    room = len(inside) - excess
    if room < 1:
        raise prompt_too_long(max_tokens, room)
    dropped = {*inside} - {*keep_ends(inside, room)}
    return [token for at, token in enumerate(tokens) if at not in dropped]


@functools.lru_cache(maxsize=8)
def _bordered(tokenizer: "PreTrainedTokenizerBase") -> _Bordered:
    """Make the tokenizer without control tokens, once; raises `Invalid` for one that is not of the tokenizers library.

    Added tokens that are no control tokens, such as runs of line breaks, stay.
    """
    from tokenizers import AddedToken, Tokenizer

    inner = getattr(tokenizer, "backend_tokenizer", None)
    if inner is None:
        raise Invalid(
            "tokenizer_unsupported", "this template needs a tokenizer.json: save the base model's tokenizer as one"
        )
    content: dict[str, Any] = json.loads(inner.to_str())
    # The unknown token is special, too, but no control token: it stands for characters that the vocabulary lacks.
    controls = [a for a in content["added_tokens"] if a["special"] or a["id"] in control_ids(tokenizer)]
    kept = [added for added in content["added_tokens"] if added not in controls]
    plain = {"added_tokens": kept, "post_processor": None, "truncation": None, "padding": None}
    made = Tokenizer.from_str(json.dumps(content | plain))
    nonce = secrets.token_hex(16)
    borders = {strip: f"\ue000{nonce}{number}\ue001" for number, strip in enumerate(_STRIPS)}
    cut = f"\ue000{nonce}cut\ue001"
    made.add_special_tokens([
        *(AddedToken(name, lstrip=left, rstrip=right, normalized=False) for (left, right), name in borders.items()),
        AddedToken(cut, normalized=False),
    ])  # fmt: skip
    return _Bordered(
        made,
        borders,
        cut,
        {number: added["id"] for added in kept if (number := made.token_to_id(added["content"])) is not None},
        {added["content"]: (added["id"], (added["lstrip"], added["rstrip"])) for added in controls},
    )
