"""Decay and growth: exponentials and their kin."""

from collections.abc import Mapping, Sequence

import numpy as np

from gradfit.library.axes import doses, places, rates, ratios
from gradfit.library.curve import Array, Curve
from gradfit.library.model import LibraryModel
from gradfit.library.projection import Columns
from gradfit.library.scan import Scan

GROUP = "decay and growth"


def _exponential(u: Array, rate: Array) -> Columns:
    return (np.exp(-rate * (u - (rate < 0))),)  # 1 at the end of the data where it is largest


def _amplitude(curve: Curve, rate: float, coefficient: float) -> np.float64:
    """Return a of a*exp(-x/tau) from the coefficient of _exponential, whose 1 is at an end of the data."""
    return coefficient * curve.y_unit * np.exp(rate * (curve.x_zero / curve.x_unit + (rate < 0)))


def _growth_values(
    curve: Curve, shapes: Sequence[float], coefficients: Sequence[float]
) -> Mapping[str, float]:
    return {"y0": _amplitude(curve, shapes[0], coefficients[0]), "k": -shapes[0] / curve.x_unit}


def _decay_values(
    curve: Curve, shapes: Sequence[float], coefficients: Sequence[float]
) -> Mapping[str, float]:
    return {
        "a": _amplitude(curve, shapes[0], coefficients[0]),
        "tau": curve.x_unit / shapes[0],
        "c": curve.level(coefficients[1]),
    }


def _two_phase_values(
    curve: Curve, shapes: Sequence[float], coefficients: Sequence[float]
) -> Mapping[str, float]:
    fast, slow = (0, 1) if shapes[0] > shapes[1] else (1, 0)
    return {
        "a1": _amplitude(curve, shapes[fast], coefficients[fast]),
        "tau1": curve.x_unit / shapes[fast],
        "a2": _amplitude(curve, shapes[slow], coefficients[slow]),
        "tau2": curve.x_unit / shapes[slow],
        "c": curve.level(coefficients[2]),
    }


def _rise(u: Array, rate: Array) -> Columns:
    return (-np.expm1(-rate * u),)


def _rise_values(curve: Curve, shapes: Sequence[float], coefficients: Sequence[float]) -> Mapping[str, float]:
    return {"a": coefficients[0] * curve.y_unit, "tau": curve.x_unit / shapes[0]}


def _stretched(u: Array, tau: Array, beta: Array) -> Columns:
    return (np.exp(-((np.maximum(u, 0) / tau) ** beta)),)


def _stretched_values(
    curve: Curve, shapes: Sequence[float], coefficients: Sequence[float]
) -> Mapping[str, float]:
    return {
        "a": coefficients[0] * curve.y_unit,
        "tau": shapes[0] * curve.x_unit,
        "beta": shapes[1],
        "c": curve.level(coefficients[1]),
    }


def _weibull(u: Array, scale: Array, shape: Array) -> Columns:
    return (-np.expm1(-((np.maximum(u, 0) / scale) ** shape)),)


def _weibull_values(
    curve: Curve, shapes: Sequence[float], coefficients: Sequence[float]
) -> Mapping[str, float]:
    return {"a": coefficients[0] * curve.y_unit, "scale": shapes[0] * curve.x_unit, "shape": shapes[1]}


def _gompertz(u: Array, rate: Array, u0: Array) -> Columns:
    return (np.exp(-np.exp(-rate * (u - u0))),)


def _gompertz_values(
    curve: Curve, shapes: Sequence[float], coefficients: Sequence[float]
) -> Mapping[str, float]:
    return {
        "a": coefficients[0] * curve.y_unit,
        "k": shapes[0] / curve.x_unit,
        "x0": curve.place(shapes[1]),
    }


MODELS = (
    LibraryModel(
        name="exponential_growth",
        formula="y = y0*exp(k*x)",
        title="Exponential growth",
        about="Growth in proportion to what is there: cells, interest; with a negative k also a decay down to zero.",
        meaning={
            "y0": "y at x = 0 (unit of y)",
            "k": "rate of growth; doubling takes log(2)/k (1/unit of x)",
        },
        group=GROUP,
        example={"y0": 1.0, "k": 0.3},
        span=(0.0, 10.0),
        guess=Scan(
            axes=lambda curve: [rates(curve, signed=True)],
            basis=_exponential,
            values=_growth_values,
            offset=False,
        ),
    ),
    LibraryModel(
        name="exponential_decay",
        formula="y = a*exp(-x/tau) + c",
        title="Exponential decay to a plateau",
        about=(
            "Discharge, cooling, relaxation of the first order. "
            "A negative a is an approach from below, a negative tau a growth that gets faster."
        ),
        meaning={
            "a": "height above the plateau at x = 0 (unit of y)",
            "tau": "in which the height falls to 1/e; the half-life is tau*log(2) (unit of x)",
            "c": "plateau (unit of y)",
        },
        group=GROUP,
        example={"a": 5.0, "tau": 2.0, "c": 1.0},
        span=(0.0, 10.0),
        guess=Scan(axes=lambda curve: [rates(curve, signed=True)], basis=_exponential, values=_decay_values),
    ),
    LibraryModel(
        name="exponential_rise",
        formula="y = a*(1 - exp(-x/tau))",
        title="Exponential rise from zero",
        about="Saturation from y = 0 at x = 0: charging, oxygen demand, adsorption of the first order.",
        meaning={
            "a": "plateau (unit of y)",
            "tau": "in which the distance to the plateau falls to 1/e (unit of x)",
        },
        group=GROUP,
        example={"a": 5.0, "tau": 2.0},
        span=(0.0, 10.0),
        guess=Scan(
            axes=lambda curve: [rates(curve)],
            basis=_rise,
            values=_rise_values,
            offset=False,
            x_shifts=False,
        ),
    ),
    LibraryModel(
        name="two_phase_decay",
        formula="y = a1*exp(-x/tau1) + a2*exp(-x/tau2) + c",
        title="Two-phase exponential decay",
        about="A fast and a slow process at once: two compartments, two lifetimes. The guess puts the fast one first.",
        meaning={
            "a1": "height of the fast phase at x = 0 (unit of y)",
            "tau1": "in which the fast phase falls to 1/e (unit of x)",
            "a2": "height of the slow phase at x = 0 (unit of y)",
            "tau2": "in which the slow phase falls to 1/e (unit of x)",
            "c": "plateau (unit of y)",
        },
        group=GROUP,
        example={"a1": 6.0, "tau1": 0.5, "a2": 3.0, "tau2": 4.0, "c": 1.0},
        span=(0.0, 15.0),
        guess=Scan(
            axes=lambda curve: [rates(curve)],
            basis=_exponential,
            values=_two_phase_values,
            pairs=True,
        ),
    ),
    LibraryModel(
        name="stretched_exponential",
        formula="y = a*exp(-(x/tau)**beta) + c",
        title="Stretched exponential (Kohlrausch)",
        about="Relaxation with a spread of lifetimes (beta < 1), or a decay that starts late (beta > 1). For x >= 0.",
        meaning={
            "a": "height above the plateau at x = 0 (unit of y)",
            "tau": "where the height has fallen to 1/e (unit of x)",
            "beta": "stretching; 1 is a plain exponential (none)",
            "c": "plateau (unit of y)",
        },
        group=GROUP,
        example={"a": 5.0, "tau": 2.0, "beta": 0.7, "c": 1.0},
        span=(0.0, 12.0),
        guess=Scan(
            axes=lambda curve: [doses(curve), ratios(0.2, 6.0, 1.35)],
            basis=_stretched,
            values=_stretched_values,
            x_shifts=False,
        ),
    ),
    LibraryModel(
        name="weibull_growth",
        formula="y = a*(1 - exp(-(x/scale)**shape))",
        title="Weibull growth (cumulative Weibull distribution)",
        about="Germination, dissolution, failures up to time x; with a = 1 the distribution function. For x >= 0.",
        meaning={
            "a": "plateau (unit of y)",
            "scale": "where y reaches 63 % of the plateau (unit of x)",
            "shape": "above 1 the curve starts flat, below 1 steep (none)",
        },
        group=GROUP,
        example={"a": 5.0, "scale": 4.0, "shape": 2.0},
        span=(0.0, 10.0),
        guess=Scan(
            axes=lambda curve: [doses(curve), ratios(0.2, 12.0, 1.35)],
            basis=_weibull,
            values=_weibull_values,
            offset=False,
            x_shifts=False,
        ),
    ),
    LibraryModel(
        name="gompertz",
        formula="y = a*exp(-exp(-k*(x - x0)))",
        title="Gompertz growth",
        about="Growth that slows down early: tumours, plants, cells; steepest at 37 % of the plateau.",
        meaning={
            "a": "plateau (unit of y)",
            "k": "rate (1/unit of x)",
            "x0": "where growth is fastest (unit of x)",
        },
        group=GROUP,
        example={"a": 5.0, "k": 0.6, "x0": 4.0},
        span=(0.0, 12.0),
        guess=Scan(
            axes=lambda curve: [ratios(0.3, 100.0, 1.5, signed=True), places(curve, 31, beyond=0.5)],
            basis=_gompertz,
            values=_gompertz_values,
            offset=False,
        ),
    ),
)
