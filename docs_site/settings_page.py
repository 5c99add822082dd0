"""The page of settings: name, form, default and meaning of each, from `shared/settings.py`."""

import ast
import itertools
import types
import typing
from collections.abc import Iterator
from pathlib import Path

from annotated_types import Ge, Gt, Le, Lt
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from docs_site.tables import code, page, table
from shared.settings import Settings

_HEAD = """
Each is an environment variable, or a file of its name in lower case in the folder that `SIGNALBOX_SECRETS_DIR` names;
the environment takes precedence. Where they are set: in Compose `signalbox.env`, on Kubernetes
`k8s/base/settings.env` ([operations](../operations.md)). A wrong one ends a process at its start, with
`settings_invalid`.
"""
WORDS = {
    "redis_key_file": "Private key of `SIGNALBOX_REDIS_CERT_FILE`.",
    "redis_url": "The ledger; `rediss://` means TLS.",
    "broker_url": "The broker; it may be the server of the ledger, but with two servers accepting jobs stays fast.",
    "s3_url": "Scheme, host and port of the object store.",
    "s3_access_key": "Access key of the object store.",
    "s3_secret_key": "Secret key of the object store.",
    "s3_bucket": "Bucket, which is created where it is missing.",
    "base_model": "The base model: a folder in Hugging Face format, a name on the hub, or `smollm2`.",
    "dtype": "Number type of base models in selectors and trainers.",
    "torch_threads": "Threads of torch in a process.",
    "max_prompt_tokens": "Most tokens of a prompt.",
    "heartbeat_seconds": "How often a worker renews its leases.",
    "lease_seconds": "How long a worker may stay silent before its jobs go to another.",
    "max_lost_leases": "Lost leases after which a job is a dead letter.",
    "reconcile_seconds": "How often lost messages and leases are looked for.",
    "lost_after_seconds": "Age from which a message that nobody took counts as lost.",
    "default_deadline_seconds": "Deadline of a job that names none.",
    "api_host": "Address at which the API listens.",
    "api_port": "Port of the API.",
    "max_body_bytes": "Most bytes of a request's body.",
    "max_upload_bytes": "Most bytes of an upload, packed and unpacked.",
    "max_input_chars": "Most characters of a request's last question and what follows it.",
    "max_new_tokens_limit": "Most tokens that an answer may ask for.",
    "max_feedback_per_job": "Most feedbacks on one job.",
    "max_event_readers": "Most event streams of one API process.",
    "max_adapter_rank": "Largest rank of an adapter that is taken.",
    "selector_batch": "Texts that the language model scores together.",
    "selector_wait_ms": "How long a text waits for others to be scored with.",
    "engine": "What generates: our own engine, `echo` (which repeats the input, for tests), or a vLLM server.",
    "store_patience_seconds": "How long a job waits for an object store that does not answer.",
    "drain_seconds": "How long a process that is told to end may finish what it has.",
    "pointer_poll_seconds": "How often a service looks for a new release.",
    "metrics_host": "Address at which a service shows its metrics and probes.",
    "metrics_port": "Port of these; 0 means none.",
}
"""Sentences of the settings whose names nearly say them, and that have no docstring."""
_SECTIONS = {
    "redis_ca_file": "Addresses",
    "base_model": "Base model and computation",
    "heartbeat_seconds": "Ledger and queues",
    "api_host": "Services",
}
"""The first setting of each section."""


def settings_page(root: Path) -> str:
    """Return the page."""
    said = docstrings(root)
    parts, rows = [_HEAD], list[tuple[str, str, str, str]]()
    for name, field in reversed(Settings.model_fields.items()):
        rows.insert(0, _row(name, field, said.get(name) or WORDS.get(name, "")))
        if name in _SECTIONS:
            parts.insert(1, f"## {_SECTIONS[name]}\n\n{table(['setting', 'form', 'default', 'meaning'], rows)}")
            rows = []
    return page("Settings", "`shared/settings.py`", parts)


def docstrings(root: Path) -> dict[str, str]:
    """The sentences below the settings in the source."""
    (settings,) = [
        node
        for node in ast.parse((root / "shared/settings.py").read_text()).body
        if isinstance(node, ast.ClassDef) and node.name == "Settings"
    ]
    return dict(_below(settings.body))


def _below(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for field, after in itertools.pairwise(body):
        match field, after:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str() as text)):
                yield name, text


def _row(name: str, field: FieldInfo, sentence: str) -> tuple[str, str, str, str]:
    variable = f"SIGNALBOX_{name.upper()}"
    return f'<a id="{name}"></a>`{variable}`', _form(field), code(_default(field)), sentence


def _form(field: FieldInfo) -> str:
    bounds = {Ge: "from {}", Gt: "above {}", Le: "to {}", Lt: "below {}"}
    told = [
        text.format(_number(next(iter(vars_of(one)))))
        for one in field.metadata
        for kind, text in bounds.items()
        if isinstance(one, kind)
    ]
    return " ".join([_type(field.annotation), *told])


def vars_of(bound: object) -> Iterator[float]:
    """The number of a bound."""
    for name in ("ge", "gt", "le", "lt"):
        if hasattr(bound, name):
            yield getattr(bound, name)


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _type(annotation: typing.Any) -> str:
    if typing.get_origin(annotation) is typing.Literal:
        return ", ".join(f"`{one}`" for one in typing.get_args(annotation))
    if typing.get_origin(annotation) is typing.Annotated:
        return _type(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return _type(next(one for one in typing.get_args(annotation) if one is not type(None)))
    names = {
        str: "text",
        int: "whole number",
        float: "number",
        bool: "`true`, `false`",
        Path: "path",
        SecretStr: "secret",
    }
    return names[annotation]


def _default(field: FieldInfo) -> object:
    value = field.default
    if value is None or value is PydanticUndefined or isinstance(value, SecretStr):
        return ""
    return str(value).lower() if isinstance(value, bool) else value
