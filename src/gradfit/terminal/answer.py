"""The answer as text for a terminal: verdict, sentences, parameters, plot, files; and errors in the same style."""

import re
from collections.abc import Mapping
from math import isfinite
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from gradfit.errors import GradfitError
from gradfit.notation import (
    count,
    duration,
    fixed,
    near_one,
    significant,
    with_unit,
)
from gradfit.sentences import sentence, worst
from gradfit.shell import arguments, as_option, in_options, with_option
from gradfit.terminal.drawing import fit_plot
from gradfit.terminal.table import parameter_table
from gradfit.terminal.text import Line, Page, Span, Tone, cells, fold, length, packed
from gradfit.view import unit_of

if TYPE_CHECKING:
    from gradfit.result import FitResult

__all__ = ["as_option", "failure", "summary"]

LEAST = 30  # columns; nothing narrower is laid out
_WORDS: Mapping[str, str] = {"trust": "Trust", "caution": "Caution", "no": "No"}
_NONE: Mapping[str, str] = MappingProxyType({})
_NOTES = 4  # sentences on what was done to the data


def summary(
    result: "FitResult",
    *,
    width: int = 80,
    color: bool = False,
    unicode: bool = True,
    files: Mapping[str, str] = _NONE,
    command: str = "",
) -> str:
    """Return the answer as text: verdict, at most three sentences, parameters, a plot, and what was written.

    Parameters
    ----------
    width : int
        Columns, 30 at least; no line is wider.
    color : bool
        Whether the sixteen colours of the terminal's theme, bold and dim are used.
    unicode : bool
        Whether signs beyond ASCII may be used.
    files : Mapping[str, str]
        What was written, such as {"report": "thermometer.html"}.
    command : str
        The command that was run, for the lines that say what to run next; without one they are calls of Python.
    """
    page = Page(max(width, LEAST), color, unicode)
    blocks = [_head(result, page), _said(result, command, page), parameter_table(result, page)]
    if result.verdict != "no":
        blocks.append(fit_plot(result, page))
    blocks.append(_facts(result, page) + _files(files, command if result.verdict == "no" else "", page))
    return page.render(_parted(blocks))


def failure(
    error: GradfitError,
    *,
    command: str = "",
    head: str = "Not fitted",
    width: int = 80,
    color: bool = False,
    unicode: bool = True,
) -> str:
    """Return an error as text: what is wrong with which input, the place, the remedy, and the line to run.

    Parameters
    ----------
    error : GradfitError
        What was raised.
    command : str
        The command that was run; the line to run is made from it where the remedy says how.
    head : str
        What did not happen.
    width, color, unicode
        As for `summary`.
    """
    page = Page(max(width, LEAST), color, unicode)
    first = (page.span(f"{page.signs.verdicts['no']} {head}", "no"), Span("   "))
    message = fold(page.text(error.message.strip().removesuffix(".")), page.width - length(first))
    lines: list[Line] = [(*first, Span(message[0], "bold"))]
    lines += [(Span(" " * length(first)), Span(rest, "bold")) for rest in message[1:]]
    remedy = in_options(error.remedy) if command else error.remedy
    said: list[Line] = (
        [(Span(f"  {line}"),) for line in fold(page.text(remedy), page.width - 2)] if remedy else []
    )
    end: list[Line] = [*_run(_mended(error, command), page, "  ")]
    end += [(page.span("  exit status 2; nothing was written", "dim"),)] if command else []
    return page.render(_parted([lines, _excerpt(error.excerpt, page), said, end]))


def _parted(blocks: list[list[Line]]) -> list[Line]:
    """Return the blocks that hold something, with a blank line between them."""
    lines = list[Line]()
    for block in blocks:
        if block:
            lines += [*([()] if lines else []), *block]
    return lines


# ---------------------------------------------------------------------------- verdict and sentences


def _tone(verdict: str) -> Tone:
    tones: Mapping[str, Tone] = {"trust": "trust", "caution": "caution", "no": "no"}
    return tones[verdict]


def _head(result: "FitResult", page: Page) -> list[Line]:
    """Return verdict, formula and facts, on one line where they fit."""
    mark = Span(f"{page.signs.verdicts[result.verdict]} {_WORDS[result.verdict]}", _tone(result.verdict))
    formula, facts = page.span(result.formula, "bold"), page.span(_size(result), "dim")
    lines = packed([(mark,), (formula,), (facts,)], page.width)
    if all(length(line) <= page.width for line in lines):
        return [line if i == 0 else (Span("  "), *line) for i, line in enumerate(lines)]
    folded: list[Line] = [(Span(f"  {part}", "bold"),) for part in fold(formula.text, page.width - 2)]
    return [(mark, Span("   "), facts), *folded]


def _size(result: "FitResult") -> str:
    """Return how much data there were, and how long it took."""
    read = result.data.n_read
    rows = count(result.n, "row") if read == result.n else f"{fixed(result.n, 0)} of {count(read, 'row')}"
    free = "" if result.verdict == "no" else f"{_degrees(result.dof)}, "
    return f"{rows}, {free}{duration(result.seconds)}"


def _degrees(dof: int) -> str:
    return f"{fixed(dof, 0)} degree{'' if dof == 1 else 's'} of freedom"


def _said(result: "FitResult", command: str, page: Page) -> list[Line]:
    """Return the numbered sentences, each with the line to run where its finding has a remedy."""
    tone: Tone = "dim" if result.verdict == "trust" else _tone(result.verdict)
    remedies = [finding.remedy for finding in worst(result)] if result.verdict != "trust" else []
    lines = list[Line]()
    for i, text in enumerate(result.sentences):
        for j, part in enumerate(fold(page.text(text), page.width - 5)):
            lines.append((Span(f"  {i + 1 if j == 0 else ' '}  ", tone), Span(part)))
        if i < len(remedies):
            lines += _next(remedies[i], command, page)
    return lines


def _next(remedy: str, command: str, page: Page) -> list[Line]:
    """Return what to run for a remedy: the command with an option more, or a call of Python; else its words."""
    option = as_option(remedy) if command else ""
    if option:
        return _run(with_option(command, option), page, "     ")
    if not command and arguments(remedy):
        return _run(f"gradfit.fit(…, {remedy})", page, "     ")
    return _labelled("Try", remedy, page, "     ") if remedy else []


def _run(line: str, page: Page, indent: str) -> list[Line]:
    """Return a line to run; what does not fit is abbreviated to the command and its new options."""
    if line and cells(page.text(line)) > page.width - cells(indent) - 5:
        line = re.sub(r"^(\w+ \w+) .*?(?= --[a-z-]+ (?:\"[^\"]*\"|\S+)$)", r"\1 …", line)
    return _labelled("Run", line, page, indent) if line else []


def _labelled(label: str, text: str, page: Page, indent: str) -> list[Line]:
    first, *rest = fold(page.text(text), page.width - cells(indent) - cells(label) - 2)
    lines: list[Line] = [(Span(f"{indent}{label}  ", "dim"), Span(first))]
    return lines + [(Span(f"{indent}{' ' * cells(label)}  {part}"),) for part in rest]


# ---------------------------------------------------------------------------- facts and files


def _facts(result: "FitResult", page: Page) -> list[Line]:
    """Return scatter, r², the strongest correlation, and what was done to the data."""
    facts = list[tuple[str, str]]()
    if result.data.counts and result.dof > 0:
        facts.append(("deviance", f"{significant(result.deviance, 3)} for {_degrees(result.dof)}"))
    elif isfinite(result.scatter):
        label = "scatter" if result.data.sigma is None else "scatter of unit weight"
        unit = unit_of(result, result.response) if result.data.sigma is None else ""
        facts.append((label, with_unit(significant(result.scatter), unit)))
    if isfinite(result.r2) and result.inputs:
        facts.append(("deviance explained" if result.data.counts else "r²", near_one(result.r2, 3)))
    facts += _correlation(result)
    facts += _held_out(result)
    facts.append((_used(result), ""))
    said = facts if result.verdict != "no" else []
    parts: list[Line] = [
        (page.span(label, "dim"), page.span(f" {value}")) if value else (page.span(label, "dim"),)
        for label, value in said
    ]
    lines: list[Line] = [(Span("  "), *line) for line in packed(parts, page.width - 2)]
    return lines + _notes(result, page)


def _held_out(result: "FitResult") -> list[tuple[str, str]]:
    """Return both losses with the verdict on them, and the loss of a cross-validation."""
    facts = list[tuple[str, str]]()
    if result.validation is not None:
        losses = f"{significant(result.validation.loss, 3)} on {count(result.validation.rows, 'row')}"
        trained = f"training {significant(result.validation.train_loss, 3)}"
        facts.append(("validation loss", f"{losses}, {trained}: {result.validation.verdict}"))
    if result.folds is not None:
        known = f"{significant(result.folds.mean, 3)} ± {significant(result.folds.stderr, 2)}"
        facts.append((f"loss of {len(result.folds.losses)} folds", known))
    return facts


def _correlation(result: "FitResult") -> list[tuple[str, str]]:
    """Return the strongest correlation of two parameters."""
    strongest = np.nan_to_num(np.triu(result.correlation, 1))
    if not strongest.size or not np.abs(strongest).max() > 0:
        return []
    i, j = divmod(int(np.abs(strongest).argmax()), len(strongest))
    names = list(result.params)
    value = float(strongest[i, j])
    return [(f"correlation of {names[i]} and {names[j]}", near_one(value, 2))]


def _used(result: "FitResult") -> str:
    if result.n == result.data.n_read:
        return f"all {count(result.n, 'row')} used" if result.n > 1 else "its row used"
    return f"{fixed(result.n, 0)} of {count(result.data.n_read, 'row')} used"


def _notes(result: "FitResult", page: Page) -> list[Line]:
    """Return what was done to the data, as sentences."""
    notes = [*result.data.left_out, *result.data.notes]
    lines = list[Line]()
    for note in notes[:_NOTES]:
        lines += [(Span(f"  {part}", "dim"),) for part in fold(page.text(sentence(note)), page.width - 2)]
    if len(notes) > _NOTES:
        lines.append((page.span(f"  and {len(notes) - _NOTES} more notes, in the report", "dim"),))
    return lines


def _files(files: Mapping[str, str], failed: str, page: Page) -> list[Line]:
    """Return what was written; with the command of a fit whose verdict is No, the exit status before it."""
    parts = list[Line]()
    if failed:
        parts.append((page.span("exit status 1: fitted, verdict No", "dim"),))
    for label, path in files.items():
        text = page.text(path)
        room = page.width - 4 - cells(label)
        first, *rest = fold(text, room)
        parts.append((page.span(f"{label}  ", "dim"), Span(first)))
        parts += [(Span(part),) for part in rest]
    return [(Span("  "), *line) for line in packed(parts, page.width - 2, "    ")]


# ---------------------------------------------------------------------------- errors


def _excerpt(excerpt: str, page: Page) -> list[Line]:
    """Return the lines that show the place, cut around their caret where they are too long."""
    lines = excerpt.splitlines()
    caret = next((line.index("^") for line in lines if re.fullmatch(r" *\^+", line)), 0)
    room = page.width - 5
    start = max(0, caret - room // 2) if max((cells(line) for line in lines), default=0) > room else 0
    tones: list[Tone] = ["no" if re.fullmatch(r" *\^+", line) else "" for line in lines]
    return [(Span(f"     {page.text(line)[start:]}", tone),) for line, tone in zip(lines, tones, strict=True)]


_MEANT = re.compile(r"[Dd]id you mean (?P<name>\w+)\b(?! or )")


def _mended(error: GradfitError, command: str) -> str:
    """Return the command as the remedy wants it, empty where the remedy does not say so exactly."""
    if not command:
        return ""
    given = arguments(error.remedy)
    option = as_option(given[0]) if len(given) == 1 else ""
    if option:
        return with_option(command, option)
    meant = _MEANT.search(error.remedy)
    wrong = _pointed_at(error.excerpt) or _named(error.message)
    if not meant or not wrong:
        return ""
    word = re.compile(rf"(?<!\w){re.escape(wrong)}(?!\w)")
    formula = error.excerpt.partition("\n")[0]
    if formula and formula in command:
        return command.replace(formula, word.sub(meant["name"], formula))
    return word.sub(meant["name"], command) if len(word.findall(command)) == 1 else ""


def _pointed_at(excerpt: str) -> str:
    """Return the text over a line of carets."""
    lines = excerpt.splitlines()
    if len(lines) != 2 or not re.fullmatch(r" *\^+", lines[1]):
        return ""
    return lines[0][lines[1].index("^") : len(lines[1])]


def _named(message: str) -> str:
    found = re.search(r"no (?:column|function|parameter|solver|loss|option) ['\"]?([\w.-]*\w)", message)
    return found[1] if found else ""
