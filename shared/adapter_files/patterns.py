"""Regular expressions of uploaded configs, matched against module names in a process with bounds on time and memory."""

import json
import re
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping

from shared.errors import Invalid

_MAX_SECONDS = 2.0
_PLAIN = re.compile(r"(?:[A-Za-z0-9_.]|\\\.)+")
"""No repetition and no choice: nothing that backtracks."""
# It reads patterns and names; it writes for each pattern the names that match, with what the group `idx` holds.
_CHILD = """
import json, re, resource, sys
try:
    resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29))
except ValueError:
    pass  # macOS knows the limit and does not set it
patterns, names = json.load(sys.stdin)
found = []
for pattern in patterns:
    try:
        match = re.compile(pattern).fullmatch
    except (re.error, OverflowError, RecursionError) as error:
        sys.exit(f"{pattern[:80]!r} is no regular expression ({error})")
    found.append({n: m.groupdict().get("idx") or "" for n in names if (m := match(n))})
json.dump(found, sys.stdout)
"""

Found = Mapping[str, str]
"""Names that match, each with what the group `idx` holds."""


def of_key(key: str) -> str:
    """Return the expression by which PEFT matches a key of `rank_pattern` or `alpha_pattern` (`get_pattern_key`)."""
    return rf"(.*\.)?({key})"


def is_plain(text: str) -> bool:
    """Whether an expression holds no repetition and no choice, so that any process may match it."""
    return _PLAIN.fullmatch(text) is not None


def value_of(pattern: Mapping[str, float], module: str, default: float) -> float:
    """Return a module's entry in a stored `rank_pattern` or `alpha_pattern`, whose keys are plain."""
    return next((value for key, value in pattern.items() if re.fullmatch(of_key(key), module)), default)


def match_all(patterns: Iterable[str], names: Collection[str]) -> dict[str, Found]:
    """Match every pattern against every name; raises `Invalid` for what is no expression, or takes too long."""
    texts = set(patterns)
    cheap = {text for text in texts if is_plain(text.removeprefix(r"(.*\.)?(").removesuffix(")"))}
    here = {text: dict.fromkeys(filter(re.compile(text).fullmatch, names), "") for text in cheap}
    return here | _match_aside(sorted(texts - cheap), names)


def _match_aside(patterns: list[str], names: Collection[str]) -> dict[str, Found]:
    if not patterns:
        return {}
    try:
        done = subprocess.run(  # noqa: S603 - the program is the constant above
            [sys.executable, "-I", "-S", "-c", _CHILD],
            input=json.dumps([patterns, list(names)]),
            capture_output=True,
            text=True,
            timeout=_MAX_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _refused("a regular expression takes too long on this base model's names") from error
    if done.returncode != 0:
        raise _refused((done.stderr.splitlines() or ["a regular expression needs too much memory"])[-1][:200])
    return dict(zip(patterns, json.loads(done.stdout), strict=True))


def _refused(reason: str) -> Invalid:
    return Invalid("adapter_config_invalid", f"adapter_config.json: {reason}: list the modules' names in its place")
