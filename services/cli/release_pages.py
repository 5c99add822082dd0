"""Prints releases for people: one line each, a page of one, the differences of two."""

from collections.abc import Mapping, Sequence
from typing import Any

from services.cli import output
from shared.contracts.labels import short_form

_FACTS = ("id", "current", "parent", "base_model", "made_by", "created_at", "reject_policy", "ambiguous")
_OF_SELECTOR = ("kind", "threshold", "coverage", "encoder", "digest")
_OF_LABEL = ("ref", "group", "template", "instruction", "description", "adapter")
_OF_REPORT = ("accuracy", "domain_accuracy", "task_accuracy", "ece", "rejected", "n")


def rows(releases: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """Print one line per release."""
    lines = [row | {"labels": sorted(row.get("labels") or []), "gate": _gate(row)} for row in releases]
    columns = ["id", "current", "parent", "gate", "created_at", "labels"]
    output.table(releases if as_json else lines, columns, as_json=as_json, one="signalbox releases show ID")


def page(release: dict[str, Any], *, as_json: bool) -> None:
    """Print a release: its facts, then one line per label; `as_json` has its whole report."""
    if as_json:
        output.json_line(release)
        return
    output.record(_facts(release), as_json=False)
    output.out.print()
    output.table(_labels(release), ["label", "ref", "group", "template", "accuracy", "adapter"], as_json=False)


def difference(old: dict[str, Any], new: dict[str, Any], *, as_json: bool) -> None:
    """Print one line per fact in which two releases differ."""
    before, after = _flat(old), _flat(new)
    names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    lines = [{"what": name, "old": before.get(name), "new": after.get(name)} for name in names]
    output.table(lines, ["what", "old", "new"], as_json=as_json)


def _gate(release: Mapping[str, Any]) -> str:
    verdict = release.get("verdict") or {}
    return "passed" if verdict.get("passed") else "; ".join(["failed", *verdict.get("reasons", [])])


def _facts(release: Mapping[str, Any]) -> dict[str, Any]:
    selector, report = release.get("selector") or {}, release.get("report") or {}
    return {
        **{name: release.get(name) or "-" for name in _FACTS},
        "gate": _gate(release),
        "reading": (release.get("reading") or {}).get("mode", "-"),
        **{f"selector {name}": selector[name] for name in _OF_SELECTOR if name in selector},
        **{name: report[name] for name in _OF_REPORT if name in report},
        **_of_feedback(report),
    }


def _of_feedback(report: Mapping[str, Any]) -> dict[str, str]:
    counts = list(report.get("feedback_rows", {}).values())
    fed, rows = (sum(one[name] for one in counts) for name in ("from_feedback", "rows"))
    return {"rows of feedback": f"{fed} of {rows} that the selector learnt from"} if counts else {}


def _labels(release: Mapping[str, Any]) -> list[dict[str, Any]]:
    per_label = (release.get("report") or {}).get("per_label") or {}
    reached = {short_form(label): accuracy for label, accuracy in per_label.items()}
    return [
        {"label": label, **entry, "accuracy": reached.get(label)}
        for label, entry in sorted((release.get("labels") or {}).items())
    ]


def _flat(release: Mapping[str, Any]) -> dict[str, Any]:
    """Every fact that two releases are compared in, by a name of its own."""
    facts = {name: value for name, value in _facts(release).items() if name not in ("id", "current", "created_at")}
    for line in _labels(release):
        facts |= {f"{line['label']} {name}": line[name] for name in (*_OF_LABEL, "accuracy") if name in line}
    return facts
