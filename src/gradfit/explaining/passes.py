"""explain(): read this file first; it makes the passes in the order in which a reader meets them."""

from collections.abc import Sequence
from math import inf, isfinite, nan
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import torch
from gradfit.errors import DataError, ModelError, OptionError
from gradfit.explaining.bending import conditioning_of
from gradfit.explaining.record import Record
from gradfit.explaining.subject import Subject, Told, subject_of
from gradfit.explaining.values import (
    INPUT,
    OBSERVED,
    PARAMETER,
    Explanation,
    Operation,
    ParameterPass,
    RateStep,
)
from gradfit.notation import listing

if TYPE_CHECKING:
    from torch import Tensor  # noqa: TID251  only the name of a type

Array = NDArray[np.float64]

RATES = (1e-2, 1e-3, 1e-4)
DTYPES = ("float64", "float32")
PASSES = 3  # without zeroing the gradient between them


def explain(  # noqa: PLR0913  the public call lists its options by name
    model: object,
    data: object,
    *,
    start: object = None,
    lr: float | Sequence[float] = RATES,
    response: str | None = None,
    inputs: Sequence[str] | None = None,
    target: str | Sequence[str] | None = None,
    loss: object = "squared",
    where: str | None = None,
    missing: str = "error",
    dtype: str = "float64",
) -> Explanation:
    """Return one forward and one backward pass, operation by operation: values, gradients, what a step would do.

    The model, its gradients and torch's random state are left as they are.

    Parameters
    ----------
    model : str, callable or torch.nn.Module
        As for `gradfit.fit`. A module is called with the columns of `inputs` side by side, (n, d).
    data : path, mapping of arrays, data frame, ...
        Whatever `gradfit.read` takes; for a module also arrays with more axes.
    start : mapping or sequence, optional
        Where the pass is made. Without: the guess of a library model, else 1 for every parameter; a module has weights.
    lr : float or sequence of float
        Learning rates: for each, the loss after one step of plain gradient descent.
    response : str, optional
        The observed column, for a function or a formula without a left side.
    inputs, target : sequence of str, str; optional
        Columns for a module; without inputs all but the target.
    loss : "squared" or callable
        The mean of squared residuals, or a function of prediction and observed that returns a scalar tensor. A module also
        takes the names that `fit` takes for it: "mse", "mae", "huber", "bce", "cross-entropy", "poisson".
    where : str, optional
        Rows to use.
    missing : {"error", "drop"}
        What happens to rows without a number.
    dtype : {"float64", "float32"}
        In which numbers.

    Raises
    ------
    DataError
        If there are no data, or not all are numbers.
    OptionError
        If an argument makes no sense. It is a `GradfitError`, as the others are: where nothing can be learnt, or a module does
        not look at its input.

    Examples
    --------
    >>> seen = explain("y = a*x + b", {"x": [1, 2, 3], "y": [2, 4, 6]}, start=[1, 0], lr=0.1)
    >>> round(seen.loss, 3), {name: round(float(g), 3) for name, g in seen.gradient.items()}
    (4.667, {'a': -9.333, 'b': -4.0})
    >>> round(seen.steps[0].loss, 3)
    0.074
    """
    if dtype not in DTYPES:
        raise OptionError(f"dtype is {dtype!r}", remedy=f'Give dtype="{DTYPES[0]}" or dtype="{DTYPES[1]}"')
    if data is None:
        raise DataError(
            "explain() needs data", remedy='Give a file or columns: explain("y = a*x", {"x": x, "y": y})'
        )
    rates = _rates(lr)
    told = Told(model, data, start, response, inputs, target, loss, where, missing)
    with torch.inference_mode(mode=False), torch.enable_grad():
        subject = subject_of(told, getattr(torch, dtype))
        value, operations = _one_pass(subject)
        parameters = _accumulated(subject)
        finite = isfinite(value) and all(np.isfinite(p.gradient).all() for p in parameters)
        steps = tuple([_step(subject, rate, parameters) for rate in rates]) if finite else ()
        wide = subject if dtype == "float64" else subject_of(told, torch.float64)
        conditioning = conditioning_of(wide) if isfinite(value) else None
    return Explanation(
        subject.text, subject.source, len(subject.rows), dtype, subject.start_from, value, subject.loss_name,
        subject.loss_unit, operations, parameters, steps, conditioning,
    )  # fmt: skip


def _rates(lr: float | Sequence[float]) -> tuple[float, ...]:
    given = [lr] if isinstance(lr, int | float) else list(lr)
    for rate in given:
        if isinstance(rate, bool | str) or not (isfinite(rate) and rate > 0):
            raise OptionError(f"lr must be positive numbers, and has {rate!r}", remedy="Give lr=[1e-2, 1e-4]")
    return tuple(float(rate) for rate in given)


def _one_pass(subject: Subject) -> tuple[float, tuple[Operation, ...]]:
    """Return the loss and every operation with its gradient, after one forward and one backward pass.

    Raises
    ------
    ModelError
        If the loss is no single number, does not depend on any parameter, or a module does not look at its input.
    """
    record = Record(subject.rows)
    for name, tensor in subject.inputs.items():
        record.leaf(name, INPUT, tensor)
    for name, tensor in subject.parameters.items():
        record.leaf(name, PARAMETER, tensor)
    record.leaf(subject.observed[0], OBSERVED, subject.observed[1])
    with record.recording(subject.module):
        loss = subject.loss(lambda value: record.call(value, "prediction"))
    _looks_at_its_input(subject, record, loss)
    if not loss.requires_grad:
        names = listing(list(subject.parameters))
        raise ModelError(f"The loss of {subject.text} does not depend on {names}: nothing can be learnt")
    loss.backward()
    return float(loss.detach()), record.operations(loss)


def _looks_at_its_input(subject: Subject, record: Record, loss: "Tensor") -> None:
    """Return when the loss is made of some input.

    Raises
    ------
    ModelError
        If it is not: all rows get the same answer.
    """
    if subject.module is None or any(record.reaches(tensor, loss) for tensor in subject.inputs.values()):
        return
    raise ModelError(
        f"{subject.text} ignores its input ({listing(list(subject.inputs))}): its answer is the same for every row",
        remedy="Use the argument of forward() in what it returns",
    )


def _accumulated(subject: Subject) -> tuple[ParameterPass, ...]:
    """Return what `.grad` holds after one, two and three passes; the first has been made."""
    seen: dict[str, list[Array]] = {name: [] for name in subject.parameters}
    for i in range(PASSES):
        if i:
            _ = subject.loss().backward()
        for name, tensor in subject.parameters.items():
            gradient = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
            seen[name].append(_numbers(gradient))
    out: list[ParameterPass] = []
    for name, tensor in subject.parameters.items():
        unit, gradient_unit = subject.units.get(name, ("", ""))
        out.append(
            ParameterPass(name, _numbers(tensor), seen[name][0], tuple(seen[name]), unit, gradient_unit)
        )
    return tuple(out)


def _numbers(tensor: "Tensor") -> Array:
    return tensor.detach().to("cpu", torch.float64).numpy().copy()


def _step(subject: Subject, rate: float, parameters: Sequence[ParameterPass]) -> RateStep:
    """Return the loss after one step of gradient descent, with the parameters put back."""
    kept = {name: tensor.detach().clone() for name, tensor in subject.parameters.items()}
    with torch.no_grad():
        for p in parameters:
            tensor = subject.parameters[p.name]
            tensor.sub_(torch.as_tensor(p.gradient).to(tensor.dtype), alpha=rate)
        after = {name: _numbers(tensor) for name, tensor in subject.parameters.items()}
        loss = float(subject.loss())
        for name, tensor in subject.parameters.items():
            tensor.copy_(kept[name])
    return RateStep(rate, inf if loss == inf else loss if isfinite(loss) else nan, after)
