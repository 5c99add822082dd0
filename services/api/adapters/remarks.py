"""What an upload's answer remarks: files that were passed over, and the base model that the adapter's config names."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from shared.adapter_files import some_of
from shared.contracts.manifests import BaseModelManifest
from shared.errors import Invalid
from shared.registry.base_models import BaseModels

_BY_SHAPES = "only the shapes say that it fits"
_QUANTISED = ("-unsloth-bnb-4bit", "-bnb-4bit")
"""Endings of names of the same weights, quantised for training."""


class AboutBase(NamedTuple):
    """What the base model's name in an adapter's config says."""

    notes: tuple[str, ...] = ()
    is_another: bool = False
    """Whether the config names another known base model, and the sender has confirmed this one."""


def check_named_base(base_models: BaseModels, named: str, base: BaseModelManifest, is_confirmed: bool) -> AboutBase:
    """Compare the name in an adapter's config with the base models that are known here.

    Raises `Invalid` where it is another known one's and the sender has not confirmed that the adapter fits this one. A
    name that is unknown, or a path, is a note: then only the shapes speak.
    """
    if not named:
        return AboutBase((f"its config names no base model: {_BY_SHAPES}",))
    if _is_of(base, named):
        return AboutBase()
    other = next((one for one in map(base_models.get, base_models.ids()) if _is_of(one, named)), None)
    if other is None:
        return AboutBase((f"its config names {named[:128]!r}, a base model unknown here: {_BY_SHAPES}",))
    if not is_confirmed:
        raise Invalid(
            "adapter_base_mismatch",
            f"its config names {named[:128]!r}, the base model {other.id}, not {base.id}: name that one in base_model, "
            "or send confirm_base true (--i-know) where it was trained on this one",
        )
    return AboutBase((f"its config names {named[:128]!r}, another base model: its sender confirmed this one",), True)


def files_note(passed_over: Sequence[str]) -> Iterator[str]:
    """Yield a note on files that are no part of an adapter."""
    if passed_over:
        yield f"{len(passed_over)} other files were passed over: {some_of(passed_over)}"


def _is_of(base: BaseModelManifest, named: str) -> bool:
    return named == base.id or (base.name != "" and _bare(named) == _bare(base.name))


def _bare(name: str) -> str:
    """Return a name without its owner and folder, and without what quantisation adds."""
    last = name.rstrip("/").rpartition("/")[2].lower()
    return next((last.removesuffix(ending) for ending in _QUANTISED if last.endswith(ending)), last)
