"""Routing labels: a domain and a task, written `domain.task`; in the default domain one word, `task`, is the label."""

import re
import unicodedata
from types import MappingProxyType
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, PlainSerializer, SerializationInfo

from shared.errors import Invalid

# Names may contain underscores, so only the dot separates the halves. Names become object keys, so no slash.
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_HALVES = re.compile(r"[./:]+")
_MAX_CHARS = 200
"""Of a text for which a label is proposed."""
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "æ": "ae", "ø": "oe", "œ": "oe"})
DEFAULT_DOMAIN = "default"
"""The domain of a label of one word."""

BACKGROUND = "none.none"
"""The pseudo-label for background rows in a selector's training; it has no adapter."""

_DIGESTS_BEGINNING = re.compile(r"[0-9a-f]{12,}")  # pins have 16, and logs show 12
_MEANINGS = MappingProxyType(
    {
        "auto": "the selector's choice",
        "base": "the base model",
        DEFAULT_DOMAIN: "the domain of labels of one word",
        "nan": "a missing value",
        "none": "none of the labels",
        "null": "a missing value",
    }
)
"""Words that are no label alone, because they stand for something else where a label may be."""
STORED = "stored"
"""The serialization context of what is kept: its labels are written with their domain, as every version reads them."""


class Label(NamedTuple):
    """The two halves of a routing label (paper, section 3.3)."""

    domain: str
    task: str

    def __str__(self) -> str:
        return short_form(f"{self.domain}.{self.task}")


def parse_label(text: str) -> Label:
    """Split `domain.task`, or take one word as a task of the default domain; raises `Invalid` for any other text."""
    halves = text.split(".")
    if len(halves) > 2 or not all(_NAME.fullmatch(half) for half in halves):
        proposed = proposed_label(text) if len(text) <= _MAX_CHARS else ""
        raise Invalid(
            "label_malformed",
            f"{text[:_MAX_CHARS]!r} is not a label: write domain.task or one word, names of 1 to 32 characters of a-z, "
            f"0-9, _ and -{', such as ' if proposed else ''}{proposed}",
        )
    if len(halves) == 1 and (meaning := _meaning(text)):
        raise Invalid(
            "label_reserved", f"{text!r} is not a label: alone it stands for {meaning}; write domain.{text}, or another"
        )
    return Label(halves[0] if len(halves) == 2 else DEFAULT_DOMAIN, halves[-1])


def _meaning(word: str) -> str:
    """What a word stands for that is no label alone; empty for any other word."""
    return _MEANINGS.get(word, "the beginning of a digest" if _DIGESTS_BEGINNING.fullmatch(word) else "")


def short_form(text: str) -> str:
    """Return a label, or `label@n`, as it is shown: without the default domain, unless its task is no label alone."""
    task = text.removeprefix(f"{DEFAULT_DOMAIN}.")
    return text if "." in task or _meaning(task.partition("@")[0]) else task


def full_form(text: str) -> str:
    """Return a label, or `label@n`, as it is stored: with its domain."""
    return f"{DEFAULT_DOMAIN}.{text}" if text and "." not in text else text


def _serialized(text: str, info: SerializationInfo) -> str:
    return full_form(text) if info.context == STORED else text


LabelText = Annotated[str, AfterValidator(short_form), PlainSerializer(_serialized)]
"""A label or `label@n` from anywhere, in its one form here; whoever takes it checks that there is such a label."""


def proposed_label(text: str) -> str:
    """Return the label nearest to a name that people use; empty where no letter or digit of it can be kept.

    Capitals become small, umlauts two letters, accents go, other signs become hyphens. What stands before the first
    dot, slash or colon is the domain.
    """
    spelled = unicodedata.normalize("NFC", text).casefold().translate(_UMLAUTS)
    ascii_text = unicodedata.normalize("NFKD", spelled).encode("ascii", "ignore").decode()
    domain, _, task = _HALVES.sub(".", ascii_text, count=1).partition(".")
    domain, task = _as_name(domain), _as_name(task)
    if domain and task:
        return str(Label(domain, task))
    word = domain or task
    return "" if _meaning(word) else word


def _as_name(text: str) -> str:
    return re.sub("[^a-z0-9_]+", "-", text).strip("-_")[:32].rstrip("-_")


def check_adapter_label(text: str) -> str:
    """Return a label that an adapter can have, in its one form; raises `Invalid` for malformed and reserved ones."""
    label = str(parse_label(text))
    if label == BACKGROUND:
        raise Invalid(
            "label_reserved",
            f"{BACKGROUND!r} stands for none of the labels and can have no adapter; take another label,"
            " or leave the rows without one and give them as `background`",
        )
    return label


def check_name(text: str, what: str) -> str:
    """Return `text` where it is a well-formed name of a group, tenant or data set; raises `Invalid` otherwise."""
    if not _NAME.fullmatch(text):
        raise Invalid("name_malformed", f"{text!r} is not a {what} name: 1 to 32 characters of a-z, 0-9, _ and -")
    return text
