"""Peaks over a constant background, upwards or downwards."""

from collections.abc import Mapping, Sequence

import numpy as np

from gradfit._lazy import special
from gradfit.library.axes import doses, places, ratios, shares, widths
from gradfit.library.curve import Array, Curve
from gradfit.library.model import LibraryModel
from gradfit.library.projection import Columns
from gradfit.library.scan import Scan

GROUP = "peaks"


def _gaussian(u: Array, u0: Array, sigma: Array) -> Columns:
    return (np.exp(-0.5 * ((u - u0) / sigma) ** 2),)


def _gaussian_values(
    curve: Curve, shapes: Sequence[float], coefficients: Sequence[float]
) -> Mapping[str, float]:
    return {
        "a": coefficients[0] * curve.y_unit,
        "x0": curve.place(shapes[0]),
        "sigma": shapes[1] * curve.x_unit,
        "c": curve.level(coefficients[1]),
    }


def _two_gaussians_values(
    curve: Curve, shapes: Sequence[float], coefficients: Sequence[float]
) -> Mapping[str, float]:
    terms = [(curve.place(shapes[i]), shapes[i + 1] * curve.x_unit, coefficients[i // 2]) for i in (0, 2)]
    (x1, sigma1, a1), (x2, sigma2, a2) = sorted(terms)
    return {
        "a1": a1 * curve.y_unit, "x1": x1, "sigma1": sigma1,
        "a2": a2 * curve.y_unit, "x2": x2, "sigma2": sigma2,
        "c": curve.level(coefficients[2]),
    }  # fmt: skip


def _lorentzian(u: Array, u0: Array, gamma: Array) -> Columns:
    return (1 / (1 + ((u - u0) / gamma) ** 2),)


def _lorentzian_values(
    curve: Curve, shapes: Sequence[float], coefficients: Sequence[float]
) -> Mapping[str, float]:
    values = _gaussian_values(curve, shapes, coefficients)
    return {"a": values["a"], "x0": values["x0"], "gamma": values["sigma"], "c": values["c"]}


def _pseudo_voigt(u: Array, u0: Array, w: Array, eta: Array) -> Columns:
    square = ((u - u0) / w) ** 2
    return (eta / (1 + square) + (1 - eta) * np.exp2(-square),)


def _pseudo_voigt_values(
    curve: Curve, shapes: Sequence[float], coefficients: Sequence[float]
) -> Mapping[str, float]:
    return {
        "a": coefficients[0] * curve.y_unit,
        "x0": curve.place(shapes[0]),
        "w": shapes[1] * curve.x_unit,
        "eta": shapes[2],
        "c": curve.level(coefficients[1]),
    }


def _voigt_widths(w: Array, share: Array) -> tuple[Array, Array]:
    """Return (sigma, gamma) from half the width and the share of the Lorentzian in it: Olivero & Longbothum (1977)."""
    share = 0.02 + 0.96 * share
    gauss = np.sqrt((1 - 0.5346 * share) ** 2 - 0.2166 * share**2)
    return gauss * w / np.sqrt(2 * np.log(2)), share * w


def _voigt(u: Array, u0: Array, w: Array, share: Array) -> Columns:
    return (special.voigt_profile(u - u0, *_voigt_widths(w, share)),)


def _voigt_values(
    curve: Curve, shapes: Sequence[float], coefficients: Sequence[float]
) -> Mapping[str, float]:
    u0, w, share = shapes
    sigma, gamma = _voigt_widths(np.array(w), np.array(share))
    return {
        "area": coefficients[0] * curve.y_unit * curve.x_unit,
        "x0": curve.place(u0),
        "sigma": float(sigma) * curve.x_unit,
        "gamma": float(gamma) * curve.x_unit,
        "c": curve.level(coefficients[1]),
    }


def _lognormal(u: Array, u0: Array, sigma: Array) -> Columns:
    return (np.exp(-0.5 * (np.log(np.maximum(u, 1e-300) / u0) / sigma) ** 2),)


def _lognormal_values(
    curve: Curve, shapes: Sequence[float], coefficients: Sequence[float]
) -> Mapping[str, float]:
    return {
        "a": coefficients[0] * curve.y_unit,
        "x0": shapes[0] * curve.x_unit,
        "sigma": shapes[1],
        "c": curve.level(coefficients[1]),
    }


_HEIGHT = "height above the background, negative for a dip (unit of y)"
_PLACE = "position of the peak (unit of x)"
_LEVEL = "background (unit of y)"

MODELS = (
    LibraryModel(
        name="gaussian",
        formula="y = a*exp(-(x - x0)**2/(2*sigma**2)) + c",
        title="Gaussian peak",
        about="A line broadened by many small causes. Its area is a*sigma*sqrt(2*pi).",
        meaning={
            "a": _HEIGHT,
            "x0": _PLACE,
            "sigma": "standard deviation; the full width at half maximum is 2.355*sigma (unit of x)",
            "c": _LEVEL,
        },
        group=GROUP,
        example={"a": 5.0, "x0": 5.0, "sigma": 0.8, "c": 1.0},
        span=(0.0, 10.0),
        guess=Scan(
            axes=lambda curve: [places(curve), widths(curve)], basis=_gaussian, values=_gaussian_values
        ),
    ),
    LibraryModel(
        name="two_gaussians",
        formula="y = a1*exp(-(x - x1)**2/(2*sigma1**2)) + a2*exp(-(x - x2)**2/(2*sigma2**2)) + c",
        title="Two Gaussian peaks",
        about="Two lines that may overlap. The guess numbers them from left to right.",
        meaning={
            "a1": "height of the first peak (unit of y)",
            "x1": "position of the first peak (unit of x)",
            "sigma1": "standard deviation of the first peak (unit of x)",
            "a2": "height of the second peak (unit of y)",
            "x2": "position of the second peak (unit of x)",
            "sigma2": "standard deviation of the second peak (unit of x)",
            "c": _LEVEL,
        },
        group=GROUP,
        example={"a1": 5.0, "x1": 3.5, "sigma1": 0.6, "a2": 3.0, "x2": 6.0, "sigma2": 0.8, "c": 1.0},
        span=(0.0, 10.0),
        guess=Scan(
            axes=lambda curve: [places(curve, 30), widths(curve, 0.5)],
            basis=_gaussian,
            values=_two_gaussians_values,
            pairs=True,
        ),
    ),
    LibraryModel(
        name="lorentzian",
        formula="y = a/(1 + ((x - x0)/gamma)**2) + c",
        title="Lorentzian (Cauchy) peak",
        about="A resonance, a line of natural width; its feet are wide. Its area is pi*a*gamma.",
        meaning={
            "a": _HEIGHT,
            "x0": _PLACE,
            "gamma": "half width at half maximum (unit of x)",
            "c": _LEVEL,
        },
        group=GROUP,
        example={"a": 5.0, "x0": 5.0, "gamma": 0.6, "c": 1.0},
        span=(0.0, 10.0),
        guess=Scan(
            axes=lambda curve: [places(curve), widths(curve)], basis=_lorentzian, values=_lorentzian_values
        ),
    ),
    LibraryModel(
        name="voigt",
        formula="y = area*voigt(x - x0, sigma, gamma) + c",
        title="Voigt peak",
        about="A Lorentzian line seen through a Gaussian instrument, or with Doppler broadening.",
        meaning={
            "area": "area above the background (unit of y * unit of x)",
            "x0": _PLACE,
            "sigma": "standard deviation of the Gaussian part (unit of x)",
            "gamma": "half width at half maximum of the Lorentzian part (unit of x)",
            "c": _LEVEL,
        },
        group=GROUP,
        example={"area": 10.0, "x0": 5.0, "sigma": 0.5, "gamma": 0.4, "c": 1.0},
        span=(0.0, 10.0),
        guess=Scan(
            axes=lambda curve: [places(curve), widths(curve), shares()],
            basis=_voigt,
            sketch=_pseudo_voigt,
            values=_voigt_values,
        ),
    ),
    LibraryModel(
        name="pseudo_voigt",
        formula="y = a*(eta/(1 + ((x - x0)/w)**2) + (1 - eta)*2**(-((x - x0)/w)**2)) + c",
        title="Pseudo-Voigt peak",
        about="A sum of a Lorentzian and a Gaussian of one width, as in X-ray diffraction; close to a Voigt peak.",
        meaning={
            "a": _HEIGHT,
            "x0": _PLACE,
            "w": "half width at half maximum (unit of x)",
            "eta": "share of the Lorentzian, 0 to 1 (none)",
            "c": _LEVEL,
        },
        group=GROUP,
        example={"a": 5.0, "x0": 5.0, "w": 0.8, "eta": 0.5, "c": 1.0},
        span=(0.0, 10.0),
        guess=Scan(
            axes=lambda curve: [places(curve), widths(curve), shares()],
            basis=_pseudo_voigt,
            values=_pseudo_voigt_values,
        ),
    ),
    LibraryModel(
        name="lognormal_peak",
        formula="y = a*exp(-log(x/x0)**2/(2*sigma**2)) + c",
        title="Log-normal peak",
        about="A peak with a long right side that is symmetric in log(x): sizes of particles, absorption bands. For x > 0.",
        meaning={
            "a": _HEIGHT,
            "x0": _PLACE,
            "sigma": "standard deviation in log(x) (none)",
            "c": _LEVEL,
        },
        group=GROUP,
        example={"a": 5.0, "x0": 2.0, "sigma": 0.5, "c": 1.0},
        span=(0.1, 10.0),
        guess=Scan(
            axes=lambda curve: [doses(curve), ratios(0.03, 3.0, 1.4)],
            basis=_lognormal,
            values=_lognormal_values,
            x_shifts=False,
        ),
    ),
)
