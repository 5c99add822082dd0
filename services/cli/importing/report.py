"""Shows an import: what it would be, how it goes, what became of it."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from services.cli import output
from services.cli.bars import counted
from services.cli.errors import known_errors
from services.cli.importing.check import base_here, look_at
from services.cli.importing.entries import Entry
from services.cli.importing.run import Import, Outcome
from services.cli.local.run_state import current_settings
from shared.adapter_files import AdapterLimits

if TYPE_CHECKING:
    from signalbox import Signalbox

_STATES = ("added", "unchanged", "failed")


def dry_run(entries: Sequence[Entry], *, as_json: bool) -> bool:
    """Show what an import would be; returns whether one of its adapters has a problem. No system is asked."""
    settings = current_settings()
    base, limits = base_here(settings), AdapterLimits.of(settings)
    if base is None:
        output.err.print(f"{settings.base_model} is not on this machine: no tensor is compared with it", soft_wrap=True)
    looked = [(entry, look_at(entry, base, limits)) for entry in counted(entries, "looked at")]
    rows = [
        {"label": entry.label or None, "template": entry.template or None, **one._asdict(), "folder": str(entry.folder)}
        for entry, one in looked
    ]
    show(rows, ["label", "rank", "base", "template", "notes", "problem", "folder"], as_json=as_json)
    return any(one.problem for _, one in looked)


def run(api: "Signalbox", entries: Sequence[Entry], *, confirm_base: bool, releases: bool, as_json: bool) -> bool:
    """Import the entries, and show what became of them; returns whether something failed."""
    settings = current_settings()
    base = base_here(settings, {model.id for model in api.models()})
    limits = AdapterLimits.of(settings)
    going = Import(api, lambda entry, archive: look_at(entry, base, limits, archive), confirm_base=confirm_base)
    outcomes = _uploaded(going, entries)
    rows = [outcome.as_dict() for outcome in outcomes]
    released, refusal = _released(going, outcomes) if releases else ("", "")
    if as_json:
        counts = Counter(outcome.state for outcome in outcomes)
        output.json_line({**{state: counts[state] for state in _STATES}, "release": released or None, "adapters": rows})
    else:
        show(rows, ["label", "state", "adapter", "notes", "reason", "folder"], as_json=False)
    if released:
        output.err.print(f"release {released} answers requests that name these labels", soft_wrap=True)
    if refusal:
        output.error("release_refused", refusal)
    return bool(refusal) or any(outcome.state == "failed" for outcome in outcomes)


def _uploaded(going: Import, entries: Sequence[Entry]) -> list[Outcome]:
    """Upload one after the other, with a bar on a terminal and a line each elsewhere."""
    outcomes: list[Outcome] = []
    try:
        for entry in counted(entries, "uploaded"):
            outcomes.append(found := going.one(entry))
            if not output.err.is_terminal:
                what = found.reason or found.adapter
                line = f"{len(outcomes)}/{len(entries)} {entry.label or entry.folder.name}: {found.state} ({what})"
                output.err.print(line, markup=False, highlight=False, soft_wrap=True)
    except KeyboardInterrupt:
        output.err.print(f"\n{len(outcomes)} of {len(entries)} are through: the same command goes on", soft_wrap=True)
        raise typer.Exit(130) from None
    return outcomes


def _released(going: Import, outcomes: Sequence[Outcome]) -> tuple[str, str]:
    """The id of the release that answers now, or why there is none."""
    try:
        return going.release(outcomes), ""
    except known_errors() as error:
        return "", error.detail


def show(rows: Sequence[dict[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    """Print one line for each entry, its notes joined."""
    lines = rows if as_json else [row | {"notes": "; ".join(row["notes"])} for row in rows]
    output.table(lines, columns, as_json=as_json)
