"""Finding a learning rate: by the curvature of the loss where that decides it, else by trying rates on copies."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gradfit.notation import count, significant
from gradfit.solve.descent import Descent, optimizer_settings
from gradfit.solve.ending import RADII
from gradfit.solve.outcome import Array
from gradfit.solve.stability import Forecast, Law, law_of

LOST = 1e6  # times the loss at the start: a run that has grown so far is on its way to overflow
TRIALS = 25  # trainings of a range test, about
PATIENCE = 2.0  # seconds, about, that such a test may take where every trial is as long as the training
FRACTIONS = np.linspace(0.05, 0.9, 18)  # of the largest stable step
DECADES = np.arange(-4.0, 4.01, 0.5)  # around an optimizer's usual rate
BELOW_LIMIT = np.arange(-3.5, 2.01, 0.5)  # around two thirds of the stable limit at the start
CLOSER = (2.0**-1.0, 2.0**-0.5, 2.0**0.5, 2.0)  # round the best of the half decades


@dataclass(frozen=True, eq=False)
class Trial:
    """One learning rate, tried from the start on a copy.

    Attributes
    ----------
    rate : float
        The learning rate.
    steps : (m,)
        Epochs before each loss, ascending.
    losses : (m,)
        There; the last one is that after the last epoch, infinite when the trial diverged.
    """

    rate: float
    steps: Array
    losses: Array

    @property
    def final(self) -> float:
        """The loss after the last epoch; infinite when it is no number, or a million times that of the start."""
        last, most = float(self.losses[-1]), LOST * float(self.losses[0])
        return last if np.isfinite(last) and (last <= most or most == 0) else np.inf

    def arrival(self, level: float) -> float:
        """Return after how many epochs the loss is at or below a level for good; infinite if it is not."""
        above = np.flatnonzero(~(self.losses <= level))
        if not len(above):
            return float(self.steps[0])
        last = int(above[-1])
        return float(self.steps[last + 1]) if last + 1 < len(self.steps) else np.inf


Try = Callable[[Sequence[float], int], list[Trial]]  # learning rates, epochs


@dataclass(frozen=True, eq=False)
class Rate:
    """A learning rate, and why it was chosen.

    Attributes
    ----------
    rate : float
        The learning rate.
    told : str
        What was chosen and why, as a sentence.
    limit : float or None
        The largest stable step where training begins; None where no law of the optimizer is known.
    curvature : float or None
        The largest eigenvalue of the Hessian there.
    epochs : int
        Of the last trials; 0 without any.
    trials : tuple of Trial
        The rates that were tried so long, ascending.
    """

    rate: float
    told: str
    limit: float | None
    curvature: float | None
    epochs: int
    trials: tuple[Trial, ...]


@dataclass(frozen=True, eq=False)
class Bend:
    """The loss at the start: value, gradient (f,) and Hessian (f, f)."""

    loss: float
    gradient: Array
    hessian: Array

    def through(self, transform: Array, unit: float) -> "Bend":
        """Return it as a function of q, where p = transform q and residuals are divided by a unit."""
        loss, slope, bend = self.loss, transform.T @ self.gradient, transform.T @ self.hessian @ transform
        return Bend(loss / unit**2, slope / unit**2, bend / unit**2)

    @property
    def largest(self) -> float:
        """The largest eigenvalue."""
        return float(np.linalg.eigvalsh(self.hessian)[-1])


@dataclass(frozen=True, eq=False)
class Ground:
    """What a learning rate is found for.

    Attributes
    ----------
    law : Law or None
        Of the optimizer.
    usual : float
        Its learning rate where none is given.
    bend : Bend or None
        The loss at the start, where it can be differentiated twice.
    quadratic : bool
        Whether that says everything.
    rows, size, epochs, updates : int
        Observations, free parameters, epochs of the training, steps in each.
    seconds : float
        That it takes, about.
    attempt : callable
        Trains copies from the start with some learning rates for so many epochs.
    own_step : bool
        Whether the optimizer finds the length of its step itself, as LBFGS does.
    """

    law: Law | None
    usual: float
    bend: Bend | None
    quadratic: bool
    rows: int
    size: int
    epochs: int
    updates: int
    seconds: float
    attempt: Try
    own_step: bool = False


def find_rate(ground: Ground, *, survey: bool = False) -> Rate:
    """Return the learning rate: by curvature where the loss is a quadratic and the optimizer's law is known, else by trials.

    Parameters
    ----------
    survey : bool
        Whether to make the trials in any case.
    """
    law, bend = ground.law, ground.bend
    if law is None or law.adaptive or bend is None:
        limit = largest = rate = None
    else:
        largest = bend.largest
        limit, rate = law.limit(largest), rate_by_curvature(law, bend, ground) if ground.quadratic else None
    told = "" if rate is None or law is None or largest is None else curvature_sentence(rate, law, largest)
    if rate is not None and not survey:
        return Rate(rate, told, limit, largest, 0, ())
    best, trials, tried = rate_by_trials(ground, grid(ground.usual, limit, own_step=ground.own_step))
    epochs = int(trials[0].steps[-1])
    told = told or trials_sentence(best, trials, epochs, tried)
    return Rate(best.rate if rate is None else rate, told, limit, largest, epochs, tuple(trials))


def rate_by_curvature(law: Law, bend: Bend, ground: Ground) -> float | None:
    """Return the rate with which a quadratic loss needs the fewest epochs to its minimum; None where it has no minimum.

    Parameters
    ----------
    law : Law
        Of the optimizer.
    bend : Bend
        The quadratic.
    ground : Ground
        How many rows it is the mean of: 0.03 confidence radii from its minimum is near enough.
    """
    curvatures, directions = np.linalg.eigh(bend.hessian)
    limit = law.limit(float(curvatures[-1]))
    there = curvatures > 1e-14 * curvatures[-1]
    if not np.isfinite(limit) or curvatures[0] < -1e-10 * curvatures[-1]:
        return None
    gains = (directions.T @ bend.gradient)[there] ** 2 / (2 * curvatures[there])
    k = len(bend.gradient)
    near = max(enough(ground.rows, k) * max(bend.loss - float(gains.sum()), 0.0), 1e-9 * float(gains.sum()))
    needed = [
        law.epochs(gains, curvatures[there], share * limit, tolerance=near, updates=ground.updates)
        for share in FRACTIONS
    ]
    best = int(np.argmin(needed))
    return float(FRACTIONS[best] * limit)


def enough(rows: int, parameters: int) -> float:
    """Return how far above its minimum, relative to it, a loss counts as converged: 0.03 confidence radii away."""
    return RADII**2 * parameters / max(rows - parameters, 1)


def forecast(descent: Descent, units: Array, unit: float, *, rows: int, updates: int) -> Forecast | None:
    """Return what foresees the epochs that a training still needs; None where no law of its optimizer is known.

    Parameters
    ----------
    descent : Descent
        The optimizer and its settings.
    units : (k, k)
        What takes a gradient into the units that the optimizer works in, and `unit` the residuals.
    rows, updates : int
        Observations; steps of the whole training.
    """
    name, settings = optimizer_settings(descent, len(units))
    law, rate = law_of(name, settings), settings.get("lr")
    if law is None or law.adaptive or not isinstance(rate, int | float):
        return None
    return Forecast(law, float(rate), units, unit, enough(rows, len(units)), updates // int(descent.epochs))


def curvature_sentence(rate: float, law: Law, largest: float) -> str:
    """Return why a rate was chosen by curvature."""
    limit = law.limit(largest)
    return (
        f"lr={rate:.3g} was chosen by curvature: the largest stable step is {significant(limit, 3)}{_formula(law)}, "
        f"with λ = {significant(largest, 4)} the largest eigenvalue of the Hessian"
    )


def _formula(law: Law) -> str:
    if law.nesterov:
        return f" = 2(1+β)/((1+2β)λ) with β = {law.momentum:g}"
    if law.momentum or law.dampening:
        return f" = 2(1+β)/λ with β = {law.momentum:g}"
    return " = 2/λ"


def grid(usual: float, limit: float | None, *, own_step: bool = False) -> Array:
    """Return the rates to try first: half decades about an optimizer's usual rate, or about its stable limit.

    Parameters
    ----------
    own_step : bool
        Whether the optimizer finds the length of its step itself, so that its rate is near 1.
    """
    if own_step:
        return usual * 10.0 ** np.arange(-1.0, 0.51, 0.5)
    if limit is not None and 0 < limit < np.inf:
        return 2 / 3 * limit * 10.0**BELOW_LIMIT
    return (usual if usual > 0 else 1e-3) * 10.0**DECADES


def rate_by_trials(ground: Ground, rates: Array) -> tuple[Trial, list[Trial], int]:
    """Return the rate that goes down best, all that were tried as long, and how many trials there were.

    Every trial takes all epochs where that is soon done; else all together take about as many as the training itself.

    Parameters
    ----------
    rates : (m,)
        To begin with, ascending.
    """
    attempt, epochs, near = ground.attempt, ground.epochs, enough(ground.rows, ground.size)
    if TRIALS * ground.seconds <= PATIENCE:
        trials = attempt(rates.tolist(), epochs)
        return (*_refined(attempt, trials, epochs, near), len(rates) + len(CLOSER))
    short, longer = (min(epochs, max(epochs // part, 20)) for part in (60, 15))
    trials = attempt(rates.tolist(), short)
    chosen = _ranked(trials, near)[:5]
    trials = attempt([trial.rate for trial in chosen], longer)
    return (*_refined(attempt, trials, longer, near), len(rates) + len(chosen) + len(CLOSER))


def _refined(attempt: Try, trials: list[Trial], epochs: int, near: float) -> tuple[Trial, list[Trial]]:
    """Return the best after a look at rates close to the best of the half decades."""
    best = _ranked(trials, near)[0]
    if np.isfinite(best.final):
        trials = [*trials, *attempt([factor * best.rate for factor in CLOSER], epochs)]
    trials.sort(key=lambda trial: trial.rate)
    return _ranked(trials, near)[0], trials


def _ranked(trials: Sequence[Trial], near: float) -> list[Trial]:
    """Return trials, best first: those that are soonest where the fit would count as converged, then the lowest ends."""
    lowest = min(trial.final for trial in trials)
    level = lowest + near * abs(lowest) if np.isfinite(lowest) else -np.inf
    return sorted(trials, key=lambda trial: (trial.arrival(level), trial.final, trial.rate))


def trials_sentence(best: Trial, trials: Sequence[Trial], epochs: int, tried: int) -> str:
    """Return why a rate was chosen by a range test."""
    low, high = min(t.rate for t in trials), max(t.rate for t in trials)
    return (
        f"lr={best.rate:.3g} was chosen by a range test: {count(tried, 'trial')} from copies of the start, the last "
        f"of {count(epochs, 'epoch')} each; rates between {low:.2g} and {high:.2g} were compared"
    )
