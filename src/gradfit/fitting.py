"""fit(): from data and a model to a result. Read this file first: it is the line of stages."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradfit.binding import bind, guess_of, named_in, table_of, with_codes
from gradfit.diagnose import Diagnosis, diagnose
from gradfit.errors import DataError, ModelError, OptionError
from gradfit.evidence import diagnosed, evidence_of, settled_elsewhere, worth_another_look
from gradfit.holding import Holding, Told, asked_of, checkpoint_asked, folded, holding_of, parted, unflagged
from gradfit.large import Task, fit_large, is_large
from gradfit.learn import fit_network, is_network
from gradfit.loss import Loss
from gradfit.model import BoundModel
from gradfit.notation import count, listing
from gradfit.options import Options, is_lm, options_of, watcher
from gradfit.parameter import checked_level
from gradfit.penalising import penalised
from gradfit.penalty import Penalty, penalty_of
from gradfit.perturbing import perturbing_of
from gradfit.prepare import Data, Parameters, assemble, attached, chosen_rows, counted, settled
from gradfit.result import FitResult
from gradfit.solve.lm import LM
from gradfit.solve.outcome import Outcome
from gradfit.solve.patience import Stop, Watching
from gradfit.solve.problem import ModelProblem
from gradfit.starting import searched
from gradfit.training import Trained
from gradfit.validation import Folds, HeldRows, Seen
from gradfit.walk import GIVEN, Walk, trained, walked
from gradfit.way import way_of

Array = NDArray[np.float64]
_OF_ROWS = ("start", "bounds", "fixed", "sigma", "weights", "where", "exclude", "missing")


def fit(  # noqa: PLR0913  the public call lists its options by name
    model: object,
    data: object = None,
    *,
    response: str | None = None,
    start: object = None,
    bounds: object = None,
    fixed: Mapping[str, float] | None = None,
    sigma: object = None,
    weights: object = None,
    where: str | None = None,
    exclude: Sequence[int] | None = None,
    missing: str = "error",
    loss: str | Loss = "squared",
    penalty: str | Penalty | None = None,
    solver: object = "lm",
    executor: str = "auto",
    level: float = 0.95,
    seed: int = 0,
    max_iterations: int | None = None,
    callback: Callable[..., object] | None = None,
    on_epoch: Callable[..., object] | None = None,
    memory: object = None,
    threads: int | None = None,
    scale: str = "none",
    noise: float | Mapping[str, float] | str | None = None,
    mixup: float | None = None,
    validation: object = None,
    kfold: int | None = None,
    groups: str | None = None,
    order: str | None = None,
    patience: int | None = None,
    min_delta: float = 0.0,
    stop: Stop | None = None,
    checkpoint: object = None,
    checkpoint_every: int | None = None,
    resume: object = None,
    **optimizer: object,
) -> FitResult:
    """Return the fit of a model to data, with uncertainties, findings and a verdict.

    Parameters
    ----------
    model : str, callable, Model or torch.nn.Module
        A formula ("t_c = w*t_u + b"), the name of a library model ("gaussian"), or a function written with NumPy or torch
        functions. In a formula, names that are columns are data and the rest are parameters; so are a function's
        arguments. A module, `network()` or a formula such as "y ~ network(x1, x2)" is trained as a network: the answer is
        a `NetworkResult`, the module that was given stays as it is, and there are further arguments, such as inputs=["x1",
        "x2"], target="y", validation=0.2 and device="auto" (docs/networks.md has all).
    data : path, mapping of arrays, data frame, ...
        Whatever `gradfit.read` takes.
    response : str, optional
        The observed column, for a function or a formula without a left side; found out when only one column is left.
    start : mapping, sequence or "search", optional
        Start values, some or all. Without any: a closed form where the model is linear, the library model's guess, else a
        search from many starts.
    bounds : mapping of str to (lower, upper), or SciPy's forms, optional
        None for an open end; equal bounds fix a parameter.
    fixed : mapping of str to float, optional
        Parameters that are not fitted.
    sigma : float, array (n,), column, expression or covariance (n, n), optional
        Known standard deviations, in the unit of the response. Absolute: errors are not rescaled by the scatter.
    weights : array (n,), column or expression such as "1/y**2", optional
        Relative weights, as in the weighted sum of squares; errors are scaled by the scatter that is found.
    where : str, optional
        Rows to use: "dose > 0".
    exclude : sequence of int, optional
        Row numbers to leave out, from 1, as findings print them.
    missing : {"error", "drop"}
        What happens to rows without a number in a used column.
    loss : str or Loss
        "squared", "poisson" (maximum likelihood for counts), or the robust "soft_l1", "huber", "cauchy", "bisquare", whose
        scale is found from the residuals unless a `Loss` gives it.
    penalty : str or Penalty, optional
        "ridge", "lasso", "elastic-net" or "smooth", added to the mean loss. The strength is found by cross-validation, or
        given as in "ridge:0.1". A `Penalty` says more: which parameters, towards what, in which units.
    solver : str, torch optimizer (class, instance, factory), LM or Descent
        "lm" (Levenberg-Marquardt), or any optimizer of torch.optim by name, with `lr`, `epochs`, `batch_size`,
        `scheduler` and its own settings as further arguments.
    executor : {"auto", "numpy", "native", "tensor"}
        What evaluates the model: NumPy, machine code, or torch. "auto" begins with NumPy, as small work never waits for
        a compiler, and goes over to machine code when a model has earned that.
    level : float
        Of intervals and bands.
    seed : int
        Of everything random: the search for starts, mini-batches.
    max_iterations : int, optional
        For Levenberg-Marquardt; 500 when left out.
    callback : callable, optional
        Called after each iteration or epoch; a true answer stops the fit.
    on_epoch : callable, optional
        The same for trainings alone: called after each epoch with a `Progress`, of a network with an `Epoch`.
    memory : str or int, optional
        What the process may hold, as "1GB": the rows of a file or array are then read in pieces. Large data are in any case.
    threads : int, optional
        At most, over large data.
    scale : {"none", "auto"}
        "auto" lets an optimizer of torch work in standard units (parameters by their sensitivity, inputs of linear parts
        centred, the response by its spread); answers come back in yours. Levenberg-Marquardt always scales.
    noise : float, mapping of str to float or "auto", optional
        Added to the inputs of a training, drawn anew for each update from `seed`: in standard deviations of each input, or
        of some by name. "auto" finds how much by cross-validation, see `result.path`. Rows that are held out have none.
    mixup : float, optional
        Rows of a training are mixed with others, anew for each update; the share is drawn from Beta(mixup, mixup).
    validation : float, str, sequence or data, optional
        Rows that are held out: a share (0.2), a column that is true for them, row numbers from 1, or data of their own (a
        file, a table). They are never trained on; `result.validation` says what they show. A share is drawn from `seed`.
    kfold : int, optional
        Cross-validation: the loss of each of so many parts when the others are fitted, in `result.folds`. The answer is the
        fit of all rows.
    groups, order : str, optional
        A column whose equal values stay together, or one in whose order the last rows are held out.
    patience : int, optional
        Training stops when so many epochs have not lowered the validation loss, by more than `min_delta`.
    min_delta : float
        See there.
    stop : {"best", "last"}, optional
        Which parameters training hands back: those with the lowest validation loss, as it does with `patience`, or the last.
    checkpoint : path, optional
        Where the state of a training is written, after each `checkpoint_every` epochs.
    checkpoint_every : int, optional
        See there; about ten times in a run when it is left out.
    resume : path, optional
        A checkpoint of the same training: it goes on from there, with the numbers of an uninterrupted run.
    **optimizer
        Settings of the optimizer, by torch's names: lr=0.01, momentum=0.9, epochs=5000. lr="auto" finds the learning rate,
        by curvature or by a range test.

    Raises
    ------
    OptionError
        If an argument makes no sense. It is a `GradfitError`, as all errors here are: a `ValueError` whose sentence names
        the input and the remedy.

    Examples
    --------
    >>> result = fit("y = a*x + b", {"x": [0, 1, 2, 3], "y": [1.1, 2.9, 5.2, 6.8]})
    >>> {name: round(value, 2) for name, value in result.values.items()}
    {'a': 1.94, 'b': 1.09}
    """
    asked = asked_of(
        validation=validation, kfold=kfold, groups=groups, order=order, patience=patience, min_delta=min_delta, stop=stop,
        checkpoint=checkpoint, checkpoint_every=checkpoint_every, resume=resume,
    )  # fmt: skip
    callback = watcher(callback, on_epoch, trained=is_network(model) or not is_lm(solver))
    if is_network(model):
        return fit_network(model, data, {  # pyright: ignore[reportReturnType]  # a NetworkResult, as the docstring says
            "response": response, "start": start, "bounds": bounds, "fixed": fixed, "sigma": sigma, "weights": weights,
            "where": where, "exclude": exclude, "missing": missing, "loss": loss, "penalty": penalty, "solver": solver,
            "executor": executor, "seed": seed, "max_iterations": max_iterations, "callback": callback,
            "memory": memory, "threads": threads, "scale": scale, "noise": noise, "mixup": mixup, **asked, **optimizer,
        })  # fmt: skip
    level = checked_level(level)
    options = options_of(
        loss, solver, executor, start=start, seed=seed, max_iterations=max_iterations, callback=callback,
        optimizer=optimizer, scale=scale,
    )  # fmt: skip
    by_epochs = not isinstance(options.solver, LM)
    options = options._replace(
        penalty=None if penalty is None else penalty_of(penalty), checkpoint=checkpoint_asked(asked, trained=by_epochs),
        perturbing=perturbing_of(noise, mixup, trained=by_epochs),
    )  # fmt: skip
    holding = holding_of(asked, seed=seed, trained=by_epochs)
    told = {
        "response": response, "start": start, "bounds": bounds, "fixed": fixed, "sigma": sigma, "weights": weights,
        "where": where, "exclude": exclude, "missing": missing, "loss": loss, "penalty": penalty, "solver": solver, "executor": executor,
        "level": level, "seed": seed, "max_iterations": max_iterations,
        **({} if options.scale == "none" else {"scale": scale}), **asked, **optimizer,
        **{name: value for name, value in (("noise", noise), ("mixup", mixup)) if value is not None},
    }  # fmt: skip
    if (memory is not None or is_large(data)) and _may_be_pieces(penalty, holding, memory=memory):
        done = _in_pieces(model, data, options, told, memory=memory, threads=threads)
        if done is not None:
            return done
    return _in_memory(model, data, options, told, holding=holding)


def _in_memory(
    model: object, data: object, options: Options, told: Mapping[str, Any], *, holding: Holding | None
) -> FitResult:
    """Return the fit of rows that are held in memory: the line of stages."""
    start, bounds, fixed, sigma, weights, where, exclude, missing = (told[name] for name in _OF_ROWS)
    table = table_of(data)
    chosen, covariance = attached(table, sigma, weights)
    chosen = chosen_rows(chosen, where, exclude) if where is not None or exclude is not None else chosen
    chosen = with_codes(model, chosen)
    seen = chosen if holding is None else unflagged(holding, chosen, model, told["response"])
    named = named_in(start, bounds, fixed)
    bound = bind(model, seen, told["response"], start=start, named=named, missing=missing)
    rows = assemble(
        chosen,
        bound,
        missing=missing,
        covariance=covariance,
        n_read=table.n,
        sigma_from=sigma if isinstance(sigma, str) else weights if isinstance(weights, str) else "",
    )
    rows, held = counted(rows) if options.loss.counts else rows, None
    parameters = settled(bound, start, bounds, fixed)
    if holding is not None:
        said = Told(sigma, weights, where, missing, counts=options.loss.counts)
        rows, held = parted(holding, chosen, rows, bound, told=said)
        options = _watching(holding, held, bound, parameters, options=options)
    if options.perturbing is not None:
        options = options._replace(perturbing=replace(options.perturbing, codes=tuple(rows.categories)))
    if options.penalty is None:
        _enough(rows, parameters, bound)
    began = time.perf_counter()  # reading and tracing, with the imports of their libraries, are not the fit
    with np.errstate(all="ignore"):  # a step into overflow is refused; its warnings are nobody's business
        walk = solve(bound, rows, parameters, options, guess=guess_of(model, rows, start))
    result = FitResult(
        bound, rows, walk.parameters, walk.outcome, walk.loss, walk.starts, walk.solver, walk.executor,
        walk.how if held is None else (f"Rows: {held.how}", *walk.how), told["level"], time.perf_counter() - began, told, _examiner(options, walk.trained), shrinkage=walk.shrinkage, held=held,
        noise=None if walk.trained is None else walk.trained.noise,
    )  # fmt: skip
    if holding is None or holding.kfold is None:
        return result
    parts = folded(holding, chosen, rows, bound)
    return replace(result, folds=_cross_validated(result, parts, parameters, options, model=model))


def _may_be_pieces(penalty: object, holding: Holding | None, *, memory: object) -> bool:
    """Whether rows may be read in pieces; only the ordinary way has penalties and held-out rows.

    Raises
    ------
    OptionError
        If pieces were asked for beside them.
    """
    names = {
        "penalty": penalty,
        "validation": holding and holding.validation,
        "kfold": holding and holding.kfold,
    }
    given = next((name for name, value in names.items() if value is not None), "")
    if given and memory is not None:
        raise OptionError(
            f"{given}= needs all rows at once, so memory= has no place", remedy="Leave memory= out"
        )
    return not given


def _in_pieces(
    model: object,
    data: object,
    options: Options,
    told: Mapping[str, Any],
    *,
    memory: object,
    threads: int | None,
) -> FitResult | None:
    """Return the fit of rows that are read in pieces; None where only the ordinary way can do what was asked."""
    start, response, missing = told["start"], told["response"], told["missing"]
    named = named_in(start, told["bounds"], told["fixed"])
    names = (
        "start",
        "bounds",
        "fixed",
        "where",
        "exclude",
        "missing",
        "sigma",
        "weights",
        "level",
        "executor",
    )
    task = Task(
        coded=lambda table: with_codes(model, table),
        bind=lambda table: bind(model, table, response, start=start, named=named, missing=missing),
        solve=lambda bound, rows, found: solve(
            bound, rows, found, options, guess=guess_of(model, rows, start)
        ),
        options=options,
        told=told,
        **{name: told[name] for name in names},
    )
    return fit_large(task, data, memory=memory, threads=threads)


def start_values(
    model: object, data: object, *, response: str | None = None, seed: int = 0
) -> dict[str, float]:
    """Return start values for a model on data: the library model's own guess, else the end of a search."""
    table = table_of(data)
    table = with_codes(model, table)
    bound = bind(model, table, response)
    rows = assemble(table, bound, missing="error", n_read=table.n)
    guess = guess_of(model, rows, None)
    if guess is not None:
        return guess()
    parameters = settled(bound, None, None, None)
    with np.errstate(all="ignore"):
        found = searched(
            bound,
            _problem(bound, rows, parameters, "numpy"),
            parameters,
            Options(Loss(), LM(), "numpy", True, seed, None),
        )
    return dict(zip(bound.parameters, found.parameters.tolist(), strict=True))


def _enough(rows: Data, parameters: Parameters, model: BoundModel) -> None:
    n, k = rows.n, len(parameters.free)
    if n < k or n == 1 <= k:
        free = [model.parameters[j] for j in parameters.free]
        raise DataError(
            f"{count(n, 'row')} of {rows.source} cannot determine {count(k, 'parameter')} ({listing(free)})",
            remedy="Measure more, or fix parameters with fixed=" if n > 1 or k > 1 else "Measure more",
        )


# ---------------------------------------------------------------------------- held-out rows


def _watching(
    holding: Holding, held: HeldRows | None, bound: BoundModel, parameters: Parameters, *, options: Options
) -> Options:
    """Return the options with the held-out rows that training looks at."""
    if held is None or isinstance(options.solver, LM):
        return options
    problem = _problem(bound, held.data, parameters, options.executor)
    least = holding.patience.min_delta * held.data.unit**2
    return options._replace(watching=Watching(problem, replace(holding.patience, min_delta=least)))


def _cross_validated(
    result: FitResult,
    parts: Sequence[tuple[Data, HeldRows]],
    parameters: Parameters,
    options: Options,
    *,
    model: object,
) -> Folds:
    """Return the loss of each part for the model fitted to the others, counted as in the fit of all rows."""
    bound, cost = result.model, result.loss_used
    plain = options._replace(callback=None, checkpoint=None)
    losses: list[tuple[float, float]] = []
    for rows, held in parts:
        _enough(rows, parameters, bound)
        with np.errstate(all="ignore"):
            walk = solve(
                bound, rows, parameters, plain, guess=guess_of(model, rows, result.settings["start"])
            )
            trained = _problem(bound, rows, walk.parameters, "numpy")
            own = (
                cost if cost.scale is None else replace(cost, scale=cost.scale / result.data.unit * rows.unit)
            )
            seen = Seen(trained, held.problem(trained, bound.inputs), walk.outcome, own, rows.unit)
            losses.append(seen.losses(walk.outcome.parameters))
    theirs, mine = np.array(losses).T
    how = parts[0][1].how.partition(", ")[2]
    return Folds(theirs, mine, tuple(held.data.n for _, held in parts), how)


# ---------------------------------------------------------------------------- solving


def solve(
    model: BoundModel,
    rows: Data,
    parameters: Parameters,
    options: Options,
    *,
    guess: Callable[[], dict[str, float]] | None,
) -> Walk:
    """Return where the solver ended, and the way there.

    Raises
    ------
    ModelError
        If the model is not finite at the start.
    """
    problem = _problem(model, rows, parameters, options.executor)
    kernel = problem.model
    if options.loss.scale is not None and rows.unit != 1.0:
        options = options._replace(loss=replace(options.loss, scale=options.loss.scale * rows.unit))
    how = (f"{model.text} could not be traced ({model.fallback}): {kernel.name}",) if model.fallback else ()
    if len(parameters.free) == 0:
        return _nothing_free(problem, parameters, options, kernel.name)
    if guess is not None and not parameters.complete:
        guessed = guess()
        values = np.array([guessed.get(name, np.nan) for name in model.parameters])
        values = np.clip(values, parameters.lower, parameters.upper)
        parameters = replace(parameters, start=np.where(np.isnan(parameters.start), values, parameters.start))
        how = (*how, "Start values are the library model's own guess")
        problem = problem._replace(template=parameters.start)
    if options.penalty is not None:
        done = penalised(model, problem, parameters, options, unit=rows.unit)
    else:
        walk = walked if isinstance(options.solver, LM) else trained
        done = walk(model, problem, parameters, options)
    if guess is not None and done.starts.source == "given":
        done.starts = replace(done.starts, source="library")
    done.how, done.executor = (*how, *done.how, *parameters.notes), done.executor or kernel.name
    return done


def _problem(model: BoundModel, rows: Data, parameters: Parameters, executor: str) -> ModelProblem:
    kernel = model.kernel("numpy" if executor == "auto" else executor)
    columns = [rows.columns[name] for name in model.inputs] or [np.zeros(rows.n)]
    free = None if len(parameters.free) == len(parameters.start) else parameters.free
    wide = None if model.graph is None else model.kernel("numpy")
    small = model.small if executor in ("auto", "native") and not rows.counts else None
    return ModelProblem(
        kernel, columns, rows.y, rows.weight, parameters.start, free, wide, small, rows.counts
    )


def _nothing_free(problem: ModelProblem, parameters: Parameters, options: Options, executor: str) -> Walk:
    r = problem.residual(np.empty(0))
    if not np.isfinite(r).all():
        raise ModelError("The model is not finite at the fixed values")
    outcome = Outcome(np.empty(0), float(r @ r), "converged", "Nothing was free to fit", 0, 1)
    return Walk(parameters, outcome, options.loss, GIVEN, "none: all parameters are fixed", executor, ())


def _examiner(options: Options, training: Trained | None) -> Callable[[FitResult], Diagnosis]:
    """Return the judge of a result; where something looks wrong it first tries other starts."""

    def examine(result: FitResult) -> Diagnosis:
        if result.shrinkage is not None:
            return diagnosed(result, result.shrinkage)
        with np.errstate(all="ignore"):
            if training is not None and training.task.perturbation is not None:
                return settled_elsewhere(result, diagnose(evidence_of(result)))
            way = None if training is None else way_of(training, options.executor)
            diagnosis = diagnose(replace(evidence_of(result), way=way))
        if not isinstance(options.solver, LM) or not worth_another_look(result, diagnosis):
            return diagnosis
        with np.errstate(all="ignore"):
            again = options._replace(seed=options.seed + 1)
            other = searched(result.model, result.problem, result.settled, again, quick=True)
            better = result.problem.residual(other.parameters)
        rss = float(better @ better)
        if not rss < result.rss:
            return diagnosis
        values = dict(
            zip(result.model.parameters, result.problem.whole(other.parameters).tolist(), strict=True)
        )
        evidence = evidence_of(result)
        gained = result.rss - rss  # of counts the deviance; what it is taken from are Pearson's residuals
        rss = float(evidence.residuals @ evidence.residuals) - gained if result.data.counts else rss
        return diagnose(replace(evidence, other_rss=max(rss, 0.0), other_values=values))

    return examine
