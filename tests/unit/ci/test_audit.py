"""What `make audit` makes of the answers of pip-audit: it passes only where every package was really checked."""

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CLEAN = {"name": "a", "version": "1", "vulns": []}
SKIPPED = {"name": "b", "skip_reason": "Dependency not found on PyPI and could not be audited: b (1)"}
FLAWED = {"name": "c", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"], "description": ""}]}


def audit(tmp_path, stdout="", stderr="", status=0):
    """Run the program with a pip-audit that says this, as pip-audit 2.10 does in each case."""
    tool = tmp_path / "pip-audit"
    tool.write_text(f"#!{sys.executable}\nimport sys\nprint({stdout!r})\nsys.exit({stderr!r} or {status})\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    command = [sys.executable, ROOT / ".ci" / "audit.py", "constraints.txt", "--pip-audit", tool]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("packages", "status", "says"),
    [
        ([CLEAN], 0, "no known vulnerability in 1 packages"),
        ([CLEAN, FLAWED], 1, "c 1: CVE-1, mended in 2"),
        ([CLEAN, SKIPPED], 2, "1 of 2 packages were not checked"),
        ([SKIPPED, FLAWED], 1, "1 known vulnerabilities"),
        ([], 2, "0 of 0 packages were not checked"),
    ],
)
def test_it_passes_only_where_every_package_was_checked_and_none_is_vulnerable(tmp_path, packages, status, says):
    done = audit(tmp_path, json.dumps({"dependencies": packages, "fixes": []}))
    assert (done.returncode, says in done.stdout + done.stderr) == (status, True), done


@pytest.mark.parametrize("stdout", ["", "<html>no such host</html>", "{}"])
def test_a_service_that_cannot_be_reached_is_said_and_is_no_pass(tmp_path, stdout):
    done = audit(tmp_path, stdout, "requests.exceptions.ConnectionError: Failed to resolve 'api.osv.dev'")
    assert done.returncode == 2
    assert "nothing was checked: the vulnerability service did not answer" in done.stderr
    assert "Failed to resolve" in done.stderr


def test_every_pin_is_exact_so_that_what_is_audited_is_what_is_installed():
    pins = (ROOT / "constraints.txt").read_text().split()
    assert all("==" in pin for pin in pins)
