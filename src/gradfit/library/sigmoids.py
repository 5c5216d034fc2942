"""Sigmoids: curves between two plateaus, in x and in a dose."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from gradfit.library.axes import doses, places, ratios
from gradfit.library.curve import Array, Curve
from gradfit.library.model import LibraryModel
from gradfit.library.projection import Columns
from gradfit.library.scan import Scan

Size = TypeVar("Size", float, Array)

GROUP = "sigmoids and dose response"


def _logistic(u: Array, k: Array, u0: Array) -> Columns:
    return (1 / (1 + np.exp(-k * (u - u0))),)


def _richards(slope: Size, middle: Size, s: Size) -> tuple[Size, Size]:
    """Return (k, u0) of 1/(1 + exp(-k*(u - u0)))**s that has its half at `middle`, with that slope.

    The middle and its slope are what data determine; k and u0 drift far along with s.
    """
    at_half = np.expm1(np.log(2) / s)  # exp(-k*(middle - u0))
    k = 2 * slope * (1 + at_half) / (s * at_half)
    return k, middle + np.log(at_half) / k


def _logistic5(u: Array, slope: Array, middle: Array, s: Array) -> Columns:
    k, u0 = _richards(slope, middle, s)
    return (1 / (1 + np.exp(-k * (u - u0))) ** s,)


def _logistic3_values(
    curve: Curve, shapes: Sequence[float], coefficients: Sequence[float]
) -> Mapping[str, float]:
    return {
        "a": coefficients[0] * curve.y_unit,
        "k": shapes[0] / curve.x_unit,
        "x0": curve.place(shapes[1]),
    }


def _plateaus(curve: Curve, coefficients: Sequence[float]) -> dict[str, float]:
    return {"Bottom": curve.level(coefficients[1]), "Top": curve.level(coefficients[1] + coefficients[0])}


def _logistic4_values(
    curve: Curve, shapes: Sequence[float], coefficients: Sequence[float]
) -> Mapping[str, float]:
    values = {**_plateaus(curve, coefficients), "k": shapes[0] / curve.x_unit, "x0": curve.place(shapes[1])}
    if values["Top"] < values["Bottom"]:  # the same curve, told as a fall
        values |= {"Bottom": values["Top"], "Top": values["Bottom"], "k": -values["k"]}
    return values


def _logistic5_values(
    curve: Curve, shapes: Sequence[float], coefficients: Sequence[float]
) -> Mapping[str, float]:
    k, u0 = _richards(*shapes)
    return {**_plateaus(curve, coefficients), "k": k / curve.x_unit, "x0": curve.place(u0), "s": shapes[2]}


def _effect(u: Array, dose: Array, slope: Array) -> Columns:
    return (1 - 1 / (1 + (np.maximum(u, 0) / dose) ** slope),)


def _dose_response_values(
    curve: Curve, shapes: Sequence[float], coefficients: Sequence[float]
) -> Mapping[str, float]:
    values = {**_plateaus(curve, coefficients), "EC50": shapes[0] * curve.x_unit, "HillSlope": shapes[1]}
    # with a negative slope the power of dose 0 is infinite and has no derivative
    if values["Top"] < values["Bottom"] and curve.u[0] > 0:
        values |= {"Bottom": values["Top"], "Top": values["Bottom"], "HillSlope": -values["HillSlope"]}
    return values


_BOTTOM, _TOP = "lower plateau (unit of y)", "upper plateau (unit of y)"

MODELS = (
    LibraryModel(
        name="logistic3",
        formula="y = a/(1 + exp(-k*(x - x0)))",
        title="Logistic growth (3 parameters)",
        about="Growth from zero to a plateau, symmetric about its middle; with a negative k a fall to zero.",
        meaning={
            "a": "plateau (unit of y)",
            "k": "rate of growth at the start (1/unit of x)",
            "x0": "where y is half the plateau (unit of x)",
        },
        group=GROUP,
        example={"a": 5.0, "k": 1.0, "x0": 5.0},
        span=(0.0, 12.0),
        guess=Scan(
            axes=lambda curve: [ratios(0.5, 200.0, 1.5, signed=True), places(curve, 31, beyond=0.5)],
            basis=_logistic,
            values=_logistic3_values,
            offset=False,
        ),
    ),
    LibraryModel(
        name="logistic4",
        formula="y = Bottom + (Top - Bottom)/(1 + exp(-k*(x - x0)))",
        title="Sigmoid between two plateaus (4 parameters)",
        about="Titration, melting, dose response with x = log(dose): then x0 is the logarithm of the EC50.",
        meaning={
            "Bottom": _BOTTOM,
            "Top": _TOP,
            "k": "steepness; negative: falls (1/unit of x)",
            "x0": "where y is half-way (unit of x)",
        },
        group=GROUP,
        example={"Bottom": 1.0, "Top": 6.0, "k": 1.5, "x0": 5.0},
        span=(0.0, 10.0),
        guess=Scan(
            axes=lambda curve: [ratios(0.5, 200.0, 1.5), places(curve, 31, beyond=0.5)],
            basis=_logistic,
            values=_logistic4_values,
        ),
    ),
    LibraryModel(
        name="logistic5",
        formula="y = Bottom + (Top - Bottom)/(1 + exp(-k*(x - x0)))**s",
        title="Asymmetric sigmoid (5 parameters, Richards)",
        about=(
            "A sigmoid whose two bends differ: immunoassays with x = log(dose), growth after Richards. "
            "y is half-way at x0 only if s = 1."
        ),
        meaning={
            "Bottom": "plateau on the side where k*x is very negative (unit of y)",
            "Top": "plateau on the other side (unit of y)",
            "k": "steepness (1/unit of x)",
            "x0": "place of the bend (unit of x)",
            "s": "asymmetry; 1 is symmetric (none)",
        },
        group=GROUP,
        example={"Bottom": 1.0, "Top": 6.0, "k": 1.5, "x0": 5.0, "s": 0.5},
        span=(0.0, 10.0),
        guess=Scan(
            axes=lambda curve: [
                ratios(0.2, 50.0, 1.6, signed=True),
                places(curve, 21, beyond=0.25),
                ratios(0.1, 10.0, 3.0),
            ],
            basis=_logistic5,
            values=_logistic5_values,
        ),
    ),
    LibraryModel(
        name="dose_response",
        formula="y = Top + (Bottom - Top)/(1 + (x/EC50)**HillSlope)",
        title="Dose response (4 parameters, variable slope)",
        about=(
            "The response to a dose x >= 0 (not its logarithm): assays, ELISA, inhibition with its IC50. "
            "With dose 0 among the data the guess has HillSlope > 0 and Bottom is the response without dose."
        ),
        meaning={
            "Top": "plateau at high dose, if HillSlope > 0 (unit of y)",
            "Bottom": "plateau at low dose, if HillSlope > 0 (unit of y)",
            "EC50": "dose with half the effect (unit of x)",
            "HillSlope": "steepness; negative: falls from Top to Bottom (none)",
        },
        group=GROUP,
        example={"Top": 6.0, "Bottom": 1.0, "EC50": 2.0, "HillSlope": 1.5},
        span=(0.0, 20.0),
        guess=Scan(
            axes=lambda curve: [doses(curve), ratios(0.2, 20.0, 1.4)],
            basis=_effect,
            values=_dose_response_values,
            x_shifts=False,
        ),
    ),
)
