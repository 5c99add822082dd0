"""What a selector job makes: a selector of some kind, from its data, in place of a release."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from services.trainer.context import SelectorContext
from services.trainer.selector.data import SelectorData
from services.trainer.selector.inputs import Inputs, base_of_update, kind_of_update
from services.trainer.selector.rebase import rebase_of
from services.trainer.selector.text_reader import TextReader
from shared.contracts.manifests import Ambiguous, Release, ReleaseSelector, SelectorKind
from shared.contracts.reading import RequestReading, SelectorText
from shared.contracts.training import Readout, SelectorAdd, SelectorTrain


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
    reading: RequestReading | None
    """Of conversations; None in updates of releases from before it was said."""
    ambiguous: Ambiguous | None
    descriptions: Mapping[str, str]
    """Of each label that has one: a text of the representation set that is no request."""
    reader: TextReader = field(compare=False)
    """What reads texts for prototypes."""
    parent: Release | None = None
    """The release that the candidate would replace."""
    start_from: ReleaseSelector | None = None
    """The selector that is fine-tuned again; None trains one from nothing."""
    kept_names: frozenset[str] = frozenset()
    """Labels of the parent that stay for requests that name them, although the selector does not know them."""

    @property
    def has_llm(self) -> bool:
        """Whether a language model is trained."""
        return self.kind in ("cascade", "llm")

    @property
    def llm_start(self) -> ReleaseSelector | None:
        """The selector whose language model is fine-tuned again; None trains one from nothing."""
        return self.start_from if self.start_from and self.start_from.llm else None


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
            reading=body.reads,
            ambiguous=body.ambiguous,
            descriptions=body.descriptions,
            reader=TextReader(context),
            parent=inputs.parent,
            kept_names=_kept_names(context, inputs),
        )
    base = base_of_update(context.with_body(body), inputs.parent)
    return Plan(
        data,
        adapters=inputs.adapters,
        kind=kind_of_update(body, base),
        readout="auto",
        text=base.selector.text,
        reject_policy=base.release.reject_policy,
        reading=base.release.reading,
        ambiguous=base.release.ambiguous,
        descriptions={
            **{label: entry.description for label, entry in base.release.labels.items() if entry.description},
            **(body.descriptions if isinstance(body, SelectorAdd) else {}),
        },
        reader=TextReader(context),
        parent=base.release,
        start_from=base.selector,
        kept_names=_kept_names(context, inputs),
    )


def _kept_names(context: SelectorContext, inputs: Inputs) -> frozenset[str]:
    parent = inputs.parent
    if parent and rebase_of(context):
        return parent.named_labels & set(inputs.adapters)
    if parent is None or parent.base_model != context.clients.base_model:
        return frozenset()
    return parent.named_labels - set(context.body.dropped)
