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
