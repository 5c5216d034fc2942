"""fit_many(): many fits of one model in one call."""

import time
from collections.abc import Mapping, Sequence
from math import prod

from gradfit.loss import Loss
from gradfit.many.arguments import (
    Spread,
    bound_to,
    checked,
    cost_of,
    library_name,
    scalars,
    source_of,
)
from gradfit.many.result import ManyResult
from gradfit.many.running import Task
from gradfit.many.starts import given_starts, one_per_fit
from gradfit.parameter import checked_level
from gradfit.prepare import settled
from gradfit.solve.lockstep.batch import Settings


def fit_many(  # noqa: PLR0913  the public call lists its options by name
    model: object,
    data: object,
    *,
    by: str | Sequence[str] | None = None,
    axis: int | Sequence[int] | None = None,
    response: str | None = None,
    start: object = None,
    bounds: object = None,
    fixed: Mapping[str, object] | None = None,
    sigma: object = None,
    weights: object = None,
    loss: str | Loss = "squared",
    where: str | None = None,
    missing: str = "drop",
    executor: str = "auto",
    dtype: str = "float64",
    level: float = 0.95,
    max_iterations: int = 200,
    seed: int = 0,
    threads: int | None = None,
) -> ManyResult:
    """Return many fits of one model: one for each group of a table, or for each row, image or pixel of an array.

    No fit fails the call, or changes another one's bits: each has a status.

    Parameters
    ----------
    model : str or callable
        A formula, the name of a library model, or a function, as in `gradfit.fit`.
    data : path, data frame, mapping of arrays, or array
        With `by`, whatever `gradfit.read` takes. Else arrays by name (or names of .npy files, which are then not read
        at once): the response of shape (n_fits, n_points), the others of that shape, or with one value for each point, or
        one for each fit. A response (n_images, height, width) holds images, whose pixels' places are the columns x and y.
    by : str or sequence of str, optional
        The columns whose values tell the groups apart. Fits come in the order in which their groups first appear; rows
        without a key are left out.
    axis : int or tuple of int, optional
        Axes of the response over the points of one fit: the last, of three the last two. axis=0 of a film
        (time, height, width) follows each pixel through time.
    response : str, optional
        The observed column, where neither formula nor data say it.
    start : mapping or sequence, optional
        By parameter: a number, one value for each fit, or the name of a column. Parameters that enter linearly need none.
        Where others are left out: the library model's guess, else a search on a few of the fits, from whose different
        answers each fit begins at the best.
    bounds, fixed : optional
        As in `gradfit.fit`; a fixed value may also be one for each fit, or a column.
    sigma, weights : optional
        As in `gradfit.fit`; numbers for each point, or for each point of each fit.
    loss : str or Loss
        "squared", a robust loss, or "poisson": maximum likelihood for counts.
    where : str, optional
        Points to use: "dose > 0".
    missing : {"drop", "error"}
        Points without a number are left out of their fit and counted, or refused.
    executor : str
        "auto": machine code where there is work enough to compile for, else NumPy; `how` of the result says why. Or one of
        "numpy", "native", "tensor", "tensor:cuda".
    dtype : {"float64", "float32"}
        Of the numbers in machine code, or of the model in torch. With float32 a fit takes 0.6 to 0.9 of the time, and
        its parameters lie within 0.005 standard errors; fits that need more digits are made in float64.
    level : float
        Of intervals.
    max_iterations : int
        Steps at most for each fit.
    seed : int
        Of the search for start values.
    threads : int, optional
        At most, where the executor uses several.

    Raises
    ------
    OptionError
        If an argument makes no sense; as all errors here it is a `GradfitError`.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.arange(5.0)
    >>> many = fit_many("y = a*x + b", {"x": x, "y": np.stack([2 * x + 1, 3 * x - 1])})
    >>> many.params["a"].value.round(6).tolist(), many.status.tolist()
    ([2.0, 3.0], ['converged', 'converged'])
    """
    began = time.perf_counter()
    checked(missing, max_iterations, seed, threads, dtype=dtype)
    spread = Spread(sigma, weights)
    cost, counts = cost_of(loss, spread)
    source = source_of(model, data, by=by, axis=axis, response=response, spread=spread, where=where)
    bound = bound_to(model, source, response, start=start, bounds=bounds, fixed=fixed)
    m = prod(source.shape)
    own = {k: one_per_fit(source, k, v, m, argument="fixed") for k, v in (fixed or {}).items()}
    parameters = settled(bound, scalars(start), bounds, {k: float(v[0]) for k, v in own.items()})
    starts = given_starts(source, bound, parameters, start=start, m=m)
    for parameter, values in own.items():
        starts[:, bound.parameters.index(parameter)] = values
    task = Task(
        source=source, model=bound, parameters=parameters, starts=starts, loss=cost, counts=counts, executor=executor,
        settings=Settings(max_iterations=max_iterations, absolute=spread.absolute, threads=threads, dtype=dtype),
        drop=missing == "drop", seed=seed, library=library_name(model),
    )  # fmt: skip
    ends, dropped = task.run()
    return ManyResult(
        model=bound, source=source, settled=parameters, fixed=own, ends=ends, missing=dropped, loss_used=cost,
        counts=counts, absolute=spread.absolute, level=checked_level(level), executor=task.executor_used.name, how=tuple(task.how),
        max_iterations=max_iterations, seconds=time.perf_counter() - began,
    )  # fmt: skip
