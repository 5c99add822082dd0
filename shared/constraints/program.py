"""Compiles constraints; run as a program it does so for others, within limits of time and memory.

The program reads an order a line, `{"kind": ..., "value": ...}`, and writes a line for each: `{"error": ...}`, empty
where the constraint compiles. It imports nothing of ours, so that it starts in a tenth of a second.
"""

import json
import re
import resource
import sys
from typing import Any

import llguidance
from llguidance import LLMatcher, LLTokenizer

SECONDS = 2
"""Processor time of one constraint."""
MEMORY_BYTES = 512 << 20
"""Address space of the program."""
WHITESPACE = r" ?|\n {0,16}"
"""Between the parts of JSON: as programs write it, on one line or indented; a model may not go on with blanks."""
_IDLE_SECONDS = 3600
"""Processor time between two constraints: then only a constraint ends the program."""
END = 256
_SAID_CHARS = 500


class Bytes:
    """A vocabulary of bytes, in the form that the library takes."""

    eos_token_id = END
    bos_token_id = None
    tokens = (*(bytes([byte]) for byte in range(END)), b"<end>")
    special_token_ids = (END,)

    def __call__(self, text: bytes) -> list[int]:
        """Tokens of a text."""
        return list(text)


def byte_tokenizer() -> LLTokenizer:
    """Return a tokenizer of bytes: token 256 is the end."""
    return LLTokenizer(llguidance.TokenizerWrapper(Bytes()), slices=[])


def grammar_of(kind: str, value: Any) -> str:
    """Return a constraint in the library's own format; whether it is right only `matcher` finds out."""
    if kind in ("json_schema", "json_object"):
        schema = value if kind == "json_schema" else {"type": "object"}
        return LLMatcher.grammar_from_json_schema(schema, overrides={"whitespace_pattern": WHITESPACE})
    if kind == "choices":
        return LLMatcher.grammar_from_regex("|".join(map(re.escape, value)))
    return LLMatcher.grammar_from_regex(value) if kind == "regex" else LLMatcher.grammar_from_lark(value)


def matcher(tokenizer: LLTokenizer, kind: str, value: Any) -> LLMatcher:
    """Compile a constraint on a vocabulary; `get_error()` of the result says what is wrong with it."""
    # The states of a lexer grow with the texts that it reads, to two kilobytes each.
    limits = llguidance.LLParserLimits(max_lexer_states=25_000, verbose_errors=False)
    return LLMatcher(tokenizer, grammar_of(kind, value), log_level=0, limits=limits)


def fault(found: LLMatcher) -> str:
    """Return what is wrong with a compiled constraint, also where no text would fit it; empty where nothing is."""
    if not found.is_error():
        found.compute_bitmask()
    said = found.get_error()
    if said.startswith("panic"):
        return "it is too large to compile"
    if said.startswith("NoExtension"):
        return "no text fits it"
    return said.replace("\n<non-verbose/>", "").strip()[:_SAID_CHARS]


def _allow(seconds: int) -> None:
    """Bound the processor time from now on."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + seconds + 1, resource.RLIM_INFINITY))


def _answer(tokenizer: LLTokenizer, order: dict[str, Any]) -> str:
    _allow(SECONDS)
    try:
        return fault(matcher(tokenizer, order["kind"], order["value"]))
    except (ValueError, RecursionError, MemoryError) as wrong:
        return str(wrong)[:_SAID_CHARS] or "it is nested too deeply"
    finally:
        _allow(_IDLE_SECONDS)


def main() -> None:
    """Answer orders until the input ends."""
    tokenizer = byte_tokenizer()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    for line in sys.stdin:
        error = _answer(tokenizer, json.loads(line))
        sys.stdout.write(json.dumps({"error": error}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
