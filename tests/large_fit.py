"""A fit in pieces with the arguments of gradfit.fit, whatever the size of the data."""

from gradfit.fitting import _guess, _named, _options, _with_codes, bind, solve
from gradfit.large import Task, fit_large


def large(
    model,
    data,
    *,
    response=None,
    start=None,
    bounds=None,
    fixed=None,
    loss="squared",
    solver="lm",
    executor="auto",
    seed=0,
    max_iterations=None,
    callback=None,
    missing="error",
    memory=None,
    threads=None,
    settings=None,
    **rows,
):
    options = _options(
        loss,
        solver,
        "auto" if executor == "native" else executor,
        start=start,
        seed=seed,
        max_iterations=max_iterations,
        callback=callback,
        optimizer=settings or {},
    )
    named = _named(start, bounds, fixed)
    task = Task(
        coded=lambda table: _with_codes(model, table),
        bind=lambda table: bind(model, table, response, start=start, named=named, missing=missing),
        solve=lambda bound, data, parameters: solve(
            bound, data, parameters, options, guess=_guess(model, data, start)
        ),
        options=options,
        executor=executor,
        start=start,
        bounds=bounds,
        fixed=fixed,
        missing=missing,
        **rows,
    )
    return fit_large(task, data, memory=memory, threads=threads)
