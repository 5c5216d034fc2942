"""What a caller asks to grow: "y ~ polynomial(x)", "y ~ fourier(t, period=24)", "y ~ network(x1, x2)"."""

import re
from dataclasses import dataclass

from gradfit.errors import FormulaError
from gradfit.model import nearest

KINDS = ("polynomial", "gaussians", "exponentials", "fourier", "network")
_SAME = {
    "poly": "polynomial", "polynomials": "polynomial", "gaussian": "gaussians", "sum of gaussians": "gaussians",
    "peaks": "gaussians", "exponential": "exponentials", "sum of exponentials": "exponentials", "decays": "exponentials",
    "fourier terms": "fourier", "fourier series": "fourier", "harmonics": "fourier",
}  # fmt: skip
_CALL = re.compile(r"\s*([A-Za-z_][A-Za-z_ ]*?)\s*\((.*)\)\s*", re.DOTALL)
_EXAMPLE = 'Write "y ~ polynomial(x)", behind the data'


@dataclass(frozen=True)
class Request:
    """A kind of model, its response and its inputs.

    Attributes
    ----------
    text : str
        As it was written.
    left : str
        The response, a column or an expression of one.
    kind : str
        One of KINDS.
    inputs : tuple of str
        Columns.
    settings : mapping of str to str
        What was given by name, as period=24.
    """

    text: str
    left: str
    kind: str
    inputs: tuple[str, ...]
    settings: dict[str, str]


def request_of(text: object) -> Request:
    """Return the request that a text makes.

    Raises
    ------
    FormulaError
        If it is none, with the nearest kind.

    Examples
    --------
    >>> request_of("y ~ sum of gaussians(x)").kind
    'gaussians'
    """
    if not isinstance(text, str) or text.count("~") != 1:
        shown = repr(text) if isinstance(text, str) else f"{type(text).__name__} is no text, and"
        raise FormulaError(f"{shown} does not say what to grow", remedy=_EXAMPLE)
    left, right = (part.strip() for part in text.split("~"))
    call = _CALL.fullmatch(right)
    if not left or call is None:
        raise FormulaError(f"{text!r} does not say what to grow", remedy=_EXAMPLE)
    kind = re.sub(r"\s+", " ", call[1].lower())
    kind = _SAME.get(kind, kind)
    if kind not in KINDS:
        raise FormulaError(f"There is no ladder of {kind!r}", remedy=nearest(kind, KINDS))
    inputs: list[str] = []
    settings: dict[str, str] = {}
    for part in (piece.strip() for piece in call[2].split(",")):
        name, equals, value = part.partition("=")
        if equals:
            settings[name.strip()] = value.strip()
        elif part:
            inputs.append(part.removeprefix("{").removesuffix("}").strip())
    if not inputs:
        raise FormulaError(f"{text!r} names no input", remedy=_EXAMPLE)
    return Request(text.strip(), left, kind, tuple(inputs), settings)
