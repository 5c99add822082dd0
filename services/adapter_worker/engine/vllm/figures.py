"""What a vLLM server's own metrics say, read at each check."""

from collections.abc import Iterable
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from services.adapter_worker.engine.base import CacheFigures

_WAITING = "vllm:num_requests_waiting"
_USED = "vllm:kv_cache_usage_perc"  # a share, whatever its name says
_LOOKED_UP, _FOUND = "vllm:prefix_cache_queries_total", "vllm:prefix_cache_hits_total"


class ServerFigures(NamedTuple):
    """Requests that wait at the server, and its cache; zeros where it says nothing of them."""

    waiting: int = 0
    cache: CacheFigures = CacheFigures()


def read_figures(text: str) -> ServerFigures:
    """Read an answer of `/metrics`; of a server with several engine cores, counts are summed and shares averaged."""
    try:
        samples = [(one.name, one.value) for family in text_string_to_metric_families(text) for one in family.samples]
    except ValueError:
        return ServerFigures()
    used = _values(samples, _USED)
    cache = CacheFigures(sum(used) / max(1, len(used)), _sum(samples, _LOOKED_UP), _sum(samples, _FOUND))
    return ServerFigures(_sum(samples, _WAITING), cache)


def _values(samples: Iterable[tuple[str, float]], name: str) -> list[float]:
    return [value for known, value in samples if known == name]


def _sum(samples: Iterable[tuple[str, float]], name: str) -> int:
    return int(sum(_values(samples, name)))
