"""learning_rate(): which rate an optimizer should take on a model and its data, with the curve of loss against rate."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import stage
from gradfit.binding import bind, guess_of, named_in, table_of, with_codes
from gradfit.errors import OptionError
from gradfit.loss import Loss
from gradfit.model import BoundModel
from gradfit.notation import count
from gradfit.options import Options, is_lm, options_of
from gradfit.prepare import Data, assemble, attached, chosen_rows, counted, settled
from gradfit.rates import Rate
from gradfit.solve.descent import Descent
from gradfit.solve.problem import ModelProblem
from gradfit.training import rate_found
from gradfit.walk import task_of

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RateSurvey:
    """A learning rate with the reason for it, and what other rates do.

    Attributes
    ----------
    rate : float
        The learning rate that was chosen, that of lr="auto".
    limit : float or None
        The largest stable step of the optimizer at the start; None where no law of it is known.
    curvature : float or None
        The largest eigenvalue of the Hessian at the start.
    rates, losses : (m,)
        The rates that were tried, ascending, and the loss each one ended at; infinite where it diverged.
    epochs : int
        Of each trial.
    start_loss : float
        The loss before the first epoch.
    optimizer, model : str
        Names, for the picture.
    told : str
        What was chosen and why.
    """

    rate: float
    limit: float | None
    curvature: float | None
    rates: Array
    losses: Array
    epochs: int
    start_loss: float
    optimizer: str
    model: str
    told: str

    def plot(self) -> object:
        """Return a matplotlib figure of loss against rate, with the stable limit and the chosen rate."""
        return stage("figures.rates").rates_figure(self)

    def to_dict(self) -> dict[str, object]:
        """Return everything as plain numbers and text; a loss that diverged is None."""
        losses = [loss if np.isfinite(loss) else None for loss in self.losses.tolist()]
        limit = self.limit if self.limit is not None and np.isfinite(self.limit) else None
        return {
            "lr": self.rate, "stable_limit": limit, "curvature": self.curvature, "rates": self.rates.tolist(),
            "losses": losses, "epochs": self.epochs, "start_loss": self.start_loss if np.isfinite(self.start_loss) else None, "optimizer": self.optimizer,
            "model": self.model, "told": self.told,
        }  # fmt: skip


def learning_rate(  # noqa: PLR0913  the public call lists its options by name
    model: object,
    data: object,
    *,
    solver: object = "SGD",
    response: str | None = None,
    start: object = None,
    bounds: object = None,
    fixed: Mapping[str, float] | None = None,
    sigma: object = None,
    weights: object = None,
    where: str | None = None,
    missing: str = "error",
    loss: str | Loss = "squared",
    executor: str = "auto",
    scale: str = "none",
    seed: int = 0,
    **optimizer: object,
) -> RateSurvey:
    """Return the learning rate that lr="auto" takes, and a range test of others from the same start.

    Every trial trains a copy; nothing of model, data, optimizer or random state changes.

    Parameters
    ----------
    model, data, response, start, bounds, fixed, sigma, weights, where, missing, loss, executor, scale, seed
        As those of `gradfit.fit`. Where no start is given, training begins at a library model's guess, else at ones.
    solver : str, torch optimizer (class, instance) or Descent
        Any optimizer of torch.optim.
    **optimizer
        Its settings, and those of the training: momentum=0.9, epochs=1000, batch_size=32.

    Raises
    ------
    OptionError
        If the solver is no optimizer of torch, or another argument makes no sense.

    Examples
    --------
    >>> data = {"x": [0, 1, 2, 3], "y": [1.1, 2.9, 5.2, 6.8]}
    >>> survey = learning_rate("y = a*x + b", data, start=[1, 0], epochs=100)
    >>> round(survey.limit, 3), survey.rate < survey.limit
    (0.238, True)
    """
    if "lr" in optimizer:
        raise OptionError("lr= is what is looked for", remedy="Leave lr= out")
    given = (
        {} if isinstance(solver, Descent) or is_lm(solver) else {"epochs": 1000, **optimizer, "lr": "auto"}
    )
    options = options_of(
        loss,
        solver,
        executor,
        start=start,
        seed=seed,
        max_iterations=None,
        callback=None,
        optimizer=given,
        scale=scale,
    )
    if not isinstance(options.solver, Descent):
        raise OptionError(
            "Levenberg-Marquardt has no learning rate", remedy='Name an optimizer of torch: solver="Adam"'
        )
    table = table_of(data)
    chosen, covariance = attached(table, sigma, weights)
    chosen = with_codes(model, chosen if where is None else chosen_rows(chosen, where, None))
    bound = bind(model, chosen, response, start=start, named=named_in(start, bounds, fixed), missing=missing)
    rows = assemble(chosen, bound, missing=missing, covariance=covariance, n_read=table.n)
    rows = counted(rows) if options.loss.counts else rows
    with np.errstate(all="ignore"):
        found = _found(model, bound, rows, options, said=(start, bounds, fixed))
    name = options.solver.optimizer
    name = name if isinstance(name, str) else getattr(name, "__name__", type(name).__name__)
    with np.errstate(all="ignore"):  # squares in the user's unit may overflow
        square = np.float64(rows.unit) ** 2
        finals = np.array([trial.final for trial in found.trials]) / square
        first = float(found.trials[0].losses[0] / square)
    return RateSurvey(
        found.rate, found.limit, found.curvature, np.array([trial.rate for trial in found.trials]), finals, found.epochs,
        first, name, bound.text, found.told,
    )  # fmt: skip


def _found(
    model: object,
    bound: BoundModel,
    rows: Data,
    options: Options,
    *,
    said: tuple[object, object, Mapping[str, float] | None],
) -> Rate:
    """Return the rate for a model on its rows, from the start values that are given, guessed, or 1.

    Raises
    ------
    OptionError
        If no parameter is free.
    """
    start, bounds, fixed = said
    parameters = settled(bound, None if isinstance(start, str) else start, bounds, fixed)
    if len(parameters.free) == 0:
        raise OptionError("Every parameter is fixed, so there is nothing to learn", remedy="Leave one free")
    values = parameters.start.copy()
    if not parameters.complete and not isinstance(start, str):
        guess = guess_of(model, rows, start)
        guessed = {} if guess is None else guess()
        usual = np.array([guessed.get(name, 1.0) for name in bound.parameters])
        values = np.where(np.isnan(values), np.clip(usual, parameters.lower, parameters.upper), values)
    parameters = type(parameters)(
        values, parameters.lower, parameters.upper, parameters.free, parameters.notes, parameters.plain
    )
    free = None if len(parameters.free) == len(values) else parameters.free
    columns = [rows.columns[name] for name in bound.inputs] or [np.zeros(rows.n)]
    problem = ModelProblem(
        bound.kernel("numpy"), columns, rows.y, rows.weight, values, free, counts=rows.counts
    )
    task = task_of(bound, problem, parameters, options).task
    return rate_found(task, options.executor, survey=True)


def survey_sentence(survey: RateSurvey) -> str:
    """Return how far the rate goes, for a headline."""
    diverged = int(np.count_nonzero(~np.isfinite(survey.losses)))
    lost = f"; {count(diverged, 'larger rate')} diverged" if diverged else ""
    return f"{survey.optimizer} should take lr={survey.rate:.3g} here{lost}"
