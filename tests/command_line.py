"""Commands run in this process, where torch is imported once, in a folder of their own."""

import io
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gradfit.cli import main

THERMOMETER = Path(__file__).parents[1] / "examples" / "thermometer.csv"
LINE = "t_c = w*t_u + b"


@dataclass(frozen=True)
class Seen:
    """What a command left behind."""

    code: int
    out: str
    err: str


Run = Callable[..., Seen]


def runner(folder, monkeypatch, capsys) -> Run:
    """Return what runs a command in a folder: run("fit", "data.csv", "y = a*x", stdin=b"...")."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("NO_COLOR", "GRADFIT_TRACEBACK"):
        monkeypatch.delenv(name, raising=False)

    def call(*words, stdin=None):
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = main([str(word) for word in words])
        seen = capsys.readouterr()
        return Seen(code, seen.out, seen.err)

    return call


def flat(text: str) -> str:
    """Return text in one line, with plain blanks, as a sentence that was folded reads."""
    return re.sub(r"\s+", " ", text.replace("\u202f", " "))


def listed(folder: Path) -> dict[str, bytes]:
    """Return what is in a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
