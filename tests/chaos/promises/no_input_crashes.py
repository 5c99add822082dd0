"""14: no request that the OpenAPI page allows, or forbids, makes the API fail or answer what the page does not tell."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.chaos.outcome import Outcome, Promise
from tests.chaos.sizes import Size
from tests.chaos.world import Plan, World

_CHECKS = {"ServerError": "server_errors", "UndefinedStatusCode": "undocumented_statuses"}
_RUN_SECONDS = 300
"""One run of schemathesis; further ones, with other seeds, follow until there are cases enough."""


def plan(size: Size) -> Plan:
    """Any system will do."""
    return Plan(lease_seconds=size.lease_seconds)


def prove(world: World, size: Size) -> Outcome:
    """Schemathesis on the live API: each operation by itself, then operations that follow from each other."""
    world.know_base_model()
    reports: list[dict[str, Any]] = []
    left_seconds = size.seconds
    while _cases(reports) < size.cases and left_seconds > 0:
        reports.append(_schemathesis(world, size, seed=len(reports), seconds=min(_RUN_SECONDS, left_seconds)))
        left_seconds -= reports[-1]["running_time"]
    failures = [failure for report in reports for failure in report["failures"]]
    outcome = Outcome({"cases": _cases(reports), "runs": len(reports)})
    outcome.at_least("generated_cases", _cases(reports), size.cases)
    for kind, key in _CHECKS.items():
        found = [failure for failure in failures if failure["type"] == kind]
        outcome.at_most(key, len(found), 0, spread=_told(found))
    others = [failure for failure in failures if failure["type"] not in _CHECKS]
    errors = sum(len(report["errors"]) for report in reports)
    outcome.at_most("other_failures_and_errors", len(others) + errors, 0, spread=_told(others))
    tried = [report["operations"]["tested"] for report in reports]
    outcome.at_least("operations_tested", max(tried), reports[0]["operations"]["selected"])
    return outcome


def _schemathesis(world: World, size: Size, *, seed: int, seconds: float) -> dict[str, Any]:
    """One run; answers its report."""
    report = world.folder / f"schemathesis-{seed}.json"
    command = [str(Path(sys.executable).parent / "st"), "run", f"{world.supervisor.api_url}/openapi.json"]
    options = {
        "--header": f"Authorization: Bearer {world.key}",
        "--checks": "not_a_server_error,status_code_conformance",
        "--phases": size.phases,
        "--max-examples": size.examples,
        # The stream of a training job that waits does not end, and there is no trainer.
        "--exclude-path": "/v1/training/jobs/{job_id}/events",
        "--request-timeout": 20,
        "--max-time": max(1, round(seconds)),
        "--seed": seed,
        "--warnings": "off",
        "--report": "json",
        "--report-json-path": report,
    }
    words = [str(word) for option in options.items() for word in option]
    done = subprocess.run(
        [*command, *words, "--no-shrink", "--continue-on-failure"],
        capture_output=True, text=True, check=False, cwd=world.folder,
    )  # fmt: skip
    if not report.is_file():
        raise RuntimeError(f"schemathesis wrote no report: {done.stdout[-2000:]} {done.stderr[-2000:]}")
    return dict(json.loads(report.read_text()))


def _cases(reports: list[dict[str, Any]]) -> int:
    return sum(report["test_cases"]["generated"] for report in reports)


def _told(failures: list[dict[str, Any]]) -> str:
    return "; ".join(f"{one['title']} {json.dumps(one['operations'])[:200]}" for one in failures)[:600]


PROMISE = Promise(14, "No crash by input", plan, prove)
