"""Model: a formula or a function as a value that can be called, looked at, and fitted again and again."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradfit.errors import ModelError, OptionError
from gradfit.fitting import fit, start_values
from gradfit.formula import parse
from gradfit.library import MODELS, find
from gradfit.model import BoundModel, bind_formula, called, name_of, signature_of
from gradfit.result import FitResult

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Model:
    """A model, immutable and reusable: fitting it to new data pays nothing that was paid before.

    Parameters
    ----------
    definition : str or callable
        What `gradfit.fit` takes: a formula, the name of a library model, or a function.
    inputs : tuple of str, optional
        Names that are data when the model is called or asked for its parameters without a table. Left out: `x`, or where
        the formula has none `x1`, `x2` ..., or `t`; of a function the first argument.

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
            parse(
                find(text).formula if text.isidentifier() else text
            )  # a slip is told here, not at the first fit
        elif not callable(self.definition):
            raise OptionError(
                f"A model is a formula or a function, and {type(self.definition).__name__} is neither"
            )

    @property
    def formula(self) -> str:
        """The formula, or the function's name with its arguments."""
        if isinstance(self.definition, str):
            text = self.definition.strip()
            return MODELS[text].formula if text in MODELS else self.definition
        return f"{name_of(self.definition)}({', '.join(signature_of(self.definition).arguments)})"

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters, in the order in which the model takes them."""
        inputs = self._inputs()
        if isinstance(self.definition, str):
            return self._bound(inputs).parameters
        return tuple(n for n in signature_of(self.definition).arguments if n not in inputs)

    def _inputs(self) -> tuple[str, ...]:
        if self.inputs is not None:
            return self.inputs
        if not isinstance(self.definition, str):
            return signature_of(self.definition).arguments[:1]
        right = parse(self.formula).right
        numbered = [n for n in right.names if n[0] == "x" and n[1:].isdigit()]
        usual = next(([*u] for u in ("x", numbered, "t") if u and set(u) <= set(right.names)), [])
        if not usual:
            raise ModelError(
                f"Which names of {self.formula!r} are data is not known before it meets a table",
                remedy=f'Say so: Model({self.definition!r}, inputs=("{next(iter(right.names), "x")}",))',
            )
        return tuple(n for n in right.names if n in usual or n in right.compared)

    def _bound(self, inputs: tuple[str, ...]) -> BoundModel:
        formula = parse(self.formula)
        observed = formula.left.names if formula.left is not None else ("y",)
        response = None if formula.left is not None else "y"
        return bind_formula(self.formula, (*inputs, *observed), response, frozenset(), "the model")

    def __call__(self, *values: object, **named: object) -> Array:
        """Return the model's value at inputs and parameters, given by name, or in the order inputs, parameters.

        Raises
        ------
        OptionError
            If a name stands nowhere in the formula, is given twice, or there are too many values.
        """
        if not isinstance(self.definition, str):
            return called(self.definition, values, named)
        expression = parse(self.formula).right
        order = (*self._inputs(), *self.parameters) if values else ()
        if len(values) > len(order):
            raise OptionError(
                f"{len(values)} values are given, and {self.formula!r} takes {len(order)}: {', '.join(order)}"
            )
        given = dict(zip(order, values, strict=False))
        for name in named:
            if name not in expression.names:
                near = difflib.get_close_matches(name, expression.names, 1)
                remedy = f"Did you mean {near[0]}?" if near else ""
                raise OptionError(f"{name} stands nowhere in {self.formula!r}", remedy=remedy)
            if name in given:
                raise OptionError(f"{name} is given twice, by its place and by its name")
        arrays = {name: _numbers(value) for name, value in (given | named).items()}
        with np.errstate(all="ignore"):
            return np.asarray(expression.evaluate(arrays))

    def guess(self, data: object, *, response: str | None = None, seed: int = 0) -> dict[str, float]:
        """Return start values found from data: the library model's own guess, else the best of a search."""
        return start_values(self.definition, data, response=response, seed=seed)

    def fit(self, data: object, **options: object) -> FitResult:
        """Return the fit to data; options are those of `gradfit.fit`."""
        return fit(self.definition, data, **options)  # pyright: ignore[reportArgumentType]  # fit's own arguments


def _numbers(value: object) -> NDArray[Any]:
    """Return numbers as float64; text stays what it is."""
    array = np.asarray(value)
    return array if array.dtype.kind in "OSU" else array.astype(np.float64)
