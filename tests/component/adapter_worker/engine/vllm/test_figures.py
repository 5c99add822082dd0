"""A vLLM server's metrics under our names."""

import pytest

from services.adapter_worker.engine.base import CacheFigures
from services.adapter_worker.engine.vllm.figures import ServerFigures, read_figures

TOLD = """\
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="base"} 3.0
vllm:num_requests_waiting{engine="1",model_name="base"} 2.0
# HELP vllm:kv_cache_usage_perc KV-cache usage. 1 means 100 percent usage.
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="base"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="base"} 0.75
# HELP vllm:prefix_cache_queries_total Prefix cache queries, in terms of number of queried tokens.
# TYPE vllm:prefix_cache_queries_total counter
vllm:prefix_cache_queries_total{engine="0",model_name="base"} 1000.0
# HELP vllm:prefix_cache_queries_created Prefix cache queries, in terms of number of queried tokens.
# TYPE vllm:prefix_cache_queries_created gauge
vllm:prefix_cache_queries_created{engine="0",model_name="base"} 1.7e+09
# HELP vllm:prefix_cache_hits_total Prefix cache hits, in terms of number of cached tokens.
# TYPE vllm:prefix_cache_hits_total counter
vllm:prefix_cache_hits_total{engine="0",model_name="base"} 250.0
"""


def test_counts_are_summed_over_engine_cores_and_shares_averaged():
    assert read_figures(TOLD) == ServerFigures(5, CacheFigures(0.5, 1000, 250))


@pytest.mark.parametrize("text", ["", "another server's page", "vllm:kv_cache_usage_perc{ 0.5", "other_total 3"])
def test_what_tells_nothing_of_it_is_zero(text):
    assert read_figures(text) == ServerFigures()
