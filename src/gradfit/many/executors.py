"""What runs many fits: NumPy anywhere, machine code and torch where the model has a graph and they know its loss."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from gradfit.errors import OptionError
from gradfit.graph import Graph
from gradfit.many.rows import Array, Indices
from gradfit.model import BoundModel, nearest
from gradfit.notation import count, fixed
from gradfit.prepare import Parameters
from gradfit.solve.lockstep import numpy as lockstep
from gradfit.solve.lockstep.batch import Batch, Cost, Ends, Kernel, Settings

#: executor -> the module whose `solve` takes a graph, imported when it is used
OF_GRAPHS: Mapping[str, str] = {
    "native": "gradfit.solve.lockstep.native",
    "tensor": "gradfit.solve.lockstep.tensor.solve",
}
EXECUTORS = ("auto", "numpy", *OF_GRAPHS)
COMPILING = 200_000  # points of all fits: NumPy takes about as long for them as the compiler for the model
_PLAIN = np.int8(2)  # no weights: code that multiplies by 1 rounds elsewhere
DTYPES = ("float64", "float32")


@dataclass(frozen=True, eq=False)
class Executor:
    """An executor with the model it runs.

    Attributes
    ----------
    name : str
        Its name, and of "tensor" what was asked of it: "tensor:cuda:float32".
    kernel : Kernel
        The model for NumPy.
    graph : Graph or None
        The traced model.
    why : str
        Why it runs these fits, a sentence.
    """

    name: str
    kernel: Kernel
    graph: Graph | None
    why: str = ""

    @property
    def kind(self) -> str:
        """Its name without settings."""
        return self.name.partition(":")[0]

    @property
    def plain(self) -> "Executor":
        """NumPy with the same model."""
        return replace(self, name="numpy")

    def solve(
        self, batch: Batch, starts: Array, *, parameters: Parameters, loss: Cost, settings: Settings
    ) -> Ends:
        """Return where each fit ended: see `gradfit.solve.lockstep.batch.Solve`."""
        free, lower, upper = parameters.free, parameters.lower, parameters.upper
        if self.kind not in OF_GRAPHS or not able(self.kind, self.graph, free, loss):
            return lockstep.solve(
                self.kernel, batch, starts, free=free, lower=lower, upper=upper, loss=loss, settings=settings
            )
        if np.isnan(starts[:, free]).any() and not (loss.name == "squared" and parameters.plain):
            starts, _ = lockstep.standing(
                self.kernel, batch, starts, free=free, lower=lower, upper=upper, loss=Cost()
            )
        solve = partial(
            import_module(OF_GRAPHS[self.kind]).solve, self.graph,
            free=free, lower=lower, upper=upper, settings=settings, **self._where(settings.dtype),
        )  # fmt: skip
        kind = _kinds(batch, starts[:, free])
        if (kind == kind[0]).all():
            return solve(replace(batch, weight=None) if kind[0] & _PLAIN else batch, starts, loss=loss)
        ends = Ends.blank(len(starts), starts.shape[1])
        for one in np.unique(kind).tolist():
            which = np.flatnonzero(kind == one)
            rows = batch.rows(which)
            rows = replace(rows, weight=None) if one & _PLAIN else rows
            ends.put(which, solve(rows, starts[which], loss=loss.rows(which)))
        return ends

    def _where(self, dtype: str) -> dict[str, Any]:
        """Return the device and the precision that were asked of torch."""
        asked = self.name.split(":")[1:]
        precision = [word for word in asked if word in DTYPES]
        device = ":".join(word for word in asked if word not in DTYPES)
        if self.kind != "tensor":
            return {}
        return ({"device": device} if device else {}) | {"dtype": precision[0] if precision else dtype}


def _kinds(batch: Batch, starts: Array) -> "np.typing.NDArray[np.int8]":
    """Return the kind (m,) of code that each fit takes: what it begins with and what its weights are, not its company's."""
    kind = np.asarray(np.isnan(starts).any(axis=1)).astype(np.int8)
    if batch.weight is None:
        kind |= _PLAIN
        return kind
    plain = (batch.weight == 1).all(axis=-1)
    kind[plain] |= _PLAIN
    return kind


def able(kind: str, graph: Graph | None, free: Indices, loss: Cost) -> bool:
    """Return whether an executor of graphs can make such fits."""
    if graph is None:
        return False
    can_solve = getattr(import_module(OF_GRAPHS[kind]), "can_solve", None)
    return can_solve is None or bool(can_solve(graph, free, loss))


def chosen(
    name: str, model: BoundModel, kernel: Kernel, *, points: int, free: Indices, loss: Cost
) -> Executor:
    """Return what runs fits of so many points in all, and why.

    The choice of "auto" follows from the work alone: the same call has the same bits, whatever is compiled already.

    Raises
    ------
    OptionError
        If there is no executor of that name.
    """
    kind, _, settings = name.partition(":")
    if kind not in EXECUTORS or (":" in name and (kind != "tensor" or not settings)):
        raise OptionError(
            f"There is no executor {name!r} for many fits",
            remedy=f'{nearest(kind, list(EXECUTORS))} ("tensor:cuda:float32" names a device and a precision)',
        )
    plain = Executor("numpy", kernel, model.graph)
    size = f"{fixed(points, 0)} {'point' if points == 1 else 'points'}"
    if kind == "numpy":
        return plain
    if model.graph is None:
        return replace(plain, why=f"numpy calls the model for one fit after the other: {_no_graph(model)}")
    if kind == "auto" and points < COMPILING:
        return replace(plain, why=f"numpy ran the fits: for {size} nothing is compiled")
    wanted = "native" if kind == "auto" else kind
    if not able(wanted, model.graph, free, loss):
        return replace(plain, why=f"numpy ran the fits: {wanted} has no code for {_too_much(free, loss)}")
    why = f"native ran the fits: {size} are worth compiling the model" if kind == "auto" else ""
    return Executor("native" if kind == "auto" else name, kernel, model.graph, why)


def _no_graph(model: BoundModel) -> str:
    return model.fallback.rstrip(".") or "it could not be traced"


def _too_much(free: Indices, loss: Cost) -> str:
    named = "" if loss.name in ("squared", "poisson") else f" and the loss {loss.name}"
    return f"{count(len(free), 'free parameter')}{named}"
