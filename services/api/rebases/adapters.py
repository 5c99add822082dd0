"""How a label's adapter was trained, and how that is done again on another base model."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from services.api.training.service import AdapterTrainRequest
from shared.contracts.manifests import AdapterManifest, BaseModelManifest, ReleaseLabel
from shared.contracts.training_settings import LoraSettings
from shared.contracts.training_tasks import REPEATED_FIELDS

Source = Literal["adapter", "job", "config"]


class Known(NamedTuple):
    """What is known of the training of a label's adapter."""

    entry: ReleaseLabel
    manifest: AdapterManifest | None
    """None where its record was deleted."""
    job: Mapping[str, Any] | None
    """The body of the job that trained it, while the ledger keeps it."""

    @property
    def dataset(self) -> str:
        """Id of its data set; empty for an upload, and for one that is composed of others."""
        return str(self.manifest.report.get("dataset", "")) if self.manifest and not self.manifest.parts else ""

    @property
    def source(self) -> Source:
        """What tells the settings of its training."""
        if self.manifest and "training" in self.manifest.report:
            return "adapter"
        return "job" if self.job and self.job.get("kind") == "adapter.train" else "config"

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of its training that are to be the same again."""
        if self.manifest and self.source == "adapter":
            return dict(self.manifest.report["training"])
        if self.job and self.source == "job":
            return {name: self.job[name] for name in REPEATED_FIELDS if name in self.job}
        return {"settings": _of_config(self.manifest.info if self.manifest else {}, self.entry.template)}


def training_again(
    label: str, known: Known, base: BaseModelManifest, *, dataset: str, template: str, confirm_cost: bool
) -> AdapterTrainRequest:
    """Return the training of a label's adapter on another base model; `template` is that of its prompts there."""
    fields = known.fields
    settings = fitting(fields.pop("settings", {}), base) | {"template": template}
    return AdapterTrainRequest(
        label=label,
        dataset=dataset,
        instruction=known.entry.instruction,
        settings=base.settled(LoraSettings.model_validate(settings)),
        base_model=base.id,
        confirm_cost=confirm_cost,
        **fields,
    )


def fitting(settings: Mapping[str, Any], base: BaseModelManifest) -> dict[str, Any]:
    """Return settings without layers that the new base model lacks: its own usual ones are taken then."""
    modules = settings.get("target_modules")
    names = {part for name in base.shapes for part in (name, name.rpartition(".")[2])}
    if not isinstance(modules, list | tuple) or names.issuperset(modules):
        return dict(settings)
    return {name: value for name, value in settings.items() if name != "target_modules"}


def _of_config(info: Mapping[str, Any], template: str) -> dict[str, Any]:
    """Settings from what an adapter's files say; the rest is as usual."""
    rank, method = int(info.get("rank") or LoraSettings().rank), str(info.get("method") or "lora")
    found: dict[str, Any] = {"rank": rank, "alpha": float(info.get("alpha") or 2 * rank), "template": template}
    if modules := tuple(info.get("target_modules") or ()):
        found["target_modules"] = modules
    # A rank-stabilised DoRA has no name among the methods of trainings.
    return found | {"method": {"lora": "lora", "rslora": "rslora"}.get(method, "dora")}
