"""Rules and dashboard against what the services export; tests/system/test_metrics.py scrapes that they really do."""

import re
import shutil
import subprocess

import pytest
import yaml

from tests.support.exported_metrics import (
    DASHBOARD,
    FOLDER,
    OF_PROMETHEUS,
    PANELS,
    RULES,
    asked,
    declared,
    declared_by_all,
    grouped,
)

RECORDED = {rule["record"]: rule["expr"] for rule in RULES if "record" in rule}
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
QUERIES = {
    **{rule.get("record") or rule["alert"]: rule["expr"] for rule in RULES},
    **{f"{p['title']} {t['refId']}": t["expr"] for p in PANELS for t in p["targets"]},
}
TESTS = ["rules_test.yml", "rules_day_test.yml"]
CASES = [case for name in TESTS for case in yaml.safe_load((FOLDER / name).read_text())["tests"]]


def labels_of(name):
    """The labels that a metric or a recorded figure has; None where nobody exports it."""
    if name in RECORDED:
        return grouped(RECORDED[name])
    known = declared_by_all() | OF_PROMETHEUS
    return known[name] | {"job", "instance"} if name in known else None


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_a_query_asks_for_metrics_and_labels_that_are_exported(query):
    found = dict(asked(query))
    assert found
    for name, labels in asked(query):
        assert labels_of(name) is not None, f"nobody exports {name}"
        assert labels <= labels_of(name), name
    assert grouped(query) <= set().union(*(labels_of(name) for name in found))


def test_what_is_not_exported_would_be_found():
    assert labels_of("signalbox_queue_waitin") is None
    assert list(asked('sum by (queue) (rate(signalbox_gone_total{tenant="a"}[5m]))')) == [
        ("signalbox_gone_total", {"tenant"})
    ]


def test_no_metric_has_a_job_or_a_tenant_as_a_label():
    labels = set().union(*declared_by_all().values())
    assert labels <= {
        *("le", "method", "route", "status", "reason", "queue", "state"),
        *("stage", "label", "by", "kind", "outcome"),
    }


def test_the_dashboard_shows_every_metric_and_names_no_data_source_of_its_own():
    shown = {name for p in PANELS for t in p["targets"] for name, _ in asked(t["expr"])}
    shown |= {name for figure in shown & set(RECORDED) for name, _ in asked(RECORDED[figure])}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in declared_by_all()}
    missing = families - {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}
    assert missing == {"signalbox_jobs"}  # since the ledger began: a total, for people who ask
    sources = {panel["datasource"]["uid"] for panel in PANELS}
    assert sources == {target["datasource"]["uid"] for panel in PANELS for target in panel["targets"]}
    assert sources == {"${datasource}"}
    (variable,) = DASHBOARD["templating"]["list"]
    assert (variable["name"], variable["type"], variable["query"]) == ("datasource", "datasource", "prometheus")


def test_panels_have_ids_of_their_own_and_do_not_overlap():
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    taken = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
        assert at["x"] + at["w"] <= 24


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_to_do_and_has_a_test_that_it_fires_and_one_that_it_does_not(name):
    assert set(ALERTS[name]["annotations"]) == {"summary", "mend"}
    assert ALERTS[name]["labels"]["severity"] in ("page", "ticket")
    tests = [test for case in CASES for test in case.get("alert_rule_test", []) if test["alertname"] == name]
    assert {bool(test.get("exp_alerts")) for test in tests} == {True, False}


def test_each_service_exports_what_it_measures_itself_and_no_other_does():
    own = {service: set(declared(service)) for service in ("worker", "selector", "trainer", "api")}
    common = own["worker"] & own["selector"]
    assert common == own["worker"] & own["trainer"]
    families = {name.rsplit("_", 1)[0].removeprefix("signalbox_") for name in common}
    assert families == {"stage_seconds", "jobs_ended", "jobs_forgotten_early", "jobs_given_back"}
    assert not own["api"] & set().union(own["worker"], own["selector"], own["trainer"])


@pytest.fixture
def promtool():
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is missing: it comes with Prometheus")

    def run(*args):
        done = subprocess.run([program, *args], cwd=FOLDER, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    return run


def test_promtool_accepts_rules_and_configurations(promtool):
    for config in ("prometheus.yml", "../k8s/components/prometheus/prometheus.yml"):
        code, said = promtool("check", "config", "--syntax-only", config)
        assert code == 0, said
    code, said = promtool("check", "rules", "rules.yml")
    assert code == 0, said


def test_promtool_reads_every_query_of_the_dashboard(promtool, tmp_path):
    queries = [t["expr"].replace("$__rate_interval", "5m") for p in PANELS for t in p["targets"]]
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries)]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    code, said = promtool("check", "rules", str(file))
    assert code == 0, said


def test_every_alert_fires_when_it_should_and_only_then(promtool):
    code, said = promtool("test", "rules", *TESTS)
    assert code == 0, said


@pytest.mark.parametrize(
    ("rule", "instead"),
    [
        ("max(signalbox_ledger_up) == 0", "min(signalbox_ledger_up) == 0"),
        ("for: 3m", "for: 10m"),
        ('{reason="room"}', ""),
    ],
)
def test_the_rules_tests_notice_a_wrong_rule(promtool, tmp_path, rule, instead):
    text = (FOLDER / "rules.yml").read_text()
    assert rule in text
    (tmp_path / "rules.yml").write_text(text.replace(rule, instead))
    shutil.copy(FOLDER / "rules_test.yml", tmp_path)
    code, _ = promtool("test", "rules", str(tmp_path / "rules_test.yml"))
    assert code != 0


def test_compose_and_kubernetes_read_these_rules():
    mount = "./monitoring/rules.yml:/etc/signalbox-rules/rules.yml:ro"
    compose = yaml.safe_load((FOLDER.parent / "docker-compose.yml").read_text())["services"]["prometheus"]
    assert mount in compose["volumes"]
    component = FOLDER.parent / "k8s" / "components" / "prometheus"
    assert "../../../monitoring" in yaml.safe_load((component / "kustomization.yaml").read_text())["resources"]
    for overlay in ("keda", "vllm"):
        listed = yaml.safe_load((component.parents[1] / "overlays" / overlay / "kustomization.yaml").read_text())
        assert "../../components/prometheus" in listed["components"]
    for config in (FOLDER / "prometheus.yml", component / "prometheus.yml"):
        assert yaml.safe_load(config.read_text())["rule_files"] == ["/etc/signalbox-rules/*.yml"]
