"""Lines of styled text for a terminal: with or without colour, with or without signs beyond ASCII."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from gradfit.notation import THIN

Tone = Literal["", "bold", "dim", "fit", "second", "trust", "caution", "no"]

#: the sixteen colours of the reader's own theme; bright blue because the dark one is hard to read on black
_CODES: Mapping[Tone, str] = {
    "bold": "1", "dim": "2", "fit": "94", "second": "35", "trust": "1;32", "caution": "1;33", "no": "1;31",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Span:
    """Text in one tone."""

    text: str
    tone: Tone = ""


Line = tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Signs:
    """The signs that pictures are made of."""

    verdicts: Mapping[str, str]
    point: str
    band: str
    steps: tuple[str, str, str]  # few, some and many points in a cell
    axis: str
    tick: str
    corner: str
    floor: str
    foot: str
    thin: str
    thick: str
    left: str
    right: str
    back: str
    on: str


UNICODE = Signs(
    {"trust": "✓", "caution": "▲", "no": "✕"}, "●", "·", ("·", ":", "●"), "│", "┤", "└", "─", "┬", "─", "━", "├", "┤", "◂", "▸",
)  # fmt: skip
ASCII = Signs(
    {"trust": "+", "caution": "!", "no": "x"}, "*", ".", (".", ":", "*"), "|", "+", "+", "-", "+", "-", "=", "|", "|", "<", ">",
)  # fmt: skip


def cells(text: str) -> int:
    """Return how many columns of a terminal `text` takes: two for wide signs, none for combining ones.

    >>> cells("µ°C"), cells("温度"), cells("e\u0301")
    (3, 4, 1)
    """
    if text.isascii():
        return len(text)
    return sum(_cell(sign) for sign in text)


def _cell(sign: str) -> int:
    if unicodedata.category(sign) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(sign) in "WF" else 1


_COMMANDS = {"Cc": " ", "Zl": " ", "Zp": " ", "Cf": "", "Cs": "?", "Co": "?", "Cn": "?"}
_PLAIN = {
    "−": "-", "±": "+-", "×": "x", "·": "*", "–": "-", "—": "-", "…": "...", "°": "deg ", "µ": "u", "μ": "u", "Ω": "Ohm",
    "≤": "<=", "≥": ">=", "→": "->", "‘": "'", "’": "'", "“": '"', "”": '"', "ß": "ss", "√": "sqrt", "∞": "inf",
    THIN: " ", "\u00a0": " ", "\u2009": " ", "\u2007": " ",
}  # fmt: skip
_RAISED = str.maketrans("⁻⁺⁰¹²³⁴⁵⁶⁷⁸⁹", "-+0123456789")
_POWER = re.compile("[⁻⁺⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_DEGREE = re.compile("°[ \u202f]?([CFKR])")


def plain(text: str) -> str:
    """Return `text` in ASCII, for terminals without UTF-8.

    >>> plain("(5.37 ± 0.36) × 10⁻⁶ °C"), plain("größe λ")
    ('(5.37 +- 0.36) x 10^-6 degC', 'grosse lambda')
    """
    if text.isascii():
        return text
    text = _DEGREE.sub(r"deg\1", text)
    text = _POWER.sub(lambda match: "^" + match[0].translate(_RAISED), text)
    return "".join(sign if sign.isascii() else _ascii(sign) for sign in text)


def _ascii(sign: str) -> str:
    if sign in _PLAIN:
        return _PLAIN[sign]
    name = unicodedata.name(sign, "").split()
    if name[:1] == ["GREEK"] and "LETTER" in name:
        word = name[name.index("LETTER") + 1].lower().replace("lamda", "lambda")
        return word if "SMALL" in name else word.capitalize()
    bare = "".join(part for part in unicodedata.normalize("NFKD", sign) if part.isascii())
    return bare or ("" if _cell(sign) == 0 else "?")


@dataclass(frozen=True, slots=True)
class Page:
    """What is printed on.

    Attributes
    ----------
    width : int
        Columns; no line is wider.
    color : bool
        Whether tones become colours of the terminal's theme.
    unicode : bool
        Whether signs beyond ASCII may be used.
    """

    width: int
    color: bool = False
    unicode: bool = True

    @property
    def signs(self) -> Signs:
        """The signs for pictures."""
        return UNICODE if self.unicode else ASCII

    def text(self, text: str) -> str:
        """Return `text` as it can be shown here: no signs that command a terminal, and ASCII where there is no more."""
        if not text.isprintable():
            text = "".join(_COMMANDS.get(unicodedata.category(sign), sign) for sign in text)
        return text if self.unicode else plain(text)

    def span(self, text: str, tone: Tone = "") -> Span:
        """Return `text` as it can be shown here, in a tone."""
        return Span(self.text(text), tone)

    def render(self, lines: Iterable[Line]) -> str:
        """Return the lines as text; what stands out beyond the width is cut."""
        return "\n".join(self._rendered(cut(line, self.width)) for line in lines)

    def _rendered(self, line: Line) -> str:
        bare = "".join(span.text for span in line)
        kept = cut(line, cells(bare.rstrip()))
        return "".join(_painted(span) if self.color else span.text for span in kept)


def _painted(span: Span) -> str:
    if not span.tone or not span.text.strip():
        return span.text
    return f"\x1b[{_CODES[span.tone]}m{span.text}\x1b[0m"


def length(line: Line) -> int:
    """Return the columns that a line takes."""
    return sum(cells(span.text) for span in line)


def cut(line: Line, width: int) -> Line:
    """Return the line without what stands beyond `width` columns."""
    room, kept = width, list[Span]()
    for span in line:
        text = span.text if cells(span.text) <= room else clip(span.text, room)
        room -= cells(text)
        kept.append(Span(text, span.tone))
    return tuple(kept)


def clip(text: str, width: int) -> str:
    """Return the start of `text` that takes at most `width` columns."""
    taken, used = 0, 0
    for sign in text:
        used += _cell(sign)
        if used > width:
            break
        taken += 1
    return text[:taken]


def shorten(text: str, width: int) -> str:
    """Return `text`, with its middle left out where it takes more than `width` columns.

    >>> shorten("a_very_long_name", 9)
    'a_ve~name'
    """
    if cells(text) <= width:
        return text
    tail = clip(text[::-1], (width - 1) // 2)[::-1]
    return clip(text, width - 1 - cells(tail)) + "~" + tail


def pad(text: str, width: int, *, right: bool = False) -> str:
    """Return `text` filled with blanks to `width` columns, on its left when it is to stand right."""
    blanks = " " * max(width - cells(text), 0)
    return blanks + text if right else text + blanks


def fold(text: str, width: int) -> list[str]:
    """Return `text` in lines of at most `width` columns, broken at blanks, or anywhere where a word is longer.

    >>> fold("five more readings at each end", 12)
    ['five more', 'readings at', 'each end']
    """
    lines, line = list[str](), ""
    for part in text.split(" "):
        word = part
        if line and cells(line) + 1 + cells(word) <= width:
            line += f" {word}"
            continue
        if line:
            lines.append(line)
        while cells(word) > max(width, 2):
            head = clip(word, max(width, 2))
            lines.append(head)
            word = word[len(head) :]
        line = word
    return [*lines, line]


def packed(parts: Iterable[Line], width: int, gap: str = "   ") -> list[Line]:
    """Return the parts side by side, in as many lines as they need."""
    lines = list[Line]()
    for part in parts:
        if lines and length(lines[-1]) + len(gap) + length(part) <= width:
            lines[-1] = (*lines[-1], Span(gap), *part)
        else:
            lines.append(part)
    return lines
