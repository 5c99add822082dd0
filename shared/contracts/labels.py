"""Routing labels: a domain and a task, written `domain.task`."""

import re
import unicodedata
from typing import NamedTuple

from shared.errors import Invalid

# Names may contain underscores, so only the dot separates the halves. Names become object keys, so no slash.
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_HALVES = re.compile(r"[./:]+")
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "æ": "ae", "ø": "oe", "œ": "oe"})
DEFAULT_DOMAIN = "default"
"""The domain of a label that people write as one word."""

BACKGROUND = "none.none"
"""The pseudo-label for background rows in a selector's training; it has no adapter."""


class Label(NamedTuple):
    """The two halves of a routing label (paper, section 3.3)."""

    domain: str
    task: str

    def __str__(self) -> str:
        return f"{self.domain}.{self.task}"


def parse_label(text: str) -> Label:
    """Split `domain.task`; raises `Invalid` where the text is not exactly two well-formed names."""
    halves = text.split(".")
    if len(halves) != 2 or not all(_NAME.fullmatch(half) for half in halves):
        raise Invalid(
            "label_malformed",
            f"{text!r} is not a label: write domain.task, each of 1 to 32 characters of a-z, 0-9, _ and -",
        )
    return Label(*halves)


def proposed_label(text: str) -> str:
    """Return the label nearest to a name that people use; empty where no letter or digit of it can be kept.

    Capitals become small, umlauts two letters, accents go, other signs become hyphens. What stands before the first
    dot, slash or colon is the domain.
    """
    spelled = unicodedata.normalize("NFC", text).casefold().translate(_UMLAUTS)
    ascii_text = unicodedata.normalize("NFKD", spelled).encode("ascii", "ignore").decode()
    domain, _, task = _HALVES.sub(".", ascii_text, count=1).partition(".")
    domain, task = _as_name(domain), _as_name(task)
    if not task:
        domain, task = DEFAULT_DOMAIN, domain
    return f"{domain or DEFAULT_DOMAIN}.{task}" if task else ""


def _as_name(text: str) -> str:
    return re.sub("[^a-z0-9_]+", "-", text).strip("-_")[:32].rstrip("-_")


def check_adapter_label(text: str) -> str:
    """Return a label that an adapter can have; raises `Invalid` for a malformed one and for the reserved one."""
    if str(parse_label(text)) == BACKGROUND:
        raise Invalid(
            "label_reserved",
            f"{BACKGROUND!r} stands for none of the labels and can have no adapter; take another label,"
            " or leave the rows without one and give them as `background`",
        )
    return text


def check_name(text: str, what: str) -> str:
    """Return `text` where it is a well-formed name of a group, tenant or data set; raises `Invalid` otherwise."""
    if not _NAME.fullmatch(text):
        raise Invalid("name_malformed", f"{text!r} is not a {what} name: 1 to 32 characters of a-z, 0-9, _ and -")
    return text
