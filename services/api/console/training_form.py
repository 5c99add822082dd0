"""The form of a new training: its fields, and the body that they come to, which is that of `POST /v1/training/jobs`."""

import asyncio
import json
import shlex
from collections.abc import Mapping
from typing import Any

from services.api.infra.clients import Clients
from shared.contracts.labels import short_form
from shared.contracts.training_settings import LoraSettings
from shared.errors import Conflict, Invalid

NUMBERS = ("epochs", "rank", "learning_rate", "batch_size", "max_length")
"""Settings that the form shows; the field for JSON takes all others."""
DEFAULTS = {name: getattr(LoraSettings(), name) for name in NUMBERS}
MAX_OFFERED = 200
_WORDS = {
    "adapter.train": "adapter",
    "comparison.train": "comparison",
    "traffic.review": "review",
    "corpus.clean": "clean",
}


async def offered(clients: Clients, tenant_id: str) -> dict[str, Any]:
    """Return names of data sets, newest first, and labels of the current release, for fields to propose."""
    manifests = await asyncio.to_thread(clients.registry.datasets.list_all, tenant_id)
    names = list(dict.fromkeys(manifest.name for manifest in reversed(manifests)))
    try:
        labels = sorted((await clients.releases.current(tenant_id)).release.labels)
    except Conflict:
        labels = []
    return {"datasets": names[:MAX_OFFERED], "labels": labels[:MAX_OFFERED]}


def body_of(fields: Mapping[str, str]) -> dict[str, Any]:
    """Return the body of a training; fields that are as they were stay out of it. Raises `Invalid`."""
    kind = fields.get("kind", "")
    body: dict[str, Any] = {"kind": kind}
    if kind == "adapter.train":
        body |= _given(fields, "label", "dataset", "on", "validation", "instruction")
    else:
        body |= {"labels": _labels(fields.get("labels", ""), has_data=kind != "selector.delete")}
        body |= _given(fields, "background", "selector", "retention")
        if fields.get("promote"):
            body["promote"] = True
    if settings := _settings(fields):
        body["settings"] = settings
    if fields.get("confirm_cost"):
        body["confirm_cost"] = True
    return _merged(body, fields.get("more", ""))


def command_of(body: Mapping[str, Any]) -> str:
    """Return the command that starts the same training; what has no option of its own goes into a file."""
    kind, left = (
        str(body["kind"]),
        {name: value for name, value in body.items() if name not in ("kind", "confirm_cost")},
    )
    words = ["signalbox", "train", _WORDS.get(kind, "selector")]
    if kind in ("selector.add", "selector.balance"):
        words.append(f"--{kind.partition('.')[2]}")
    words += [left.pop("corpus")] if kind == "corpus.clean" else []
    labels = left.pop("labels", None) or ({} if "label" not in left else left.pop("label"))
    if isinstance(labels, str):
        words += ["--label", labels]
    elif isinstance(labels, Mapping):
        words += [word for label, dataset in labels.items() for word in ("--label", f"{label}={dataset}")]
    else:
        words += [word for label in labels for word in ("--delete", label)]
    options = {"selector": "--kind", **{name: f"--{name}" for name in ("dataset", "on", "background", "retention")}}
    for name, option in options.items():
        if name in left:
            words += [option, str(left.pop(name))]
    words += ["--promote"] * bool(left.pop("promote", False)) + ["--confirm-cost"] * bool(body.get("confirm_cost"))
    if left:
        words += ["--settings", "FILE"]
    command = shlex.join(words)
    return f"{command}   # FILE: {json.dumps(left, ensure_ascii=False)}" if left else command


def _given(fields: Mapping[str, str], *names: str) -> dict[str, Any]:
    return {name: value for name in names if (value := fields.get(name, "").strip())}


def _labels(text: str, *, has_data: bool) -> dict[str, str] | list[str]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not has_data:
        return [short_form(line) for line in lines]
    found: dict[str, str] = {}
    for line in lines:
        label, sign, dataset = (one.strip() for one in line.partition("="))
        if not (label and sign and dataset):
            raise Invalid("line_malformed", f"write one `label = data set` a line, not {line[:100]!r}")
        found[short_form(label)] = dataset
    return found


def _settings(fields: Mapping[str, str]) -> dict[str, Any]:
    changed = {
        name: value for name in NUMBERS if (value := fields.get(name, "").strip()) and not _is_default(name, value)
    }
    return dict(changed)


def _is_default(name: str, value: str) -> bool:
    try:
        return bool(float(value) == DEFAULTS[name])
    except ValueError:
        return False


def _merged(body: dict[str, Any], more: str) -> dict[str, Any]:
    if not more.strip():
        return body
    try:
        extra = json.loads(more)
    except (ValueError, RecursionError) as error:
        raise Invalid("json_malformed", f"the further fields are no JSON: {error}") from error
    if not isinstance(extra, dict):
        raise Invalid("json_malformed", 'the further fields are no JSON object, such as {"missing_adapters": "allow"}')
    settings = {**body.get("settings", {}), **extra.pop("settings", {})}
    return {**body, **extra, **({"settings": settings} if settings else {})}
