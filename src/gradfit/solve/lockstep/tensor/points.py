"""Sums over the points of many fits on a device: a graph's value and derivatives on tensors, one row a fit."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gradfit._lazy import torch
from gradfit.graph import LEAVES, Graph, constant, operands, place, reached
from gradfit.kernel.tensor import (
    _functions,  # pyright: ignore[reportPrivateUsage]  # the one table of torch's operations
)
from gradfit.solve.lockstep.batch import PIECE, Array, Batch, Cost

if TYPE_CHECKING:
    Tensor = torch.Tensor

Function = Callable[..., "Tensor"]

LANES = (
    32  # torch's own loops leave a rest that is no multiple of this to other code, with other last bits ...
)
SERIAL = 32_768  # ... and cut what is longer than this into a piece a thread
_OF_LANES = frozenset(["pow", "sinh", "cosh", "atanh", "atan2"])  # where it is seen


@dataclass(frozen=True, eq=False)
class Points:
    """The data of m fits on a device.

    Attributes
    ----------
    columns : tuple of (n,) or (m, n)
    y : (m, n)
    weight : (n,) or (m, n), optional
    scale : () or (m,), optional
        Of a robust loss.
    holes : bool
        Whether any weight is 0.
    """

    columns: tuple["Tensor", ...]
    y: "Tensor"
    weight: "Tensor | None"
    scale: "Tensor | None"
    holes: bool

    @classmethod
    def of(cls, batch: Batch, loss: Cost, *, device: str, dtype: "torch.dtype") -> "Points":
        """Return the data on a device."""

        def there(values: Array) -> "Tensor":
            narrow = np.float32 if dtype == torch.float32 else np.float64
            return torch.tensor(np.asarray(values, dtype=narrow, order="C"), device=device)

        weight, scale = batch.weight, loss.scale
        return cls(
            tuple(there(c) for c in batch.columns),
            there(batch.y),
            None if weight is None else there(weight),
            None if scale is None else there(np.asarray(scale)),
            weight is not None and bool((weight == 0).any()),
        )

    def rows(self, which: "Tensor") -> "Points":
        """Return the data of some of the fits."""
        weight, scale = self.weight, self.scale
        return replace(
            self,
            columns=tuple(c[which] if c.dim() == 2 else c for c in self.columns),
            y=self.y[which],
            weight=weight[which] if weight is not None and weight.dim() == 2 else weight,
            scale=scale[which] if scale is not None and scale.dim() == 1 else scale,
        )

    def joined(self, more: "Points") -> "Points":
        """Return these fits followed by others that share what these share."""
        weight, scale = self.weight, self.scale
        if weight is not None and more.weight is not None and weight.dim() == 2:
            weight = torch.cat([weight, more.weight])
        if scale is not None and more.scale is not None and scale.dim() == 1:
            scale = torch.cat([scale, more.scale])
        columns = zip(self.columns, more.columns, strict=True)
        return Points(
            tuple(torch.cat([a, b]) if a.dim() == 2 else a for a, b in columns),
            torch.cat([self.y, more.y]),
            weight,
            scale,
            self.holes or more.holes,
        )


class Sums(NamedTuple):
    """What a step needs of m fits, in float64.

    Attributes
    ----------
    cost : (m,)
        Infinite or NaN where the model is not finite.
    gram, gradient : (f, f, m), (f, m)
        JᵀJ and Jᵀr of the least-squares problem with the cost's gradient and curvature.
    odd : (f, m) bool
        Derivatives that are no number at a point where the model is one.
    """

    cost: "Tensor"
    gram: "Tensor"
    gradient: "Tensor"
    odd: "Tensor"

    @property
    def finite(self) -> "Tensor":
        """Whether everything is a number (m,)."""
        return (
            torch.isfinite(self.cost)
            & torch.isfinite(self.gradient).all(0)
            & torch.isfinite(self.gram).all(0).all(0)
        )

    def rows(self, which: "Tensor") -> "Sums":
        """Return the sums of some of the fits."""
        return Sums(*(part[..., which] for part in self))

    def joined(self, more: "Sums") -> "Sums":
        """Return these sums followed by others."""
        return Sums(*(torch.cat([a, b], -1) for a, b in zip(self, more, strict=True)))

    def chosen(self, mask: "Tensor", other: "Sums") -> "Sums":
        """Return the other's sums where the mask holds, these elsewhere."""
        return Sums(*(torch.where(mask, b, a) for a, b in zip(self, other, strict=True)))


# ---------------------------------------------------------------------------- the model


class Model:
    """A graph's operations as torch calls, for the derivatives by the free parameters.

    Attributes
    ----------
    free : tuple of int
        Which parameters those are.
    device, dtype
        Where, and in which precision, the model is evaluated.
    """

    def __init__(self, graph: Graph, free: Sequence[int], *, device: str, dtype: "torch.dtype") -> None:
        self.free: tuple[int, ...] = tuple(free)
        self.device: str = device
        self.dtype: torch.dtype = dtype
        self._graph: Graph = graph
        slopes = [*(graph.scale[j] for j in free), *(graph.core[j] for j in free)]
        self._value_steps: list[Step] = _steps(graph, [graph.value], device)
        self._all_steps: list[Step] = _steps(graph, [graph.value, *slopes], device)
        # made once: each copy to a device would wait for it
        self._constants: dict[int, Tensor] = {
            i: torch.tensor(node[1], dtype=torch.bool, device=device)
            if isinstance(node[1], bool)
            else torch.tensor(constant(node), dtype=dtype, device=device)
            for i, node in enumerate(graph.nodes)
            if node[0] == "const"
        }

    def width(self) -> int:
        """Return how many numbers a point takes at most while sums over the points are made."""
        fixed = self._graph.invariant()
        live, most = 0, 0
        for step in self._all_steps:
            live += not fixed[step.node]
            most = max(most, live)
            live -= sum(not fixed[j] for j in step.over)
        rows = len(self.free) + 1
        return max(most + rows, 2 * rows + 2)

    def value(self, points: Points, p: "Tensor") -> "Tensor":
        """Return the model (m, n) for parameters (k, m)."""
        values = self._run(self._value_steps, points, p)
        return values[self._graph.value].to(self.dtype).expand(points.y.shape)

    def value_slopes(
        self, points: Points, p: "Tensor", *, mend: Collection[int] = ()
    ) -> tuple["Tensor", "Tensor", "Tensor"]:
        """Return the model (m, n), the derivatives and the plain residuals f - y (f + 1, m, n), and the odd ones (f, m).

        Points of weight 0 have residuals and derivatives of 0. The derivatives by the parameters `mend` are replaced by a
        difference where they are no number although the model is one: 0 * inf as in (x/c)**b at x = 0.
        """
        graph = self._graph
        values = self._run(self._all_steps, points, p)
        value = values[graph.value].to(self.dtype).expand(points.y.shape)
        rows = torch.empty((len(self.free) + 1, *points.y.shape), dtype=self.dtype, device=self.device)
        for i, j in enumerate(self.free):
            rows[i] = values[graph.scale[j]] * values[graph.core[j]]
        torch.sub(value, points.y, out=rows[-1])
        del values
        if points.holes and points.weight is not None:
            rows.masked_fill_(points.weight == 0, 0.0)
        odd = torch.zeros((len(self.free), len(points.y)), dtype=torch.bool, device=self.device)
        known = torch.isfinite(rows[-1])
        for i in range(len(self.free)):
            lost = known & ~torch.isfinite(rows[i])
            if i in mend:
                self._mend(points, p, i, lost, rows[i])
            else:
                odd[i] = lost.any(1)
        return value, rows, odd

    def _run(self, steps: Sequence["Step"], points: Points, p: "Tensor") -> dict[int, "Tensor"]:
        p = p.to(self.dtype)[:, :, None]
        out = self._constants.copy()
        for step in steps:
            if step.function is not None:
                out[step.node] = step.function(*(out[j] for j in step.operands))
            elif step.node not in self._constants:
                kind, k = self._graph.nodes[step.node][0], place(self._graph.nodes[step.node])
                out[step.node] = p[k] if kind == "par" else points.columns[k]
            for j in step.over:
                del out[j]
        return out

    def _mend(self, points: Points, p: "Tensor", i: int, lost: "Tensor", slope: "Tensor") -> None:  # noqa: PLR0917  one caller
        which = torch.nonzero(lost.any(1)).squeeze(1)
        if not len(which):
            return
        part, q, j = points.rows(which), p[:, which], self.free[i]
        share = 6e-6 if self.dtype == torch.float64 else 5e-3
        step = share * torch.where(q[j] == 0, 1.0, q[j].abs())
        above, below = q.clone(), q.clone()
        above[j] += step
        below[j] -= step
        difference = (self.value(part, above) - self.value(part, below)) / (2 * step)[:, None]
        slope[which] = torch.where(lost[which], difference.to(self.dtype), slope[which])


class Step(NamedTuple):
    """A node, what makes it of others (nothing for a leaf), and the nodes that no later one asks for."""

    node: int
    function: Function | None
    operands: tuple[int, ...]
    over: list[int]


def _steps(graph: Graph, ends: Sequence[int], device: str) -> list[Step]:
    functions, nodes = _steady() if device == "cpu" else _functions(), graph.nodes
    order = reached(nodes, ends)
    over: dict[int, list[int]] = {i: [] for i in order}
    last = {operand: i for i in order for operand in operands(nodes[i])}
    for operand in last.keys() - set(ends):
        over[last[operand]].append(operand)
    return [
        Step(i, None if nodes[i][0] in LEAVES else functions[str(nodes[i][0])], operands(nodes[i]), over[i])
        for i in order
    ]


@lru_cache(maxsize=1)
def _steady() -> Mapping[str, Function]:
    """Return the operations with bits that do not depend on where in a tensor a number stands."""
    return {name: _in_lanes(f) if name in _OF_LANES else f for name, f in _functions().items()}


def _in_lanes(function: Function) -> Function:
    def of_whole_lanes(*values: "Tensor") -> "Tensor":
        spread = torch.broadcast_tensors(*values)
        count = spread[0].numel()
        flat = [torch.nn.functional.pad(v.reshape(-1), (0, -count % LANES), value=0.5) for v in spread]
        parts = zip(*(v.split(SERIAL) for v in flat), strict=True)
        return torch.cat([function(*part) for part in parts])[:count].reshape(spread[0].shape)

    return of_whole_lanes


# ---------------------------------------------------------------------------- sums


def row_sums(a: "Tensor") -> "Tensor":
    """Return the sums (...) of rows (..., n) in float64, with bits that on a processor do not depend on the other rows."""
    total = a[..., :PIECE].sum(-1, dtype=torch.float64)
    for i in range(PIECE, a.shape[-1], PIECE):
        total += a[..., i : i + PIECE].sum(-1, dtype=torch.float64)
    return total


def sums(model: Model, points: Points, p: "Tensor", *, loss: str, mend: Collection[int] = ()) -> Sums:
    """Return the sums over the points of each fit at parameters (k, m)."""
    value, rows, odd = model.value_slopes(points, p, mend=mend)
    if loss == "poisson":
        cost = _counts(points, value, rows)
    else:
        if points.weight is not None:
            rows *= points.weight
        cost = None if loss == "squared" else _robust(points, loss, rows)
    del value
    f, m = len(rows) - 1, rows.shape[1]
    gram = torch.empty((f + 1, f + 1, m), dtype=torch.float64, device=rows.device)
    for i in range(f + 1):
        gram[i, i:] = row_sums(rows[i:] * rows[i])
        gram[i + 1 :, i] = gram[i, i + 1 :]
    return Sums(gram[f, f] if cost is None else cost, gram[:f, :f], gram[:f, f], odd)


def _counts(points: Points, value: "Tensor", rows: "Tensor") -> "Tensor":
    """Return the deviance (m,); the rows become those of its quadratic model, by Fisher scoring."""
    weight, y, safe = points.weight, points.y, value
    if weight is not None and points.holes:
        hole = weight == 0
        safe, y = safe.masked_fill(hole, 1.0), y.masked_fill(hole.expand(y.shape), 0.0)
    usable = safe > 0
    lost = ~usable & ~((safe == 0) & (y == 0))
    safe = torch.where(usable, safe, 1.0)
    deviance = rows[-1] + torch.xlogy(y, y / safe)
    scale = 1 / safe.sqrt()
    if weight is not None:
        if points.holes:
            deviance = deviance.masked_fill(weight == 0, 0.0)
        deviance, scale = deviance * weight * weight, scale * weight
    rows *= scale
    total = 2 * row_sums(deviance)
    return torch.where(lost.any(1), torch.inf, total.clamp_min(0.0))


# ---------------------------------------------------------------------------- robust losses


def _robust(points: Points, loss: str, rows: "Tensor") -> "Tensor":
    """Return the robust cost (m,); the rows become those of its quadratic model (see `Loss.linearised`)."""
    scale = _scale(points)
    u = rows[-1] / scale
    each, first, second = _RHO[loss](u * u)
    bend = first + 2 * second * u * u
    weight = torch.where(bend > 0.1 * first, bend, first).sqrt().clamp_min(1e-12)
    rows[:-1] *= weight
    rows[-1] *= first / weight
    return scale.reshape(-1).double() ** 2 * row_sums(each)


def psi_slope(points: Points, loss: str, residuals: "Tensor") -> tuple["Tensor", "Tensor"]:
    """Return psi and psi' (m, n) of weighted residuals: halved derivatives of the robust cost by each."""
    z = (residuals / _scale(points)) ** 2
    _, first, second = _RHO[loss](z)
    return first * residuals, first + 2 * second * z


def _scale(points: Points) -> "Tensor":
    if points.scale is None:
        return torch.ones((1, 1), dtype=points.y.dtype, device=points.y.device)
    return points.scale.reshape(-1, 1)


def _soft_l1(z: "Tensor") -> tuple["Tensor", "Tensor", "Tensor"]:
    t = 1 + z
    root = t.sqrt()
    return 2 * (root - 1), 1 / root, -0.5 / (t * root)


def _huber(z: "Tensor") -> tuple["Tensor", "Tensor", "Tensor"]:
    inside = z <= 1
    root = torch.where(inside, 1.0, z).sqrt()
    return (
        torch.where(inside, z, 2 * root - 1),
        torch.where(inside, 1.0, 1 / root),
        torch.where(inside, 0.0, -0.5 / (root * root * root)),
    )


def _cauchy(z: "Tensor") -> tuple["Tensor", "Tensor", "Tensor"]:
    t = 1 + z
    return torch.log1p(z), 1 / t, -1 / (t * t)


def _bisquare(z: "Tensor") -> tuple["Tensor", "Tensor", "Tensor"]:
    inside = z < 1
    t = torch.where(inside, 1 - z, 0.0)
    return (1 - t * t * t) / 3, t * t, torch.where(inside, -2 * t, 0.0)


#: rho with its two derivatives, as in `gradfit.loss`
_RHO: Mapping[str, Callable[["Tensor"], tuple["Tensor", "Tensor", "Tensor"]]] = {
    "soft_l1": _soft_l1,
    "huber": _huber,
    "cauchy": _cauchy,
    "bisquare": _bisquare,
}
