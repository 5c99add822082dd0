"""How the bytes of files are read, or why they are not."""

import pytest

from services.trainer.corpus.encodings import Undecodable, encoding_of
from tests.support.corpora import ARTICLES

SPANISH = "\n".join(ARTICLES)
CHINESE = (
    "第一条 为了保护民事主体的合法权益，调整民事关系，维护社会和经济秩序，适应中国特色社会主义发展要求，制定本法。" * 4
)


@pytest.fixture
def read(tmp_path):
    def text_of(content, named=""):
        path = tmp_path / "file"
        path.write_bytes(content)
        found = encoding_of(path, named)
        return path.read_text(found.name), found

    return text_of


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", [SPANISH, "plain"])
def test_unicode_is_read_as_it_is(read, encoding, text):
    found, how = read(text.encode(encoding))
    assert (found, how.is_guess) == (text, False)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (SPANISH, "cp1252"),
        (CHINESE, "gb18030"),
        ("為了保護民事主體的合法權益，調整民事關係，維護社會和經濟秩序。" * 4, "big5"),
        ("これは日本語の文章です。民法の条文を読みます。" * 6, "shift_jis"),
        ("Каждый имеет право на жизнь. Никто не может быть произвольно лишён жизни. " * 4, "cp1251"),
    ],
)
def test_other_encodings_are_found_out(read, text, encoding):
    found, how = read(text.encode(encoding))
    assert (found, how.is_guess) == (text, True)


def test_an_encoding_that_is_named_is_taken_at_its_word(read):
    polish = "Każdy człowiek ma prawo do życia, źródło i żółć."
    assert read(polish.encode("cp1250"), "cp1250")[0] == polish
    with pytest.raises(Undecodable, match="is not ascii at byte 2"):
        read(polish.encode("cp1250"), "ascii")
    with pytest.raises(Undecodable, match="which is no encoding: name another"):
        read(b"x\xff", "klingon")


def test_two_encodings_in_one_file_are_refused_by_the_byte(read):
    first = SPANISH.encode()
    with pytest.raises(Undecodable, match=f"UTF-8 until byte {len(first)} and something else"):
        read(first + "mañana".encode("cp1252")[2:])
    with pytest.raises(Undecodable, match="at byte"):
        read(bytes(range(128, 256)) * 20)


@pytest.mark.parametrize("size", [1 << 20, (1 << 20) - 1])
def test_a_character_over_two_pieces_is_whole_and_half_of_one_is_wrong(read, size):
    assert read(b"a" * size + "ñ".encode())[1].name == "utf-8"
    with pytest.raises(Undecodable, match=f"byte {size}"):
        read(b"a" * size + "ñ".encode()[:1], "utf-8")
