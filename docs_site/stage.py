"""The folder that the site is built from: `docs`, and the pages that stand beside it in the repository."""

import os
import re
import shutil
from pathlib import Path

from docs_site.markdown import LINK

BESIDE = {
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "clients/python/README.md": "reference/client.md",
}
"""Pages of the repository that the site has, too, and where."""
_LIST = re.compile(r"(?m)^(?![-*] |\d+\. |[|#\s]|<!--)(.+)\n(?=[-*] |\d+\. )")
_INDENTED = re.compile(r"(?m)^ {2,3}(?=\S)")


def stage(root: Path, folder: Path) -> None:
    """Fill the folder anew."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(root / "docs", folder)
    places = {file: folder / file.relative_to(root / "docs") for file in (root / "docs").rglob("*") if file.is_file()}
    places |= {root / name: folder / place for name, place in BESIDE.items()}
    for file, place in places.items():
        if file.suffix == ".md":
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(for_site(file, place, places))


def for_site(file: Path, place: Path, places: dict[Path, Path]) -> str:
    """The text of a page with links and lists as the site needs them."""

    def moved(link: re.Match[str]) -> str:
        picture, label, target = link.groups()
        path, _, anchor = target.partition("#")
        if not path or "://" in path or path.startswith("mailto:"):
            return link[0]
        found = places.get(Path(os.path.normpath(file.parent / path)))
        if found is None:  # only the repository has it
            return label
        return f"{picture}[{label}]({os.path.relpath(found, place.parent)}{'#' * bool(anchor)}{anchor})"

    parts = re.split(r"(?ms)(^ *```.*?^ *```)", file.read_text())
    return "".join(part if at % 2 else _laid_out(LINK.sub(moved, part)) for at, part in enumerate(parts))


def _laid_out(prose: str) -> str:
    """Lists as the site's builder reads them: after a blank line, what belongs to an item indented by four."""
    return _INDENTED.sub("    ", _LIST.sub(r"\1\n\n", prose))
