"""Every table of the command line, with long values, on a terminal of 80 columns."""

import io
import re

import pytest
from rich.cells import cell_len
from rich.console import Console
from typer.testing import CliRunner

from services.cli import dataset_pages, output, release_pages
from services.cli.commands import template_check
from services.cli.evaluate import tables
from services.cli.gpu.pages import plan_page
from services.cli.gpu.plan import make_plan
from services.cli.importing import report
from services.cli.main import app
from tests.support.canned_api import canned_api
from tests.support.gpu_plans import base, cards, needs

LABEL = "international.customer-complaints-escalated"
DIGEST = "0123456789abcdef" * 4
TIME = "2026-11-30T08:09:10.123456+00:00"
SENTENCE = "its config names another base model, meta-llama/Llama-3.1-8B-Instruct, and none of its tensors fits"
FOLDER = f"/srv/adapters/of/the/whole/company/{LABEL}"
JOB = {
    "id": "job_0123456789abcdef01234567",
    "kind": "generate",
    "state": "succeeded",
    "label": LABEL,
    "try": 12,
    "created_at": TIME,
}
TRAINING = JOB | {"kind": "train", "trains": {"kind": "selector.train", "labels": [LABEL] * 40}}
RELEASE = {
    "id": "rel_0123456789abcdef",
    "current": True,
    "parent": "rel_fedcba9876543210",
    "base_model": DIGEST,
    "created_at": TIME,
    "verdict": {"passed": False, "reasons": [SENTENCE]},
    "labels": {f"{LABEL}-{n}": {"ref": f"{LABEL}@{n}", "group": "bank", "adapter": DIGEST} for n in range(3)},
    "selector": {"kind": "cascade", "threshold": 0.5, "digest": DIGEST},
}
BATCH = {
    "id": "batch_0123456789abcdef01234567",
    "status": "in_progress",
    "endpoint": "/v1/chat/completions",
    "output_file_id": "file-0123456789abcdef01234567",
    "error_file_id": "file-fedcba987654321001234567",
    "request_counts": {"total": 123456, "completed": 123450, "failed": 6},
}
WEBHOOK = {
    "id": "we_0123456789abcdef01234567",
    "name": "the accounting department's receiver",
    "url": f"https://hooks.example.com/of/{LABEL}",
    "event_types": ["job.succeeded", "job.failed", "release.promoted"],
    "enabled": True,
    "waiting": 12345,
    "dropped": 12345,
}
DELIVERY = {
    "id": "de_0123456789abcdef01234567",
    "event_type": "release.promoted",
    "created_at": 1796000000,
    "next_try_at": 1796000600,
    "state": "waiting",
    "attempts": 12,
    "status_code": 503,
    "error": SENTENCE,
}
ADAPTER = {
    "ref": f"{LABEL}@12",
    "label": LABEL,
    "version": 12,
    "template": "llama3",
    "digest": DIGEST,
    "base_model": DIGEST,
    "notes": [SENTENCE],
    "created_at": TIME,
}
USED = {"requests": 123456, "rejected": 1234, "failed": 123, "prompt_tokens": 1234567890, "generated_tokens": 123456789}
ANSWERS = {
    "/v1/jobs": {"items": [JOB, TRAINING]},
    "/v1/jobs/dead": {"items": [JOB]},
    "/v1/adapters": {"items": [ADAPTER]},
    "/v1/datasets": {"items": [{"id": "ds_" + DIGEST[:24], "name": f"{LABEL}.train", "rows": 1, "created_at": TIME}]},
    "/v1/releases": {"items": [RELEASE]},
    "/v1/releases/current": RELEASE,
    "/v1/releases/old": RELEASE | {"labels": {}, "verdict": {"passed": True}, "base_model": DIGEST[::-1]},
    "/v1/models": {"data": [{"id": f"{LABEL}@12", "signalbox": {"kind": "adapter", "model": DIGEST}}]},
    "/v1/templates": {
        "items": [
            {"name": "a-long-name-of-a-template", "built_in": False, "digest": DIGEST, "controls": ["<|im_start|>"] * 9}
        ]
    },
    "/v1/batches": {"data": [BATCH]},
    "/v1/webhooks": {"data": [WEBHOOK]},
    "/v1/webhooks/we_1/deliveries": {"items": [DELIVERY]},
    "/v1/usage": {"items": [{"day": "2026-11-30", "key": "key_" + DIGEST[:16], "label": LABEL, **USED}], "total": USED},
}


@pytest.fixture(scope="module")
def api():
    with canned_api(ANSWERS) as url:
        yield url


class Terminal:
    """Standard output and standard error of a terminal of 80 columns."""

    def __init__(self):
        self.out, self.err = io.StringIO(), io.StringIO()

    @property
    def lines(self):
        text = self.out.getvalue() + self.err.getvalue()
        return re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()

    @property
    def hint(self):
        return " ".join(self.err.getvalue().split())


@pytest.fixture
def terminal(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(output, "out", Console(file=screen.out, force_terminal=True, width=80))
    monkeypatch.setattr(output, "err", Console(file=screen.err, force_terminal=True, width=80))
    return screen


@pytest.mark.parametrize(
    ("command", "shows_one"),
    [
        ("jobs list", "signalbox jobs show ID"),
        ("jobs dead", "signalbox jobs show ID"),
        ("adapters list", "signalbox adapters show LABEL@N"),
        ("datasets list", ""),
        ("releases list", "signalbox releases show ID"),
        ("releases show", ""),
        ("releases diff old", ""),
        ("models list", "signalbox models show ID"),
        ("templates list", "signalbox templates show NAME"),
        ("batch list", "signalbox batch show ID"),
        ("webhooks list", "signalbox webhooks show ID"),
        ("webhooks deliveries we_1", ""),
        ("usage --by day --by key --by label", ""),
    ],
)
def test_a_list_fits_eighty_columns_and_says_how_to_see_the_rest(api, terminal, monkeypatch, command, shows_one):
    monkeypatch.setenv("SIGNALBOX_API_URL", api)
    monkeypatch.setenv("SIGNALBOX_API_KEY", "sbk_x")
    done = CliRunner().invoke(app, command.split(), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert max(map(cell_len, terminal.lines)) <= 80
    assert "--json has everything" in terminal.hint
    assert f"`{shows_one}` shows one" in terminal.hint or not shows_one


def _import_report():
    row = {"label": LABEL, "state": "failed", "adapter": f"{LABEL}@1", "notes": [SENTENCE], "reason": SENTENCE}
    report.show([row | {"folder": FOLDER}], ["label", "state", "adapter", "notes", "reason", "folder"], as_json=False)


def _template_check():
    score = {"templates": ["llama3", "model"], "doubt": None, "loss": 0.12345, "base_loss": 2.34567}
    result = {"scores": [score | {"exact_match": 0.5, "base_exact_match": 0.25}], "warnings": [SENTENCE]}
    verdict = {"verdict": "clear", "best": ["llama3"], "template": "chatml", "ref": f"{LABEL}@12"}
    template_check.show(result | verdict, sets=True)


def _gpu_plan():
    groups = tuple(f"a-rather-long-domain-{n}" for n in range(60))
    plan_page(make_plan(base(), needs(1000, groups=groups), cards(5)), RELEASE["id"], as_json=False)


def _proposed_labels():
    dataset_pages.labels([{"given": f"{LABEL} " * 2, "label": LABEL * 2, "rows": 12}])


def _release_page():
    release_pages.page(RELEASE, as_json=False)


@pytest.mark.parametrize("show", [_import_report, _template_check, _gpu_plan, _proposed_labels, _release_page])
def test_a_page_with_a_table_fits_eighty_columns(terminal, show):
    show()
    assert max(map(cell_len, terminal.out.getvalue().splitlines())) <= 80
    assert "…" not in terminal.out.getvalue() or "--json has everything" in terminal.hint


INTERVAL = {"value": 0.123, "low": 0.012, "high": 0.987}


def _selector_evaluation():
    tables.show_selector(
        {
            "accuracy": 0.9,
            "confusion": {LABEL: {LABEL: 1234, f"{LABEL}-others": 56}},
            "per_label": {LABEL: 0.956},
            "intervals": {"per_label": {LABEL: (0.9, 0.98)}},
            "curve": [{"llm_share": 0.5, "sure": 0.98765, "accuracy": 0.98765, "ms": 1234.5}],
        },
        as_json=False,
    )


def _system_evaluation():
    line = {"tasks": {LABEL: INTERVAL}, "mean": INTERVAL}
    tables.show_system(
        {
            "lines": {"selector": line, "oracle": line, "routed": line},
            "tasks": {LABEL: {"n": 1234, "measure": "bertscore"}},
            "parameters": {"adapters": {LABEL: {"share": 0.0123}}, "selector": {}},
            "release": RELEASE["id"],
            "background": 0.5,
        },
        as_json=False,
    )


@pytest.mark.parametrize("show", [_selector_evaluation, _system_evaluation])
def test_an_evaluation_fits_eighty_columns_and_leaves_nothing_out(terminal, show):
    show()
    assert max(map(cell_len, terminal.lines)) <= 80
    assert "…" not in terminal.out.getvalue()


def test_where_no_terminal_is_lines_are_whole(capsys):
    output.jobs([TRAINING], as_json=False)
    (_, line) = capsys.readouterr().out.splitlines()
    assert line.split("\t")[3] == ", ".join([LABEL] * 40)
