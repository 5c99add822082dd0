"""What a terminal shows: text and the few controls that rich sends, on a screen of fixed size."""

import re
from typing import NamedTuple

_TOKEN = re.compile(
    r"\x1b\[([0-9;?]*)([A-Za-z])"  # a control, which may have parameters
    r"|\x1b[\]P][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b."  # what changes nothing on the screen
    r"|([\r\n\b])|([^\x1b\r\n\b]+)",
    re.DOTALL,
)
_PLAIN = 0


class Style(NamedTuple):
    """How a character looks; `colour` is one of the 16 of a terminal, None for its own."""

    colour: int | None = None
    bold: bool = False
    dim: bool = False


Cell = tuple[str, Style]
Row = tuple[Cell, ...]


class Screen:
    """A terminal of `columns` by `rows`; what leaves it at the top is lost."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns = columns
        self._cells: list[list[Cell]] = [[] for _ in range(rows)]
        self._row = self._column = 0
        self._style = Style()
        self._rest = ""

    def feed(self, text: str) -> None:
        """Take in output; a control sequence may come in pieces."""
        text = self._rest + text
        cut = re.search(r"\x1b(?:\[[0-9;?]*)?$", text)
        self._rest, text = (text[cut.start() :], text[: cut.start()]) if cut else ("", text)
        for parameters, letter, control, plain in _TOKEN.findall(text):
            if letter:
                self._control(parameters, letter)
            elif control:
                self._move(control)
            elif plain:
                self._write(plain)

    @property
    def rows(self) -> tuple[Row, ...]:
        """What stands on the screen, line by line."""
        return tuple(map(tuple, self._cells))

    def _write(self, text: str) -> None:
        for character in text:
            if self._column >= self.columns:
                self._move("\n")
                self._column = 0
            row = self._cells[self._row]
            row.extend([(" ", Style())] * (self._column + 1 - len(row)))
            row[self._column] = (character, self._style)
            self._column += 1

    def _move(self, control: str) -> None:
        if control == "\r":
            self._column = 0
        elif control == "\b":
            self._column = max(self._column - 1, 0)
        elif self._row + 1 < len(self._cells):
            self._row += 1
        else:
            self._cells = [*self._cells[1:], []]

    def _control(self, parameters: str, letter: str) -> None:
        if letter == "m":
            self._restyle([int(number or 0) for number in parameters.split(";")])
        elif letter == "A":
            self._row = max(self._row - int(parameters or 1), 0)
        elif letter == "K":
            self._cells[self._row] = [] if parameters == "2" else self._cells[self._row][: self._column]

    def _restyle(self, numbers: list[int]) -> None:
        for number in numbers:
            if number == _PLAIN:
                self._style = Style()
            elif number in (1, 2):
                self._style = self._style._replace(**{"bold" if number == 1 else "dim": True})
            elif 30 <= number <= 37 or 90 <= number <= 97:
                self._style = self._style._replace(colour=number - 30 if number < 90 else number - 82)
            elif number == 39:
                self._style = self._style._replace(colour=None)
