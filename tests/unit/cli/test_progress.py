"""What a person at a terminal sees of work that takes a while."""

import io

import pytest
from rich.console import Console

from services.cli import progress


@pytest.fixture
def shown(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(progress, "err", Console(file=screen, force_terminal=True, width=80))
    return screen.getvalue


def test_batches_are_counted_in_rows_as_each_one_begins(shown):
    with progress.counted_batches("rows read", 40, 16) as next_batch:
        for _ in range(3):
            next_batch()
    assert "rows read" in shown()
    assert "32/40" in shown()


def test_what_lasts_is_a_line_before_and_a_line_after_where_no_terminal_is_and_none_after_a_failure(capsys):
    with progress.lasting("preparing", "ready"):
        assert capsys.readouterr().out == "preparing\n"
    assert capsys.readouterr().out == "ready\n"
    with pytest.raises(ValueError, match="x"), progress.lasting("preparing", "ready"):
        raise ValueError("x")
    assert capsys.readouterr().out == "preparing\n"


def test_what_lasts_is_shown_on_a_terminal_as_long_as_it_does(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(progress, "out", Console(file=screen, force_terminal=True, width=80))
    with progress.lasting("preparing", "ready"):
        pass
    assert "preparing" in screen.getvalue()
    assert "ready" not in screen.getvalue()
