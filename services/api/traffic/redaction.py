"""Takes out of a text what a log must not keep, by patterns of RE2: their time is linear in the text's length."""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import re2

from shared.contracts.traffic import BuiltIn, RedactionPattern, TrafficPolicy
from shared.errors import Invalid

MOST_READ_CHARS = 40_000
"""Of a text; what stands behind is not kept."""
MOST_KEPT_CHARS = 8_000
_MARGIN_CHARS = 2_000
"""Before a place where a text is cut: something may begin there that no pattern knows by its beginning alone."""
_MOST_MATCHES = 1_000
"""Of all patterns in one text; what stands behind them is not kept."""
_PROGRAM_BYTES = 1 << 20
"""Memory of one pattern."""
_REFERENCE = re.compile(r"\\([0-9])")
_ASSIGNED = r"(?i)\b([a-z0-9_-]*(?:passw(?:or)?[dt]|secret|token|(?:api|access)[_-]?key)[\"']?[ \t]*[:=][ \t]*[\"']?)"
_SURROGATE = re.compile("[\ud800-\udfff]")

# From what is most telling to what is least: a key has digits, a card's number looks like a telephone's.
_BUILT_IN: dict[BuiltIn, tuple[str, ...]] = {
    "secret": (
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z ]*PRIVATE KEY-----|\z)",
        r"\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]*)*",
        r"(?i)\b(?:bearer|basic)[ \t]+[a-z0-9._~+/=-]{8,}",
        r"\b(?:sk|pk|rk|sb|sbk|hf|gh[opsur]|github_pat|glpat|xox[a-z]|npm|whsec)[-_][A-Za-z0-9_-]{8,}",
        r"\b(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{12,}\b",
        r"\bAIza[A-Za-z0-9_-]{30,}",
        _ASSIGNED + r"[^\s\"',;\[]+",
    ),
    "email": (r"[\pL\pM\pN._%+-]+@[\pL\pM\pN.-]+\.[\pL\pM]{2,}",),
    "ip": (
        r"\b(?:[0-9]{1,3}\.){3}[0-9]{1,3}\b",
        r"(?i)\b(?:[0-9a-f]{1,4}:){7}[0-9a-f]{1,4}\b",
        r"(?i)(?:\b[0-9a-f]{1,4}:(?:[0-9a-f]{1,4}:){0,6}|\B:):(?:[0-9a-f]{1,4}:){0,6}[0-9a-f]{1,4}\b",
        r"(?i)\b[0-9a-f]{1,4}:(?:[0-9a-f]{1,4}:){0,5}:",
    ),
    "iban": (r"(?i)\b[a-z]{2}[0-9]{2}(?:[ -]?[a-z0-9]{4}){2,7}(?:[ -]?[a-z0-9]{1,3})?\b",),
    "card": (r"\p{Nd}(?:[ -]?\p{Nd}){12,18}",),
    "phone": (
        r"(?:\+|\b00)[ ]?\p{Nd}(?:[ ()./-]{0,3}\p{Nd}){5,14}",
        r"(?:\(|\b)[0-9]{3}\)?[ ./-]{0,2}[0-9]{3}[ .-]?[0-9]{4}\b",
        r"(?:\(|\b)0[0-9]{2,5}[ ()./-]{1,3}[0-9]{3,8}(?:[ ./-]?[0-9]{2,8}){0,4}",
        r"\b[0-9]{2,3}(?:[ .-][0-9]{2,3}){3,4}\b",
        r"\b[0-9]{3}-[0-9]{4}\b",
    ),
    "number": (r"\p{Nd}{6,}",),
}


class _Rule(NamedTuple):
    regexp: Any
    replacement: str

    def apply(self, text: str, most: int) -> tuple[str, int]:
        """Return the text with each match replaced, and how many there were; behind so many nothing is left of it."""
        pieces: list[str] = []
        end = count = 0
        for found in self.regexp.finditer(text):
            if count == most:
                return "".join((*pieces, text[end : found.start()])), count
            pieces += (text[end : found.start()], _filled(self.replacement, found))
            end, count = found.end(), count + 1
        return "".join((*pieces, text[end:])), count


class Redactor:
    """Redacts texts by a policy."""

    def __init__(self, policy: TrafficPolicy) -> None:
        """Compile the patterns; raises `Invalid` `pattern_invalid`."""
        self._rules = [*map(_own, policy.patterns), *_built_in(policy)]

    def redact(self, text: str) -> str:
        """Return what is kept of a text."""
        kept, was_cut = _within(_SURROGATE.sub("\ufffd", text))
        left = _MOST_MATCHES
        for rule in self._rules:
            replaced, count = rule.apply(kept, left)
            kept, is_too_long = _within(replaced)
            was_cut, left = was_cut or is_too_long, left - count
        return (kept[:-_MARGIN_CHARS] if was_cut else kept)[:MOST_KEPT_CHARS]


@lru_cache(maxsize=64)
def redactor_of(stored: str) -> Redactor:
    """Return the redactor of a policy, as it is kept; raises `Invalid`."""
    return Redactor(TrafficPolicy.read(stored))


def _within(text: str) -> tuple[str, bool]:
    return text[:MOST_READ_CHARS], len(text) > MOST_READ_CHARS


def _built_in(policy: TrafficPolicy) -> Iterator[_Rule]:
    for name, expressions in _BUILT_IN.items():
        if name not in policy.leave_out:
            yield from (
                _Rule(regexp, rf"\1[{name}]" if regexp.groups else f"[{name}]")
                for regexp in map(_compiled, expressions)
            )


def _own(pattern: RedactionPattern) -> _Rule:
    try:
        regexp = _compiled(pattern.expression)
        matches_nothing = regexp.search("") is not None
    except re2.error as error:
        raise _invalid(pattern, f"RE2 does not take it ({error.args[0].decode()})") from error
    if matches_nothing:
        raise _invalid(pattern, "it matches the empty text")
    replacement = f"[{pattern.name}]" if pattern.replacement is None else pattern.replacement
    wanted = max((int(number) for number in _REFERENCE.findall(replacement)), default=0)
    if wanted > regexp.groups:
        raise _invalid(pattern, f"its replacement names group {wanted} of {regexp.groups}")
    return _Rule(regexp, replacement)


def _compiled(expression: str) -> Any:
    options = re2.Options()
    options.max_mem, options.log_errors = _PROGRAM_BYTES, False
    return re2.compile(expression, options)


def _filled(replacement: str, found: Any) -> str:
    return _REFERENCE.sub(lambda reference: found.group(int(reference[1])) or "", replacement)


def _invalid(pattern: RedactionPattern, why: str) -> Invalid:
    return Invalid("pattern_invalid", f"{why}: correct the pattern {pattern.name!r}, or leave it out")
