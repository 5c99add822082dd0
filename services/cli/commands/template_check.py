"""Which template an adapter was trained with, told by examples of right answers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from services.cli import output
from services.cli.commands.common import client, end_of, goes_on_without
from services.cli.progress import follow_training

_COLUMNS = ("templates", "doubt", "loss", "base_loss", "exact_match", "base_exact_match")


def check_template(ref: str, examples: Path, *, sets: bool, as_json: bool) -> None:
    """Upload the examples, let a trainer score them under every template, and show what it found.

    Exits with status 1 where the job does not succeed.
    """
    api = client()
    dataset = api.upload_dataset(examples)
    job = api.train("adapter.check", adapter=ref, dataset=dataset.id, set_template=sets)
    with goes_on_without(job.id):
        output.err.print(f"waiting for {job.id}", soft_wrap=True)
        ended = follow_training(api, job.id, quiet=as_json)
    if as_json or ended.get("state") != "succeeded":
        end_of(ended, as_json=as_json)
    else:
        show(ended["result"], sets=sets)


def show(result: Mapping[str, Any], *, sets: bool) -> None:
    """Print the scores and the verdict; of a template that was set, how a release takes it."""
    scores: Sequence[dict[str, Any]] = result["scores"]
    output.table(scores, _COLUMNS, as_json=False)
    for warning in result["warnings"]:
        output.err.print(f"warning: {warning}", markup=False, soft_wrap=True)
    facts = {"verdict": result["verdict"], "best": result["best"], "template before": result["template"]}
    output.record(facts | {"ref": result["ref"]}, as_json=False)
    if sets and result["verdict"] == "clear" and result["template"] not in result["best"]:
        ref, label = result["ref"], result["ref"].partition("@")[0]
        command = f"`signalbox releases edit --add {label}={ref} --promote` serves it"
        output.err.print(f"{ref} has the template {result['best'][0]}: {command}", markup=False, soft_wrap=True)
