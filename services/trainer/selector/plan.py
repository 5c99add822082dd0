"""What a selector job makes: a selector of some kind, from its data, in place of a release."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from services.trainer.context import SelectorContext
from services.trainer.selector.data import SelectorData
from services.trainer.selector.inputs import Inputs, base_of_update
from shared.contracts.manifests import Ambiguous, Release, ReleaseSelector, SelectorKind, SelectorText
from shared.contracts.training import Readout, SelectorTrain


@dataclass(frozen=True, slots=True)
class Plan:
    """What a selector is trained and judged on, what it consists of, and which release it would replace."""

    data: SelectorData
    adapters: Mapping[str, str]
    """Versions of the new labels' adapters that existed when the job began."""
    kind: SelectorKind | Literal["auto"]
    readout: Readout
    """Of a language model that is trained from nothing; an update keeps the readout of its parent."""
    text: SelectorText
    reject_policy: Literal["base", "error"]
    ambiguous: Ambiguous | None
    parent: Release | None = None
    """The release that the candidate would replace."""
    start_from: ReleaseSelector | None = None
    """The selector that is fine-tuned again; None trains one from nothing."""


def plan_of(context: SelectorContext, inputs: Inputs, data: SelectorData) -> Plan:
    """A training takes the selector's form from its body, an update from the release that it starts from."""
    body = context.body
    if isinstance(body, SelectorTrain):
        return Plan(
            data,
            adapters=inputs.adapters,
            kind=body.selector,
            readout=body.readout,
            text=body.text,
            reject_policy=body.reject_policy,
            ambiguous=body.ambiguous,
            parent=inputs.parent,
        )
    base = base_of_update(context.with_body(body), inputs.parent)
    return Plan(
        data,
        adapters=inputs.adapters,
        kind="light" if body.selector == "light" else base.selector.kind,
        readout="auto",
        text=base.selector.text,
        reject_policy=base.release.reject_policy,
        ambiguous=base.release.ambiguous,
        parent=base.release,
        start_from=base.selector,
    )
