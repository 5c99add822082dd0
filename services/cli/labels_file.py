"""The labels file of `signalbox route init`: what is served, said in YAML by hand."""

from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import ErrorDetails

from shared.contracts.labels import LabelText, check_adapter_label
from shared.contracts.manifests import Ambiguous
from shared.errors import Invalid, SignalboxError

MAX_BYTES = 4 << 20
MAX_LABELS = 1000
"""As many as one selector takes."""
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=20_000)]
Texts = Annotated[tuple[Text, ...], Field(max_length=1000)]


class LabelEntry(BaseModel):
    """One label: its adapter, and what the selector knows it by."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: LabelText
    adapter: LabelText = ""
    """`label@n`, a digest, or a PEFT folder beside the file, which is uploaded; by default the label's newest."""
    description: Annotated[str, StringConstraints(strip_whitespace=True, max_length=2000)] = ""
    examples: Texts = ()
    group: str | None = None
    template: Annotated[str, StringConstraints(max_length=32)] = ""
    """How the adapter was prompted; by default its own, or what an edit of the current release has set."""
    instruction: Annotated[str, StringConstraints(strip_whitespace=True, max_length=20_000)] = ""
    """For requests that have none; by default as for `template`."""


class LabelsFile(BaseModel):
    """The labels of a selector, and texts that belong to none of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: tuple[LabelEntry, ...]
    background: Texts = ()
    ambiguous: Ambiguous | None = None

    @property
    def rows(self) -> list[dict[str, str]]:
        """The examples as rows of a data set, each once."""
        pairs = dict.fromkeys((text, entry.label) for entry in self.labels for text in entry.examples)
        return [{"input": text, "label": label} for text, label in pairs]


def read_labels(file: Path) -> LabelsFile:
    """Read a labels file; raises `Invalid`, which says where the file is wrong and what to write instead."""
    if file.stat().st_size > MAX_BYTES:
        raise Invalid(
            "labels_file_large",
            f"{file.name} has {file.stat().st_size >> 20} MiB, and {MAX_BYTES >> 20} are read at most: upload the "
            "examples as a data set (`signalbox datasets add`) and run `signalbox train selector --kind prototypes`",
        )
    found = _checked(file, _parsed(file))
    if len(found.labels) > MAX_LABELS:
        raise Invalid(
            "labels_too_many",
            f"{file.name} names {len(found.labels):,} labels, and one selector takes {MAX_LABELS:,}: join labels that "
            "one adapter answers, or give each tenant a release of its own",
        )
    for fault in _faults(found):
        raise Invalid("labels_file_invalid", f"{file.name}: {fault}")
    return found


def _parsed(file: Path) -> Any:
    try:
        return _Loader(file.read_text("utf-8-sig")).get_single_data()
    except UnicodeDecodeError as error:
        raise Invalid("labels_file_invalid", f"{file.name} is not UTF-8: save it as UTF-8") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        where = " ".join(str(error).split())[:300] or "it is nested too deeply"
        raise Invalid("labels_file_invalid", f"{file.name} is not YAML: {where}") from error


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """A safe loader that refuses a key that stands twice, instead of taking the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            name = str(key.value)
            if name in seen or name == "<<":  # merged mappings can grow without bound
                what = "merges mappings; write them out" if name == "<<" else "stands here twice"
                raise yaml.constructor.ConstructorError(None, None, f"{name} {what}", key.start_mark)
            seen.add(name)
        found: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return found


def _checked(file: Path, raw: Any) -> LabelsFile:
    whole = {"labels": raw} if isinstance(raw, list) else raw
    if not isinstance(whole, dict) or "labels" not in whole:
        raise Invalid(
            "labels_file_invalid", f"{file.name} has no labels; write `labels:`, below it `- label: bank.cards`"
        )
    if isinstance(whole["labels"], dict):
        whole = whole | {"labels": [_entry(label, entry) for label, entry in whole["labels"].items()]}
    try:
        return LabelsFile.model_validate(whole)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise Invalid("labels_file_invalid", f"{file.name}: {_place(whole, first['loc'])}: {_reason(first)}") from error


def _reason(fault: ErrorDetails) -> str:
    known = ", ".join(LabelEntry.model_fields if fault["loc"][0] == "labels" else LabelsFile.model_fields)
    reasons = {"extra_forbidden": f"no such field; known are {known}", "model_type": f"write its fields: {known}"}
    return reasons.get(fault["type"], fault["msg"])


def _entry(label: Any, entry: Any) -> Any:
    return {"label": label, **entry} if isinstance(entry, dict) else {"label": label, "description": entry}


def _place(whole: dict[str, Any], path: tuple[int | str, ...]) -> str:
    """Where in the file something is wrong, with the label's name beside its number."""
    if path[0] != "labels" or len(path) < 2 or not isinstance(path[1], int):
        return ".".join(map(str, path))
    entry = whole["labels"][path[1]]
    name = f" ({entry['label']})" if isinstance(entry, dict) and isinstance(entry.get("label"), str) else ""
    return " ".join([f"label {path[1] + 1}{name}", *map(str, path[2:])])


def _faults(found: LabelsFile) -> Iterator[str]:
    places: dict[str, int] = {}
    for place, entry in enumerate(found.labels, 1):
        try:
            check_adapter_label(entry.label)
        except SignalboxError as error:
            yield f"label {place}: {error.detail}"
        if entry.label in places:
            yield f"{entry.label} stands at label {places[entry.label]} and at label {place}; join the two"
        places[entry.label] = place
        if not (entry.description or entry.examples):
            yield f"{entry.label} has neither a description nor examples; one of them tells the selector what it is for"
    if len(found.labels) + bool(found.background) < 2:
        yield "one label alone needs no selector; name a second one, or texts of none under `background`"
