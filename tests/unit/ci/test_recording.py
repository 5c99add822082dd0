"""The picture of a recorded terminal: what stood there, in shorter time, without keys."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import pytest

FOLDER = Path(__file__).parents[3] / ".ci" / "recording"
KEY = "sbk_" + "Ab-1_" * 8


@pytest.fixture
def screen(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    from screen import Screen

    return Screen(10, 3)


def text(screen):
    return ["".join(character for character, _ in row) for row in screen.rows]


@pytest.mark.parametrize(
    ("sent", "stands"),
    [
        ("one\r\ntwo", ["one", "two", ""]),
        ("a\r\nb\r\nc\r\nd", ["b", "c", "d"]),
        ("0123456789ab", ["0123456789", "ab", ""]),
        ("old text\rnew", ["new text", "", ""]),
        ("one\r\ntwo\r\x1b[2K\x1b[1A\x1b[2Kthree", ["three", "", ""]),
        ("abcdef\b\b\x1b[K", ["abcd", "", ""]),
        ("\x1b[?25l\x1b]0;title\x07x", ["x", "", ""]),
    ],
)
def test_the_screen_shows_what_a_terminal_would(screen, sent, stands):
    screen.feed(sent)
    assert text(screen) == stands


def test_a_control_that_comes_in_pieces_is_one(screen):
    for piece in ("a\x1b", "[1;3", "1mb", "\x1b[0mc"):
        screen.feed(piece)
    assert text(screen)[0] == "abc"
    assert [(style.bold, style.colour) for _, style in screen.rows[0]] == [(False, None), (True, 1), (False, None)]


def test_a_recorded_command_becomes_a_picture_of_its_output_without_keys(tmp_path):
    cast, drawn = tmp_path / "a.cast", tmp_path / "a.svg"
    lines = ["\x1b[32mgreen\x1b[0m & plain", f"key {KEY}"]
    program = f"import shutil; print(*{lines}, shutil.get_terminal_size(), sep='\\n')"
    recorded = subprocess.run(
        [sys.executable, FOLDER / "record.py", cast, "--", sys.executable, "-c", program],
        capture_output=True,
        check=False,
    )
    subprocess.run([sys.executable, FOLDER / "draw.py", cast, drawn], check=True)
    assert recorded.returncode == 0
    assert json.loads(cast.read_text().splitlines()[0])["width"] == 80
    words = [element.text for element in ElementTree.parse(drawn).iter() if element.text and element.text.strip()]
    assert "green" in words
    assert "& plain" in words
    assert "key sbk_" + "x" * 40 in words
    assert KEY not in drawn.read_text()
    assert any("columns=80, lines=30" in word for word in words)


def test_the_status_of_a_recorded_command_is_kept(tmp_path):
    command = [
        sys.executable,
        FOLDER / "record.py",
        tmp_path / "a.cast",
        "--",
        sys.executable,
        "-c",
        "raise SystemExit(3)",
    ]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 3


def test_the_picture_in_the_documentation_is_small_and_names_no_path_of_a_machine():
    picture = (FOLDER.parents[1] / "docs" / "demo.svg").read_text()
    assert len(picture.encode()) < 200_000
    ours = (Path.home(), Path(tempfile.gettempdir()), FOLDER.parents[1])
    assert [path for path in ours if f"{path}/" in picture] == []
