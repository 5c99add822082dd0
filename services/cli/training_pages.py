"""Prints what came of a training, for people: what was made, how good it is, what to do next."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from services.cli import output
from shared.contracts.durations import in_words

if TYPE_CHECKING:
    from signalbox import TrainingEstimate

SHOWN = 10
"""Warnings, reasons and labels on the screen; the job and its release have all."""
_OF_ADAPTER = ("ref", "train_rows", "validation_rows", "adapter_exact_match", "base_exact_match")


def page(job: Mapping[str, Any]) -> None:
    """Print a training of a selector or of an adapter that has succeeded, and on standard error what to do next."""
    trains, result = job.get("trains") or {}, job["result"]
    if is_review(result):
        output.record(review(result), as_json=False)
    elif is_composition(result):
        output.record(composition(result), as_json=False)
    elif is_cleaning(result):
        output.record(cleaning(result), as_json=False)
    else:
        about = {"trained": trains.get("kind"), "labels": some(trains.get("labels") or [])}
        output.record(about | (selector(result) if is_selector(result) else adapter(result)), as_json=False)
    warn(result)
    for line in next_steps(result):
        output.err.print(line, markup=False, highlight=False, soft_wrap=True)


def forecast(found: "TrainingEstimate") -> dict[str, Any]:
    """What a training would take, for people."""
    memory, known = found.memory or {}, found.estimate or {}
    return {
        "language model": found.language_model.replace("_", " "),
        "rows": found.rows or None,
        "tokens": found.tokens or None,
        "steps": found.steps or None,
        "memory on a card": _at_most(memory.get("total")),
        "with gradient checkpointing": _at_most(memory.get("total_checkpointed")),
        "time": f"about {in_words(known['seconds'])} ({known['basis']})" if known else None,
    }


def _at_most(count: int | None) -> str | None:
    return None if count is None else f"at most {count / (1 << 30):.2f} GiB"


def has_page(job: Mapping[str, Any]) -> bool:
    """Whether a job that has ended is one of those that `page` prints."""
    result = job.get("result") or {}
    return job.get("state") == "succeeded" and (
        is_selector(result)
        or is_review(result)
        or is_composition(result)
        or is_cleaning(result)
        or {"ref", "train_rows"} <= set(result)
    )


def is_selector(result: Mapping[str, Any]) -> bool:
    """Whether a result is that of a selector's training, which makes a release."""
    return "promoted" in result


def is_review(result: Mapping[str, Any]) -> bool:
    """Whether a result is that of a review of the traffic log."""
    return "reference_rows" in result


def is_composition(result: Mapping[str, Any]) -> bool:
    """Whether a result is that of adapters composed, or of one trained over another."""
    return "published" in result


def composition(result: Mapping[str, Any]) -> dict[str, Any]:
    """The facts about a composition: what it is made of, how good each arm is, whether it is published."""
    measure = result.get("measure", "")
    return {
        "ref": result["ref"] or None,
        "parts": some([part["ref"] or part["digest"][:12] for part in result["parts"]]),
        "rank": f"{result['rank']} ({result['slots']} slots)",
        "change lost": f"{result['lost']:.3f}" if result.get("lost") else None,
        **{f"{measure}: {arm['arm']}": _mean_of(arm[measure]) for arm in result.get("arms", [])},
        "published": f"{'yes' if result['published'] else 'no'}: {result['why']}",
    }


def _mean_of(found: Mapping[str, float]) -> str:
    return f"{found['value']:.3f} (in truth {found['low']:.2f} to {found['high']:.2f})"


def is_cleaning(result: Mapping[str, Any]) -> bool:
    """Whether a result is that of a corpus' cleaning."""
    return "modules" in result


def cleaning(result: Mapping[str, Any]) -> dict[str, Any]:
    """The facts about a cleaned corpus: what each module took in, gave out and took away."""
    modules = {
        module: f"{one['documents_out']} of {one['documents_in']}"
        + (f" ({some([f'{count} {why}' for why, count in one['taken'].items()])})" if one["taken"] else "")
        for module, one in result["modules"].items()
    }
    about = {"corpus": result["corpus"], "name": result["name"], "made_from": result["made_from"]}
    return {**about, "documents": result["documents"], "bytes": result["size_bytes"], **modules}


def review(result: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that a review found: what has changed, with what would help, and what is unknown."""
    changes = [f"{one['kind']} since {one['since']}: {one['remedy']}" for one in result["changes"]]
    tasks = [f"{one['name']} ({one['texts']} texts: {some(one['terms'])})" for one in result["tasks"]]
    return {
        "release": result["release"],
        "requests": f"{result['rows']} in {result['windows']} windows",
        "compared with": f"{result['reference_rows']} of {result['reference']}" if result["windows"] else None,
        "rejected": f"{result['rejected']:.3f}, before {result['rejected_before']:.3f}" if result["windows"] else None,
        "changes": some(changes, "; ") or "none",
        "unknown tasks": some(tasks, "; ") or "none",
    }


def selector(result: Mapping[str, Any]) -> dict[str, Any]:
    """The facts about a selector: its kind, how good it is, its release."""
    worst = sorted(result["per_label"].items(), key=lambda one: (one[1], one[0]))
    return {
        "selector": result["selector"],
        "accuracy": accuracy_of(result),
        "worst labels": some([f"{label} {accuracy:.3f}" for label, accuracy in worst if accuracy < 1]) or None,
        "threshold": f"{result['threshold']:.3f}",
        "gate": "passed" if result["verdict"]["passed"] else some(result["verdict"]["reasons"], "; "),
        "release": result["release"],
        "promoted": f"{'yes' if result['promoted'] else 'no'}: {result['why']}",
    }


def adapter(result: Mapping[str, Any]) -> dict[str, Any]:
    """The facts about an adapter: its version, what it was trained on, how much better than the base model it is."""
    return {name: result[name] for name in _OF_ADAPTER if name in result}


def accuracy_of(result: Mapping[str, Any]) -> str:
    """The accuracy and its interval; an interval of all there is means that no row was left to measure it."""
    low, high = result["accuracy_interval"]
    if (low, high) == (0, 1):
        return "not known: no example was left to measure it"
    return f"{result['accuracy']:.3f} (in truth {low:.2f} to {high:.2f})"


def warn(result: Mapping[str, Any]) -> None:
    """Print the first warnings of a training."""
    warnings = result.get("warnings") or result.get("notes") or []
    for warning in warnings[:SHOWN]:
        output.err.print(f"warning: {warning}", markup=False, highlight=False, soft_wrap=True)
    if len(warnings) > SHOWN:
        output.err.print(f"and {len(warnings) - SHOWN} more warnings: --json has all of them", highlight=False)


def next_steps(result: Mapping[str, Any]) -> Iterator[str]:
    """The commands that help next."""
    if is_review(result):
        yield "the job's result names entries of the log: `signalbox traffic list` shows its rows"
    elif is_composition(result) and not result["ref"]:
        yield f"nothing was published; {result['label']} answers as before"
    elif is_cleaning(result):
        yield f"`signalbox corpora get {result['name']}` writes its JSON lines"
    elif not is_selector(result):
        label, ref = result["label"], result["ref"]
        yield f"`signalbox releases edit --add {label}={ref} --promote` serves it to requests that name {label}"
    elif result["promoted"]:
        yield "it is current: `signalbox route try TEXT` shows a choice"
    elif result["verdict"]["passed"]:
        yield f"`signalbox releases promote {result['release']}` makes it current"
    else:
        yield f"`signalbox releases promote {result['release']} --force` overrules the gate"


def some(texts: list[str], between: str = ", ") -> str:
    """Join texts, the first ones where there are many."""
    more = [f"and {len(texts) - SHOWN} more"] if len(texts) > SHOWN else []
    return between.join([*texts[:SHOWN], *more])
