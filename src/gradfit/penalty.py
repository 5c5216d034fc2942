"""Penalties on parameters: what a caller asks for, and the same in numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from math import isfinite, nan, sqrt
from numbers import Real
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from gradfit.errors import OptionError
from gradfit.model import nearest
from gradfit.notation import listing, significant
from gradfit.solve.factor import column_lengths
from gradfit.solve.penalised import Shrink, without

Array = NDArray[np.float64]

KINDS = ("ridge", "lasso", "elastic-net", "smooth")
RULES = ("best", "one-se")
AUTO, NONE = "auto", "none"


@dataclass(frozen=True)
class Penalty:
    """What is added to the mean loss so that parameters stay small, or smooth: strength * P.

    With b = (parameter - centre) / unit for each penalised parameter, P is

    - "ridge": half the sum of b²;
    - "lasso": the sum of |b|;
    - "elastic-net": ratio * sum of |b| + (1 - ratio)/2 * sum of b²;
    - "smooth": half the sum of the squared second differences of the parameters, in their order.

    So the gradient of a ridge is strength * b, as torch's weight_decay=strength adds it. With n rows, scikit-learn's
    `ElasticNet(alpha, l1_ratio)` and `Lasso(alpha)` are strength = 2*alpha, `Ridge(alpha)` is strength = 2*alpha/n.

    Parameters
    ----------
    kind : str
        One of those four.
    strength : float, "auto" or sequence of float
        "auto": found by cross-validation along a path of strengths; a sequence is such a path.
    parameters : sequence of str, optional
        Which are penalised, for "smooth" in this order. All free ones but offsets (whose derivative is the same in all
        rows), in the model's order, when left out.
    ratio : float
        Of an elastic net: 1 is the lasso, 0 the ridge.
    centre : mapping of str to float, optional
        What parameters are drawn to; 0 where nothing is said.
    scale : "auto", "none" or mapping of str to float
        The units of b. "auto": where the model is linear, 1 / standard deviation of the parameter's column, so that b is in
        the unit of the response whatever the unit of the column is; else 1. "none": 1.
    folds : int
        Of the cross-validation.
    rule : {"best", "one-se"}
        Which strength of the path is taken: of the lowest validation loss, or the strongest within one standard error of it.

    References
    ----------
    .. [1] Hoerl & Kennard (1970), Technometrics 12, 55: ridge.
    .. [2] Tibshirani (1996), J. R. Stat. Soc. B 58, 267: lasso.
    .. [3] Zou & Hastie (2005), J. R. Stat. Soc. B 67, 301: elastic net.
    .. [4] Whittaker (1923), Proc. Edinburgh Math. Soc. 41, 63: squared differences; Eilers & Marx (1996), Stat. Sci. 11, 89.

    Raises
    ------
    OptionError
        If one of them makes no sense.

    Examples
    --------
    >>> Penalty("lasso", 0.1)
    Penalty(kind='lasso', strength=0.1)
    """

    kind: str = "ridge"
    strength: float | str | Sequence[float] = AUTO
    _: KW_ONLY
    parameters: Sequence[str] | None = None
    ratio: float = 0.5
    centre: Mapping[str, float] | None = None
    scale: str | Mapping[str, float] = AUTO
    folds: int = 5
    rule: str = "best"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise OptionError(
                f"There is no penalty {self.kind!r}", remedy=f"{nearest(str(self.kind), KINDS)}"
            )
        _checked_strength(self.strength)
        if not (_is_number(self.ratio) and 0 <= self.ratio <= 1):
            raise OptionError(
                f"ratio={self.ratio!r} of a penalty must be between 0 (ridge) and 1 (lasso)",
                remedy="Write ratio=0.5",
            )
        if self.rule not in RULES:
            raise OptionError(f"There is no rule {self.rule!r}", remedy=nearest(str(self.rule), RULES))
        if isinstance(self.folds, bool) or self.folds != int(self.folds) or self.folds < 2:
            raise OptionError(f"folds={self.folds!r} must be a whole number from 2 up")
        if isinstance(self.parameters, str):
            raise OptionError(
                f"parameters={self.parameters!r} of a penalty must be a list",
                remedy=f"Write parameters=[{self.parameters!r}]",
            )
        if isinstance(self.scale, str) and self.scale not in (AUTO, NONE):
            raise OptionError(
                f"scale={self.scale!r} of a penalty is not understood",
                remedy='Give "auto", "none", or a unit by name',
            )
        if self.kind == "smooth" and self.centre:
            raise OptionError('penalty="smooth" draws parameters to each other, so centre= has no place')

    def __repr__(self) -> str:
        told = [f"kind={self.kind!r}", f"strength={self.strength!r}"]
        for name, usual in (
            ("parameters", None),
            ("centre", None),
            ("scale", AUTO),
            ("folds", 5),
            ("rule", "best"),
        ):
            value = getattr(self, name)
            told += [] if value == usual else [f"{name}={value!r}"]
        told += [f"ratio={self.ratio!r}"] if self.kind == "elastic-net" else []
        return f"Penalty({', '.join(told)})"

    @property
    def share(self) -> float:
        """How much of it is absolute values: 1 for a lasso, 0 for squares."""
        return {"lasso": 1.0, "elastic-net": float(self.ratio)}.get(self.kind, 0.0)


def penalty_of(given: object) -> Penalty | None:
    """Return the penalty that a caller means: None, a `Penalty`, or a kind with or without strength, as "ridge:0.1".

    Raises
    ------
    OptionError
        If it is none of these.

    >>> penalty_of("lasso:0.1"), penalty_of("ridge")
    (Penalty(kind='lasso', strength=0.1), Penalty(kind='ridge', strength='auto'))
    """
    if given is None or isinstance(given, Penalty):
        return given
    if not isinstance(given, str):
        raise OptionError(
            f"penalty={given!r} is not understood",
            remedy='Write penalty="ridge", or gradfit.Penalty("ridge", 0.1)',
        )
    kind, colon, strength = (part.strip() for part in given.partition(":"))
    if not colon or strength == AUTO:
        return Penalty(kind)
    try:
        number = float(strength)
    except ValueError:
        number = nan
    if not isfinite(number):
        raise OptionError(
            f"The strength of penalty {given!r} is no number", remedy=f'Write "{kind}:0.1", or "{kind}:auto"'
        )
    return Penalty(kind, number)


def _checked_strength(strength: object) -> None:
    """Look at a strength.

    Raises
    ------
    OptionError
        If it is neither "auto", nor a number of 0 or more, nor several of these.
    """
    if isinstance(strength, str) and strength == AUTO:
        return
    numbers: list[object] = list(strength) if isinstance(strength, list | tuple | np.ndarray) else [strength]
    several = len(numbers) > 1 or not isinstance(strength, list | tuple | np.ndarray)
    if not several or not all(_is_number(s) and s >= 0 for s in numbers):
        raise OptionError(
            f"strength={strength!r} of a penalty must be 0 or more",
            remedy='Give a number, several to choose from, or "auto"',
        )


def _is_number(value: object) -> TypeGuard[float]:
    return not isinstance(value, bool) and isinstance(value, Real) and isfinite(value)


# ---------------------------------------------------------------------------- in numbers


@dataclass(frozen=True, eq=False)
class Aim:
    """Which free parameters a penalty is about.

    Attributes
    ----------
    penalty : Penalty
        As it was asked for.
    names : tuple of str, (f,)
        The free parameters.
    places : tuple of int
        Which of them are penalised, in the order of "smooth".
    standard : bool
        Whether columns are standardised: the model is linear, and nobody gave units.
    """

    penalty: Penalty
    names: tuple[str, ...]
    places: tuple[int, ...]
    standard: bool

    @classmethod
    def of(cls, penalty: Penalty, names: Sequence[str], offsets: Sequence[int], *, linear: bool) -> "Aim":
        """Return the aim, checked against the model's free parameters.

        Parameters
        ----------
        offsets : sequence of int
            Places of free parameters whose derivative is the same in all rows.
        linear : bool
            Whether the model is linear in all free parameters.

        Raises
        ------
        OptionError
            If a name is no free parameter, or there is nothing to penalise.
        """
        known = list(names)
        for argument in ("parameters", "centre", "scale"):
            given = getattr(penalty, argument)
            for name in () if given is None or isinstance(given, str) else given:
                if name not in known:
                    raise OptionError(
                        f"{argument}= of the penalty names {name}, which is no free parameter of the model",
                        remedy=nearest(str(name), known),
                    )
        asked = penalty.parameters
        places = (
            [j for j in range(len(known)) if j not in set(offsets)]
            if asked is None
            else [known.index(n) for n in asked]
        )
        least = 3 if penalty.kind == "smooth" else 1
        if len(set(places)) != len(places) or len(places) < least:
            raise OptionError(
                f'penalty="{penalty.kind}" needs {"three different" if least == 3 else "free"} parameters, and has '
                f"{listing([known[j] for j in places]) or 'none'}",
                remedy="Name them: gradfit.Penalty(..., parameters=[...])",
            )
        standard = linear and penalty.kind != "smooth" and penalty.scale == AUTO
        return cls(penalty, tuple(known), tuple(places), standard)

    @property
    def penalised(self) -> list[str]:
        """Their names."""
        return [self.names[j] for j in self.places]

    def shrink(self, jacobian: Array, unit: float = 1.0) -> Shrink:
        """Return the penalty of strength 1, as a function of b times `unit`.

        Parameters
        ----------
        jacobian : (n, f)
            Derivatives of the weighted residuals, times `unit`; where columns are standardised units come from it.
        unit : float
            A factor that keeps squares of the response in range.
        """
        penalty, places, f = self.penalty, np.array(self.places), len(self.names)
        centre = np.zeros(f)
        for name, value in (penalty.centre or {}).items():
            centre[self.names.index(name)] = float(value)
        inverse = self.inverse(jacobian, unit)
        if penalty.kind == "smooth":
            squares = np.zeros((len(places) - 2, f))
            squares[:, places] = np.diff(np.eye(len(places)), 2, axis=0) * inverse[places]
            return Shrink(squares, np.zeros(f), centre)
        weights = np.zeros(f)
        weights[places] = inverse[places]
        squares = (
            sqrt(1 - penalty.share) * np.diag(weights)[places] if penalty.share < 1 else np.zeros((0, f))
        )
        return Shrink(squares, penalty.share * weights, centre)

    def inverse(self, jacobian: Array, unit: float = 1.0) -> Array:
        """Return what the free parameters (f,) are multiplied by to give b times `unit`.

        Raises
        ------
        OptionError
            If a unit that was given is not positive.
        """
        if self.standard:
            return self._spread(jacobian)
        inverse = np.full(len(self.names), unit)
        scale = self.penalty.scale
        for name, size in {} if isinstance(scale, str) else scale.items():
            if not (_is_number(size) and size > 0):
                raise OptionError(f"scale= of the penalty must be positive for {name}, and is {size!r}")
            inverse[self.names.index(name)] = unit / float(size)
        return inverse

    def _spread(self, jacobian: Array) -> Array:
        """Return the standard deviation of each column (f,), about what unpenalised offsets take of it; 1 for a zero one."""
        apart = [j for j in range(len(self.names)) if j not in self.places]
        rest = without(jacobian[:, apart], jacobian) if len(apart) == 1 and len(jacobian) else jacobian
        spread, whole = (column_lengths(part) / sqrt(max(len(part), 1)) for part in (rest, jacobian))
        return np.where(spread > 1e-12 * whole, spread, 1.0)


def described(aim: Aim, strength: float) -> str:
    """Return the penalty as a sentence."""
    penalty = aim.penalty
    b = "b" if aim.standard or not isinstance(penalty.scale, str) else "p"
    away = "" if not penalty.centre else " of the distance to centre="
    form = {
        "ridge": f"half the sum of {b}²",
        "lasso": f"the sum of |{b}|",
        "elastic-net": f"{penalty.ratio:g} times the sum of |{b}| + {1 - penalty.ratio:g}/2 times that of {b}²",
        "smooth": "half the sum of squared second differences",
    }[penalty.kind]
    unit = (
        ", b in standard deviations of each column"
        if aim.standard
        else ", b in the units given"
        if b == "b"
        else ""
    )
    return (
        f"The mean loss plus {significant(strength, 3)} times {form}{away} was made small, over "
        f"{listing(aim.penalised)}{unit}"
    )
