"""What Prometheus would scrape from every process after real jobs: all that is declared, and no more than that."""

import re

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from signalbox import ApiError

from shared.ledger.keys import LedgerKey
from tests.support.eventually import eventually
from tests.support.exported_metrics import CELERY, declared
from tests.support.samples import TRAINING, WORDS

ROUTES_AND_STATUSES = 60
OWN = "signalbox_"
SERVICES = {"api-worker": "api-worker"}
"""Processes whose kind is not the first word of their name."""


def targets(system):
    """URL of the metrics of every process, by kind of service and its name."""
    for child in system.supervisor.children:
        url = f"http://127.0.0.1:{child.metrics_port}" if child.metrics_port else system.supervisor.api_url
        yield SERVICES.get(child.name, child.name.split("-")[0]), child.name, f"{url}/metrics"


def scrape(url):
    """Our samples: name and labels to value."""
    families = text_string_to_metric_families(httpx.get(url, timeout=10).raise_for_status().text)
    samples = [sample for family in families for sample in family.samples if sample.name.startswith(OWN)]
    return {(s.name, frozenset(s.labels.items())): s.value for s in samples if not s.name.endswith("_created")}


def scraped(system):
    """Everything, by service: processes of one kind added up."""
    found = {}
    for service, _, url in targets(system):
        mine = found.setdefault(service, {})
        for key, value in scrape(url).items():
            mine[key] = mine.get(key, 0) + value
    return found


def total(samples, name, **labels):
    return sum(
        value for (found, has), value in samples.items() if found == name and labels.items() <= dict(has).items()
    )


def run_jobs(system):
    """Two routed jobs, a named one, and a question that is refused."""
    done = [system.ended(system.submit(text)) for text in ("card limit declined", "balance transfer account")]
    done.append(
        system.ended(system.submit(label="bank.cards", params={"max_new_tokens": 8, "temperature": 1.0, "seed": 3}))
    )
    assert {job["state"] for job in done} == {"succeeded"}
    with pytest.raises(ApiError):
        system.job("job_none")
    return done


def train_and_look(system):
    """What a trainer shows of a run while it is on."""
    settings = TRAINING["settings"] | {"epochs": 100}
    body = {"kind": "adapter.train", "label": "bank.cards", "dataset": "bank.cards", "settings": settings}
    job_id = system.client.post("/v1/training/jobs", body)["id"]
    ((_, _, url),) = [target for target in targets(system) if target[0] == "trainer"]

    def shown():
        samples = scrape(url)
        return samples if total(samples, "signalbox_training_progress_ratio") else None

    seen = eventually(shown, "the trainer shows its run")
    system.client.delete(f"/v1/jobs/{job_id}")
    assert system.ended(job_id, "training/jobs")["state"] == "cancelled"
    eventually(lambda: not total(scrape(url), "signalbox_training_progress_ratio"), "the run is gone")
    return seen


def test_every_declared_metric_is_exported_and_nothing_names_a_job_or_a_tenant(released):
    jobs = run_jobs(released)
    training = train_and_look(released)
    found = scraped(released)
    found["trainer"] = training | found["trainer"]
    for service in ("api", *CELERY):
        names = {name: set(dict(labels)) for name, labels in found[service]}
        assert names == declared(service), service
    tenants = {key.removeprefix(LedgerKey.RELEASE) for key in released.redis.scan_iter(LedgerKey.RELEASE.pattern)}
    owners = {key.removeprefix(LedgerKey.PROCESS) for key in released.redis.scan_iter(LedgerKey.PROCESS.pattern)}
    values = {value for samples in found.values() for _, labels in samples for _, value in labels}
    assert tenants == {"default"}
    assert not values & (tenants | owners | {job["id"] for job in jobs} | set(released.redis.hkeys(LedgerKey.API_KEYS)))
    # Only the pin of a base model may follow a queue's name: there are as many as base models are served.
    plain = {re.sub(r"@[0-9a-f]{16}\Z", "", value) for value in values}
    assert not [value for value in plain if re.search(r"[0-9a-f]{12}|sbk_", value)]


def test_what_jobs_did_is_counted(released):
    before = scraped(released)
    jobs = run_jobs(released)
    after = scraped(released)

    def more(service, name, **labels):
        return total(after[service], name, **labels) - total(before[service], name, **labels)

    tokens = sum(job["result"]["generated_tokens"] for job in jobs)
    assert more("worker", "signalbox_generation_tokens_total") == tokens > 0
    assert more("worker", "signalbox_prompt_tokens_total") == sum(job["result"]["prompt_tokens"] for job in jobs)
    assert more("worker", "signalbox_time_to_first_token_seconds_count") == len(jobs)
    assert more("worker", "signalbox_e2e_request_latency_seconds_count") == len(jobs)
    assert more("worker", "signalbox_time_per_output_token_seconds_count") > 0
    assert more("worker", "signalbox_batch_size_count") > 0
    assert more("worker", "signalbox_stage_seconds_count", stage="routed") == len(jobs)
    assert more("worker", "signalbox_jobs_ended_total", state="succeeded") == len(jobs)
    assert (
        more("selector", "signalbox_selector_probability_count") == more("selector", "signalbox_selections_total") == 2
    )
    assert total(after["worker"], "signalbox_adapters_resident") > 0
    assert total(after["worker"], "signalbox_adapter_loads_total") > 0
    assert total(after["worker"], "signalbox_num_requests_running") == 0
    assert total(after["trainer"], "signalbox_training_steps_total", kind="adapter.train") > 0
    assert total(after["api"], "signalbox_queue_consumers", queue="generate.bank") == 2


def test_more_jobs_make_no_more_series(released):
    run_jobs(released)
    scraped(released)  # the API counts this request, too
    before = scraped(released)
    for _ in range(5):
        run_jobs(released)
    after = scraped(released)
    new = {one for service, samples in after.items() for one in set(samples) ^ set(before[service])}
    # A status that an answer has for the first time is a new series; the bound below holds for all of them.
    assert {one for one in new if not one[0].startswith("signalbox_http_request_seconds")} == set()
    labels = {*WORDS, "base"}  # releases before this one had others
    assert {
        dict(has)["label"] for name, has in after["worker"] if name == "signalbox_generation_tokens_total"
    } <= labels
    counted = [has for name, has in after["api"] if name == "signalbox_http_request_seconds_count"]
    assert len(counted) <= ROUTES_AND_STATUSES
