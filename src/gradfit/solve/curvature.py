"""How strongly a loss bends: eigenvalues of its Hessian, exact for few parameters, by Hessian-vector products for many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import torch

Array = NDArray[np.float64]
Product = Callable[[Array], Array]  # v (k,) -> H v (k,)

EXACT = 64  # parameters up to which all products are formed, k of them, and the eigenvalues are exact
MOST = 60  # Hessian-vector products of Lanczos' method; the largest eigenvalue has three digits after about twenty
ENOUGH = 1e-3  # relative change of the largest eigenvalue between two looks that counts as none


class Extremes(NamedTuple):
    """The ends of a Hessian's spectrum.

    Attributes
    ----------
    largest, least : float
        Algebraically; a negative least one bends down.
    direction : (k,)
        Unit vector of the largest.
    products : int
        Hessian-vector products that it took; 0 where the Hessian was there.
    """

    largest: float
    least: float
    direction: Array
    products: int


def condition(jacobian: Array) -> float:
    """Return the condition number of J'J for a Jacobian (n, k): of columns without effect and of redundant ones infinite.

    >>> condition(np.diag([3.0, 1.0]))
    9.0
    """
    size = float(np.max(np.abs(jacobian), initial=0.0))
    if not 0 < size < np.inf:
        return np.inf
    values = np.linalg.svd(jacobian / size, compute_uv=False)
    if len(jacobian) < jacobian.shape[1] or not values[-1] > 1e-15 * values[0]:
        return np.inf
    return float((values[0] / values[-1]) ** 2)


def extremes(hessian: Array) -> Extremes:
    """Return the ends of the spectrum of a symmetric matrix (k, k).

    Raises
    ------
    numpy.linalg.LinAlgError
        If it is not finite.
    """
    values, vectors = np.linalg.eigh(hessian)
    return Extremes(float(values[-1]), float(values[0]), vectors[:, -1], 0)


def extremes_by_products(product: Product, size: int, *, seed: int = 0) -> Extremes:
    """Return the ends of the spectrum of a symmetric operator that is only known by its products with vectors.

    Up to EXACT parameters the matrix is formed; beyond it is Lanczos' method with full reorthogonalisation [1]_ from a
    random vector, until the largest eigenvalue has settled. What Lanczos finds lies inside the spectrum: the largest is
    never overestimated.

    Parameters
    ----------
    product : callable
        Returns H v (k,) for v (k,).
    size : int
        k.
    seed : int
        Of the first vector; no other random state is read or changed.

    References
    ----------
    .. [1] Golub & Van Loan, Matrix Computations, 4th ed., sec. 10.3.
    """
    if size <= EXACT:
        rows = np.array([product(unit) for unit in np.eye(size)])
        return extremes((rows + rows.T) / 2)._replace(products=size)
    basis = np.empty((min(MOST, size), size))
    vector = np.random.default_rng(seed).normal(size=size)
    basis[0] = vector / np.linalg.norm(vector)
    diagonal, beside, before, m = list[float](), list[float](), -np.inf, 0
    while True:
        w = product(basis[m])
        diagonal.append(float(w @ basis[m]))
        m += 1
        for _ in range(2):  # once is not enough: rounding brings the large directions back
            w = w - basis[:m].T @ (basis[:m] @ w)
        length = float(np.linalg.norm(w))
        values, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
        largest, least = float(values[-1]), float(values[0])
        settled = m % 5 == 0 and abs(largest - before) <= ENOUGH * abs(largest)
        before = largest if m % 5 == 0 else before
        if settled or m == len(basis) or not length > 1e-12 * max(abs(largest), abs(least)):
            return Extremes(largest, least, vectors[:, -1] @ basis[:m], m)
        beside.append(length)
        basis[m] = w / length


def hessian_product(loss: Callable[[], torch.Tensor], tensors: Sequence[torch.Tensor]) -> Product:
    """Return what multiplies a vector with the Hessian of a torch loss by its tensors, joined to one vector.

    The graph of the gradient is made once and kept as long as the product is. Neither the tensors nor their `.grad` change.
    What is drawn inside the loss (dropout) is drawn once.

    Parameters
    ----------
    loss : callable
        Returns the scalar loss at the tensors as they are.
    tensors : sequence of tensors
        The parameters, leaves that require a gradient.

    Raises
    ------
    RuntimeError
        If torch cannot differentiate the loss twice; the product may raise it too.
    """
    with torch.inference_mode(mode=False), torch.enable_grad():
        slopes = torch.autograd.grad(loss(), list(tensors), create_graph=True, materialize_grads=True)

    def product(vector: Array) -> Array:
        parts = _split(vector, tensors)
        with torch.inference_mode(mode=False), torch.enable_grad():
            along = sum((slope * part).sum() for slope, part in zip(slopes, parts, strict=True))
            if not isinstance(along, torch.Tensor) or not along.requires_grad:  # the gradient is constant
                return np.zeros_like(vector)
            rows = torch.autograd.grad(along, list(tensors), retain_graph=True, materialize_grads=True)
        return joined(rows)

    return product


def joined(tensors: Sequence[torch.Tensor]) -> Array:
    """Return tensors as one vector (k,) in float64."""
    return np.concatenate([t.detach().reshape(-1).to("cpu", torch.float64).numpy() for t in tensors])


def _split(vector: Array, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    whole = torch.from_numpy(np.array(vector))
    ends = np.cumsum([t.numel() for t in tensors])[:-1]
    parts = torch.tensor_split(whole, torch.from_numpy(ends))
    return [part.reshape(t.shape).to(t.device, t.dtype) for part, t in zip(parts, tensors, strict=True)]
