"""Other tools at the same small fit; one that is not installed is left out by name.

Each maker takes a model written once for any array library, the data and the start, and returns a call that fits and gives
parameters with their standard errors, which is what each of these tools returns by itself.
"""

from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np

Written = Callable[[object], Callable[..., object]]  # exp -> f(x, *parameters)
Call = Callable[[], object]


def scipy(written: Written, x, y, start: Mapping[str, float]) -> Call:
    from scipy.optimize import curve_fit

    function, begin = written(np.exp), list(start.values())
    return lambda: curve_fit(function, x, y, begin)


def lmfit(written: Written, x, y, start: Mapping[str, float]) -> Call:
    import lmfit

    model = lmfit.Model(written(np.exp))
    return lambda: model.fit(y, x=x, **start)


def iminuit(written: Written, x, y, start: Mapping[str, float]) -> Call:
    from iminuit import Minuit
    from iminuit.cost import LeastSquares

    function = written(np.exp)

    def fit():
        found = Minuit(LeastSquares(x, y, np.ones(len(y)), function), **start).migrad()
        return found.values, found.errors

    return fit


def nlsq(written: Written, x, y, start: Mapping[str, float]) -> Call:
    import jax.numpy as jnp
    from nlsq import CurveFit

    function, begin, fitter = written(jnp.exp), list(start.values()), CurveFit()
    return lambda: fitter.curve_fit(function, x, y, p0=begin)


def optimistix(written: Written, x, y, start: Mapping[str, float]) -> Call:
    import jax
    import jax.numpy as jnp
    import optimistix

    jax.config.update("jax_enable_x64", val=True)
    function, begin = written(jnp.exp), jnp.array(list(start.values()))
    solver = optimistix.LevenbergMarquardt(rtol=1e-8, atol=1e-8)

    def residuals(p, data):
        return function(data[0], *p) - data[1]

    @jax.jit
    def solved(x, y):
        p = optimistix.least_squares(residuals, solver, begin, (x, y), throw=False).value
        J = jax.jacfwd(residuals)(p, (x, y))
        r = residuals(p, (x, y))
        return p, jnp.sqrt(jnp.diag(jnp.linalg.inv(J.T @ J)) * (r @ r) / (len(y) - len(p)))

    return lambda: [np.asarray(part) for part in solved(x, y)]


class Peer(NamedTuple):
    """A tool: how it is called in tables, the package it needs, and what makes its call."""

    label: str
    package: str
    make: Callable[..., Call]


PEERS = (
    Peer("SciPy `curve_fit`", "scipy", scipy),
    Peer("lmfit", "lmfit", lmfit),
    Peer("iminuit", "iminuit", iminuit),
    Peer("NLSQ", "nlsq", nlsq),
    Peer("optimistix on JAX, compiled", "optimistix", optimistix),
)


def installed() -> list[Peer]:
    """The peers that are here."""
    return [peer for peer in PEERS if find_spec(peer.package) is not None]


def versions() -> str:
    """What is installed, with versions, and by name what is not."""
    said = []
    for package in (
        "numpy",
        "llvmlite",
        "torch",
        "polars",
        "scipy",
        "lmfit",
        "iminuit",
        "nlsq",
        "jax",
        "optimistix",
    ):
        try:
            said.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            said.append(f"{package}: not installed")
    return ", ".join(said)
