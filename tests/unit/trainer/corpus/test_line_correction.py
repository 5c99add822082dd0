"""What is mended in lines, and what is not: articles are content wherever they stand."""

import pytest

from services.trainer.corpus.line_correction import NO_KEYS, corrected, repeated_edges
from shared.contracts.corpus_clean import LineCorrection

ALL = LineCorrection()


def mended(text, page_lines=NO_KEYS, page=1, **settings):
    found, changes = corrected(text, ALL.model_copy(update=settings), page_lines, page)
    return found, dict(changes)


def mended_pages(pages):
    known = repeated_edges(pages)
    return [mended(page, known, number)[0] for number, page in enumerate(pages, 1)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("la consti-\ntución de la Nación", "la constitución\n de la Nación"),
        ("Nación-\nEstado", "Nación-\nEstado"),
        ("12-\n13", "12-\n13"),
        ("lo político-\nadministrativo, que es político-administrativo", "lo político-administrativo\n, que"),
        ("la consti\u00ad\ntución y la ley\u00ad", "la constitución"),
        ("法律-\n规定", "法律-\n规定"),
    ],
)
def test_words_that_a_line_ends_part_are_joined(text, found):
    assert mended(text)[0].replace("\n ", "\n").startswith(found.replace("\n ", "\n"))


def test_hyphens_stay_where_that_is_asked_for():
    assert mended("consti-\ntución", hyphens=False)[0] == "consti-\ntución"


def test_letters_are_composed_and_controls_and_spaces_are_gone():
    assert mended("Arti\u0301culo\u200b 1\x00\ufeff") == (
        "Artículo 1",
        {"composed letters": 1, "control characters": 3},
    )
    assert mended("a \t b\u00a0\u3000c  \n\n\n\n d\r\ne\u2028f")[0] == "a b c\n\nd\ne\nf"
    assert mended("می\u200cخواهم") == ("می\u200cخواهم", {})


def test_what_is_well_stays_as_it_is():
    text = "Artículo 5o.- (Se deroga).\nPárrafo reformado DOF 12-01-2021\n\nTRANSITORIOS\nÚnico. Entra en vigor.\n7"
    assert mended(text) == (text, {})
    assert mended("第一条 为了保护合法权益，制定本法。") == ("第一条 为了保护合法权益，制定本法。", {})


def test_headers_and_page_numbers_go_where_they_stand_on_every_page():
    pages = [f"LEY FEDERAL DEL TRABAJO\nÚltima Reforma DOF 04-04-2024\n{text}\n{number} de 4" for number, text in
             enumerate(["uno es uno", "dos son dos", "tres son tres", "cuatro son cuatro"], 1)]  # fmt: skip
    assert mended_pages(pages) == ["uno es uno", "dos son dos", "tres son tres", "cuatro son cuatro"]


def test_headers_may_stand_on_every_other_page_and_numbers_may_begin_anywhere():
    pages = [
        f"{'LEY' if number % 2 else 'CÓDIGO'}\ntexto número {'abcdefgh'[number]}\n- {number + 40} -"
        for number in range(8)
    ]
    assert mended_pages(pages) == [f"texto número {letter}" for letter in "abcdefgh"]


@pytest.mark.parametrize(
    "title", ["Artículo {}", "ARTÍCULO {} BIS", "Capítulo {}", "第{}条", "Sección {}", "Art. {}o."]
)
def test_articles_that_go_with_the_pages_are_content(title):
    pages = [f"{title.format(number)}\ntexto {'abcdef'[number]}" for number in range(6)]
    assert mended_pages(pages) == pages


def test_reform_notes_and_numbers_within_a_page_are_content():
    note = "Artículo reformado DOF 12-01-20{}1"
    middle = "uno\ndos {}\nb\nc\n{}\nd\n" + note + "\ntres {}\ncuatro"
    pages = [middle.format(13 - number, number + 7, number, number * 7) for number in range(3, 8)]
    for number, page in enumerate(mended_pages(pages), 3):
        assert {str(number + 7), note.format(number)} <= set(page.split("\n"))


def test_two_pages_have_no_headers():
    assert repeated_edges(["LEY\na", "LEY\nb"]) == NO_KEYS
