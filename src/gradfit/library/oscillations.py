"""Oscillations: the frequency from a least-squares spectrum, which does not need even spacing.

For a given envelope the best sine of every frequency at once follows from a few Fourier transforms of the points, laid
into narrow cells [1]_: O(n log n).

References
----------
.. [1] Press & Rybicki (1989), Fast algorithm for spectral analysis of unevenly sampled data, ApJ 338, 277.
   Zechmeister & Kürster (2009), The generalised Lomb-Scargle periodogram, A&A 496, 577: the free constant.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from gradfit.library.axes import LARGEST_EXPONENT
from gradfit.library.curve import Array, Curve
from gradfit.library.model import LibraryModel
from gradfit.library.scan import Columns, finite, residual, solved

GROUP = "oscillations"

_FINER = 4  # frequencies per one more period in the range of x
_CELLS, _FEWEST_CELLS = 4, 1024  # cells per period of the highest frequency, and in all
_HIGHEST = 500_000.0  # periods in the range of x, shared among the envelopes: memory and seconds stay bounded
_REFINED = 20_000  # points that the refinement looks at
_KEPT = 5  # frequencies of the spectrum that are refined
_LEVELS = 6


def highest_frequency(curve: Curve) -> float:
    """Return the highest frequency that these places can tell from a lower one, in periods over the range of x."""
    return max(min(0.5 / curve.gap, float(curve.u.size)), 1.0)


def spectrum(curve: Curve, rate: float, top: float) -> tuple[Array, Array]:
    """Return (frequencies up to `top`, what a sine under exp(-rate*u), and a constant, explain of the squares)."""
    cells = int(np.ceil(max(_CELLS * top, _FEWEST_CELLS) / 1024)) * 1024  # a length that the transform likes
    place = np.minimum((curve.u * cells).astype(np.intp), cells - 1)
    envelope = np.exp(-rate * (curve.u - (rate < 0)))
    v, n, count = curve.v - curve.v.mean(), curve.u.size, int(_FINER * top) + 1

    def transform(weights: Array) -> NDArray[np.complex128]:
        return np.fft.rfft(np.bincount(place, weights, cells), _FINER * cells)

    seen, mean = (transform(weights)[1:count] for weights in (envelope * v, envelope))
    double = transform(envelope**2)[2 : 2 * count : 2]
    total = float(np.sum(envelope**2))
    cc = (total + double.real) / 2 - mean.real**2 / n
    ss = (total - double.real) / 2 - mean.imag**2 / n
    cs = double.imag / 2 - mean.real * mean.imag / n
    determinant = cc * ss - cs**2
    both = (seen.real**2 * ss - 2 * seen.real * seen.imag * cs + seen.imag**2 * cc) / determinant
    usable = (determinant > 1e-6 * (cc + ss) ** 2) & np.isfinite(both)
    return np.arange(1, count) / _FINER, np.where(usable, both, 0.0)


def oscillation(u: Array, frequency: Array, rate: Array) -> Columns:
    """Return the sine and the cosine under the envelope."""
    envelope = np.exp(-rate * (u - (rate < 0)))
    angle = 2 * np.pi * frequency * u
    return envelope * np.sin(angle), envelope * np.cos(angle)


@dataclass(frozen=True)
class SpectrumGuess:
    """A guess for a*envelope*sin(2*pi*f*x + phi) + c.

    Attributes
    ----------
    rates : tuple of float
        The decay rates to try, per range of x; 0 alone for a sine that lasts.
    """

    rates: tuple[float, ...] = (0.0,)

    def __call__(self, x: Array, y: Array) -> dict[str, float]:
        """Return start values, finite whatever the data are."""
        curve = Curve.of(x, y, x_shifts=True, y_shifts=True, most=10**9)
        with np.errstate(all="ignore"):
            frequency, rate = self.refined(curve, self.best_of_spectra(curve))
            sine, cosine, level = solved(oscillation(curve.u, frequency, rate), curve.v, offset=True)
            ahead = curve.x_zero / curve.x_unit
            phase = np.arctan2(cosine, sine) - 2 * np.pi * frequency * ahead
            values = {
                "a": np.hypot(sine, cosine) * curve.y_unit * np.exp(rate * (ahead + (rate < 0))),
                "tau": curve.x_unit / rate,
                "f": frequency / curve.x_unit,
                "phi": np.remainder(phase + np.pi, 2 * np.pi) - np.pi,
                "c": curve.level(level),
            }
        return finite({name: value for name, value in values.items() if name != "tau" or self.damped})

    @property
    def damped(self) -> bool:
        """Whether the envelope is a parameter."""
        return self.rates != (0.0,)

    def best_of_spectra(self, curve: Curve) -> Array:
        """Return the (frequency, rate) (g, 2) of the highest places of the spectra."""
        limit = LARGEST_EXPONENT / max(curve.far, 1.0)  # exp(rate*x_zero/x_unit) stays finite
        top = min(highest_frequency(curve), _HIGHEST / len(self.rates))
        found: list[tuple[float, float, float]] = []
        for rate in np.clip(self.rates, -limit, limit):
            frequencies, explained = spectrum(curve, rate, top)
            rising = np.r_[True, explained[1:] > explained[:-1]]
            peaks = np.flatnonzero(rising & np.r_[~rising[1:], True])
            best = peaks[np.argsort(-explained[peaks], kind="stable")[:_KEPT]]
            found += [(-explained[i], frequencies[i], rate) for i in best]
        return np.array([shape for _, *shape in sorted(found)[:_KEPT]])

    def refined(self, curve: Curve, shapes: Array) -> Array:
        """Return the best (frequency, rate) after a search around each, whose steps are halved each time."""
        every = -(-curve.u.size // _REFINED)
        u, v = curve.u[::every], curve.v[::every]
        turns = np.array(list(product((0.0, -1.0, 1.0), (0.0, -1.0, 1.0) if self.damped else (0.0,))))
        found: list[tuple[float, float, float]] = []
        for shape in shapes:
            now, loss = shape, np.inf
            for steps in (turns / 2**level for level in range(_LEVELS)):
                around = np.stack([now[0] + steps[:, 0] / _FINER, now[1] * np.exp(0.6 * steps[:, 1])], axis=1)
                losses = residual(oscillation(u, around[:, :1], around[:, 1:]), v, offset=True)
                now, loss = around[np.argmin(losses)], float(np.min(losses))
            found.append((loss, now[0], now[1]))
        return np.array(min(found)[1:])


MODELS = (
    LibraryModel(
        name="sine",
        formula="y = a*sin(2*pi*f*x + phi) + c",
        title="Sine",
        about="An oscillation that lasts: tides, seasons, alternating current. The frequency may lie anywhere below that of the sampling.",
        meaning={
            "a": "amplitude (unit of y)",
            "f": "frequency; the period is 1/f (1/unit of x)",
            "phi": "phase at x = 0 (radians)",
            "c": "mean level (unit of y)",
        },
        group=GROUP,
        example={"a": 2.0, "f": 0.4, "phi": 0.5, "c": 1.0},
        span=(0.0, 10.0),
        guess=SpectrumGuess(),
    ),
    LibraryModel(
        name="damped_sine",
        formula="y = a*exp(-x/tau)*sin(2*pi*f*x + phi) + c",
        title="Damped sine",
        about="An oscillation that dies out: a pendulum, a struck bell, a ringing circuit, free induction.",
        meaning={
            "a": "amplitude at x = 0 (unit of y)",
            "tau": "in which the amplitude falls to 1/e (unit of x)",
            "f": "frequency; the period is 1/f (1/unit of x)",
            "phi": "phase at x = 0 (radians)",
            "c": "level at rest (unit of y)",
        },
        group=GROUP,
        example={"a": 4.0, "tau": 4.0, "f": 0.6, "phi": 0.5, "c": 1.0},
        span=(0.0, 12.0),
        guess=SpectrumGuess(rates=(0.3, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, -1.0, -4.0)),
    ),
)
