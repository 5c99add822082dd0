"""Draw an asciinema cast as an animated SVG: `python .ci/recording/draw.py FILE.cast docs/demo.svg`.

The picture shows what was recorded in shorter time; its title counts the real one. API keys are blotted out.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from screen import Row, Screen, Style

SAMPLE_SECONDS = 0.5
STILL_FRAMES = 40
"""Where only bars move, as many frames as these are enough of the whole time."""
FRAME_SECONDS, LAST_SECONDS = 0.8, 12.0
WIDTH, HEIGHT, TOP = 8.4, 18, 36  # pixels of a character, and of the title
_COLOURS = (
    *("#3b4252", "#e06c75", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#d8dee9"),
    *("#7f8794", "#ff7b86", "#b5e890", "#ffd98a", "#82c4ff", "#de94f5", "#79d6e2", "#ffffff"),
)
_KEY = re.compile(r"sbk_[\w-]+")


class Frame(NamedTuple):
    """What stood on the screen after so many seconds."""

    seconds: float
    rows: tuple[Row, ...]


def main() -> int:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cast", type=Path)
    parser.add_argument("picture", type=Path)
    args = parser.parse_args()
    with args.cast.open() as file:
        head = json.loads(next(file))
        screen = Screen(head["width"], head["height"])
        shown = frames(screen, map(json.loads, file))
    args.picture.write_text(picture(_without_keys(head["title"]), screen.columns, worth_showing(shown)))
    return 0


def frames(screen: Screen, moments: Iterable[tuple[float, str, str]]) -> list[Frame]:
    """Return what the screen shows at the end of every half second in which something was sent."""
    found: list[Frame] = []
    for _, sent in groupby(moments, key=lambda moment: int(moment[0] / SAMPLE_SECONDS)):
        for seconds, _kind, text in sent:  # noqa: B007 - the last one counts
            screen.feed(text)
        found.append(Frame(seconds, screen.rows))
    return found


def worth_showing(shown: Sequence[Frame]) -> list[Frame]:
    """Return the frames in which a line was added, and of the others a few."""
    kept, still_seconds = [shown[0]], shown[-1].seconds / STILL_FRAMES
    for frame in shown[1:-1]:
        is_longer = _lines(frame) != _lines(kept[-1])
        if frame.rows != kept[-1].rows and (is_longer or frame.seconds - kept[-1].seconds >= still_seconds):
            kept.append(frame)
    return [*kept, shown[-1]]


def _lines(frame: Frame) -> int:
    return sum(map(bool, frame.rows))


def picture(title: str, columns: int, shown: Sequence[Frame]) -> str:
    """Return the SVG: all frames beside each other, drawn past a window one by one."""
    wide, high = columns * WIDTH + 24, len(shown[0].rows) * HEIGHT + TOP + 12
    seconds = FRAME_SECONDS * (len(shown) - 1) + LAST_SECONDS
    steps = "".join(
        f"{100 * FRAME_SECONDS * at / seconds:.3f}%{{transform:translateX({-at * wide:.1f}px)}}"
        for at in range(len(shown))
    )
    last = f"translateX({-(len(shown) - 1) * wide:.1f}px)"
    lines: dict[Row, str] = {}
    film = "".join(_frame(at * wide, title, frame, lines) for at, frame in enumerate(shown))
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 {wide:.0f} {high}" \
width="{wide:.0f}" height="{high}" role="img" aria-label="{escape(title)}">
<style>
text{{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;fill:#d8dee9;white-space:pre}}
{"".join(f".c{number}{{fill:{colour}}}" for number, colour in enumerate(_COLOURS))}
.b{{font-weight:bold}}.d{{opacity:.6}}
.all{{animation:play {seconds:.1f}s step-end infinite}}
@keyframes play{{{steps}100%{{transform:{last}}}}}
@media (prefers-reduced-motion:reduce){{.all{{animation:none;transform:{last}}}}}
</style>
<rect width="100%" height="100%" rx="8" fill="#20242c"/>
<circle cx="18" cy="18" r="5" fill="#e06c75"/><circle cx="36" cy="18" r="5" fill="#e5c07b"/>\
<circle cx="54" cy="18" r="5" fill="#98c379"/>
<defs>{"".join(f'<g id="{name}">{_line(row)}</g>' for row, name in lines.items())}</defs>
<g class="all">{film}</g>
</svg>
"""


def _frame(left: float, title: str, frame: Frame, lines: dict[Row, str]) -> str:
    minutes, seconds = divmod(int(frame.seconds), 60)
    head = f'<text x="{left + 72:.1f}" y="23" class="d">{escape(title)}  {minutes}:{seconds:02}</text>'
    uses = [
        f'<use xlink:href="#{lines.setdefault(row, f"l{len(lines)}")}" x="{left + 12:.1f}" y="{_top(at)}"/>'
        for at, row in enumerate(frame.rows)
        if any(character != " " for character, _ in row)
    ]
    return head + "".join(uses)


def _top(line: int) -> int:
    return TOP + HEIGHT * (line + 1)


def _line(row: Row) -> str:
    text = "".join(character for character, _ in row)
    cells = list(zip(_without_keys(text), (style for _, style in row), strict=True))
    parts, column = [], 0
    for style, group in groupby(cells, key=lambda cell: cell[1]):
        run = "".join(character for character, _ in group)
        if run.strip():
            parts.append(_run(run, column, style))
        column += len(run)
    return "".join(parts)


def _without_keys(text: str) -> str:
    return _KEY.sub(lambda key: "sbk_" + "x" * (len(key[0]) - 4), text)


def _run(run: str, column: int, style: Style) -> str:
    column += len(run) - len(run.lstrip())
    run = run.strip()
    names = [f"c{style.colour}"] * (style.colour is not None) + ["b"] * style.bold + ["d"] * style.dim
    looks = f' class="{" ".join(names)}"' if names else ""
    return (
        f'<text x="{column * WIDTH:.1f}" textLength="{len(run) * WIDTH:.1f}"{looks}>{escape(run, quote=False)}</text>'
    )


if __name__ == "__main__":
    sys.exit(main())
