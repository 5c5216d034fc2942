"""Steps: edges that a measurement has rounded."""

from collections.abc import Mapping, Sequence

import numpy as np

from gradfit._lazy import special
from gradfit.library.axes import places, widths
from gradfit.library.curve import Array, Curve
from gradfit.library.model import LibraryModel
from gradfit.library.projection import Columns
from gradfit.library.scan import Scan

GROUP = "steps"


def _erf_step(u: Array, u0: Array, sigma: Array) -> Columns:
    return (special.ndtr((u - u0) / sigma),)


def _tanh_step(u: Array, u0: Array, w: Array) -> Columns:
    return ((1 + np.tanh((u - u0) / w)) / 2,)


def _tanh_step_values(
    curve: Curve, shapes: Sequence[float], coefficients: Sequence[float]
) -> Mapping[str, float]:
    return {
        "a": coefficients[0] * curve.y_unit,
        "x0": curve.place(shapes[0]),
        "w": shapes[1] * curve.x_unit,
        "c": curve.level(coefficients[1]),
    }


def _erf_step_values(
    curve: Curve, shapes: Sequence[float], coefficients: Sequence[float]
) -> Mapping[str, float]:
    values = _tanh_step_values(curve, shapes, coefficients)
    return {"a": values["a"], "x0": values["x0"], "sigma": values["w"], "c": values["c"]}


_HEIGHT, _PLACE = "height of the step, negative: downwards (unit of y)", "middle of the step (unit of x)"
_LEVEL = "level before the step (unit of y)"

MODELS = (
    LibraryModel(
        name="erf_step",
        formula="y = c + a*(1 + erf((x - x0)/(sigma*sqrt(2))))/2",
        title="Step with a Gaussian edge",
        about="A sharp edge seen with a Gaussian resolution: a knife-edge scan of a beam, a threshold with noise.",
        meaning={
            "c": _LEVEL,
            "a": _HEIGHT,
            "x0": _PLACE,
            "sigma": "standard deviation of the edge (unit of x)",
        },
        group=GROUP,
        example={"c": 1.0, "a": 5.0, "x0": 5.0, "sigma": 0.8},
        span=(0.0, 10.0),
        guess=Scan(
            axes=lambda curve: [places(curve), widths(curve)], basis=_erf_step, values=_erf_step_values
        ),
    ),
    LibraryModel(
        name="tanh_step",
        formula="y = c + a*(1 + tanh((x - x0)/w))/2",
        title="Step with a tanh edge",
        about="The profile of an interface or of a domain wall.",
        meaning={
            "c": _LEVEL,
            "a": _HEIGHT,
            "x0": _PLACE,
            "w": "half width: y does 76 % of the step between x0 - w and x0 + w (unit of x)",
        },
        group=GROUP,
        example={"c": 1.0, "a": 5.0, "x0": 5.0, "w": 1.0},
        span=(0.0, 10.0),
        guess=Scan(
            axes=lambda curve: [places(curve), widths(curve)], basis=_tanh_step, values=_tanh_step_values
        ),
    ),
)
