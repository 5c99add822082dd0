"""What the shell proposes for ids and names; nothing where no system answers."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.commands.common import client
from services.cli.errors import known_errors

if TYPE_CHECKING:
    from signalbox import Signalbox


def _proposed(names: "Callable[[Signalbox], Iterable[str]]") -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        try:
            return [name for name in names(client()) if name.startswith(incomplete)]
        except known_errors():  # a message would stand in the middle of what is typed
            return []

    return complete


releases = _proposed(lambda api: (release.id for release in api.releases()))
jobs = _proposed(lambda api: (job.id for job in api.jobs(limit=50)))
adapters = _proposed(lambda api: (adapter.ref for adapter in api.adapters()))
datasets = _proposed(lambda api: (dataset.name or dataset.id for dataset in api.datasets()))
corpora = _proposed(lambda api: (corpus.name or corpus.id for corpus in api.corpora()))
labels = _proposed(lambda api: sorted({adapter.label for adapter in api.adapters()}))

JobId = Annotated[str, typer.Argument(metavar="ID", autocompletion=jobs)]
ReleaseId = Annotated[str, typer.Argument(metavar="ID", autocompletion=releases)]
AdapterRef = Annotated[str, typer.Argument(metavar="LABEL@N", autocompletion=adapters)]
