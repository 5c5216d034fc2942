"""The Faddeeva function, which neither NumPy nor torch has."""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradfit._lazy import special


def wofz(x: ArrayLike, y: ArrayLike, part: Literal["real", "imag"]) -> NDArray[np.float64]:
    """Return the real or the imaginary part of w(x + iy) = exp(-z²) erfc(-iz), by SciPy.

    Raises
    ------
    TypeError
        For long double, of which SciPy has none.
    """
    across, up = np.asarray(x), np.asarray(y)
    z = np.empty(np.broadcast(across, up).shape, dtype=np.result_type(across, up, 1j))
    z.real, z.imag = across, up  # not x + 1j*y, which is NaN where y is infinite
    return np.ascontiguousarray(getattr(special.wofz(z), part))
