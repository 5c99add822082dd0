"""The model card of an exported adapter: front matter as the hub reads it, then what is known of it here.

Source of the fields: https://huggingface.co/docs/hub/model-cards, and PEFT's own card for the tags.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from shared.contracts.manifests import AdapterManifest, BaseModelManifest

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
_MEASURES = {
    "adapter_exact_match": "answers that match exactly, with the adapter",
    "base_exact_match": "answers that match exactly, by the base model alone",
    "validation_loss": "loss of the right answers",
    "validation_rows": "rows that it was measured on",
}


def model_card(manifest: AdapterManifest, base: BaseModelManifest | None) -> str:
    """Return the card; `base` is None where the base model's own record is gone."""
    parts = (_front_matter(base), _what(manifest, base), _data(manifest), _measured(manifest.report), _use(manifest))
    return "\n".join(line for part in parts for line in part) + "\n"


def _front_matter(base: BaseModelManifest | None) -> Iterator[str]:
    name = base.name if base and _HUB_NAME.fullmatch(base.name) else ""
    yield "---"
    if name:
        yield f"base_model: {json.dumps(name)}"
    yield "library_name: peft"
    yield "pipeline_tag: text-generation"
    yield "license: unknown"
    yield "tags:"
    if name:
        yield f"- {json.dumps(f'base_model:adapter:{name}')}"
    yield from ("- lora", "- signalbox", "---", "")


def _what(manifest: AdapterManifest, base: BaseModelManifest | None) -> Iterator[str]:
    info = manifest.info
    named = f"{base.name}, " if base and base.name else ""
    yield f"# {manifest.ref}"
    yield ""
    yield f"A LoRA adapter for the label `{manifest.label}`, exported from Signalbox. Its licence is unknown: nobody"
    yield "has said here on which terms its weights, or the data behind them, may be used. Say so before you share it."
    yield ""
    yield "| | |"
    yield "| --- | --- |"
    yield _row("version", manifest.version)
    yield _row("digest", manifest.digest)
    yield _row("base model", f"{named}pin {manifest.base_model}")
    yield _row("method, rank, alpha", ", ".join(str(info.get(key, "unknown")) for key in ("method", "rank", "alpha")))
    yield _row("target modules", ", ".join(info.get("target_modules", ())))
    yield _row("parameters", f"{info.get('parameter_count', 0):,}")
    yield _row("prompt template", manifest.template)
    yield _row("made", f"{manifest.created_at}, {_made_by(manifest)}")
    yield ""
    if manifest.instruction:
        yield from ("Instruction where a request has none:", "", *_quoted(manifest.instruction), "")


def _made_by(manifest: AdapterManifest) -> str:
    return f"by the training job {manifest.made_by}" if manifest.made_by else "uploaded"


def _data(manifest: AdapterManifest) -> Iterator[str]:
    yield "## Data"
    yield ""
    if dataset := manifest.report.get("dataset"):
        rows = manifest.report.get("train_rows", "an unknown number of")
        yield f"Trained on {rows} rows of the data set `{dataset}`."
    elif manifest.made_by:
        yield f"Trained by the job `{manifest.made_by}`; which data set that was is noted there."
    else:
        yield "It was uploaded; what it was trained on is unknown here."
    for note in manifest.notes:
        yield f"- {_plain(note)}"
    yield ""


def _measured(report: Mapping[str, Any]) -> Iterator[str]:
    found = [(says, report[name]) for name, says in _MEASURES.items() if name in report]
    yield "## Measurements"
    yield ""
    if not found:
        yield from ("None.", "")
        return
    yield "| measure | value |"
    yield "| --- | --- |"
    yield from (f"| {says} | {value} |" for says, value in found)
    yield from ("", "On rows of the label that it was not trained on.", "")


def _use(manifest: AdapterManifest) -> Iterator[str]:
    yield "## Use"
    yield ""
    yield "```python"
    yield 'model.load_adapter("FOLDER")  # a base model of transformers, where PEFT is installed'
    yield "```"
    yield ""
    yield f"Prompts have the form of the template `{manifest.template}`. To serve it with Signalbox again:"
    yield ""
    yield f"    signalbox adapters add FOLDER --label {manifest.label} --template {manifest.template}"


def _row(name: str, value: object) -> str:
    return f"| {name} | {_plain(str(value))} |"


def _plain(text: str) -> str:
    """Return a text of others as one line of a table that no reader takes for markup."""
    one_line = " ".join(text.split())
    return re.sub(r"([\\`*_{}\[\]<>()#|!])", r"\\\1", one_line)


def _quoted(text: str) -> Iterator[str]:
    """Yield a text as an indented block, in which nothing is markup."""
    yield from (f"    {line}" for line in text.splitlines())
