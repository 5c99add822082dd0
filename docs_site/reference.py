"""The pages that the code writes: made anew by `make reference`, and compared by a test."""

from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]


def pages(root: Path = ROOT) -> Iterator[tuple[Path, str]]:
    """Each generated page: its file below `docs`, and what it has to be."""
    from docs_site.cli_page import cli_page
    from docs_site.decisions_page import decisions_page
    from docs_site.errors_page import errors_page
    from docs_site.http_page import http_page
    from docs_site.metrics_page import metrics_page
    from docs_site.settings_page import settings_page

    folder = root / "docs"
    yield folder / "reference/cli.md", cli_page()
    yield folder / "reference/settings.md", settings_page(root)
    yield folder / "reference/errors.md", errors_page(root)
    yield folder / "reference/metrics.md", metrics_page()
    yield folder / "reference/http.md", http_page()
    yield folder / "decisions/README.md", decisions_page(root)


def write() -> list[Path]:
    """Write every page; returns those that were not current."""
    changed = []
    for file, text in pages():
        if not file.is_file() or file.read_text() != text:
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
            changed.append(file)
    return changed
