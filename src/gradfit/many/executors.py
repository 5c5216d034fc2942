"""What runs many fits: NumPy anywhere, machine code and torch where the model has a graph and they know its loss."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

import numpy as np

from gradfit.errors import OptionError
from gradfit.graph import Graph
from gradfit.many.rows import Array
from gradfit.model import nearest
from gradfit.prepare import Parameters
from gradfit.solve import lockstep
from gradfit.solve.batch import Batch, Cost, Ends, Kernel, Settings

#: executor -> the module whose `solve` takes a graph, imported when it is used
OF_GRAPHS: Mapping[str, str] = {
    "native": "gradfit.solve.lockstep_native",
    "tensor": "gradfit.solve.tensor_lockstep",
}
EXECUTORS = ("auto", "numpy", *OF_GRAPHS)


@dataclass(frozen=True, eq=False)
class Executor:
    """An executor with the model it runs.

    Attributes
    ----------
    name : str
        Its name.
    kernel : Kernel
        The model for NumPy.
    graph : Graph or None
        The traced model.
    """

    name: str
    kernel: Kernel
    graph: Graph | None

    @classmethod
    def named(cls, name: str, kernel: Kernel, graph: Graph | None) -> "Executor":
        """Return the executor of that name; NumPy for "auto", and for a model without a graph.

        Raises
        ------
        OptionError
            If there is none.
        """
        if name not in EXECUTORS:
            raise OptionError(
                f"There is no executor {name!r} for many fits", remedy=nearest(name, list(EXECUTORS))
            )
        return cls("numpy" if name == "auto" or graph is None else name, kernel, graph)

    def solve(
        self, batch: Batch, starts: Array, *, parameters: Parameters, loss: Cost, settings: Settings
    ) -> Ends:
        """Return where each fit ended: see `gradfit.solve.batch.Solve`."""
        free, lower, upper = parameters.free, parameters.lower, parameters.upper
        module = self._module(parameters, loss)
        if module is None:
            return lockstep.solve(
                self.kernel, batch, starts, free=free, lower=lower, upper=upper, loss=loss, settings=settings
            )
        if np.isnan(starts[:, free]).any() and not (loss.name == "squared" and parameters.plain):
            starts, _ = lockstep.standing(
                self.kernel, batch, starts, free=free, lower=lower, upper=upper, loss=Cost()
            )
        return module.solve(
            self.graph, batch, starts, free=free, lower=lower, upper=upper, loss=loss, settings=settings
        )

    def _module(self, parameters: Parameters, loss: Cost) -> ModuleType | None:
        if self.name not in OF_GRAPHS:
            return None
        module = import_module(OF_GRAPHS[self.name])
        able = getattr(module, "can_solve", None)
        return module if able is None or able(self.graph, parameters.free, loss) else None
