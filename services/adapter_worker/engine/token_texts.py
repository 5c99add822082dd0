"""What a tokenizer's tokens say: as text, many together, and as bytes, each alone."""

import copy
import re
from itertools import groupby
from typing import Any

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_SPACE = "▁"


class TokenTexts:
    """Decodes ids; made once for an engine, whose thread alone uses it."""

    def __init__(self, tokenizer: Any) -> None:
        # A copy, because encoding in another thread may change the tokenizer's state temporarily.
        self._tokenizer = copy.deepcopy(tokenizer)
        self._added = frozenset(tokenizer.added_tokens_decoder)
        self._alphabet = _byte_level_alphabet() if _is_byte_level(tokenizer) else None
        self._known: dict[int, str] = {}

    def decode(self, ids: list[int], shown: frozenset[int] = frozenset()) -> str:
        """The text of ids, without control tokens, but for those that are to be shown by their names."""
        if shown.isdisjoint(ids):
            return self._decode(ids)
        pieces = (list(several) for _, several in groupby(ids, key=shown.__contains__))
        return "".join(self._piece(piece, shown) for piece in pieces)

    def _piece(self, ids: list[int], shown: frozenset[int]) -> str:
        if ids[0] in shown:
            return "".join(self._tokenizer.convert_ids_to_tokens(ids))
        return self._decode(ids)

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def bytes_of(self, token: int) -> str:
        """The UTF-8 bytes of one token as hexadecimal; those of its name where it is a control token.

        Empty for an id that the vocabulary lacks: a model's head may have more rows than there are tokens.
        """
        if token not in self._known:
            self._known[token] = self._bytes_of(token).hex()
        return self._known[token]

    def _bytes_of(self, token: int) -> bytes:
        piece = self._tokenizer.convert_ids_to_tokens(token) or ""
        if self._alphabet is None:
            byte = _BYTE.fullmatch(piece)
            return bytes.fromhex(byte[1]) if byte else piece.replace(_SPACE, " ").encode()
        if token in self._added or not self._alphabet.keys() >= set(piece):
            return piece.encode()
        return bytes(self._alphabet[character] for character in piece)


def _is_byte_level(tokenizer: Any) -> bool:
    inner = getattr(tokenizer, "backend_tokenizer", None)
    return inner is not None and "ByteLevel" in repr(inner.decoder)


def _byte_level_alphabet() -> dict[str, int]:
    """The byte that each character of a byte-level vocabulary stands for, as GPT-2 has it."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(256 + n): byte for n, byte in enumerate(hidden)}
