"""The pages: links that lead somewhere, a place in the site for each, and what the code writes of itself."""

import re
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest
from typer.main import get_command

from docs_site.error_codes import told
from docs_site.markdown import anchors, links
from docs_site.reference import pages
from docs_site.remedies import says_what_to_do
from docs_site.settings_page import WORDS, docstrings
from docs_site.stage import BESIDE
from services.cli.main import app
from shared.settings import Settings
from tests.support.source import ROOT

PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(p for top in ("docs", "clients", "tests", "examples", "benchmarks") for p in (ROOT / top).rglob("*.md")),
    ]
)


def fault(page, target):
    path, _, anchor = target.partition("#")
    if re.match(r"[a-z]+:", path):
        return None
    found = (page.parent / path).resolve() if path else page
    if not found.exists():
        return "there is no such file"
    if anchor and found.suffix == ".md" and anchor not in anchors(found.read_text()):
        return "there is no such heading"
    return None


def test_every_link_of_a_page_leads_somewhere():
    found = [(page, link) for page in PAGES for link in links(page.read_text())]
    wrong = {
        f"{page.relative_to(ROOT)}:{link.line} {link.target}": why
        for page, link in found
        if (why := fault(page, link.target))
    }
    assert wrong == {}
    assert len(found) > 200


def test_every_page_named_in_the_code_is_there():
    sources = [
        path
        for top in ("services", "shared", "monitoring", "benchmarks")
        for path in (ROOT / top).rglob("*")
        if path.suffix in (".py", ".yml")
    ]
    named = {name for path in sources for name in re.findall(r"\bdocs/[\w/-]+\.(?:md|svg)", path.read_text())}
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []
    assert len(named) > 5


SHOWN = re.compile(r"(?:^|\$ |\$\()\s*signalbox (.+)$|^\s*docker compose run .*?\bcli (.+)$")


def shown_commands():
    """Every command of ours that a block of a page shows, as words."""
    for page in PAGES:
        for block in re.findall(r"^ *```(?:sh|console)\n(.*?)^ *```", page.read_text(), re.MULTILINE | re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                if found := re.search(
                    r"(?:^|\$ |\$\(|\bcli )\s*signalbox (.+)$|^\s*docker compose run .*?\bcli (.+)$", line
                ):
                    yield page, re.split(r" \||\)| #| && ", found[1] or found[2])[0].split()


def test_every_command_that_a_page_shows_has_its_options():
    unknown = []
    for page, words in shown_commands():
        command, at = get_command(app), 0
        while hasattr(command, "commands") and at < len(words) and words[at] in command.commands:
            command, at = command.commands[words[at]], at + 1
        taken = {name for one in command.params for name in (*one.opts, *one.secondary_opts)} | {"--help"}
        asked = {word.partition("=")[0] for word in words[at:] if word.startswith("--")}
        if asked - taken or hasattr(command, "commands"):
            unknown.append((page.name, " ".join(words)))
    assert unknown == []
    assert len(list(shown_commands())) > 60


def in_navigation(entries):
    for entry in entries:
        for place in entry.values():
            yield from [place] if isinstance(place, str) else in_navigation(place)


def test_the_navigation_of_the_site_names_every_page_once():
    named = list(in_navigation(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]))
    written = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")} | set(
        BESIDE.values()
    )
    # Their lists name them.
    listed = {place for place in written if re.match(r"(decisions/\d|reproduction/(?!README))", place)}
    assert sorted(named) == sorted(written - listed)


@pytest.fixture(scope="module")
def written():
    return dict(pages())


def test_what_the_code_says_of_itself_is_current(written):
    stale = [file.name for file, text in written.items() if not file.is_file() or file.read_text() != text]
    assert stale == [], "make reference"


def test_every_error_code_stands_on_its_page_and_says_what_to_do(written):
    page = written[ROOT / "docs/reference/errors.md"]
    by_code = defaultdict(list)
    for one in told(ROOT):
        by_code[one.code].append(one)
    assert [code for code in by_code if f'<a id="{code}"></a>' not in page] == []
    # What may be sent again says so by its class, and what only processes tell each other needs no remedy.
    asked = {code: [one for one in ones if not (one.is_retryable or one.is_internal)] for code, ones in by_code.items()}
    silent = [code for code, ones in asked.items() if ones and not any(says_what_to_do(one.detail) for one in ones)]
    assert silent == []
    assert len(by_code) > 300


def test_every_setting_is_explained_in_one_place():
    said = docstrings(Path(ROOT))
    assert sorted({*said, *WORDS}) == sorted(Settings.model_fields)
    assert set(said) & set(WORDS) == set()
