"""The folder that the site is built from, and the check of what was built."""

import pytest

from docs_site.site_links import broken
from docs_site.stage import BESIDE, stage


@pytest.fixture
def staged(tmp_path):
    root = tmp_path / "root"
    (root / "docs/guides").mkdir(parents=True)
    for name in BESIDE:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"# {name}\n")
    (root / "tests").mkdir()
    (root / "tests/README.md").write_text("# Tests\n")
    (root / "docs/a.md").write_text(
        "See [security](../SECURITY.md#keys), [tests](../tests/README.md), [it](guides/b.md) and [x](https://x.org):\n"
        "- one\n  goes on\n\n```md\ntext\n- [kept](../tests/README.md)\n```\n\n**Bold.**\n1. first\n2. second\n"
    )
    (root / "docs/guides/b.md").write_text("[up](../a.md), [client](../../clients/python/README.md)\n")
    stage(root, tmp_path / "site")
    return tmp_path / "site"


def test_links_lead_to_where_the_pages_of_the_site_are(staged):
    text = (staged / "a.md").read_text()
    assert "[security](security.md#keys), tests, [it](guides/b.md) and [x](https://x.org)" in text
    assert (staged / "guides/b.md").read_text() == "[up](../a.md), [client](../reference/client.md)\n"


def test_a_list_begins_after_a_blank_line_and_code_stays_as_it_is(staged):
    text = (staged / "a.md").read_text()
    assert ":\n\n- one\n    goes on\n" in text
    assert text.endswith("\n**Bold.**\n\n1. first\n2. second\n")
    assert "text\n- [kept](../tests/README.md)\n```" in text


def page(folder, name, body):
    (folder / name).write_text(f"<html><body>{body}</body></html>")


def test_what_leads_nowhere_is_named(tmp_path):
    page(
        tmp_path,
        "a.html",
        '<h2 id="here"></h2><a href="b.html#there"></a><a href="#here"></a><a href="https://x.org"></a>',
    )
    page(tmp_path, "b.html", '<a href="a.html#here"></a><a href="c.html"></a><img src="c.png">')
    assert list(broken(tmp_path)) == [
        "a.html: b.html#there: the page has no such place",
        "b.html: c.html: there is no such file",
        "b.html: c.png: there is no such file",
    ]


def test_what_comes_from_another_host_is_named(tmp_path):
    page(
        tmp_path,
        "a.html",
        '<link rel="stylesheet" href="https://cdn.example/a.css"><link rel="canonical" href="https://x.org">'
        '<script src="//cdn.example/a.js"></script>',
    )
    (tmp_path / "a.css").write_text("@font-face { src: url(https://fonts.example/a.woff2) }")
    assert list(broken(tmp_path)) == [
        "a.html: loads https://cdn.example/a.css",
        "a.html: loads //cdn.example/a.js",
        "a.css: loads from another host",
    ]
