"""A forward and a backward pass as text for a terminal: operations, parameters, learning rates, sentences."""

from collections.abc import Sequence
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np

from gradfit.broadcasting import text_of
from gradfit.explaining.folding import folded
from gradfit.explaining.words import given, range_text, receives, start_text
from gradfit.notation import count, exact, significant, with_unit
from gradfit.terminal.text import Line, Page, Span, Tone, cells, fold, pad, shorten

if TYPE_CHECKING:
    from gradfit.explaining import Explanation

MOST = 40  # operations in the table; more are folded
MOST_PARAMETERS = 20
_ASIDE = "  "
_WIDE = 100  # columns from which there is room for the parameters after a step


def explanation_text(e: "Explanation", *, width: int = 100, color: bool = False, unicode: bool = True) -> str:
    """Return a pass as text.

    Parameters
    ----------
    width : int
        Columns; no line is wider.
    color, unicode : bool
        Whether the theme's colours, and signs beyond ASCII, can be shown.
    """
    page = Page(max(width, 40), color, unicode)
    blocks = [_head(e, page), _operations(e, page), _parameters(e, page), _steps(e, page), _said(e, page)]
    lines: list[Line] = []
    for block in blocks:
        lines += [*([()] if lines and block else []), *block]
    return page.render(lines)


def _head(e: "Explanation", page: Page) -> list[Line]:
    loss = f"loss {with_unit(significant(e.loss, 5), e.loss_unit)}"
    facts = f"{e.source}, {count(e.rows, 'row')}, {e.dtype}"
    lines: list[Line] = [(page.span(e.model, "bold"), page.span(f"   {facts}", "dim"))]
    lines.append((page.span(f"  {loss}", "bold"), page.span(f"   {e.loss_name}")))
    told = f"at {start_text(e)}. {e.start_from}"
    return [*lines, *((Span(f"  {part}", "dim"),) for part in fold(page.text(told), page.width - 2))]


def _operations(e: "Explanation", page: Page) -> list[Line]:
    shown = folded(e.operations, MOST)
    bad = e.first_not_finite or e.first_gradient_not_finite
    rows = [["forward", "shape", "value", "gradient of the loss"]]
    tones: list[Tone] = ["dim"]
    for o, receiver in zip(shown, receives(shown), strict=True):
        back = range_text(o.gradient) if o.gradient else "none comes" if receiver else ""
        rows.append(
            [f"loss = {o.text}" if o.kind == "loss" else o.text, text_of(o.shape), range_text(o.value), back]
        )
        tones.append("second" if bad is not None and o.text == bad.text else "")
    lines = _table(rows, tones, page, flexible=0)
    less = len(e.operations) - len(shown)
    return (
        [*lines, (page.span(f"  {count(less, 'operation')} more are folded into these", "dim"),)]
        if less
        else lines
    )


def _parameters(e: "Explanation", page: Page) -> list[Line]:
    """Return each parameter with its gradient after one, two and three passes."""
    single = all(p.gradient.ndim == 0 for p in e.parameters)
    head = (
        ["parameter", "value", "gradient", "2 passes", "3 passes"]
        if single
        else ["parameter", "shape", "gradient", "its size"]
    )
    united = single and any(p.gradient_unit for p in e.parameters)
    rows = [[*head, "its unit"] if united else head]
    for p in e.parameters[:MOST_PARAMETERS]:
        if single:
            row = [
                p.name,
                with_unit(given(float(p.value)), p.unit),
                *(significant(float(g), 5) for g in p.passes),
            ]
            rows.append([*row, p.gradient_unit] if united else row)
        else:
            low, high = float(np.min(p.gradient)), float(np.max(p.gradient))
            span = (
                f"{significant(low, 3)} to {significant(high, 3)}"
                if p.gradient.size > 1
                else significant(low, 4)
            )
            rows.append([p.name, text_of(p.gradient.shape), span, significant(p.size, 3)])
    tones: list[Tone] = ["dim" if i == 0 else "" for i in range(len(rows))]
    lines = _table(rows, tones, page, flexible=len(rows[0]) - 1)
    more = len(e.parameters) - MOST_PARAMETERS
    return [*lines, (page.span(f"  and {more} more", "dim"),)] if more > 0 else lines


def _steps(e: "Explanation", page: Page) -> list[Line]:
    if not e.steps:
        return []
    rows = [["learning rate", "loss after one step", "", ""]]
    tones: list[Tone] = ["dim"]
    for step in e.steps:
        worse = not step.loss <= e.loss
        verdict = "larger: too large a step" if worse else "smaller"
        after = ", ".join(
            f"{name} = {significant(float(v), 5)}" for name, v in list(step.values.items())[:4] if v.ndim == 0
        )
        loss = significant(step.loss, 5) if isfinite(step.loss) else "not finite"
        rows.append([exact(step.lr), loss, verdict, after])
        tones.append("second" if worse else "")
    rows = rows if page.width >= _WIDE else [row[:3] for row in rows]
    return _table(rows, tones, page, flexible=len(rows[0]) - 1)


def _said(e: "Explanation", page: Page) -> list[Line]:
    lines: list[Line] = []
    for i, text in enumerate(e.sentences, 1):
        first, *rest = fold(page.text(text), page.width - 5)
        lines.append((Span(f"  {i}  ", "dim"), Span(first)))
        lines += [(Span(f"     {part}"),) for part in rest]
    return lines


def _table(rows: Sequence[Sequence[str]], tones: Sequence[Tone], page: Page, *, flexible: int) -> list[Line]:
    """Return a table; one column gives way where the page is too narrow."""
    texts = [[page.text(cell) for cell in row] for row in rows]
    wide = [max(cells(row[i]) for row in texts) for i in range(len(texts[0]))]
    over = 2 + sum(wide) + 3 * (len(wide) - 1) - page.width
    if over > 0:
        least = min(wide[flexible], 20)
        left = max(over - wide[flexible] + least, 0)
        wide[flexible] = max(wide[flexible] - over, least)
        wide[-1] = max(wide[-1] - left, 8)
    out: list[Line] = []
    for row, tone in zip(texts, tones, strict=True):
        parts = [pad(shorten(cell, size), size) for cell, size in zip(row, wide, strict=True)]
        out.append((Span(f"{_ASIDE}{'   '.join(parts)}".rstrip(), tone),))
    return out
