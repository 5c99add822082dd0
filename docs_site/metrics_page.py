"""The page of metrics: what each service exports, from the metrics that it declares."""

from collections.abc import Iterator
from types import ModuleType

from prometheus_client.metrics import MetricWrapperBase

import services.adapter_worker.metrics
import services.api.batches.metrics
import services.selector.metrics
import services.trainer.metrics
import shared.observability.metrics
from docs_site.tables import cell, code, page, table
from services.api.infra.metrics import Metrics

_HEAD = """
The API serves `/metrics` next to its routes, every other service at `SIGNALBOX_METRICS_PORT`; how to watch them:
[operations](../operations.md#observability). Names follow vLLM's under the prefix `signalbox_`; no label names a job or
a tenant. What "aggregate with max" says of itself is read from the ledger and the same from every process.

A counter's samples end in `_total`, a histogram's in `_bucket`, `_sum` and `_count`.
"""
_OF = {
    "Every service but the API": shared.observability.metrics,
    "Worker": services.adapter_worker.metrics,
    "Selector": services.selector.metrics,
    "Trainer": services.trainer.metrics,
    "API's worker": services.api.batches.metrics,
}


def metrics_page() -> str:
    """Return the page."""
    parts = [_HEAD, _section("API", list(vars(Metrics()).values()))]
    parts += [_section(title, list(_declared(module))) for title, module in _OF.items()]
    return page("Metrics", "the metrics that the services declare", parts)


def _declared(module: ModuleType) -> Iterator[object]:
    """The metrics of a module; what it imports from another is told of there."""
    return (value for name, value in vars(module).items() if name.isupper())


def _section(title: str, values: list[object]) -> str:
    rows = [
        (
            code(f"{one._name}_total" if one._type == "counter" else one._name),
            str(one._type),
            _labels(one),
            cell(one._documentation),
        )
        for one in values
        if isinstance(one, MetricWrapperBase)
    ]
    return f"## {title}\n\n{table(['metric', 'kind', 'labels', 'what it counts'], rows)}"


def _labels(metric: MetricWrapperBase) -> str:
    return ", ".join(code(name) for name in metric._labelnames)
