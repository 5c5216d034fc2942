"""Small fits with exact derivatives, as the evidence that a diagnosis takes."""

import numpy as np
from scipy.optimize import least_squares

from gradfit.diagnose import Evidence

T_U = np.array([35.7, 55.9, 58.2, 81.9, 56.3, 48.9, 33.9, 21.8, 48.4, 60.4, 68.4])
T_C = np.array([0.5, 14, 15, 28, 11, 8, 3, -4, 6, 13, 21])


def line(x, p):
    return p[0] * x + p[1]


def sine(x, p):
    return p[0] * np.sin(p[1] * x + p[2])


def decay(x, p):
    return p[0] * np.exp(-p[1] * x) + p[2]


def evidence(model, x, y, values, names, *, sigma=1.0, **more):
    """The evidence at these values, fitted or not; more: any field of Evidence, its sigma by sigma_column."""
    more = {"sigma" if name == "sigma_column" else name: value for name, value in more.items()}
    values = np.asarray(values, float)
    n, k = len(y), len(values)
    steps = 1e-30j * np.eye(k)
    with np.errstate(all="ignore"):
        columns = [np.broadcast_to(model(x, values + step).imag / 1e-30, n) for step in steps]
        fitted = np.broadcast_to(model(x, values), n).astype(float)
    jacobian = np.stack(columns, axis=1) if k else np.zeros((n, 0))
    scale = np.broadcast_to(np.asarray(sigma, float), n)
    fields = {
        "names": tuple(names), "inputs": {"x": x}, "y": y, "fitted": fitted, "residuals": (y - fitted) / scale,
        "jacobian": jacobian / scale[:, None], "values": values, "lower": np.full(k, -np.inf),
        "upper": np.full(k, np.inf), "rows": np.arange(1, n + 1),
    }  # fmt: skip
    return Evidence(**{**fields, **more})


def fitted(model, x, y, start, names, *, sigma=1.0, **more):
    """The evidence at the least squares from this start."""
    with np.errstate(all="ignore"):
        found = least_squares(
            lambda p: (model(x, p) - y) / sigma, np.asarray(start, float), method="lm", x_scale="jac",
            xtol=1e-15, ftol=1e-15, gtol=1e-15, max_nfev=2000,
        )  # fmt: skip
    return evidence(model, x, y, polished(model, x, y, found.x, sigma), names, sigma=sigma, **more)


def polished(model, x, y, values, sigma):
    """One Gauss-Newton step with exact derivatives: finite differences end a little early."""
    e = evidence(model, x, y, values, ["p"] * len(values), sigma=sigma)
    if not np.isfinite(e.jacobian).all():
        return values
    norm = np.linalg.norm(e.jacobian, axis=0)
    unit = e.jacobian / np.where(norm > 0, norm, 1)
    return values + np.linalg.lstsq(unit, e.residuals, rcond=1e-12)[0] / np.where(norm > 0, norm, np.inf)
