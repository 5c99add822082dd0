"""What rules take for a document, in Spanish and in Chinese; what laws consist of stays."""

import zlib

import pytest

from services.trainer.corpus.characters import letters_of, runs_of, units_of
from services.trainer.corpus.document_filter import judged, repeated_lines, repeats_runs
from shared.contracts.corpus_clean import DocumentFilter
from tests.support.corpora import ARTICLES

CHINESE = "第一条 为了保护民事主体的合法权益，调整民事关系，维护社会和经济秩序，制定本法。"
RULES = DocumentFilter()


@pytest.mark.parametrize(
    "text",
    [
        *ARTICLES,
        CHINESE,
        "Artículo 157 Bis 8.- Se deroga.",
        "Artículo 366. Derogado. , 15-01-1951, 05-01-1955, 29-07-1970, 13-01-1984, 03-01-1989, 13-05-1996, 17-05-1999.",
        "Artículo reformado DOF 14-01-1985, 18-07-1991",
        "TRANSITORIO Único.- El presente Decreto entrará en vigor al día siguiente de su publicación.",
        "これは日本語の文章です。民法の条文を読みます。",
        "Статья 1. Каждый имеет право на жизнь.",
    ],
)
def test_articles_notes_and_transitory_articles_are_documents(text):
    assert judged(text, RULES).reason == ""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (" \n\t", "no text"),
        ("Se va.", "too short"),
        ("x" * 1_000_001, "too long"),
        ("..... 12 ---- 13 ==== 14 ||||", "too few letters"),
        ("\n".join(["Compre ahora en la tienda"] * 5), "repeated lines"),
        ("la tienda de la casa grande y " * 30, "repeated words"),
        ("今天买东西去商店很便宜吧" * 30, "repeated words"),
    ],
)
def test_what_is_none_says_why(text, reason):
    assert judged(text, RULES).reason == reason


def test_a_script_that_is_asked_for_is_that_of_nine_letters_in_ten():
    latin, han = (DocumentFilter(scripts=(script,)) for script in ("latin", "han"))
    assert judged(ARTICLES[0], latin).reason == judged(CHINESE, han).reason == ""
    assert judged(CHINESE, latin).reason == judged(ARTICLES[0], han).reason == "another script"
    assert judged(f"{CHINESE} {'a' * 20}", han).reason == "another script"


@pytest.mark.parametrize("more", ["", "漢"], ids=["by the western table", "by the table of all"])
def test_letters_are_counted_the_same_by_both_tables(more):
    text = f"¿Qué dice el artículo 2º, «párrafo» 3.° — “así”…? {more}"
    letters = letters_of(text)
    latin = sum(map(str.isalpha, text)) - len(more)
    assert letters.by_script == {"latin": latin} | ({"han": 1} if more else {})
    assert letters.signs == sum(not (sign.isalnum() or sign.isspace()) for sign in text)


def test_marks_on_letters_count_as_letters():
    assert letters_of("o\u0301\u4e00").number == 3
    assert letters_of("हिन्दी").by_script["devanagari"] == 6


def test_repetition_is_the_share_that_stood_there_before():
    assert repeated_lines("a\nb\nc\nd") == 0
    assert repeated_lines("aa\naa\nbb\nbb") == 0.5
    assert repeated_lines("aa\naa") == 0  # too few to tell
    words = [str(number) for number in range(24)]
    assert not repeats_runs(" ".join(words), 0.0, has_words=True)
    twice = " ".join(words * 2)  # 44 runs, of which 20 stood there before
    assert repeats_runs(twice, 19.5 / 44, has_words=True)
    assert not repeats_runs(twice, 20.5 / 44, has_words=True)


def test_units_are_words_or_characters_and_the_same_in_every_process():
    assert units_of("Uno, DOS: tres!", has_words=True).tolist() == units_of("uno dos tres", has_words=True).tolist()
    assert units_of("uno", has_words=True).tolist() == [zlib.crc32(b"uno")]
    assert units_of("法，律。", has_words=False).tolist() == [ord("法"), ord("律")]
    assert letters_of(CHINESE).has_words is False
    assert letters_of(ARTICLES[0]).has_words is True


def test_runs_are_hashed_by_their_order_and_short_texts_have_one():
    units = units_of("a b c d", has_words=True)
    assert len(runs_of(units, 3)) == 2
    assert runs_of(units[:2], 3).tolist() == runs_of(units[:2], 2).tolist()
    assert runs_of(units[::-1], 4).tolist() != runs_of(units, 4).tolist()
    assert len(runs_of(units[:0], 3)) == 0
