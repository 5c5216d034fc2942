"""Kinetics and physics: enzymes, binding, uptake, and laws of temperature."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from gradfit.library.axes import LARGEST_EXPONENT, Axis, doses, even, rates, ratios
from gradfit.library.curve import Array, Curve
from gradfit.library.model import LibraryModel
from gradfit.library.projection import Columns
from gradfit.library.scan import Scan

Size = TypeVar("Size", float, Array)

GROUP = "kinetics and physics"

GAS_CONSTANT = 8.314462618  # J/(mol K), CODATA 2018


def _saturation(u: Array, km: Array) -> Columns:
    return (u / (km + u),)


def _michaelis_menten_values(
    curve: Curve, shapes: Sequence[float], coefficients: Sequence[float]
) -> Mapping[str, float]:
    return {"Vmax": coefficients[0] * curve.y_unit, "Km": shapes[0] * curve.x_unit}


def _inhibited(u: Array, km: Array, ki: Array) -> Columns:
    return (u / (km + u + u**2 / ki),)


def _inhibition_values(
    curve: Curve, shapes: Sequence[float], coefficients: Sequence[float]
) -> Mapping[str, float]:
    return {**_michaelis_menten_values(curve, shapes, coefficients), "Ki": shapes[1] * curve.x_unit}


def _cooperative(u: Array, k: Array, n: Array) -> Columns:
    return (1 - 1 / (1 + (np.maximum(u, 0) / k) ** n),)


def _hill_values(curve: Curve, shapes: Sequence[float], coefficients: Sequence[float]) -> Mapping[str, float]:
    return {"Vmax": coefficients[0] * curve.y_unit, "K": shapes[0] * curve.x_unit, "n": shapes[1]}


def _binding(u: Array, kd: Array) -> Columns:
    return u / (kd + u), u + 0 * kd


def _binding_values(
    curve: Curve, shapes: Sequence[float], coefficients: Sequence[float]
) -> Mapping[str, float]:
    return {
        "Bmax": coefficients[0] * curve.y_unit,
        "Kd": shapes[0] * curve.x_unit,
        "NS": coefficients[1] * curve.y_unit / curve.x_unit,
        "Background": curve.level(coefficients[2]),
    }


def _uptake(u: Array, ke: Array, ratio: Array) -> Columns:
    return (np.exp(-ke * u) - np.exp(-ke * ratio * u),)


def _bateman_values(
    curve: Curve, shapes: Sequence[float], coefficients: Sequence[float]
) -> Mapping[str, float]:
    ke, ratio = shapes
    return {
        "a": coefficients[0] * curve.y_unit * (ratio - 1) / ratio,
        "ka": ke * ratio / curve.x_unit,
        "ke": ke / curve.x_unit,
    }


def _inverse(curve: Curve) -> Array:
    return 1 / np.maximum(curve.u, 1e-9) - 1


def _activation_energies(curve: Curve) -> Axis:
    spread = max(float(np.max(_inverse(curve))), 1e-6)
    return ratios(min(0.1 / spread, 6.0), min(50 / spread, LARGEST_EXPONENT), 1.4, signed=True)


def _thermal(u: Array, energy: Array) -> Columns:
    return (np.where(u > 0, np.exp(-energy * (1 / np.maximum(u, 1e-9) - 1)), 0.0),)


def _arrhenius_values(
    curve: Curve, shapes: Sequence[float], coefficients: Sequence[float]
) -> Mapping[str, float]:
    return {
        "A": coefficients[0] * curve.y_unit * np.exp(shapes[0]),
        "Ea": shapes[0] * GAS_CONSTANT * curve.x_unit,
    }


def _decades_to_b(decades: Size, ahead: Size) -> Size:
    """Return B for a pressure that grows by that many decades over the data; the pole is `ahead` before them."""
    return decades * ahead * (1 + ahead)


def _vapour(u: Array, ahead: Array, decades: Array) -> Columns:
    return (10 ** (-_decades_to_b(decades, ahead) * (1 / (u + ahead) - 1 / (1 + ahead))),)


def _antoine_values(
    curve: Curve, shapes: Sequence[float], coefficients: Sequence[float]
) -> Mapping[str, float]:
    ahead, decades = shapes
    b = _decades_to_b(decades, ahead)
    return {
        "A": np.log10(max(coefficients[0], 1e-6)) + np.log10(curve.y_unit) + b / (1 + ahead),
        "B": b * curve.x_unit,
        "C": ahead * curve.x_unit - curve.x_zero,
    }


MODELS = (
    LibraryModel(
        name="michaelis_menten",
        formula="y = Vmax*x/(Km + x)",
        title="Michaelis-Menten, one-site binding, Langmuir isotherm",
        about="The rate of an enzyme, or what is bound by equal sites, against the concentration x.",
        meaning={
            "Vmax": "plateau; Bmax for binding (unit of y)",
            "Km": "concentration at half the plateau; Kd for binding (unit of x)",
        },
        group=GROUP,
        example={"Vmax": 10.0, "Km": 2.0},
        span=(0.0, 20.0),
        guess=Scan(
            axes=lambda curve: [doses(curve)],
            basis=_saturation,
            values=_michaelis_menten_values,
            offset=False,
            x_shifts=False,
        ),
    ),
    LibraryModel(
        name="substrate_inhibition",
        formula="y = Vmax*x/(Km + x + x**2/Ki)",
        title="Michaelis-Menten with substrate inhibition (Haldane)",
        about="A rate that falls again at high concentration; highest at x = sqrt(Km*Ki).",
        meaning={
            "Vmax": "rate without inhibition at high concentration (unit of y)",
            "Km": "concentration at half of Vmax without inhibition (unit of x)",
            "Ki": "constant of the inhibition (unit of x)",
        },
        group=GROUP,
        example={"Vmax": 10.0, "Km": 2.0, "Ki": 10.0},
        span=(0.0, 30.0),
        guess=Scan(
            axes=lambda curve: [doses(curve), doses(curve)],
            basis=_inhibited,
            values=_inhibition_values,
            offset=False,
            x_shifts=False,
        ),
    ),
    LibraryModel(
        name="hill",
        formula="y = Vmax*(x/K)**n/(1 + (x/K)**n)",
        title="Hill equation (cooperative binding)",
        about="Binding or a rate that starts slowly because sites help each other (n > 1). For x >= 0.",
        meaning={
            "Vmax": "plateau; Bmax for binding (unit of y)",
            "K": "concentration at half the plateau (unit of x)",
            "n": "Hill coefficient; 1 is Michaelis-Menten (none)",
        },
        group=GROUP,
        example={"Vmax": 10.0, "K": 4.0, "n": 2.5},
        span=(0.0, 15.0),
        guess=Scan(
            axes=lambda curve: [doses(curve), ratios(0.2, 20.0, 1.4)],
            basis=_cooperative,
            values=_hill_values,
            offset=False,
            x_shifts=False,
        ),
    ),
    LibraryModel(
        name="total_binding",
        formula="y = Bmax*x/(Kd + x) + NS*x + Background",
        title="One-site binding with nonspecific binding",
        about="A saturation assay without a separate measurement of the nonspecific part, which grows along with x.",
        meaning={
            "Bmax": "specific binding at saturation (unit of y)",
            "Kd": "concentration at half the saturation (unit of x)",
            "NS": "slope of the nonspecific binding (unit of y/unit of x)",
            "Background": "y at x = 0 (unit of y)",
        },
        group=GROUP,
        example={"Bmax": 10.0, "Kd": 2.0, "NS": 0.2, "Background": 1.0},
        span=(0.0, 30.0),
        guess=Scan(axes=lambda curve: [doses(curve)], basis=_binding, values=_binding_values, x_shifts=False),
    ),
    LibraryModel(
        name="bateman",
        formula="y = a*ka/(ka - ke)*(exp(-ke*x) - exp(-ka*x))",
        title="Uptake and elimination (Bateman)",
        about=(
            "Concentration after an oral dose, or of the daughter in a chain of decays. "
            "ka and ke may be exchanged without changing the shape; the guess has ka > ke."
        ),
        meaning={
            "a": "dose over volume; the first amount in a chain of decays (unit of y)",
            "ka": "rate of uptake (1/unit of x)",
            "ke": "rate of elimination (1/unit of x)",
        },
        group=GROUP,
        example={"a": 10.0, "ka": 1.5, "ke": 0.2},
        span=(0.0, 20.0),
        guess=Scan(
            axes=lambda curve: [rates(curve), ratios(1.15, 300.0, 1.6)],
            basis=_uptake,
            values=_bateman_values,
            offset=False,
            x_shifts=False,
        ),
    ),
    LibraryModel(
        name="arrhenius",
        formula="y = A*exp(-Ea/(8.314462618*x))",
        title="Arrhenius law",
        about="The rate constant of a reaction against the temperature x in kelvin; Ea then comes in J/mol.",
        meaning={
            "A": "rate at infinite temperature (unit of y)",
            "Ea": "activation energy (8.314 J/(mol K) * unit of x)",
        },
        group=GROUP,
        example={"A": 1e9, "Ea": 6e4},
        span=(290.0, 370.0),
        guess=Scan(
            axes=lambda curve: [_activation_energies(curve)],
            basis=_thermal,
            values=_arrhenius_values,
            offset=False,
            x_shifts=False,
        ),
    ),
    LibraryModel(
        name="antoine",
        formula="y = 10**(A - B/(x + C))",
        title="Antoine equation (vapour pressure)",
        about="The vapour pressure of a liquid against its temperature. For y over many decades fit log10(y) or use weights.",
        meaning={
            "A": "decimal logarithm of y at infinite temperature (log10 of the unit of y)",
            "B": "how fast the pressure grows (unit of x)",
            "C": "minus the temperature of the pole (unit of x)",
        },
        group=GROUP,
        example={"A": 8.0, "B": 1700.0, "C": 230.0},
        span=(20.0, 120.0),
        guess=Scan(
            axes=lambda _: [ratios(0.1, 30.0, 1.6), even(0.25, 8.0, 32)],
            basis=_vapour,
            values=_antoine_values,
            offset=False,
        ),
    ),
)
