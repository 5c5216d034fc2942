"""Simulated data sets of many kinds of curves, in any units: peaks, decays, sigmoids, oscillations, rational functions."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import gradfit

GAUSS, LORENTZ = "{a}*exp(-((x - {m})/{w})**2)", "{a}/(1 + ((x - {m})/{w})**2)"


@dataclass(frozen=True)
class Units:
    """Draws parameters for x from `low` over `span` and a response of about `size`."""

    random: np.random.Generator
    low: float
    span: float
    size: float

    def number(self, low, high):
        return self.random.uniform(low, high)

    def ratio(self, low, high):
        return float(np.exp(self.random.uniform(np.log(low), np.log(high))))

    def height(self, low, high):
        return self.size * self.random.uniform(low, high)

    def place(self, low, high):
        return self.low + self.span * self.random.uniform(low, high)

    def width(self, low, high):
        return self.span * self.ratio(low, high)

    def rate(self, low, high):
        return self.ratio(low, high) / self.span

    def turns(self, low, high):
        return 2 * np.pi * self.rate(low, high)

    def peaks(self, count):
        """Return heights, places and widths of peaks that can be told apart."""
        while True:
            places, widths = (
                np.sort(self.random.uniform(0.1, 0.9, count)),
                self.random.uniform(0.02, 0.12, count),
            )
            if np.all(np.diff(places) > 1.3 * (widths[1:] + widths[:-1])):
                break
        heights = self.random.uniform(0.25, 1, count)
        rows = zip(self.size * heights, self.low + self.span * places, self.span * widths, strict=True)
        return [value for row in rows for value in row]


@dataclass(frozen=True)
class Kind:
    """A formula, and how its parameters are drawn, in the formula's order."""

    formula: str
    parameters: Callable[[Units], list[float]]
    from_zero: bool = False  # whether x must begin near zero


def _sum_of(count, form, base=" + c"):
    return "y = " + " + ".join(form.format(a=f"a{i}", m=f"m{i}", w=f"w{i}") for i in range(count)) + base


KINDS = {
    "gaussian": Kind(_sum_of(1, GAUSS), lambda u: [*u.peaks(1), u.height(-1, 1)]),
    "two gaussians": Kind(_sum_of(2, GAUSS), lambda u: [*u.peaks(2), u.height(-1, 1)]),
    "three gaussians": Kind(
        _sum_of(3, GAUSS, " + c + d*x"), lambda u: [*u.peaks(3), u.height(-1, 1), u.height(-0.5, 0.5) / u.span], True
    ),
    "lorentzian": Kind(_sum_of(1, LORENTZ), lambda u: [*u.peaks(1), u.height(-1, 1)]),
    "two lorentzians": Kind(_sum_of(2, LORENTZ), lambda u: [*u.peaks(2), u.height(-1, 1)]),
    "three lorentzians": Kind(_sum_of(3, LORENTZ), lambda u: [*u.peaks(3), u.height(-1, 1)]),
    "decay": Kind(
        "y = a*exp(-x/tau) + c", lambda u: [u.height(0.5, 2), u.width(0.05, 1), u.height(-1, 1)], True
    ),
    "decay by rate": Kind("y = a*exp(-k*x)", lambda u: [u.height(0.5, 2), u.rate(1, 20)], True),
    "two decays": Kind(
        "y = a*exp(-x/s) + b*exp(-x/t) + c",
        lambda u: [u.height(0.5, 1), u.width(0.02, 0.06), u.height(0.5, 1), u.width(0.25, 0.6), u.height(-1, 1)],
        True,
    ),
    "stretched decay": Kind(
        "y = a*exp(-(x/tau)**b) + c",
        lambda u: [u.height(0.5, 2), u.width(0.1, 0.6), u.number(0.5, 1.8), u.height(-1, 1)],
        True,
    ),
    "rise and decay": Kind(
        "y = a*(exp(-k*x) - exp(-m*x))", lambda u: [u.height(0.5, 2), u.rate(1, 4), u.rate(8, 40)], True
    ),
    "peak on decay": Kind(
        "y = a*exp(-x/tau) + b*exp(-((x - m)/w)**2) + c",
        lambda u: [
            u.height(0.5, 2), u.width(0.1, 0.5), u.height(0.3, 1), u.place(0.35, 0.8), u.width(0.03, 0.1), u.height(-1, 1)
        ],
        True,
    ),
    "logistic": Kind(
        "y = c + a/(1 + exp(-(x - m)/s))",
        lambda u: [u.height(-1, 1), u.height(0.5, 2), u.place(0.2, 0.8), u.width(0.02, 0.15)],
    ),
    "logistic by rate": Kind(
        "y = a/(1 + b*exp(-k*x))", lambda u: [u.height(0.5, 2), u.ratio(3, 100), u.rate(5, 20)], True
    ),
    "gompertz": Kind(
        "y = a*exp(-b*exp(-k*x))", lambda u: [u.height(0.5, 2), u.ratio(1, 20), u.rate(4, 15)], True
    ),
    "hill": Kind(
        "y = c + a*x**n/(k**n + x**n)",
        lambda u: [u.height(-0.5, 0.5), u.height(0.5, 2), u.ratio(1, 5), u.width(0.15, 0.6)],
        True,
    ),
    "two steps": Kind(
        "y = c + a*tanh((x - m)/s) + b*tanh((x - n)/t)",
        lambda u: [
            u.height(-1, 1), u.height(0.4, 1), u.place(0.15, 0.35), u.width(0.03, 0.1),
            u.height(0.4, 1), u.place(0.6, 0.85), u.width(0.03, 0.1),
        ],
    ),
    "sine": Kind(
        "y = a*sin(w*x + p) + c", lambda u: [u.height(0.5, 2), u.turns(0.7, 12), u.number(-3, 3), u.height(-1, 1)], True
    ),
    "sine by period": Kind(
        "y = a*cos(2*pi*(x - m)/T) + c", lambda u: [u.height(0.5, 2), u.place(0, 1), u.width(0.08, 1.2), u.height(-1, 1)]
    ),
    "damped sine": Kind(
        "y = a*exp(-x/tau)*sin(w*x + p) + c",
        lambda u: [u.height(0.5, 2), u.width(0.2, 1), u.turns(2, 12), u.number(-3, 3), u.height(-1, 1)],
        True,
    ),
    "two tones": Kind(
        "y = a*sin(v*x) + b*cos(v*x) + c*sin(w*x) + d*cos(w*x)",
        lambda u: [
            u.height(0.3, 1), u.turns(1.5, 4), u.height(0.3, 1), u.height(0.3, 1), u.turns(5.5, 12), u.height(0.3, 1)
        ],
        True,
    ),
    "rational 1/1": Kind(
        "y = (a + b*x)/(1 + c*x)", lambda u: [u.height(-1, 1), u.size * u.rate(1, 10), u.rate(0.5, 10)], True
    ),
    "rational 2/2": Kind(
        "y = (a + b*x + c*x**2)/(1 + d*x + f*x**2)",
        lambda u: [
            u.height(-1, 1), u.height(-5, 5) / u.span, u.height(2, 8) / u.span**2,
            u.number(-1.5, 1.5) / u.span, u.number(2, 8) / u.span**2,
        ],
        True,
    ),
    "substrate": Kind(
        "y = a*x/(k + x + x**2/j)", lambda u: [u.height(0.5, 2), u.width(0.05, 0.3), u.width(0.3, 1)], True
    ),
    "power": Kind(
        "y = a*x**b + c",
        lambda u: [u.height(0.5, 2) / u.span ** (b := u.ratio(0.4, 4)), b, u.height(-1, 1)],
        True,
    ),
    "bent line": Kind(
        "y = a + b*(x - m) + c*sqrt((x - m)**2 + s**2)",
        lambda u: [
            u.height(-1, 1), u.height(-1, 1) / u.span, u.place(0.3, 0.7), u.height(0.7, 2) / u.span, u.width(0.05, 0.15)
        ],
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Simulated:
    """One data set.

    Attributes
    ----------
    truth : dict
        The parameters it was made with.
    """

    kind: str
    formula: str
    data: dict[str, np.ndarray]
    truth: dict[str, float]


def simulated(kind: str, seed: int) -> Simulated:
    """Return a data set of a kind, in units of 1e-12 to 1e12 in x and in y, with noise of 0.2 to 5 % of its spread."""
    random = np.random.default_rng([seed, *kind.encode()])
    about = KINDS[kind]
    span, size = 10 ** random.uniform(-12, 12), 10 ** random.uniform(-12, 12)
    low = 0.0 if about.from_zero else span * random.choice([0.0, -0.5, 1.0, 30.0])
    n = int(random.integers(40, 200))
    inside = np.sort(random.uniform(0, 1, n)) if random.random() < 0.5 else np.linspace(0, 1, n)
    x = low + span * np.maximum(inside, 1e-3 if about.from_zero else 0.0)
    model = gradfit.Model(about.formula)
    values = about.parameters(Units(random, low, span, size))
    truth = {name: float(value) for name, value in zip(model.parameters, values, strict=True)}
    clean = model(x=x, **truth)
    noise = random.choice([0.002, 0.01, 0.05]) * np.std(clean) * random.standard_normal(n)
    return Simulated(kind, about.formula, {"x": x, "y": clean + noise}, truth)


def found(case: Simulated, result: gradfit.FitResult) -> bool:
    """Return whether a fit came as low as the one that begins at the truth."""
    known = gradfit.fit(case.formula, case.data, start=case.truth)
    return bool(result.rss <= known.rss * (1 + 1e-6))
