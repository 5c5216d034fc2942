"""Oscillations: the frequency from a least-squares spectrum, which does not need even spacing.

For a given envelope the best sine of every frequency at once follows from a few Fourier transforms of the points, laid
into narrow cells [1]_: O(n log n).

References
----------
.. [1] Press & Rybicki (1989), Fast algorithm for spectral analysis of unevenly sampled data, ApJ 338, 277.
   Zechmeister & Kürster (2009), The generalised Lomb-Scargle periodogram, A&A 496, 577: the free constant.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gradfit.library.axes import Axis, fastest_rate
from gradfit.library.curve import Array, Curve
from gradfit.library.model import LibraryModel
from gradfit.library.projection import Columns, finite, solved
from gradfit.library.scan import Search

GROUP = "oscillations"

_FINER = 4  # frequencies per one more period in the range of x
_CELLS, _FEWEST_CELLS = 4, 1024  # cells per period of the highest frequency, and in all
_HIGHEST = 500_000.0  # periods in the range of x, shared among the envelopes: memory and seconds stay bounded
_LOWEST, _BELOW = (
    1 / 16,
    0.98,
)  # periods in the range; part of the highest, where the sine is 0 at every point
_REFINED = 20_000  # points that the refinement looks at
_KEPT = 5  # frequencies of the spectrum that are refined
_SLOWEST = 1e-3  # rate per range of x


def highest_frequency(curve: Curve) -> float:
    """Return the highest frequency that these places can tell from a lower one, in periods over the range of x."""
    return max(min(0.5 / curve.gap, float(curve.u.size)), 1.0)


def spectrum(curve: Curve, rate: float, top: float) -> tuple[Array, Array]:
    """Return (frequencies up to `top`, what a sine under exp(-rate*u), and a constant, explain of the squares)."""
    wanted = max(_CELLS * top, _FEWEST_CELLS)
    even = 2 ** (int(np.log2(wanted)) - 3)
    cells = int(np.ceil(wanted / even)) * even  # small factors: the transform likes that
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


def _lasting(u: Array, frequency: Array) -> Columns:
    return oscillation(u, frequency, np.zeros_like(frequency))


@dataclass(frozen=True)
class SpectrumGuess:
    """A guess for a*sin(2*pi*f*x + phi) + c, or for the same under exp(-x/tau).

    Attributes
    ----------
    rates : tuple of float
        The rates of decay to begin with, per range of x; none: the sine lasts.
    """

    rates: tuple[float, ...] = ()

    def __call__(self, x: Array, y: Array) -> dict[str, float]:
        """Return start values, finite whatever the data are."""
        curve = Curve.of(x, y, x_shifts=True, y_shifts=True, most=10**9)
        with np.errstate(all="ignore"):
            every = -(-curve.u.size // _REFINED)
            search = self.search(
                replace(curve, u=curve.u[::every], v=curve.v[::every]), highest_frequency(curve)
            )
            frequency, rate = np.append(search.narrowed(self.best_of_spectra(curve)), 0.0)[:2]
            sine, cosine, level = solved(oscillation(curve.u, frequency, rate), curve.v, offset=True)
            ahead = curve.x_zero / curve.x_unit
            phase = np.arctan2(cosine, sine) - 2 * np.pi * frequency * ahead
            values = {
                "a": np.hypot(sine, cosine) * curve.y_unit * np.exp(rate * (ahead + (rate < 0))),
                **({"tau": curve.x_unit / rate} if self.rates else {}),
                "f": frequency / curve.x_unit,
                "phi": np.remainder(phase + np.pi, 2 * np.pi) - np.pi,
                "c": curve.level(level),
            }
        return finite(values)

    def search(self, curve: Curve, top: float) -> Search:
        """Return the search around frequencies, and rates if there are any."""
        frequency = Axis(np.array([]), 1 / _FINER, ratio=False, limits=(_LOWEST, _BELOW * top))
        rate = Axis(np.array(self.rates), 0.6, ratio=True, limits=(_SLOWEST, fastest_rate(curve)))
        if self.rates:
            return Search(curve, (frequency, rate), oscillation, offset=True)
        return Search(curve, (frequency,), _lasting, offset=True)

    def best_of_spectra(self, curve: Curve) -> Array:
        """Return the (frequency, rate) (g, 2) of the highest places of the spectra; (g, 1) for a sine that lasts."""
        rates = self.rates or (0.0,)
        top = min(highest_frequency(curve), _HIGHEST / len(rates))
        found: list[tuple[float, float, float]] = []
        for rate in np.clip(rates, -fastest_rate(curve), fastest_rate(curve)):
            frequencies, explained = spectrum(curve, rate, top)
            rising = np.r_[True, explained[1:] > explained[:-1]]
            peaks = np.flatnonzero(rising & np.r_[~rising[1:], True])
            best = peaks[np.argsort(-explained[peaks], kind="stable")[:_KEPT]]
            found += [(-float(explained[i]), float(frequencies[i]), float(rate)) for i in best]
        return np.array([shape for _, *shape in sorted(found)[:_KEPT]])[:, : 2 if self.rates else 1]


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
