"""`python -m docs_site`: `reference` writes the generated pages, `stage` and `check` stand around the builder."""

import sys
from pathlib import Path

from docs_site.reference import ROOT

STAGED, SITE = ROOT / "build/docs", ROOT / "site"


def main() -> int:
    """Do what the argument says; returns the exit status."""
    match sys.argv[1:]:
        case ["reference"]:
            from docs_site.reference import write

            for file in write():
                print(f"wrote {file.relative_to(ROOT)}")
        case ["stage"]:
            from docs_site.stage import stage

            stage(ROOT, STAGED)
        case ["check"]:
            return _check(SITE)
        case _:
            print("python -m docs_site reference|stage|check", file=sys.stderr)
            return 2
    return 0


def _check(site: Path) -> int:
    from docs_site.site_links import broken

    found = list(broken(site))
    print("\n".join([*found, f"docs_links_broken {len(found)}"]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
