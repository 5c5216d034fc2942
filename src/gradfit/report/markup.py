"""Elements of a page: closed by construction, and escaped unless they are Markup already."""

import re
from collections.abc import Iterable
from html import escape

#: HTML and XML know no other control characters than these three
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_EMPTY = frozenset({"circle", "line", "path", "rect", "meta"})

Attribute = str | float | None


class Markup(str):
    """Text that is HTML already; every other string is escaped where it enters an element."""

    __slots__ = ()


def text(part: str) -> Markup:
    """Return `part` as HTML.

    >>> text("<script>"), text(Markup("<b>a</b>"))
    ('&lt;script&gt;', '<b>a</b>')
    """
    return part if isinstance(part, Markup) else Markup(escape(_FORBIDDEN.sub("\ufffd", part)))


def join(parts: Iterable[str]) -> Markup:
    """Return the parts side by side, escaped where they are plain text."""
    return Markup("".join(text(part) for part in parts))


def number(value: float) -> str:
    """Return a coordinate with one decimal at most.

    >>> number(12.0), number(12.34), number(-0.04)
    ('12', '12.3', '0')
    """
    short = f"{value:.1f}".removesuffix(".0")
    return "0" if short == "-0" else short


def tag(name: str, *children: str, **attributes: Attribute) -> Markup:
    """Return an element; `class_` stands for class, `aria_label` for aria-label, None leaves an attribute out.

    >>> tag("p", "a < b", class_="small")
    '<p class="small">a &lt; b</p>'
    >>> tag("line", x1=1.0, y1=2.25)
    '<line x1="1" y1="2.2"/>'
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(value) if isinstance(value, str) else number(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _EMPTY and not children:
        return Markup(f"<{name}{given}/>")
    return Markup(f"<{name}{given}>{join(children)}</{name}>")
