"""The command line `signalbox`: doors to the API and to the programs; nothing heavy is imported before it is needed."""

import contextlib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli import show
from shared.errors import Invalid, SignalboxError

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Many LoRA adapters, one base model, no hand picking."
)
jobs = typer.Typer(no_args_is_help=True, help="Jobs: list, show, follow, cancel, replay.")
adapters = typer.Typer(no_args_is_help=True, help="Adapters: upload, list, show.")
datasets = typer.Typer(no_args_is_help=True, help="Data sets: upload, list.")
train = typer.Typer(no_args_is_help=True, help="Queue training jobs.")
evaluate = typer.Typer(no_args_is_help=True, help="Measure a selector, an adapter or a whole release on labelled rows.")
releases = typer.Typer(no_args_is_help=True, help="Releases: list, show, promote, roll back.")
keys = typer.Typer(no_args_is_help=True, help="API keys: create, list, rotate, revoke.")
k8s = typer.Typer(no_args_is_help=True, help="Kubernetes: the files of one more group.")
k8s_group = typer.Typer(no_args_is_help=True)
k8s.add_typer(k8s_group, name="group", help="Groups of adapters.")
for name, group in {
    "jobs": jobs,
    "adapters": adapters,
    "datasets": datasets,
    "train": train,
    "evaluate": evaluate,
    "releases": releases,
    "keys": keys,
    "k8s": k8s,
}.items():
    app.add_typer(group, name=name)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Wait = Annotated[bool, typer.Option("--wait", help="Follow the job to its end, with progress.")]
Workers = Annotated[
    list[str], typer.Option("--worker", help="Groups of one worker, separated by commas; repeat for more workers.")
]


def main() -> None:
    """Run the command line; every known error is one sentence and a non-zero exit."""
    try:
        app()
    except SignalboxError as error:
        show.error(error)
        sys.exit(1)
    except ValueError as error:
        show.error(_wrong_settings(error))
        sys.exit(1)


def _wrong_settings(error: ValueError) -> SignalboxError:
    """What is wrong with the settings, variable by variable; raises the error anew where it is about something else."""
    from pydantic import ValidationError

    if not (isinstance(error, ValidationError) and error.title == "Settings"):
        raise error
    wrong = [(".".join(map(str, one["loc"])), one["msg"].removeprefix("Value error, ")) for one in error.errors()]
    return Invalid(
        "settings_invalid", "; ".join(f"SIGNALBOX_{name.upper()}: {why}" if name else why for name, why in wrong)
    )


def _settings() -> Any:
    from services.cli.place import current_settings

    return current_settings()


def _client() -> Any:
    from services.cli.place import current_client

    return current_client()


@app.command()
def up(
    worker: Workers = ["base"],  # noqa: B006 - typer copies it
    selectors: Annotated[int, typer.Option(help="Selector processes.", min=0)] = 1,
    trainers: Annotated[int, typer.Option(help="Trainer processes; each runs one job at a time.", min=0)] = 1,
) -> None:
    """Run the whole system in the foreground; Ctrl-C ends all of it."""
    from services.cli.up import up as run

    run(worker, selectors=selectors, trainers=trainers)


@app.command()
def down() -> None:
    """End the system of the data folder, also where its supervisor was killed."""
    from services.cli.up import down as run
    from shared.settings import Settings

    told = run(Settings().data_dir)
    show.out.print(f"told {len(told)} process(es) to end" if told else "nothing runs here")


@app.command()
def demo(
    fresh: Annotated[bool, typer.Option(help="Train everything anew.")] = False,
    rate: Annotated[float, typer.Option(help="Requests a second.", min=0.1)] = 0.5,
) -> None:
    """Show the whole journey on real parts: train, route, add a label while requests flow, sum up."""
    from services.cli.demo import run

    sys.exit(run(fresh=fresh, rate=rate))


@app.command()
def worker(
    group: Annotated[
        str, typer.Option(help="Groups to serve, separated by commas; `base` answers unlabelled requests.")
    ],
) -> None:
    """Run one adapter worker in the foreground (what a container runs)."""
    import os

    os.environ["SIGNALBOX_GROUPS"] = group
    from services.adapter_worker.app import main as run

    run()


@app.command()
def trainer(
    once: Annotated[bool, typer.Option("--once", help="End after one job, or where none comes.")] = False,
) -> None:
    """Run one trainer in the foreground (what a container runs)."""
    from services.trainer.app import main as run

    run(once=once)


@app.command()
def secrets(
    folder: Annotated[Path, typer.Argument(file_okay=False)],
    ledger: Annotated[str, typer.Option(help="host:port")] = "ledger:6379",
    broker: Annotated[str, typer.Option(help="host:port")] = "broker:6379",
) -> None:
    """Write random passwords of a deployment's servers into files, where there are none yet."""
    from services.cli.passwords import write_passwords

    made = write_passwords(folder, ledger=ledger, broker=broker)
    show.out.print(f"wrote {', '.join(made)}" if made else "every file is there already")


@app.command()
def bucket(
    patience: Annotated[float, typer.Option(help="Seconds to wait for the object store.", min=0)] = 120,
) -> None:
    """Make the bucket where it is missing; returns once the store takes a write."""
    from services.cli.bucket import make_bucket
    from shared.settings import Settings

    make_bucket(Settings(), patience)


@app.command()
def submit(
    text: str,
    label: Annotated[str | None, typer.Option(help="Skip the selector.")] = None,
    instruction: str = "",
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 64,
    batch: Annotated[bool, typer.Option("--batch", help="May wait while others are served.")] = False,
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Submit one text; with --wait its answer is printed as it comes."""
    body = {"input": text, "instruction": instruction, "params": {"max_new_tokens": max_new_tokens}}
    chosen = ({"label": label} if label else {}) | ({"priority": "batch"} if batch else {})
    client = _client()
    job = client.post("/v1/jobs", body | chosen)
    if wait:
        job = show.follow_generation(client, job["id"], quiet=json)
    show.job(job, as_json=json)


@app.command("run-reference")
def run_reference(
    text: Annotated[list[str] | None, typer.Argument(help="Texts to answer.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="JSON lines of {instruction?, input}; a label is not looked at."
        ),
    ] = None,
    instruction: Annotated[str, typer.Option(help="For the texts; the adapter's own where it is missing.")] = "",
    release: Annotated[str, typer.Option(help="Id; the current one where it is missing.")] = "",
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 64,
    out: Annotated[Path | None, typer.Option(dir_okay=False, help="Write here instead of printing.")] = None,
) -> None:
    """Answer texts in this process, step by step: selector, adapter index, adapter with its template, generation.

    One JSON line a text: label, probability, adapter, text. No queue, no engine, no batch; greedy, in float32.
    """
    from services.cli.reference import open_reference, read_questions
    from services.cli.reference import run_reference as run

    if not (text or data):
        raise typer.BadParameter('give texts, or a file of them: run-reference "my card was declined" or --data FILE')
    questions = read_questions(text or [], instruction, data)
    reference = open_reference(_settings(), release)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w") if out else contextlib.nullcontext(sys.stdout) as stream:
        for record in run(reference, questions, max_new_tokens):
            show.json_line(record, stream)


@jobs.command("list")
def jobs_list(
    state: str | None = None, limit: Annotated[int, typer.Option(min=1, max=200)] = 20, json: Json = False
) -> None:
    """List jobs, newest first."""
    show.jobs(_client().get("/v1/jobs", state=state, limit=limit)["items"], as_json=json)


@jobs.command("show")
def jobs_show(job_id: str, json: Json = False) -> None:
    """Show everything about one job."""
    show.job(_client().get(f"/v1/jobs/{job_id}"), as_json=json)


@jobs.command("tail")
def jobs_tail(job_id: str) -> None:
    """Print a job's events as they happen."""
    for kind, data in _client().events(f"/v1/jobs/{job_id}/events"):
        show.event(kind, data)


@jobs.command("cancel")
def jobs_cancel(job_id: str) -> None:
    """Cancel a job: at once where it waits, within a step where it runs."""
    show.job(_client().delete(f"/v1/jobs/{job_id}"), as_json=False)


@jobs.command("dead")
def jobs_dead(json: Json = False) -> None:
    """List the dead letters: jobs that several workers in a row went silent over."""
    show.jobs(_client().get("/v1/jobs/dead")["items"], as_json=json)


@jobs.command("replay")
def jobs_replay(job_id: str) -> None:
    """Start a dead letter anew."""
    show.job(_client().post(f"/v1/jobs/{job_id}/replay"), as_json=False)


@adapters.command("add")
def adapters_add(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False)],
    label: Annotated[str, typer.Option(help="domain.task")],
    instruction: str = "",
    template: str = "chatml",
    json: Json = False,
) -> None:
    """Upload a PEFT folder (adapter_config.json and adapter_model.safetensors)."""
    from shared.adapter_files import adapter_digest, pack_adapter

    fields = {"label": label, "instruction": instruction, "template": template, "sha256": adapter_digest(folder)}
    files = {"file": ("adapter.tar", pack_adapter(folder))}
    show.record(_client().post("/v1/adapters", data=fields, files=files, timeout=300), as_json=json)


@adapters.command("list")
def adapters_list(json: Json = False) -> None:
    """List every version of every adapter."""
    show.table(
        _client().get("/v1/adapters")["items"], ["label", "version", "digest", "base_model", "created_at"], as_json=json
    )


@adapters.command("show")
def adapters_show(ref: str, json: Json = False) -> None:
    """Show one adapter, by label@n or digest."""
    show.record(_client().get(f"/v1/adapters/{ref}"), as_json=json)


@datasets.command("add")
def datasets_add(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False)], name: str = "", json: Json = False
) -> None:
    """Upload JSON lines of {instruction?, input, output?, label?}, gzipped or not."""
    show.record(upload_dataset(_client(), file, name), as_json=json)


def upload_dataset(client: Any, file: Path, name: str = "") -> Any:
    """Upload one file; answers its manifest."""
    import gzip

    content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    headers = {"Content-Type": "application/x-ndjson"}
    title = name or file.name.split(".jsonl")[0]
    return client.post("/v1/datasets", content=content, headers=headers, params={"name": title}, timeout=300)


@datasets.command("list")
def datasets_list(json: Json = False) -> None:
    """List data sets."""
    show.table(_client().get("/v1/datasets")["items"], ["id", "name", "rows", "created_at"], as_json=json)


def _submit_training(body: dict[str, Any], settings: Path | None, *, wait: bool, as_json: bool) -> None:
    import json as jsonlib

    client = _client()
    if settings:
        body |= jsonlib.loads(settings.read_text())
    job = client.post("/v1/training/jobs", body)
    if wait:
        job = show.follow_training(client, job["id"], quiet=as_json)
    show.job(job, as_json=as_json)


SettingsFile = Annotated[
    Path | None, typer.Option("--settings", exists=True, dir_okay=False, help="JSON merged into the job's body.")
]


@train.command("adapter")
def train_adapter(
    label: Annotated[str, typer.Option(help="domain.task")],
    dataset: Annotated[str, typer.Option(help="Id or name.")],
    settings: SettingsFile = None,
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Train one label's adapter on a data set."""
    _submit_training({"kind": "adapter.train", "label": label, "dataset": dataset}, settings, wait=wait, as_json=json)


@train.command("selector")
def train_selector(
    label: Annotated[
        list[str], typer.Option(help="domain.task=data set; repeat for every label. With --balance: the hard ones.")
    ] = [],  # noqa: B006
    background: Annotated[str | None, typer.Option(help="Data set of texts that belong to no label.")] = None,
    add: Annotated[bool, typer.Option("--add", help="Add to the current release instead of training anew.")] = False,
    balance: Annotated[
        bool, typer.Option("--balance", help="Fewer rows for the current release's easy labels, more for hard ones.")
    ] = False,
    delete: Annotated[
        list[str], typer.Option(help="Take domain.task out of the current release; repeat for more.")
    ] = [],  # noqa: B006
    retention: Annotated[
        str, typer.Option(help="Share of old rows that --add, --balance and --delete show again: 0 to 1, or auto.")
    ] = "",
    kind: Annotated[str, typer.Option(help="cascade, llm or light; cascade where it is missing.")] = "",
    readout: Annotated[str, typer.Option(help="The language model's answer: auto, names or head.")] = "",
    promote: Annotated[bool, typer.Option(help="Make it current where the gate passes.")] = False,
    settings: SettingsFile = None,
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Train a selector over labels; or add labels to the current one, balance it, delete labels from it."""
    if add + balance + bool(delete) > 1 or (delete and label):
        raise typer.BadParameter("one of --add, --balance and --delete at a time; --delete takes no --label")
    if not (label or balance or delete):
        raise typer.BadParameter("name labels: --label domain.task=dataset")
    body: dict[str, Any] = {
        "kind": "selector." + ("add" if add else "balance" if balance else "delete" if delete else "train"),
        "labels": delete or _label_datasets(label),
        "promote": promote,
    }
    asked = {"background": background, "selector": kind, "readout": readout, "retention": retention}
    body |= {name: value for name, value in asked.items() if value not in ("", None)}
    _submit_training(body, settings, wait=wait, as_json=json)


@train.command("comparison")
def train_comparison(
    label: Annotated[list[str], typer.Option(help="domain.task=data set; repeat for every label.")],
    model: Annotated[str, typer.Option(help="multi-task-lora or moe-lora.")] = "multi-task-lora",
    settings: SettingsFile = None,
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Train one model on all labels at once, without a selector, and measure it: what routing has to beat."""
    body = {"kind": "comparison.train", "model": model, "labels": _label_datasets(label)}
    _submit_training(body, settings, wait=wait, as_json=json)


def _label_datasets(pairs: list[str]) -> dict[str, str]:
    wrong = [pair for pair in pairs if "=" not in pair]
    if wrong:
        raise typer.BadParameter(f"write --label domain.task=dataset, not {wrong[0]!r}")
    return dict(pair.split("=", 1) for pair in pairs)


@evaluate.command("selector")
def evaluate_selector(
    data: Annotated[list[Path], typer.Option(exists=True, help="JSON lines, gzipped or not; files or folders.")],
    text: Annotated[
        str, typer.Option(help="input or instruction+input; what the release's selector reads where it is missing.")
    ] = "",
    release: Annotated[str, typer.Option(help="Id; the current one where it is missing.")] = "",
    plot: Annotated[Path | None, typer.Option(help="Draw a cascade's accuracy against cost into this PNG.")] = None,
    confusion: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Draw the confusion matrix into this PNG; JSON and a table go beside it."),
    ] = None,
    json: Json = False,
) -> None:
    """Measure a release's selector: accuracy of domain and task together and apart, per label, confusion, calibration.

    Intervals are those of a bootstrap over rows, 95 %.
    """
    from services.cli.evaluate import evaluate_selector as run
    from services.cli.plots import plot_curve, write_confusion

    if confusion and confusion.suffix != ".png":
        raise typer.BadParameter("--confusion names a picture: confusion.png")
    found = run(data, text, release)
    if plot:
        plot_curve(found, plot)
    if confusion:
        write_confusion(found, confusion)
    show.evaluation(found, as_json=json)


@evaluate.command("system")
def evaluate_system(
    data: Annotated[list[Path], typer.Option(exists=True, help="JSON lines, gzipped or not; files or folders.")],
    release: Annotated[str, typer.Option(help="Id; the current one where it is missing.")] = "",
    classification: Annotated[
        list[str], typer.Option(help="domain.task whose answers are right or wrong; repeat for more.")
    ] = [],  # noqa: B006
    generation: Annotated[
        list[str], typer.Option(help="domain.task whose answers are more or less near; repeat for more.")
    ] = [],  # noqa: B006
    limit: Annotated[int | None, typer.Option(min=1, help="Rows of each label; all where it is missing.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="The longest answer.")] = 128,
    rows: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write each row with its answers into this file.")
    ] = None,
    json: Json = False,
) -> None:
    """Measure a release end to end: the selector alone, the right adapter's answers, the routed answers.

    A task is classification (exact match) where its data has at least five rows per distinct answer; otherwise its
    answers are compared by BERTScore, where SIGNALBOX_ENCODER names an encoder, or by ROUGE-L. All runs in this
    process, one row at a time, as `run-reference` does.
    """
    from services.cli.evaluate_system import Ask
    from services.cli.evaluate_system import evaluate_system as run

    show.system(run(Ask(data, release, classification, generation, limit, max_new_tokens, rows)), as_json=json)


@evaluate.command("adapter")
def evaluate_adapter(
    label: Annotated[str, typer.Option(help="domain.task of the current release, or label@n")],
    data: Annotated[list[Path], typer.Option(exists=True, help="JSON lines, gzipped or not; files or folders.")],
    limit: Annotated[int, typer.Option(min=1)] = 200,
    json: Json = False,
) -> None:
    """Print the exact match of an adapter and of the base model alone."""
    from services.cli.evaluate import evaluate_adapter as run

    show.record(run(label, data, limit), as_json=json)


@app.command()
def reproduce(
    table: Annotated[str, typer.Argument(help="table1, table1-answers, table2 to table4, figure2, figure4, or goals.")],
    base: Annotated[str, typer.Option(help="Base model of the running system: a folder, a hub name, or smollm2.")],
    data: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="Folder of <domain>.<task>.train.jsonl.gz and .test.")
    ],
    folder: Annotated[Path, typer.Option("--out", file_okay=False, help="Reports, and what is finished so far.")],
    quick: Annotated[bool, typer.Option("--quick", help="A reduced grid for a machine without a GPU.")] = False,
    only: Annotated[list[str], typer.Option(help="Run this condition alone; repeat for more.")] = [],  # noqa: B006
) -> None:
    """Make a table or figure of the paper: its conditions as training jobs, our figures beside the paper's.

    A finished condition is not run again, and a queued one is waited for: run it again to go on.
    """
    from services.cli.reproduce.running import reproduce as run

    sys.exit(run(table, base, data, folder, quick=quick, only=only))


@releases.command("list")
def releases_list(json: Json = False) -> None:
    """List releases, oldest first."""
    show.releases(_client().get("/v1/releases")["items"], as_json=json)


@releases.command("show")
def releases_show(
    release_id: Annotated[str, typer.Argument(help="Id, or `current`.")] = "current", json: Json = False
) -> None:
    """Show one release with its report."""
    show.record(_client().get(f"/v1/releases/{release_id}"), as_json=json)


@releases.command("promote")
def releases_promote(release_id: str, force: bool = False) -> None:
    """Make a candidate the current release."""
    show.record(_client().post(f"/v1/releases/{release_id}/promote", {"force": force}), as_json=False)


@releases.command("rollback")
def releases_rollback(
    to: Annotated[str, typer.Option(help="Release id; the parent where it is missing.")] = "",
) -> None:
    """Go back to the parent of the current release."""
    show.record(_client().post("/v1/releases/rollback", {"to": to} if to else {}), as_json=False)


def _redis() -> Any:
    from services.cli.place import current_settings
    from shared.ledger import Ledger

    return Ledger(current_settings().redis_url).redis


@keys.command("create")
def keys_create(
    scope: Annotated[list[str], typer.Option(help="submit, train or admin; repeat for more.")] = ["submit"],  # noqa: B006
    tenant: str = "default",
    name: Annotated[str, typer.Option(help="What it is for, or whose it is.")] = "",
    expires_days: Annotated[float, typer.Option(help="Days until it opens nothing any more; 0: never.", min=0)] = 0,
    requests_per_minute: Annotated[
        int | None, typer.Option(help="0: no limit; the settings' where it is missing.", min=0)
    ] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(help="Likewise, of prompts and answers.", min=0)] = None,
    json: Json = False,
) -> None:
    """Make a key; it is shown this once."""
    from datetime import timedelta

    from shared import keys as store

    made = store.create(
        _redis(),
        frozenset(map(store.Scope, scope)),
        tenant_id=tenant,
        name=name,
        lifetime=timedelta(days=expires_days) if expires_days else None,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
    )
    _show_new_key(*made, as_json=json)


@keys.command("rotate")
def keys_rotate(
    key_id: str,
    overlap_hours: Annotated[float, typer.Option(help="How long the old key still opens; 0: no longer.", min=0)] = 24,
    json: Json = False,
) -> None:
    """Make a key in an old one's place, with the same rights and limits; it is shown this once."""
    from datetime import timedelta

    from shared import keys as store

    _show_new_key(*store.rotate(_redis(), key_id, timedelta(hours=overlap_hours)), as_json=json)


def _show_new_key(key: Any, token: str, *, as_json: bool) -> None:
    show.record({"key": token, **key.model_dump(mode="json", exclude={"sha256"})}, as_json=as_json)


@keys.command("list")
def keys_list(json: Json = False) -> None:
    """List keys; never the keys themselves."""
    from shared import keys as store

    rows = [key.model_dump(mode="json", exclude={"sha256"}) for key in store.list_all(_redis())]
    show.table(rows, ["id", "name", "tenant_id", "scopes", "created_at", "expires_at", "revoked_at"], as_json=json)


@keys.command("revoke")
def keys_revoke(key_id: str) -> None:
    """Revoke a key."""
    from shared import keys as store

    show.record(store.revoke(_redis(), key_id).model_dump(mode="json", exclude={"sha256"}), as_json=False)


@k8s_group.command("add")
def k8s_group_add(
    name: str,
    overlay: Annotated[Path, typer.Option(help="keda or hpa.", exists=True, file_okay=False)] = Path(
        "k8s/overlays/keda"
    ),
    workers: Annotated[int, typer.Option(help="How many at most.", min=1)] = 4,
) -> None:
    """Write the files of a new group into a Kustomize overlay; kubectl apply -k starts its workers."""
    from services.cli.k8s_groups import add_group

    show.out.print(f"wrote {add_group(overlay, name, workers)}; kubectl apply -k {overlay}")


@app.command()
def doctor(json: Json = False) -> None:
    """Say what is missing and how to mend it."""
    from services.cli.doctor import examine

    findings = examine()
    show.findings(findings, as_json=json)
    sys.exit(0 if all(finding["ok"] for finding in findings) else 1)
