"""Where text goes: how wide a terminal is, what it can show, and a reader who may have left."""

import os
import shutil
import sys
from contextlib import suppress
from dataclasses import dataclass
from io import StringIO
from typing import TextIO

WIDEST = 120  # columns; a longer line is hard to read
_SIGNS = "✓▲✕●⣿│┤└─┬━−×²\u202f"


@dataclass(frozen=True)
class Screen:
    """Standard output or standard error.

    Attributes
    ----------
    name : str
        "stdout" or "stderr".
    width : int
        Columns.
    color, unicode : bool
        Whether the theme's colours, and signs beyond ASCII, can be shown.
    terminal : bool
        Whether somebody looks at it.
    """

    name: str
    width: int
    color: bool
    unicode: bool
    terminal: bool

    @classmethod
    def of(cls, name: str) -> "Screen":
        """Return standard output or error as it is now."""
        stream, kind = _stream(name), os.environ.get("TERM", "")
        terminal = stream.isatty()
        return cls(
            name,
            min(shutil.get_terminal_size().columns, WIDEST),
            color=terminal and not os.environ.get("NO_COLOR") and kind != "dumb",
            unicode=_can(stream, _SIGNS) and not (terminal and kind == "linux"),  # the console has no Braille
            terminal=terminal,
        )

    def draw(self, text: str) -> None:
        """Write text as it is, without a line's end; a reader who has left is no error."""
        stream = _stream(self.name)
        with suppress(BrokenPipeError):
            stream.write(text)
            stream.flush()

    def write(self, text: str) -> None:
        """Write text and a line's end; a reader who has left (`gradfit models | head`) is no error."""
        stream = _stream(self.name)
        encoding = stream.encoding or "utf-8"
        shown = text.encode(encoding, "backslashreplace").decode(encoding)
        try:
            stream.write(shown if shown.endswith("\n") else f"{shown}\n")
            stream.flush()
        except BrokenPipeError:
            os.dup2(
                os.open(os.devnull, os.O_WRONLY), stream.fileno()
            )  # or Python complains when it closes the stream


def _stream(name: str) -> TextIO:
    stream: TextIO | None = sys.stdout if name == "stdout" else sys.stderr
    return StringIO() if stream is None else stream  # closed by the shell: >&-


def _can(stream: TextIO, signs: str) -> bool:
    try:
        signs.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
