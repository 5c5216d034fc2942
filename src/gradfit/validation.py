"""What held-out rows say of a fit: both losses and the way they went, how they are judged, and the folds of cross-validation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan, sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gradfit.diagnose import Finding
from gradfit.diagnose.evidence import HeldEvidence
from gradfit.diagnose.held import DOUBLE, LEAST, RISE, as_good, risen
from gradfit.loss import Loss, rho
from gradfit.notation import count, percent, significant
from gradfit.prepare import Data
from gradfit.solve.outcome import Outcome
from gradfit.solve.problem import ModelProblem

Array = NDArray[np.float64]
Word = Literal["good", "overfitting", "underfitting", "undecided"]

GOOD = 0.05  # of the p-value that held-out rows scatter less than twice as much
DOUBTFUL = 0.05  # of the p-value that the validation loss has risen
LATE = 0.98  # share of the epochs beyond which a best epoch means that the loss still falls
MOST_STEPS, MOST_LOSSES = 120, 2_000_000  # steps of a history, and losses of rows, that are worked out anew


@dataclass(frozen=True, eq=False)
class HeldRows:
    """The rows of a fit that were held out.

    Attributes
    ----------
    data : Data
        In the unit of the rows that were trained on.
    how : str
        "train 80, validation 20 rows (at random, seed 0)".
    """

    data: Data
    how: str

    def problem(self, trained: ModelProblem, inputs: Sequence[str]) -> ModelProblem:
        """Return the residuals of these rows as a function of the free parameters."""
        columns = [self.data.columns[name] for name in inputs] or [np.zeros(self.data.n)]
        return trained._replace(columns=columns, y=self.data.y, weight=self.data.weight, small=None)


@dataclass(frozen=True, eq=False)
class LossHistory:
    """Both mean losses on the way.

    Attributes
    ----------
    step : (m,) int
        Epochs or iterations done.
    train, validation : (m,)
        Mean losses over the rows in training, and over those held out.
    """

    step: NDArray[np.int64]
    train: Array
    validation: Array


@dataclass(frozen=True, eq=False)
class Validation:
    """What held-out rows say of a fit.

    Attributes
    ----------
    loss, train_loss : float
        Mean loss over the rows held out and over those in training, at the parameters of the result.
    rows, train_rows : int
        How many.
    split : str
        How they were chosen.
    residuals : (rows,)
        Observed minus fitted, of the rows held out.
    history : LossHistory
        Both losses on the way.
    best_step : int
        Epochs or iterations done where the validation loss was lowest; -1 where it was never finite.
    best_values : mapping of str to float
        The parameters there.
    last_values : mapping of str to float
        The parameters at the end of the way.
    stopped : bool
        Whether patience ended the training.
    verdict : str
        "good", "overfitting", "underfitting" or "undecided".
    sentence : str
        The verdict with its numbers.
    """

    loss: float
    train_loss: float
    rows: int
    train_rows: int
    split: str
    residuals: Array
    history: LossHistory
    best_step: int
    best_values: Mapping[str, float]
    last_values: Mapping[str, float]
    stopped: bool
    verdict: Word
    sentence: str


@dataclass(frozen=True, eq=False)
class Folds:
    """The validation loss of each fold of a cross-validation.

    Attributes
    ----------
    losses, train_losses : (k,)
        Mean loss over the rows of each fold when the model was fitted to the others, and over those.
    rows : tuple of int
        In each fold.
    how : str
        How they were chosen.
    """

    losses: Array
    train_losses: Array
    rows: tuple[int, ...]
    how: str

    @property
    def mean(self) -> float:
        """Mean of the folds' losses."""
        return float(self.losses.mean())

    @property
    def stderr(self) -> float:
        """Standard error of that mean, from the scatter of the folds."""
        return float(self.losses.std(ddof=1)) / sqrt(len(self.losses))

    @property
    def sentence(self) -> str:
        """The mean with its error, and the loss in training."""
        trained = significant(float(self.train_losses.mean()), 4)
        known = f"{significant(self.mean, 4)} ± {significant(self.stderr, 2)}"
        return f"Mean loss over {len(self.losses)} held-out folds {known}, in training {trained} ({self.how})"


# ---------------------------------------------------------------------------- numbers


@dataclass(frozen=True, eq=False)
class Seen:
    """What a validation is made from.

    Attributes
    ----------
    trained, held : ModelProblem
        The residuals of either part.
    outcome : Outcome
        Where the solver ended.
    cost : Loss
        What a residual costs.
    unit : float
        By which residuals are multiplied.
    """

    trained: ModelProblem
    held: ModelProblem
    outcome: Outcome
    cost: Loss
    unit: float

    def mean_loss(self, problem: ModelProblem, parameters: Array) -> float:
        """Return the mean loss of a part."""
        residuals = problem.residual(parameters)
        return self.cost.cost(residuals) / len(residuals) / self.unit / self.unit

    def losses(self, parameters: Array) -> tuple[float, float]:
        """Return the mean loss over the rows held out, and over those in training."""
        return self.mean_loss(self.held, parameters), self.mean_loss(self.trained, parameters)

    def way(self) -> LossHistory:
        """Return both losses on the way: as training saw them, else at the parameters that the history keeps."""
        outcome, square = self.outcome, self.unit * self.unit
        told, history = outcome.held, outcome.history
        if told is None:
            some = thin(len(history.step), MOST_STEPS)
            points = history.parameters[some]
            train = np.array([self.mean_loss(self.trained, p) for p in points])
            return LossHistory(
                history.step[some], train, np.array([self.mean_loss(self.held, p) for p in points])
            )
        losses = dict(zip(history.step.tolist(), history.loss.tolist(), strict=True))
        train = np.array([losses.get(step, nan) for step in told.step.tolist()])
        return LossHistory(told.step, train / square, told.loss / square)

    def evidence(self, data: Data, inputs: Sequence[str]) -> HeldEvidence:
        """Return the arrays that tests of held-out rows are made from."""
        parameters = self.outcome.parameters
        step, losses = self._each()
        return HeldEvidence(
            inputs={name: data.columns[name] for name in inputs},
            y=data.y,
            residuals=-self.held.residual(parameters),
            rows=data.rows,
            step=step,
            losses=losses,
            jacobian=self.held.residual_jacobian(parameters)[1],
        )

    def _each(self) -> tuple[NDArray[np.int64], Array | None]:
        """Return steps of a training and the loss of each held-out row there, the returned parameters last."""
        told, history = self.outcome.held, self.outcome.history
        nothing = np.zeros(0, dtype=np.int64)
        if told is None or told.best_step < 0 or len(history.step) < 2:
            return nothing, None
        some = thin(len(history.step), min(MOST_STEPS, max(MOST_LOSSES // len(self.held.y), 2)))
        points = [*history.parameters[some], told.best, self.outcome.parameters]
        steps = [*history.step[some].tolist(), told.best_step, told.returned]
        return np.array(steps), np.array([self._costs(point) for point in points])

    def risen(self) -> float:
        """Return by how much the held-out loss has risen since its best step, as a ratio; 1 where that may be chance."""
        _, losses = self._each()
        if losses is None:
            return 1.0
        ratio, p = risen(losses, -1)
        return ratio if p < DOUBTFUL else 1.0

    def _costs(self, parameters: Array) -> Array:
        residuals = self.held.residual(parameters)
        if not self.cost.robust:
            return residuals**2
        scale = self.cost.scale or 1.0
        return scale**2 * rho(self.cost.name, (residuals / scale) ** 2)[0]

    def best(self, history: LossHistory) -> tuple[int, Array, Array]:
        """Return where the validation loss was lowest, with the parameters there, and those at the end of the way."""
        told, points = self.outcome.held, self.outcome.history
        if told is not None:
            return told.best_step, told.best, told.last
        end = self.outcome.parameters
        if not np.isfinite(history.validation).any():
            return -1, end, end
        step = int(history.step[int(np.nanargmin(history.validation))])
        return step, points.parameters[int(np.flatnonzero(points.step == step)[0])], end


def thin(n: int, most: int) -> NDArray[np.int64]:
    """Return at most so many of n places, evenly spaced, the first and the last among them."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.int64))


def validation_of(
    seen: Seen, held: HeldRows, names: Sequence[str], *, findings: Sequence[Finding], status: str
) -> Validation:
    """Return what the held-out rows say of a fit.

    Parameters
    ----------
    names : sequence of str
        Of all parameters.
    findings : sequence of Finding
        On the fit: overfitting, underfitting and leakage among them decide the verdict.
    status : str
        Why the solver stopped.
    """
    with np.errstate(all="ignore"):
        parameters, history = seen.outcome.parameters, seen.way()
        loss, train = seen.losses(parameters)
        residuals = held.data.y - seen.held.model.value(seen.held.columns, seen.held.whole(parameters))
        sure = as_good(seen.held.residual(parameters), seen.trained.residual(parameters))
        rise = seen.risen()
        step, best, last = seen.best(history)
    told = seen.outcome.held
    numbers = _Numbers(
        loss, train, held.data.n, status, sure, rise, step, int(history.step[-1]) if len(history.step) else 0
    )
    verdict, sentence = _judged(numbers, {f.code: f for f in findings if f.severity != "info"})
    return Validation(
        loss, train, held.data.n, len(seen.trained.y), held.how, residuals, history, step,
        _named(seen.held, names, best), _named(seen.held, names, last), told is not None and told.stopped, verdict, sentence,
    )  # fmt: skip


def _named(problem: ModelProblem, names: Sequence[str], parameters: Array) -> dict[str, float]:
    return dict(zip(names, problem.whole(parameters).tolist(), strict=True))


@dataclass(frozen=True, slots=True)
class _Numbers:
    loss: float
    train: float
    rows: int
    status: str
    sure: float
    rise: float
    best_step: int
    last_step: int


def _judged(n: _Numbers, found: Mapping[str, Finding]) -> tuple[Word, str]:
    """Return the verdict on held-out rows, with a sentence: what was found first, then what the numbers prove."""
    unfinished = n.status in ("epochs-done", "stalled", "max-iterations")
    still = unfinished and n.last_step > 0 and n.best_step >= LATE * n.last_step
    words: list[tuple[bool, Word, str]] = [
        (not np.isfinite(n.loss), "undecided", "The model is not finite on all rows that were held out"),
        ("leakage" in found, "undecided", "Held-out rows leaked into the training, so they prove nothing"),
        ("overfitting" in found, "overfitting", _overfitted(found)),
        (
            "underfitting" in found or "structured-residuals" in found,
            "underfitting",
            "Underfitting: the model misses a pattern in the rows that it was trained on",
        ),
        (still, "underfitting", "Underfitting: the validation loss still falls at the end of the training"),
        (
            n.rise > RISE,
            "undecided",
            f"Undecided: the validation loss ends {percent(n.rise - 1)} above its best",
        ),
        (
            n.sure < GOOD and n.loss < DOUBLE * n.train,
            "good",
            "Held-out rows are met as well as those in training",
        ),
        (n.rows < 2 * LEAST, "undecided", f"Undecided: {count(n.rows, 'held-out row')} can hardly tell"),
    ]
    unclear: Word = "undecided"
    none = True, unclear, "Undecided: held-out rows scatter more than those in training, but not clearly"
    _, verdict, said = next((word for word in words if word[0]), none)
    losses = f"validation loss {significant(n.loss, 4)} on {count(n.rows, 'row')}, training loss {significant(n.train, 4)}"
    return verdict, f"{said}: {losses}"


def _overfitted(found: Mapping[str, Finding]) -> str:
    evidence = found["overfitting"].evidence if "overfitting" in found else {}
    rise, epoch = evidence.get("rise"), evidence.get("epoch")
    if isinstance(rise, float) and isinstance(epoch, int):
        return f"Overfitting from epoch {epoch} on, by {percent(rise - 1)} of the validation loss"
    return "Overfitting"
