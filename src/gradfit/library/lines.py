"""Lines and polynomials: linear in their parameters, or linear when one place or power is known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gradfit.library.axes import places, powers, ratios
from gradfit.library.curve import Array, Curve
from gradfit.library.model import LibraryModel
from gradfit.library.projection import Columns, finite, solved
from gradfit.library.scan import Scan

GROUP = "lines and polynomials"


@dataclass(frozen=True)
class PolynomialGuess:
    """The polynomial of least squares, whose coefficients are named from the constant upwards."""

    names: tuple[str, ...]

    def __call__(self, x: Array, y: Array) -> dict[str, float]:
        """Return the coefficients."""
        with np.errstate(all="ignore"):
            curve = Curve.of(x, y, x_shifts=True, y_shifts=True)
            return finite(dict(zip(self.names, self.coefficients(curve), strict=True)))

    def coefficients(self, curve: Curve) -> Array:
        """Return the coefficients of 1, x, x², ...: by way of Chebyshev's polynomials, which are well conditioned."""
        degree = len(self.names) - 1
        columns = np.polynomial.chebyshev.chebvander(2 * curve.u - 1, degree).T
        series = solved(tuple(columns), curve.v, offset=False)
        slope = 2 / curve.x_unit
        ahead = -1 - slope * curve.x_zero  # Chebyshev's variable is ahead + slope*x
        in_x = np.zeros(degree + 1)
        for c in np.polynomial.chebyshev.cheb2poly(series)[::-1]:
            in_x = ahead * in_x + slope * np.roll(in_x, 1)  # the highest is still 0 and comes round as 0
            in_x[0] += c
        in_x = curve.y_unit * in_x
        in_x[0] += curve.y_zero
        return in_x


def _proportional(x: Array, y: Array) -> dict[str, float]:
    curve = Curve.of(x, y, x_shifts=False, y_shifts=False)
    with np.errstate(all="ignore"):
        (slope,) = solved((curve.u,), curve.v, offset=False)
        return finite({"slope": slope * curve.y_unit / curve.x_unit})


def _logarithm(x: Array, y: Array) -> dict[str, float]:
    above = np.asarray(x, np.float64) > 0
    curve = Curve.of(np.asarray(x)[above], np.asarray(y)[above], x_shifts=False, y_shifts=True)
    with np.errstate(all="ignore"):
        b, level = solved((np.log(np.maximum(curve.u, 1e-300)),), curve.v, offset=True)
        b = b * curve.y_unit
        return finite({"a": curve.level(level) - b * np.log(curve.x_unit), "b": b})


def _power_values(
    curve: Curve, shapes: Sequence[float], coefficients: Sequence[float]
) -> Mapping[str, float]:
    b = shapes[0]
    return {"a": coefficients[0] * curve.y_unit / curve.x_unit**b, "b": b}


def _power_offset_values(
    curve: Curve, shapes: Sequence[float], coefficients: Sequence[float]
) -> Mapping[str, float]:
    return {**_power_values(curve, shapes, coefficients), "c": curve.level(coefficients[1])}


def _power_basis(u: Array, b: Array) -> Columns:
    return (np.maximum(u, 0) ** b,)


def _bent(u: Array, u0: Array) -> Columns:
    return np.minimum(u - u0, 0), np.maximum(u - u0, 0)


def _broken_line_values(
    curve: Curve, shapes: Sequence[float], coefficients: Sequence[float]
) -> Mapping[str, float]:
    unit = curve.y_unit / curve.x_unit
    return {
        "y0": curve.level(coefficients[2]),
        "x0": curve.place(shapes[0]),
        "slope1": coefficients[0] * unit,
        "slope2": coefficients[1] * unit,
    }


def _rational_basis(u: Array, distance: Array) -> Columns:
    # the pole lies that far left of the data (negative), or right of them, where u = 1
    return (1 / (u - distance - (distance > 0)),)


def _rational_values(
    curve: Curve, shapes: Sequence[float], coefficients: Sequence[float]
) -> Mapping[str, float]:
    # level + rest/(x - pole), brought over one denominator
    pole, rest = curve.place(shapes[0] + (shapes[0] > 0)), coefficients[0] * curve.x_unit * curve.y_unit
    level = curve.level(coefficients[1])
    return {"a": level - rest / pole, "b": -level / pole, "c": -1 / pole}


def _polynomial(
    name: str, about: str, *, example: tuple[float, ...], span: tuple[float, float]
) -> LibraryModel:
    names = tuple(f"c{i}" for i in range(len(example)))
    terms = ["c0", "c1*x", *(f"c{i}*x**{i}" for i in range(2, len(example)))]
    units = [
        "unit of y",
        "unit of y/unit of x",
        *(f"unit of y/unit of x^{i}" for i in range(2, len(example))),
    ]
    what = ["value at x = 0", "slope at x = 0", *(f"coefficient of x^{i}" for i in range(2, len(example)))]
    return LibraryModel(
        name=name,
        formula="y = " + " + ".join(terms),
        title="Parabola" if len(example) == 3 else f"Polynomial of degree {len(example) - 1}",
        about=about,
        meaning={key: f"{said} ({unit})" for key, said, unit in zip(names, what, units, strict=True)},
        group=GROUP,
        example=dict(zip(names, example, strict=True)),
        span=span,
        guess=PolynomialGuess(names),
    )


MODELS = (
    LibraryModel(
        name="line",
        formula="y = slope*x + intercept",
        title="Straight line",
        about="A calibration, a trend: y changes by the same amount for every step of x.",
        meaning={
            "slope": "rise of y for one unit of x (unit of y/unit of x)",
            "intercept": "y at x = 0 (unit of y)",
        },
        group=GROUP,
        example={"slope": 2.0, "intercept": 1.0},
        span=(0.0, 10.0),
        guess=PolynomialGuess(("intercept", "slope")),
    ),
    LibraryModel(
        name="proportional",
        formula="y = slope*x",
        title="Straight line through the origin",
        about="Where y must be 0 at x = 0, as in Ohm's law or a calibration after subtracting the blank.",
        meaning={"slope": "y for one unit of x (unit of y/unit of x)"},
        group=GROUP,
        example={"slope": 2.0},
        span=(0.0, 10.0),
        guess=_proportional,
    ),
    _polynomial(
        "quadratic",
        "One maximum or minimum, at x = -c1/(2*c2); also a line with a slight bend.",
        example=(1.0, 4.0, -0.5),
        span=(0.0, 10.0),
    ),
    _polynomial(
        "cubic",
        "A smooth curve with up to two turns. Not for use outside the range of the data.",
        example=(1.0, 6.0, -2.0, 0.15),
        span=(0.0, 10.0),
    ),
    _polynomial(
        "quartic",
        "A smooth curve with up to three turns. Not for use outside the range of the data.",
        example=(1.0, 1.0, -3.0, -0.5, 1.0),
        span=(-2.0, 2.0),
    ),
    _polynomial(
        "quintic",
        "A smooth curve with up to four turns. Not for use outside the range of the data.",
        example=(0.0, 4.0, 0.5, -5.0, 0.0, 1.0),
        span=(-2.0, 2.0),
    ),
    LibraryModel(
        name="broken_line",
        formula="y = y0 + slope1*min(x - x0, 0) + slope2*max(x - x0, 0)",
        title="Two lines that meet",
        about="A sudden change of slope: a titration's end point, a threshold, a change of regime.",
        meaning={
            "y0": "y where the lines meet (unit of y)",
            "slope1": "slope left of x0 (unit of y/unit of x)",
            "x0": "where the lines meet (unit of x)",
            "slope2": "slope right of x0 (unit of y/unit of x)",
        },
        group=GROUP,
        example={"y0": 2.0, "slope1": 0.3, "x0": 4.0, "slope2": 1.5},
        span=(0.0, 10.0),
        guess=Scan(
            axes=lambda curve: [places(curve, 60)],
            basis=_bent,
            values=_broken_line_values,
        ),
    ),
    LibraryModel(
        name="rational",
        formula="y = (a + b*x)/(1 + c*x)",
        title="Ratio of two lines (hyperbola)",
        about="A curve that levels off more slowly than an exponential; y tends to b/c. No pole inside the data is sought.",
        meaning={
            "a": "y at x = 0 (unit of y)",
            "b": "slope of the numerator (unit of y/unit of x)",
            "c": "slope of the denominator; the pole is at x = -1/c (1/unit of x)",
        },
        group=GROUP,
        example={"a": 1.0, "b": 3.0, "c": 0.4},
        span=(0.0, 10.0),
        guess=Scan(
            axes=lambda _: [ratios(0.01, 100.0, 1.5, signed=True)],
            basis=_rational_basis,
            values=_rational_values,
        ),
    ),
    LibraryModel(
        name="logarithm",
        formula="y = a + b*log(x)",
        title="Logarithm",
        about="Every doubling of x adds the same amount to y: the laws of Fechner and Nernst. For x > 0.",
        meaning={"a": "y at x = 1 (unit of y)", "b": "rise of y when x grows e-fold (unit of y)"},
        group=GROUP,
        example={"a": 1.0, "b": 2.0},
        span=(0.2, 20.0),
        guess=_logarithm,
    ),
    LibraryModel(
        name="power",
        formula="y = a*x**b",
        title="Power law",
        about="Scaling and allometry, Freundlich's isotherm; a straight line in a log-log plot. For x > 0.",
        meaning={"a": "y at x = 1 (unit of y/unit of x^b)", "b": "exponent (none)"},
        group=GROUP,
        example={"a": 2.0, "b": 0.7},
        span=(0.1, 10.0),
        guess=Scan(
            axes=lambda curve: [powers(curve)],
            basis=_power_basis,
            values=_power_values,
            offset=False,
            x_shifts=False,
        ),
    ),
    LibraryModel(
        name="power_offset",
        formula="y = a*x**b + c",
        title="Power law over a background",
        about="A power law that is measured on top of a constant. For x > 0.",
        meaning={
            "a": "power law at x = 1 (unit of y/unit of x^b)",
            "b": "exponent (none)",
            "c": "background (unit of y)",
        },
        group=GROUP,
        example={"a": 2.0, "b": 1.6, "c": 5.0},
        span=(0.1, 10.0),
        guess=Scan(
            axes=lambda curve: [powers(curve)],
            basis=_power_basis,
            values=_power_offset_values,
            x_shifts=False,
        ),
    ),
)
