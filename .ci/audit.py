"""Ask for known vulnerabilities of every pinned package; `make audit` runs it.

pip-audit alone passes where its service knows no package at all, as behind a mirror that holds files only. Here an
audit passes only where every package was checked: exit 1 says that a vulnerability is known, 2 that not all were asked
for.
"""

import argparse
import json
import subprocess
import sys
from typing import Any

SHOWN = 5
FOUND, UNANSWERED = 1, 2


def main() -> int:
    """Run pip-audit over the pins and judge what it says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pins")
    parser.add_argument("--pip-audit", default="pip-audit")
    parser.add_argument("--service", default="pypi", choices=["pypi", "osv"])
    args = parser.parse_args()
    command = [args.pip_audit, "-r", args.pins, "-s", args.service]
    command += ["--no-deps", "--disable-pip", "--progress-spinner", "off", "-f", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - the caller's own tool
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, LookupError):
        why = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return say(UNANSWERED, f"nothing was checked: the vulnerability service did not answer ({why[:300]})")
    return judge(packages)


def judge(packages: list[dict[str, Any]]) -> int:
    """What it means: known vulnerabilities go before what could not be asked."""
    known = [(package, flaw) for package in packages for flaw in package.get("vulns", [])]
    for package, flaw in known:
        mended = ", ".join(flaw.get("fix_versions", [])) or "no version"
        sys.stderr.write(f"{package['name']} {package['version']}: {flaw['id']}, mended in {mended}\n")
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    if known:
        return say(FOUND, f"{len(known)} known vulnerabilities; raise the pins in constraints.txt")
    if skipped or not packages:
        names = ", ".join(skipped[:SHOWN]) + (" and more" if len(skipped) > SHOWN else "")
        return say(
            UNANSWERED,
            f"{len(skipped)} of {len(packages)} packages were not checked: the service does not know them "
            f"({names}); run this where PyPI itself can be reached, or with AUDIT_SERVICE=osv",
        )
    sys.stdout.write(f"audit: no known vulnerability in {len(packages)} packages\n")
    return 0


def say(status: int, text: str) -> int:
    """One line on what is wrong."""
    sys.stderr.write(f"audit: {text}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
