"""Model: a formula or a function as a value that can be called, looked at, and fitted again and again."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradfit.errors import ModelError, OptionError
from gradfit.fit import bind, fit, start_values
from gradfit.formula import parse
from gradfit.library import MODELS, find
from gradfit.model import BoundModel, name_of, signature_of
from gradfit.result import FitResult
from gradfit.table import read

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Model:
    """A model, immutable and reusable: fitting it to new data pays nothing that was paid before.

    Parameters
    ----------
    definition : str or callable
        What `gradfit.fit` takes: a formula, the name of a library model, or a function.
    inputs : tuple of str, optional
        Names that are data when the model is called or asked for its parameters without a table. Left out: `x`, `x1`,
        `x2` ... or `t`, as far as the formula has them; of a function the first argument.

    Examples
    --------
    >>> decay = Model("y = a*exp(-x/tau) + c")
    >>> decay.parameters
    ('a', 'tau', 'c')
    >>> float(decay(x=0.0, a=2.0, tau=1.0, c=0.5))
    2.5
    >>> decay.fit({"x": [0, 1, 2, 3, 4], "y": [2.5, 1.24, 0.77, 0.6, 0.54]}).converged
    True
    """

    definition: str | Callable[..., object]
    inputs: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.definition, str):
            text = self.definition.strip()
            parse(find(text).formula if text.isidentifier() else text)  # a slip is told here, not at the first fit
        elif not callable(self.definition):
            raise OptionError(f"A model is a formula or a function, and {type(self.definition).__name__} is neither")

    @property
    def formula(self) -> str:
        """The formula, or the function's name with its arguments."""
        if isinstance(self.definition, str):
            return MODELS[self.definition.strip()].formula if self.definition.strip() in MODELS else self.definition
        return f"{name_of(self.definition)}({', '.join(signature_of(self.definition).positional)})"

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters, in the order in which the model takes them."""
        if isinstance(self.definition, str):
            return self._bound().parameters
        inputs = self._inputs()
        return tuple(n for n in signature_of(self.definition).positional if n not in inputs)

    def _inputs(self) -> tuple[str, ...]:
        if self.inputs is not None:
            return self.inputs
        if not isinstance(self.definition, str):
            return signature_of(self.definition).positional[:1]
        names = parse(self.formula).right.names
        usual = [n for n in names if n == "x" or (n[0] == "x" and n[1:].isdigit())] or [n for n in names if n == "t"]
        if not usual:
            raise ModelError(
                f"Which names of {self.formula!r} are data is not known before it meets a table",
                remedy=f'Say so: Model({self.definition!r}, inputs=("{names[0] if names else "x"}",))',
            )
        return tuple(usual)

    def _bound(self) -> BoundModel:
        formula = parse(self.formula)
        left = formula.left.names if formula.left is not None else ("y",)
        columns = (*self._inputs(), *left)
        table = read({name: np.array([1.0, 2.0]) for name in columns})
        return bind(self.formula, table, left[0] if formula.left is None else None)

    def __call__(self, *values: object, **named: object) -> Array:
        """Return the model's value at inputs and parameters, given by name, or in the order inputs, parameters."""
        if not isinstance(self.definition, str):
            return np.asarray(self.definition(*values, **named))
        expression = parse(self.formula).right
        order = [*self._inputs(), *self.parameters] if values else []
        given = dict(zip(order, values, strict=False)) | named
        unknown = [n for n in given if n not in expression.names]
        if unknown:
            near = difflib.get_close_matches(unknown[0], expression.names, 1)
            raise OptionError(f"{unknown[0]} stands nowhere in {self.formula!r}", remedy=f"Did you mean {near[0]}?" if near else "")
        arrays = {name: np.asarray(value, dtype=np.float64) for name, value in given.items()}
        with np.errstate(all="ignore"):
            return np.asarray(expression.evaluate(arrays))

    def guess(self, data: object, *, response: str | None = None, seed: int = 0) -> dict[str, float]:
        """Return start values found from data: the library model's own guess, else the best of a search."""
        return start_values(self.definition, data, response=response, seed=seed)

    def fit(self, data: object, **options: object) -> FitResult:
        """Return the fit to data; options are those of `gradfit.fit`."""
        return fit(self.definition, data, **options)  # pyright: ignore[reportArgumentType]  # fit's own arguments
