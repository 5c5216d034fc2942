"""How the loss bends at one point: condition numbers before and after scaling, and the largest stable step."""

from collections.abc import Generator
from contextlib import contextmanager
from math import inf, nan

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import torch
from gradfit.explaining.subject import SQUARED, Subject
from gradfit.explaining.values import Conditioning
from gradfit.solve.curvature import Product, condition, extremes_by_products, hessian_product

Array = NDArray[np.float64]

EXACT = 64  # parameters up to which the whole Hessian is formed
MOST = 10_000_000  # rows times parameters, above which it is not looked at


def conditioning_of(subject: Subject) -> Conditioning | None:
    """Return the condition of the problem in float64; None where torch cannot differentiate the loss twice."""
    count = sum(tensor.numel() for tensor in subject.parameters.values())
    if len(subject.rows) * count > MOST:
        return None
    with _as_they_were(subject):
        try:
            product = hessian_product(subject.loss, list(subject.parameters.values()))
            step = _largest_step(product, count)
            matrix, before, after = _conditions(subject, product, count)
        except (RuntimeError, np.linalg.LinAlgError):  # torch has no second derivative of some operation
            return None
    return Conditioning(matrix, before, after, step)


@contextmanager
def _as_they_were(subject: Subject) -> Generator[None]:
    """Leave buffers of a module, such as running means, as they are."""
    buffers = [] if subject.module is None else list(subject.module.buffers())
    kept = [buffer.clone() for buffer in buffers]
    yield
    with torch.no_grad():
        for buffer, old in zip(buffers, kept, strict=True):
            buffer.copy_(old)


def _largest_step(product: Product, count: int) -> float:
    largest = extremes_by_products(product, count).largest
    return 2 / largest if largest > 0 else inf if np.isfinite(largest) else nan


def _conditions(subject: Subject, product: Product, count: int) -> tuple[str, float, float]:
    """Return the matrix that was looked at, with its condition number before and after scaling."""
    if subject.bound is not None and subject.loss_name == SQUARED:
        point = np.array([float(tensor.detach()) for tensor in subject.parameters.values()])
        columns = subject.columns or [np.zeros(len(subject.rows))]
        with np.errstate(all="ignore"):
            _, J = subject.bound.kernel().value_jacobian(columns, point)
        if not np.isfinite(J).all():
            return "J'J", nan, nan
        sizes = np.abs(J).max(axis=0, initial=0.0)
        unit = J / np.where(sizes > 0, sizes, 1.0)
        lengths = np.linalg.norm(unit, axis=0)
        return "J'J", condition(J), condition(unit / np.where(lengths > 0, lengths, 1.0))
    if count > EXACT:
        return "Hessian", nan, nan
    H = np.array([product(row) for row in np.eye(count)])
    scale = np.sqrt(np.abs(np.diag(H)))
    scaled = H / np.outer(*[np.where(scale > 0, scale, 1.0)] * 2)
    return "Hessian", _ratio(H), _ratio(scaled)


def _ratio(H: Array) -> float:
    sizes = np.abs(np.linalg.eigvalsh((H + H.T) / 2))
    return float(sizes.max() / sizes.min()) if sizes.min() > 1e-15 * sizes.max() else inf
