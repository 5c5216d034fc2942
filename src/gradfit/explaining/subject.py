"""What is explained, as tensors: the parameters, the data, and a function that returns the loss."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import torch
from gradfit.binding import bind, guess_of, named_in, table_of, with_codes
from gradfit.errors import DataError, ModelError, OptionError, ShapeError
from gradfit.learn.build import is_module
from gradfit.learn.rows import Rows, rows_of
from gradfit.learn.target import target_of
from gradfit.model import BoundModel, shape_error
from gradfit.notation import count, listing
from gradfit.prepare import Data, assemble, chosen_rows, settled
from gradfit.solve.dimensions import exponents

if TYPE_CHECKING:
    from torch import Tensor, nn  # noqa: TID251  only the names of types

Array = NDArray[np.float64]
LossFunction = Callable[["Tensor", "Tensor"], "Tensor"]

SQUARED = "mean squared error"


@dataclass(frozen=True, eq=False)
class Told:
    """What `explain` was told of model and data."""

    model: object
    data: object
    start: object
    response: str | None
    inputs: Sequence[str] | None
    target: str | Sequence[str] | None
    loss: object
    where: str | None
    missing: str


@dataclass(frozen=True, eq=False)
class Subject:
    """A model, its data and its loss as tensors of one dtype.

    Attributes
    ----------
    text, source : str
        The model and where the data come from, for a reader.
    start_from : str
        A sentence on where the start comes from.
    loss_name : str
        Which loss.
    parameters : mapping of str to tensor
        Leaves with gradients.
    inputs : mapping of str to tensor
        What the model is called with.
    observed : (str, tensor)
        What its value is compared with.
    rows : (n,) int
        Row numbers, from 1.
    predict : callable
        Returns the model's value at the parameters as they are.
    compare : callable
        Returns the loss of that value and what was observed.
    module : Module or None
        The copy that is called, of a torch module.
    bound : BoundModel or None
        The formula or function.
    columns : sequence of (n,)
        Of a formula or function.
    units : mapping of str to str
        Of parameters; empty where columns carry none.
    loss_unit : str
        Of the loss.
    """

    text: str
    source: str
    start_from: str
    loss_name: str
    parameters: "Mapping[str, Tensor]"
    inputs: "Mapping[str, Tensor]"
    observed: "tuple[str, Tensor]"
    rows: NDArray[np.int64]
    predict: "Callable[[], Tensor]"
    compare: LossFunction
    module: "nn.Module | None" = None
    bound: BoundModel | None = None
    columns: Sequence[Array] = ()
    units: Mapping[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    loss_unit: str = ""

    def loss(self, see: "Callable[[Tensor], None] | None" = None) -> "Tensor":
        """Return the loss at the parameters as they are; what is random is drawn alike each time.

        Parameters
        ----------
        see : callable, optional
            Is shown the prediction.
        """
        with torch.random.fork_rng(devices=[]):
            _ = torch.manual_seed(0)
            value = self.predict()
            if see is not None:
                see(value)
            return _single(self.compare(value, self.observed[1]), self.loss_name)


def _single(loss: object, name: str) -> "Tensor":
    """Return what a caller's loss gave.

    Raises
    ------
    ModelError
        If it is no tensor with one number.
    """
    if isinstance(loss, torch.Tensor) and loss.numel() == 1 and loss.is_floating_point():
        return loss
    seen = f"shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else type(loss).__name__
    raise ModelError(f"The loss {name} returned {seen}, and must return a tensor with a single number")


def subject_of(told: Told, dtype: "torch.dtype") -> Subject:
    """Return what is to be explained, in a dtype.

    Raises
    ------
    GradfitError
        If model, data, start or loss make no sense, or do not belong together.
    """
    return _of_module(told, dtype) if is_module(told.model) else _of_formula(told, dtype)


# ---------------------------------------------------------------------------- formulas and functions


def _of_formula(told: Told, dtype: "torch.dtype") -> Subject:
    if told.inputs is not None or told.target is not None:
        raise OptionError(
            "inputs= and target= are for a torch.nn.Module; a formula or function names its columns itself",
            remedy="Leave them out; response= names the observed column",
        )
    table = table_of(told.data)
    table = table if told.where is None else chosen_rows(table, told.where, None)
    table = with_codes(told.model, table)
    named = named_in(told.start, None, None)
    bound = bind(told.model, table, told.response, start=told.start, named=named, missing=told.missing)
    data = assemble(table, bound, missing=told.missing, n_read=table.n)
    if not bound.parameters:
        raise ModelError(
            f"{bound.text} has no parameter, so there is nothing to learn",
            remedy="Names that are no columns are parameters: give one, as in a*x",
        )
    if bound.graph is None and bound.tensor_function is None and bound.expression is None:
        raise ModelError(
            f"{bound.text} can only be evaluated, not differentiated by torch ({bound.fallback}), so there is no backward pass",
            remedy="Write the function with NumPy or torch functions of whole columns",
        )
    values, start_from = _start(told, bound, data)
    columns = [data.columns[name] for name in bound.inputs]
    tensors = {name: torch.tensor(c, dtype=dtype) for name, c in zip(bound.inputs, columns, strict=True)}
    parameters = {
        name: torch.tensor(value, dtype=dtype).requires_grad_()
        for name, value in zip(bound.parameters, values.tolist(), strict=True)
    }
    function = bound.on_torch()
    compare, loss_name = _comparison(told.loss)
    units, loss_unit = _units(bound, data, squared=loss_name == SQUARED)
    return Subject(
        bound.text, data.source, start_from, loss_name, parameters, tensors,
        (bound.response, torch.tensor(data.y, dtype=dtype)), data.rows,
        lambda: function(*tensors.values(), *parameters.values()), compare, None, bound, columns, units, loss_unit,
    )  # fmt: skip


def _start(told: Told, bound: BoundModel, data: Data) -> tuple[Array, str]:
    """Return start values (k,), and a sentence on where they come from.

    Raises
    ------
    OptionError
        If the start is not understood.
    """
    if isinstance(told.start, str):
        raise OptionError(
            f"start={told.start!r} is not understood: a pass is made at one point",
            remedy='Give numbers, as in start={"a": 1}',
        )
    values = settled(bound, told.start, None, None).start.copy()
    missing = np.isnan(values)
    if not missing.any():
        return (
            values,
            "The start values are those given" if told.start is not None else "The function's own defaults",
        )
    guess = guess_of(told.model, data, None)
    names = listing([name for name, lost in zip(bound.parameters, missing, strict=True) if lost])
    if guess is None:
        values[missing] = 1.0
        return values, f"No start value was given for {names}: 1 was taken"
    guessed = guess()
    values[missing] = [guessed[n] for n, lost in zip(bound.parameters, missing, strict=True) if lost]
    return values, f"No start value was given for {names}: the library model's own guess was taken"


def _comparison(loss: object) -> tuple[LossFunction, str]:
    """Return the loss as a function of tensors, and its name.

    Raises
    ------
    OptionError
        If it is no function, nor the one that has a name here.
    """
    if loss == "squared":
        return _mean_squared, SQUARED
    if callable(loss):
        function: Any = loss
        return function, str(getattr(loss, "__name__", type(loss).__name__))
    raise OptionError(
        f"loss={loss!r} is not known here",
        remedy='Give loss="squared", or a function of prediction and observed',
    )


def _mean_squared(value: "Tensor", observed: "Tensor") -> "Tensor":
    return ((value - observed) ** 2).mean()


def _units(bound: BoundModel, data: Data, *, squared: bool) -> tuple[dict[str, tuple[str, str]], str]:
    """Return the units of parameters and their gradients, and of the loss; none where no column carries one."""
    known = data.units
    if (
        bound.graph is None
        or not squared
        or not any(name in known for name in (*bound.inputs, bound.response))
    ):
        return {}, ""
    names = [bound.response, *bound.inputs]
    units = [known.get(name, f"unit of {name}") for name in names]
    of_loss = np.zeros(len(names))
    of_loss[0] = 2
    powers = np.roll(exponents(bound.graph), 1, axis=1)
    out = {
        name: (_unit(power, units), _unit(of_loss - power, units))
        for name, power in zip(bound.parameters, powers, strict=True)
    }
    return out, _unit(of_loss, units)


def _unit(powers: Array, units: Sequence[str]) -> str:
    """Return a product of units, empty where a power is not known.

    >>> _unit(np.array([-1.0, 1.0]), ["s", "V"]), _unit(np.array([1.0, 2.0]), ["unit of x", "V"])
    ('V/s', 'V²·(unit of x)')
    """
    if np.isnan(powers).any():
        return ""
    parts = sorted(zip(powers.tolist(), units, strict=True), key=lambda part: -part[0])
    up = [_raised(unit, power) for power, unit in parts if power > 0]
    down = [_raised(unit, -power) for power, unit in parts if power < 0]
    if not down:
        return "·".join(up)
    return f"{'·'.join(up) or '1'}/{down[0] if len(down) == 1 else '(' + '·'.join(down) + ')'}"


_RAISED = str.maketrans("0123456789.", "⁰¹²³⁴⁵⁶⁷⁸⁹·")


def _raised(unit: str, power: float) -> str:
    unit = f"({unit})" if " " in unit or "/" in unit else unit
    return unit if power == 1 else f"{unit}{f'{power:g}'.translate(_RAISED)}"


# ---------------------------------------------------------------------------- modules


def _of_module(told: Told, dtype: "torch.dtype") -> Subject:
    if told.start is not None or told.response is not None:
        raise OptionError(
            "start= and response= are for formulas and functions; a module starts with the weights it has",
            remedy="Leave them out; inputs= and target= name columns",
        )
    module = _copied(told.model, dtype)
    parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
    kind = type(told.model).__name__
    if not parameters:
        raise ModelError(f"{kind} has no parameters that take a gradient, so there is nothing to learn")
    rows = rows_of(told.data)
    if told.where is not None:
        chosen = chosen_rows(rows.table, told.where, None)
        rows = rows.keep(np.isin(rows.table.rows, chosen.rows))
    names, targets = _roles(rows, told)
    plain = [name for name in (*names, *targets) if rows.column(name).dtype != object]
    rows = rows.numeric(plain, missing=told.missing)
    inputs = _inputs(rows, names, dtype)
    shape = _shape(module, inputs, kind)
    target, criterion = target_of(rows, targets, told.loss, shape[1] if len(shape) > 1 else 1)
    whole = target.classes and criterion.name != "bce"
    observed = torch.as_tensor(target.values).to(torch.int64 if whole else dtype)
    observed = observed if whole else _alike(observed, shape, kind, target.text)
    compare = _mean_squared if criterion.name == "mse" and not criterion.own else criterion.function
    name = SQUARED if not criterion.own and criterion.name == "mse" else criterion.name
    return Subject(
        kind, rows.source, "The weights are those of the module", name, parameters, inputs, (target.text, observed),
        rows.table.rows, lambda: module(*inputs.values()), compare, module,
    )  # fmt: skip


def _copied(module: Any, dtype: "torch.dtype") -> "nn.Module":
    """Return a copy on the processor: the caller's weights, gradients and running means stay as they are.

    Raises
    ------
    ModelError
        If it cannot be copied.
    """
    try:
        copied: nn.Module = copy.deepcopy(module).to("cpu", dtype)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ModelError(f"{type(module).__name__} cannot be copied: {error}") from error
    for parameter in copied.parameters():
        parameter.grad = None
    return copied


def _roles(rows: Rows, told: Told) -> tuple[list[str], list[str]]:
    """Return the inputs and the targets.

    Raises
    ------
    OptionError
        If it is not said which column is to be predicted.
    DataError
        If an input is text.
    """
    if told.target is None:
        raise OptionError(
            "target= must name what the module is to predict", remedy=f'Give target="{rows.names[-1]}"'
        )
    targets = [told.target] if isinstance(told.target, str) else list(told.target)
    names = [name for name in rows.names if name not in targets] if told.inputs is None else list(told.inputs)
    rows.require([*names, *targets])
    both = [name for name in names if name in targets]
    if both or not names:
        seen = (
            f"{both[0]} is among inputs= and target="
            if both
            else f"No input is left beside {listing(targets)}"
        )
        raise OptionError(seen, remedy="Give inputs= without what is to be predicted")
    words = [name for name in names if rows.column(name).dtype == object]
    if words:
        raise DataError(f"{words[0]} is text, and a module takes numbers", remedy="Leave it out of inputs=")
    return names, targets


def _inputs(rows: Rows, names: Sequence[str], dtype: "torch.dtype") -> "dict[str, Tensor]":
    """Return what the module is called with: columns side by side, arrays with more axes as they are."""
    flat = [name for name in names if name not in rows.arrays]
    out: dict[str, Tensor] = {}
    if flat:
        columns = np.stack([rows.column(name).astype(np.float64) for name in flat], axis=1)
        out[listing(flat, most=3) if len(flat) > 1 else flat[0]] = torch.tensor(columns, dtype=dtype)
    for name in names:
        if name in rows.arrays:
            values = torch.as_tensor(rows.arrays[name])
            out[name] = values.to(dtype) if values.is_floating_point() else values
    return out


def _shape(module: "nn.Module", inputs: "Mapping[str, Tensor]", kind: str) -> tuple[int, ...]:
    """Return the shape of what the module returns.

    Raises
    ------
    ModelError
        If it fails on the data, or returns no tensor.
    """
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            value = copy.deepcopy(module)(*inputs.values())
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        shapes = listing([f"{name} {tuple(tensor.shape)}" for name, tensor in inputs.items()])
        raise ModelError(
            f"{kind} fails on the data, {shapes}: {str(error).splitlines()[0][:200]}",
            remedy="It is called with the columns of inputs= side by side, and arrays with more axes as they are",
        ) from error
    if not isinstance(value, torch.Tensor):
        raise ModelError(f"{kind} returned a {type(value).__name__}, not a tensor")
    return tuple(value.shape)


def _alike(observed: "Tensor", shape: tuple[int, ...], kind: str, name: str) -> "Tensor":
    """Return what was observed in the shape of the prediction: (n,) and (n, 1) mean the same.

    Raises
    ------
    ShapeError
        If one would be broadcast against the other.
    """
    seen = tuple(observed.shape)
    if [size for size in seen if size != 1] == [size for size in shape if size != 1] and seen[:1] == shape[
        :1
    ]:
        return observed.reshape(shape)
    if len(seen) == 1:
        error: ShapeError = shape_error(kind, shape, seen[0], name)
        raise error
    raise ShapeError(
        f"{kind} returned shape {shape}, and {name} has {seen}",
        remedy=f"Let the module return {count(seen[-1], 'value')} a row",
    )
