"""A ladder of model sizes as text: the choice, why, and the table."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gradfit.notation import count, significant
from gradfit.terminal.text import Line, Page, Span, Tone, fold, packed, pad

if TYPE_CHECKING:
    from gradfit.growing import GrowResult, Rung

HEADS = ("size", "parameters", "training loss", "validation loss", "± s.e.")
WIDTHS = (18, 10, 13, 15, 9)


def summary(
    grown: "GrowResult",
    *,
    width: int = 80,
    color: bool = False,
    unicode: bool = True,
    files: Mapping[str, str] | None = None,
    table: bool = True,
) -> str:
    """Return the choice, its reason, the table of sizes and the parameters of the chosen fit.

    Parameters
    ----------
    files : mapping of str to str, optional
        What was written, and where.
    table : bool
        Whether to print the sizes; a command that has printed them while they were done leaves them out.
    """
    page = Page(width, color, unicode)
    facts = f"{count(grown.rows, 'row')}, {grown.splits}"
    lines = packed(
        [(page.span(f"{grown.rung.label}   {grown.text}", "bold"),), (page.span(facts, "dim"),)], width
    )
    for text in (
        grown.sentence,
        *(f.message for f in grown.findings if f.code in ("still-growing", "nothing-to-find")),
    ):
        lines += [(), *((Span(f"  {part}"),) for part in fold(page.text(text), width - 2))]
    if table:
        lines += [(), head(page), *(row(r, page, _tone(i, grown)) for i, r in enumerate(grown.rungs))]
    lines += [(), *((page.span(f"  {part}", "dim"),) for part in fold(page.text(grown.told), width - 2))]
    text = page.render(lines)
    below = f"\n\n{grown.chosen.summary(width=width)}" if hasattr(grown.chosen, "summary") else ""
    written = "".join(f"\n{name}  {path}" for name, path in (files or {}).items())
    return text + below + (f"\n{written}" if written else "")


def _tone(place: int, grown: "GrowResult") -> Tone:
    return "bold" if place == grown.climb.chosen else ""


def head(page: Page) -> Line:
    """Return the head of the table."""
    return (page.span(_laid_out(HEADS, page), "dim"),)


def row(rung: "Rung", page: Page, tone: Tone = "") -> Line:
    """Return a size as a row of the table."""
    cells = (
        rung.label, f"{rung.parameters}", significant(rung.train, 3), significant(rung.validation, 3),
        significant(rung.stderr),
    )  # fmt: skip
    return (page.span(_laid_out(cells, page), tone),)


def _laid_out(cells: Sequence[str], page: Page) -> str:
    texts = [page.text(cell) for cell in cells]
    first = pad(texts[0], WIDTHS[0])
    return f"  {first}" + "".join(
        f"  {pad(t, w, right=True)}" for t, w in zip(texts[1:], WIDTHS[1:], strict=True)
    )
