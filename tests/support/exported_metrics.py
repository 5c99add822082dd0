"""What the services declare to export, what a query asks for, and the rules and panels that ask."""

import json
import re
from pathlib import Path

import yaml
from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

import services.adapter_worker.metrics
import services.api.batches.metrics
import services.selector.metrics
import services.trainer.metrics
import shared.observability.metrics
from services.api.infra.metrics import Metrics

FOLDER = Path(__file__).parents[2] / "monitoring"
RULES = [rule for group in yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"] for rule in group["rules"]]
DASHBOARD = json.loads((FOLDER / "dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
CELERY = {
    "worker": [shared.observability.metrics, services.adapter_worker.metrics],
    "selector": [shared.observability.metrics, services.selector.metrics],
    "trainer": [shared.observability.metrics, services.trainer.metrics],
    "api-worker": [services.api.batches.metrics],
}
OF_PROMETHEUS = {"up": {"job", "instance"}, "ALERTS": {"alertname", "alertstate", "severity"}}
_SAMPLES = {"gauge": ("",), "counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
_NAME = r"(?:\w+:)?signalbox[\w:]*|\bup\b|\bALERTS\b"


def declared(service):
    """Sample name to label names of a service: `api`, `worker`, `selector`, `trainer`."""
    if service == "api":
        collectors = list(Metrics().registry._collector_to_names)
    else:
        found = (value for module in CELERY[service] for value in vars(module).values())
        collectors = [
            one for one in found if isinstance(one, MetricWrapperBase) and one in REGISTRY._collector_to_names
        ]
    return dict(sample for one in collectors for sample in _samples(one))


def declared_by_all():
    return {name: labels for service in ("api", *CELERY) for name, labels in declared(service).items()}


def _samples(metric):
    for suffix in _SAMPLES[metric._type]:
        yield metric._name + suffix, set(metric._labelnames) | ({"le"} if suffix == "_bucket" else set())


def asked(query):
    """Names that a query asks for, and for each the labels that it is selected by."""
    text = re.sub(r'"[^"]*"', '""', query)
    for name, selector in re.findall(rf"({_NAME})(?:\{{([^}}]*)\}})?", text):
        yield name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector))


def grouped(query):
    """Labels that a query's results are grouped by."""
    text = re.sub(r'"[^"]*"', '""', query)
    return {
        label for group in re.findall(r"\b(?:by|on|without)\s*\(([^)]*)\)", text) for label in re.findall(r"\w+", group)
    }
