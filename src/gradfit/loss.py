"""Losses: what a residual costs. Least squares, robust losses in SciPy's definitions, and the deviance of counts."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradfit.errors import OptionError

Array = NDArray[np.float64]
Rho = Callable[[Array], tuple[Array, Array, Array]]


def _soft_l1(z: Array) -> tuple[Array, Array, Array]:
    t = 1 + z
    return 2 * (np.sqrt(t) - 1), t**-0.5, -0.5 * t**-1.5


def _huber(z: Array) -> tuple[Array, Array, Array]:
    inside = z <= 1
    root = np.sqrt(np.where(inside, 1.0, z))
    return (
        np.where(inside, z, 2 * root - 1),
        np.where(inside, 1.0, 1 / root),
        np.where(inside, 0.0, -0.5 / root**3),
    )


def _cauchy(z: Array) -> tuple[Array, Array, Array]:
    t = 1 + z
    return np.log1p(z), 1 / t, -1 / t**2


def _bisquare(z: Array) -> tuple[Array, Array, Array]:
    inside = z < 1
    t = np.where(inside, 1 - z, 0.0)
    return (1 - t**3) / 3, t**2, np.where(inside, -2 * t, 0.0)


#: name -> (rho with its two derivatives, the multiple of the residuals' standard deviation that gives 95 % efficiency
#: under normal noise)
_ROBUST: Mapping[str, tuple[Rho, float]] = {
    "soft_l1": (_soft_l1, 1.287),
    "huber": (_huber, 1.345),
    "cauchy": (_cauchy, 2.385),
    "bisquare": (_bisquare, 4.685),
}
LOSSES = ("squared", "poisson", *_ROBUST)
SCALED = tuple(_ROBUST)

_NEAR = 0.1  # relative distance of model and count within which a series keeps the digits that the logarithm loses
_TERMS = tuple(
    (-1) ** k * 2 / (k + 2) for k in range(16, -1, -1)
)  # of 2 (u - log(1 + u)) / u², last one first
_LEAST = 1e-100  # of a mean: where model and count are both zero the residual's slope would be infinite


def rho(name: str, z: Array) -> tuple[Array, Array, Array]:
    """Return a robust loss of squared residuals over the squared scale, element by element, with two derivatives.

    Parameters
    ----------
    name : str
        One of SCALED.
    z : array of any shape
        (r/scale)².

    References
    ----------
    .. [1] scipy.optimize.least_squares: rho of soft_l1, huber and cauchy.
    """
    return _ROBUST[name][0](z)


def deviance_residuals(counts: Array, mean: Array) -> tuple[Array, Array]:
    """Return sign(f - y) sqrt(2 (f - y + y log(y/f))) and its derivative by f, element by element.

    Their squares add up to the deviance of Poisson counts, so that least squares of them is maximum likelihood. NaN where
    the mean is not positive, unless mean and count are both zero: there the residual is.

    Parameters
    ----------
    counts : (n,)
        y, not negative; need not be whole.
    mean : (n,)
        f.

    References
    ----------
    .. [1] McCullagh & Nelder (1989), Generalized Linear Models, 2nd ed., sec. 2.4.3.
    """
    f = np.where((mean == 0) & (counts == 0), _LEAST, mean)
    f = np.where(f > 0, f, np.nan)
    with np.errstate(all="ignore"):
        miss = f - counts
        u = miss / counts
        near = np.abs(u) < _NEAR
        logs = np.where(counts == 0, 0.0, counts * np.log(counts / f))
        far = np.sign(miss) * np.sqrt(2 * (miss + logs))
        far_slope = miss / f / far
        root = np.sqrt(np.polyval(_TERMS, np.where(near, u, 0.0)))
        size = np.sqrt(counts)
        return np.where(near, u * size * root, far), np.where(near, size / (f * root), far_slope)


@dataclass(frozen=True)
class Loss:
    """What residuals cost: the sum of scale² rho((r/scale)²), which is the sum of squares for "squared".

    "poisson" is the sum of squares too, of deviance residuals: the problem makes those from counts.

    Parameters
    ----------
    name : str
        "squared", "poisson", "soft_l1", "huber", "cauchy" or "bisquare".
    scale : float or None
        Residuals (divided by sigma where that is given) beyond it count less. None: found from the residuals, as the
        multiple of their robust standard deviation that costs 5 % of precision when the noise is normal.

    References
    ----------
    .. [1] scipy.optimize.least_squares: rho of soft_l1, huber and cauchy; scale is its f_scale.
    .. [2] Beaton & Tukey (1974), The fitting of power series, meaning polynomials: the bisquare.
    """

    name: str = "squared"
    scale: float | None = None

    def __post_init__(self) -> None:
        if self.name not in LOSSES:
            near = difflib.get_close_matches(str(self.name), LOSSES, 1)
            remedy = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(LOSSES)}"
            raise OptionError(f"There is no loss {self.name!r}", remedy=remedy)
        if self.scale is not None and self.counts:
            raise OptionError(
                'loss="poisson" has no scale: the model says how counts scatter',
                remedy='Write loss="poisson"',
            )
        if self.scale is not None and not (self.scale > 0 and np.isfinite(self.scale)):
            raise OptionError(f"The scale of a robust loss must be positive, and {self.scale} was given")

    def __str__(self) -> str:
        return self.name if self.scale is None else f"{self.name}(scale={self.scale:.6g})"

    @property
    def robust(self) -> bool:
        """Whether large residuals count less than their square."""
        return self.name in _ROBUST

    @property
    def counts(self) -> bool:
        """Whether observations are counts, fitted by maximum likelihood."""
        return self.name == "poisson"

    @property
    def tuning(self) -> float:
        """The scale in standard deviations of the residuals that is 95 % efficient for normal noise."""
        return _ROBUST[self.name][1]

    def cost(self, residuals: Array) -> float:
        """Return the sum over the residuals."""
        if not self.robust:
            return float(residuals @ residuals)
        scale = self.scale or 1.0
        return float(scale**2 * np.sum(rho(self.name, (residuals / scale) ** 2)[0]))

    def curvature(self, residuals: Array) -> tuple[Array, Array]:
        """Return the first and second derivative of the cost by each residual, halved: psi and psi' (n,)."""
        if not self.robust:
            return residuals, np.ones_like(residuals)
        scale = self.scale or 1.0
        z = (residuals / scale) ** 2
        _, first, second = rho(self.name, z)
        return first * residuals, first + 2 * second * z

    def linearised(self, residuals: Array, jacobian: Array) -> tuple[Array, Array]:
        """Return (r, J) of the least-squares problem with this loss's gradient and, where positive, its curvature.

        References
        ----------
        .. [1] Triggs et al. (1999), Bundle adjustment, sec. 4.3: the scaling of r and J.
        """
        if not self.robust:
            return residuals, jacobian
        scale = self.scale or 1.0
        z = (residuals / scale) ** 2
        _, first, second = rho(self.name, z)
        # a point beyond the inflection would bend the sum down: there the tangent majorant, whose weight is rho'
        weight = np.sqrt(np.where(first + 2 * second * z > 0.1 * first, first + 2 * second * z, first))
        weight = np.maximum(weight, 1e-12)
        return first / weight * residuals, jacobian * weight[:, None]


def standard_deviation(residuals: Array, parameters: int) -> float:
    """Return a robust standard deviation: the 68.27 % quantile of |r|, raised for the parameters that were fitted.

    References
    ----------
    .. [1] Motulsky & Brown (2006), BMC Bioinformatics 7:123: P68 and its correction by n/(n - k).
    """
    n = len(residuals)
    return float(np.quantile(np.abs(residuals), 0.6827) * np.sqrt(n / max(n - parameters, 1)))
