"""Training in standard units: parameters, inputs and response are scaled for the optimizer, answers come back in the user's."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import torch
from gradfit.errors import OptionError
from gradfit.graph import LEAVES, Graph, operands, place
from gradfit.loss import Loss
from gradfit.model import BoundModel
from gradfit.model.bound import TensorFunction
from gradfit.notation import significant
from gradfit.solve.curvature import condition
from gradfit.solve.descent import Progress
from gradfit.solve.ending import Course
from gradfit.solve.outcome import Point
from gradfit.solve.problem import ModelProblem
from gradfit.trace.builder import Builder, assemble

Array = NDArray[np.float64]

SCALES = ("auto", "none")
LOST = 1e-10  # of the largest singular value: a direction below it is rounding, and is not blown up


def scale_of(scale: object) -> str:
    """Return a checked scale.

    Raises
    ------
    OptionError
        If it is neither "auto" nor "none".
    """
    if scale not in SCALES:
        raise OptionError(f"scale is {scale!r}.", remedy='Give scale="auto" or scale="none".')
    return str(scale)


@dataclass(frozen=True, eq=False)
class Scaling:
    """A change of variables p = T q, and a unit of the residuals, in which an optimizer works.

    The Jacobian by q has columns of length sqrt(n) in units of the response's spread; those of parameters that enter
    linearly without bounds are at right angles too, which is what centring and standardising the inputs does to a line.
    A step of q by one moves the curve by about the spread of the response, whatever the user's units are.

    Attributes
    ----------
    transform : (f, f)
        T; diagonal but for the linear parameters.
    unit : float
        By which weighted residuals are divided: the spread of the weighted response.
    start : (f,)
        The start, in the user's units.
    told : str
        What the scaling does to the problem, as a sentence.
    """

    transform: Array
    unit: float
    start: Array
    told: str

    def inward(self, parameters: Array) -> Array:
        """Return q (f,) for parameters p."""
        return np.asarray(np.linalg.solve(self.transform, parameters), dtype=np.float64)

    def inward_bounds(self, lower: Array, upper: Array) -> tuple[Array, Array]:
        """Return the bounds of q (f,); a parameter with a bound is scaled by itself, with a positive factor."""
        own = self.transform.diagonal()
        return lower / own, upper / own

    def course(self, course: Course, lower: Array, upper: Array) -> Course:
        """Return a course in the user's units."""
        k = len(self.start)
        trail = course.trail.copy()
        trail[:, 1] *= self.unit**2
        trail[:, 2 : 2 + k] = self._slopes(trail[:, 2 : 2 + k].T).T
        trail[:, 2 + k :] = trail[:, 2 + k :] @ self.transform.T
        parameters = np.clip(self.transform @ course.parameters, lower, upper)
        best = None if course.best is None else self._point(course.best)
        return replace(
            course, start=self.start, parameters=parameters, lower=lower, upper=upper, best=best, trail=trail
        )

    def progress(self, now: Progress) -> Progress:
        """Return an epoch in the user's units."""
        return replace(
            now,
            loss=now.loss * self.unit**2,
            gradient=self._slopes(now.gradient),
            parameters=self.transform @ now.parameters,
        )

    def _slopes(self, gradients: Array) -> Array:
        """Return the gradients by p (f, ...) of those by q."""
        return np.asarray(np.linalg.solve(self.transform.T, gradients), dtype=np.float64) * self.unit**2

    def _point(self, point: Point) -> Point:
        step, loss, gradient, parameters = point
        slopes = self._slopes(np.asarray(gradient, dtype=np.float64))
        return step, loss * self.unit**2, slopes, self.transform @ np.asarray(parameters, dtype=np.float64)


def scaling(problem: ModelProblem, start: Array, linear: NDArray[np.int64]) -> Scaling:
    """Return the standard units of a problem at its start.

    Parameters
    ----------
    problem : ModelProblem
        Weighted residuals of the free parameters.
    start : (f,)
        Where training begins; the sensitivities there are the scales.
    linear : (l,) int
        The free parameters that enter linearly and have no bound.
    """
    residuals, jacobian = problem.residual_jacobian(start)
    jacobian = np.where(np.isfinite(jacobian), jacobian, 0.0)
    unit, n = _spread(problem), len(residuals)
    lengths = np.linalg.norm(jacobian, axis=0) / np.sqrt(n)
    own = np.where((lengths > 0) & (lengths < np.inf), unit / np.where(lengths > 0, lengths, 1.0), 1.0)
    transform = np.diag(own)
    if len(linear) > 1:
        block = np.ix_(linear, linear)
        transform[block] = _at_right_angles(jacobian[:, linear] * own[linear], own[linear], unit * np.sqrt(n))
    return Scaling(transform, unit, start, _told(residuals, jacobian, transform))


def _spread(problem: ModelProblem) -> float:
    """Return the standard deviation of the weighted response; of counts it is that of their deviance residuals."""
    if problem.counts:
        mean = ModelProblem(
            _Constant(float(np.mean(problem.y))), [], problem.y, problem.weight, np.empty(0), counts=True
        )
        spread = float(np.sqrt(np.mean(mean.residual(np.empty(0)) ** 2)))
    else:
        spread = float(np.std(problem.weighted(problem.y)))
    return spread if 0 < spread < np.inf else 1.0


@dataclass(frozen=True)
class _Constant:
    """A kernel that gives one number in all rows."""

    level: float
    name: str = "constant"

    def value(self, columns: Sequence[Array], parameters: Array) -> Array:
        del columns, parameters
        return np.array(self.level)

    def value_jacobian(self, columns: Sequence[Array], parameters: Array) -> tuple[Array, Array]:
        return self.value(columns, parameters), np.zeros((1, 0))


def _at_right_angles(columns: Array, own: Array, length: float) -> Array:
    """Return the block of T that makes scaled columns (n, l) orthogonal; diagonal where they are redundant."""
    R: Array = np.linalg.qr(columns)[1]
    sizes = np.abs(R.diagonal())
    if R.shape[0] < R.shape[1] or not sizes.min() > LOST * sizes.max():
        return np.diag(own)
    R = R * np.where(R.diagonal() < 0, -1.0, 1.0)[:, None]
    return own[:, None] * np.linalg.solve(R, np.eye(len(own))) * length


def _told(residuals: Array, jacobian: Array, transform: Array) -> str:
    before, after = jacobian, jacobian @ transform
    ratios = [_ratio(np.abs(J.T @ residuals)) for J in (before, after)]
    conditions = [condition(J) for J in (before, after)]
    said = [
        f"{name} from {significant(a, 2)} to {significant(b, 2)}"
        for name, (a, b) in (("the ratio of gradient sizes", ratios), ("the condition number", conditions))
        if np.isfinite(a) and np.isfinite(b)
    ]
    effect = f": at the start it took {' and '.join(said)}" if said else ""
    return f'scale="auto" trained in standard units{effect}'


def _ratio(sizes: Array) -> float:
    return float(sizes.max() / sizes.min()) if sizes.size and sizes.min() > 0 else np.inf


# ---------------------------------------------------------------------------- the model in those units


@dataclass(frozen=True, eq=False)
class Scaled:
    """A model, its problem and its loss as functions of q.

    Attributes
    ----------
    model : BoundModel
        Its parameters are those of the user, then q, then the elements of T, which are not fitted.
    problem : ModelProblem
        With q free.
    cost : Loss
        Its scale in the unit of the residuals.
    """

    model: BoundModel
    problem: ModelProblem
    cost: Loss


def scaled(model: BoundModel, problem: ModelProblem, cost: Loss, scale: Scaling) -> Scaled:
    """Return a model with its problem and loss in standard units; numbers of the scaling are values, not code."""
    k = len(problem.template)
    free = tuple(range(k)) if problem.free is None else tuple(problem.free.tolist())
    places = tuple(zip(*(part.tolist() for part in np.nonzero(scale.transform)), strict=True))
    inner = _substituted(model, free, places)
    elements = scale.transform[tuple(np.array(places).T)]
    template = np.concatenate([problem.template, scale.inward(scale.start), elements])
    weight = (
        np.full(len(problem.y), 1 / scale.unit) if problem.weight is None else problem.weight / scale.unit
    )
    inside = problem._replace(
        model=inner.kernel("numpy"),
        weight=weight,
        template=template,
        free=np.arange(k, k + len(free)),
        wide=None,
        small=None,
    )
    return Scaled(inner, inside, cost if cost.scale is None else replace(cost, scale=cost.scale / scale.unit))


Places = tuple[tuple[int, int], ...]  # (row, column) of the elements of T that are not zero


def _substituted(model: BoundModel, free: tuple[int, ...], places: Places) -> BoundModel:
    names = _names(model.parameters, free, places)
    graph = None if model.graph is None else _graph(model.graph, free, places)
    function = None if graph is not None else _function(model, free, places)
    return replace(
        model, parameters=names, graph=graph, expression=None, function=None, tensor_function=function, defaults={},
        _kernels={},
    )  # fmt: skip


def _names(parameters: tuple[str, ...], free: tuple[int, ...], places: Places) -> tuple[str, ...]:
    inner = tuple(f"{parameters[j]} scaled" for j in free)
    return (*parameters, *inner, *(f"{parameters[free[i]]} by {parameters[free[j]]}" for i, j in places))


@lru_cache(maxsize=64)
def _graph(graph: Graph, free: tuple[int, ...], places: Places) -> Graph:
    """Return the graph of the model as a function of q and the elements of T, which follow its own parameters."""
    k, builder = len(graph.parameters), Builder()
    element = {at: builder.put("par", k + len(free) + e) for e, at in enumerate(places)}
    inner = [builder.put("par", k + i) for i in range(len(free))]
    new: list[int] = []
    for node in graph.nodes:
        if node[0] == "par" and place(node) in free:
            i = free.index(place(node))
            terms = [
                builder.op("mul", element[i, j], inner[j]) for j in range(len(free)) if (i, j) in element
            ]
            new.append(_sum(builder, terms))
        else:
            new.append(
                builder.put(*(node if node[0] in LEAVES else (node[0], *(new[i] for i in operands(node)))))
            )
    slopes = [builder.op("mul", new[graph.scale[j]], new[graph.core[j]]) for j in free]
    by = [
        _sum(
            builder,
            [builder.op("mul", element[i, j], slopes[i]) for i in range(len(free)) if (i, j) in element],
        )
        for j in range(len(free))
    ]
    zero = builder.const(0.0)
    ends = [new[graph.value], *[zero] * k, *by, *[zero] * len(places)]
    return assemble(builder, ends, graph.variables, _names(graph.parameters, free, places))


def _sum(builder: Builder, terms: Sequence[int]) -> int:
    total = terms[0]
    for term in terms[1:]:
        total = builder.op("add", total, term)
    return total


def _function(model: BoundModel, free: tuple[int, ...], places: Places) -> TensorFunction:
    inner, inputs, k = model.on_torch(), len(model.inputs), len(model.parameters)

    def function(*tensors: "torch.Tensor") -> "torch.Tensor":
        whole = list(tensors[inputs : inputs + k])
        q, elements = tensors[inputs + k :][: len(free)], tensors[inputs + k + len(free) :]
        sums: dict[int, torch.Tensor] = {}
        for (i, j), element in zip(places, elements, strict=True):
            term = element * q[j]
            sums[i] = sums[i] + term if i in sums else term
        for i, total in sums.items():
            whole[free[i]] = total
        return inner(*tensors[:inputs], *whole)

    return function
