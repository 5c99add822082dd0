"""PDFs are read in a process that a hostile or an enormous one cannot outgrow."""

from itertools import count

import psutil
import pytest

from services.trainer.corpus.pdf import PdfUnreadable, pages_of, spool_pages
from tests.support.corpora import ARTICLES, locked, pdf


def spooled(content, folder, check=lambda: None):
    (folder / "file.pdf").write_bytes(content)
    count = spool_pages(folder / "file.pdf", folder / "pages", check)
    pages = list(pages_of(folder / "pages"))
    assert len(pages) == count
    return pages


def test_five_thousand_pages_are_read_in_little_memory(tmp_path):
    peak, calls = 0, count()

    def look():
        nonlocal peak
        if next(calls) % 100 == 0:
            peak = max([peak, *(child.memory_info().rss for child in psutil.Process().children())])

    pages = spooled(pdf(*(f"Artículo {number}.- De los bienes" for number in range(5000))), tmp_path, look)
    assert [page.strip() for page in pages] == [f"Artículo {number}.- De los bienes" for number in range(5000)]
    assert 0 < peak < 200 << 20


def test_a_job_that_has_to_stop_takes_the_reader_with_it(tmp_path):
    def stop():
        raise InterruptedError

    before = psutil.Process().children()
    with pytest.raises(InterruptedError):
        spooled(pdf(*ARTICLES * 50), tmp_path, stop)
    assert psutil.Process().children() == before


def test_a_reader_that_is_killed_says_at_which_page(tmp_path):
    def kill():
        for child in psutil.Process().children():
            child.kill()

    with pytest.raises(PdfUnreadable, match=r"ended its reader on page \d+.*: split it"):
        spooled(pdf(*ARTICLES * 400), tmp_path, kill)


def test_an_encrypted_file_that_needs_no_password_is_read(tmp_path):
    assert spooled(locked(pdf(ARTICLES[0]), ""), tmp_path)[0].strip() == ARTICLES[0]
