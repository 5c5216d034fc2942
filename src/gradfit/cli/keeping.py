"""gradfit cache: what is kept on disk between processes."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from gradfit import store
from gradfit.cli.screen import Screen
from gradfit.notation import THIN, fixed, significant
from gradfit.shell import command_line
from gradfit.store import Kind
from gradfit.terminal.text import Line, Page, Span, fold, pad

_WORDS = {"trace": "graphs of formulas", "native": "compiled models"}
_UNITS = ("bytes", "kB", "MB", "GB")


def kept(*, clear: bool) -> int:
    """Return the exit code, after what is kept was shown, or removed."""
    screen = Screen.of("stdout")
    page = Page(screen.width, screen.color, screen.unicode)
    home, kinds = store.folder(), store.contents()
    if home is None:
        lines = _off(page)
    elif clear:
        lines = _cleared(kinds, home, page)
    else:
        lines = _shown(kinds, home, page)
    screen.write(page.render(lines))
    return 0


def _off(page: Page) -> list[Line]:
    named = os.environ.get("GRADFIT_CACHE", "").strip()
    why = f"switched off by GRADFIT_CACHE={named}" if named else "off: there is no home folder to keep it in"
    return [(page.span(part),) for part in fold(f"The cache is {why}", page.width)]


def _cleared(kinds: Sequence[Kind], home: Path, page: Page) -> list[Line]:
    removed, left = store.clear(), store.contents()
    if not kinds:
        return [(page.span(part),) for part in fold(f"Nothing is kept in {home}", page.width)]
    words = f"Removed {_entries(removed)} of {_size(_total(kinds) - _total(left))} from {home}"
    refused = f"; {_entries(sum(kind.count for kind in left))} could not be removed" if left else ""
    return [(page.span(part),) for part in fold(words + refused, page.width)]


def _shown(kinds: Sequence[Kind], home: Path, page: Page) -> list[Line]:
    total = f"{_size(_total(kinds))} of at most {_size(store.MOST_BYTES)}"
    where = [(page.span(part, "bold"),) for part in fold(str(home), page.width)]
    head: list[Line] = [*where, (page.span(total if kinds else "empty", "dim"),), ()]
    rows = [
        (_WORDS.get(kind.name, kind.name), fixed(kind.count, 0), _size(kind.size), _when(kind.newest))
        for kind in kinds
    ]
    widths = [max((len(page.text(row[j])) for row in rows), default=0) for j in range(3)]
    lines: list[Line] = []
    for what, count, size, when in rows:
        name, number = pad(page.text(what), widths[0]), page.text(count).rjust(widths[1])
        about = f"   {page.text(size).rjust(widths[2])}   last used {when}"
        lines.append((Span("  "), Span(f"{name}   {number}"), page.span(about, "dim")))
    clear = command_line(["gradfit", "cache", "--clear"])
    told = (
        f"{clear} removes it; with GRADFIT_CACHE=off nothing is kept, GRADFIT_CACHE=FOLDER keeps it elsewhere"
    )
    if not store.writable():
        told = "Nothing can be written there, so that each process starts afresh; GRADFIT_CACHE=FOLDER names another"
    return [
        *head,
        *lines,
        *([()] if rows else []),
        *((page.span(part, "dim"),) for part in fold(told, page.width)),
    ]


def _total(kinds: Sequence[Kind]) -> int:
    return sum(kind.size for kind in kinds)


def _entries(count: int) -> str:
    return f"{fixed(count, 0)} {'entry' if count == 1 else 'entries'}"


def _size(size: int) -> str:
    r"""Return bytes in words, with three digits.

    >>> _size(12), _size(34_567), _size(256_000_000)
    ('12\u202fbytes', '34.6\u202fkB', '256\u202fMB')
    """
    value, unit = float(size), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{significant(value, 3) if unit else size}{THIN}{_UNITS[unit]}"


def _when(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))
