"""The result of a fit: numbers with their uncertainty, what they rest on, and how they were obtained."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import nan
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import polars, special, stage
from gradfit._version import __version__
from gradfit.beginning import Starts
from gradfit.diagnose import Check, Diagnosis, Finding
from gradfit.diagnose import verdict as verdict_of
from gradfit.likelihood import (
    counts_log_likelihood,
    explained_deviance,
    explained_variance,
    normal_log_likelihood,
    pearson,
)
from gradfit.loss import Loss
from gradfit.model import BoundModel
from gradfit.parameter import Params, checked_level, described
from gradfit.prediction import Prediction, bands, new_inputs
from gradfit.prepare import Data, Parameters
from gradfit.rivals import RIVALS
from gradfit.shrinkage import PenaltyPath, Shrinkage
from gradfit.solve.outcome import History, Outcome
from gradfit.solve.problem import ModelProblem
from gradfit.uncertainty import Uncertainty, at_end, correlation_of, student
from gradfit.validation import Folds, HeldRows, Seen, Validation, validation_of

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FitResult:
    """A fit: parameters with uncertainties, what they rest on, findings and a verdict.

    `rss` is the sum of squares that was made small: of (y - f)/sigma where sigma is known, of sqrt(w) (y - f) with
    weights, of y - f else; of counts the deviance. `loss` is what the solver minimised: the sum for Levenberg-Marquardt, the mean for torch.optim.

    Attributes
    ----------
    model : BoundModel
        The model with its names settled.
    data : Data
        The rows that were used.
    settled : Parameters
        Start values, bounds and what was fixed.
    outcome : Outcome
        Where the solver ended.
    loss_used : Loss
        The loss, with its scale.
    starts : Starts
        Where the fit began.
    shrinkage : Shrinkage or None
        The penalty, what it left of the parameters, and how its strength was found.
    held : HeldRows or None
        The rows that were held out; `validation` says what they show.
    folds : Folds or None
        The losses of a cross-validation.
    noise : PenaltyPath or None
        The strengths of noise on the inputs that were tried.
    """

    model: BoundModel
    data: Data
    settled: Parameters
    outcome: Outcome
    loss_used: Loss
    starts: Starts
    solver: str
    executor: str
    how: tuple[str, ...]
    level: float
    seconds: float
    settings: Mapping[str, object]
    examine: Callable[["FitResult"], Diagnosis]
    version: str = __version__
    shrinkage: Shrinkage | None = None
    held: HeldRows | None = None
    folds: Folds | None = None
    noise: PenaltyPath | None = None

    def __getattr__(self, name: str) -> object:
        if name in RIVALS:
            raise AttributeError(RIVALS[name])
        raise AttributeError(f"a fit result has no attribute {name!r}")

    # ------------------------------------------------------------------ parameters

    @property
    def formula(self) -> str:
        """The formula as written, or the function's name and arguments."""
        return self.model.text

    @property
    def response(self) -> str:
        """The observed column, or the left side that transforms it."""
        return self.model.response

    @property
    def inputs(self) -> tuple[str, ...]:
        """The input columns."""
        return self.model.inputs

    @cached_property
    def parameters(self) -> Array:
        """All parameters (k,), in the model's order."""
        return self.settled.whole(self.outcome.parameters)

    @property
    def values(self) -> dict[str, float]:
        """Parameter values by name."""
        return dict(zip(self.model.parameters, self.parameters.tolist(), strict=True))

    @property
    def errors(self) -> dict[str, float]:
        """Standard errors by name; NaN where there is none."""
        return {name: p.stderr for name, p in self.params.items()}

    @cached_property
    def params(self) -> Params:
        """The parameters with their uncertainty, by name."""
        known = self._uncertainty
        return described(
            self.model.parameters, self.parameters, self.settled, zip(known.stderr.tolist(), self._held.tolist(), known.determined.tolist(), strict=True),
            begun=self.starts.source != "not needed", dof=self.dof, level=self.level,
        )  # fmt: skip

    # ------------------------------------------------------------------ at the end point

    @cached_property
    def at_end(self) -> tuple[Array, Array]:
        """Residuals f - y (n,), weighted, and their Jacobian (n, f) by the free parameters, as the solver sees them."""
        if self.outcome.end is not None:
            return self.outcome.end
        with np.errstate(all="ignore"):
            return self.problem.residual_jacobian(self.outcome.parameters)

    @cached_property
    def problem(self) -> ModelProblem:
        """The weighted residuals as a function of the free parameters."""
        settled, data = self.settled, self.data
        free = None if len(settled.free) == len(settled.start) else settled.free
        executor = self.executor.split(" ")[0]
        kernel = self.model.kernel(executor if executor in ("numpy", "tensor") else "numpy")
        columns = [data.columns[name] for name in self.model.inputs] or [np.zeros(data.n)]
        return ModelProblem(
            kernel, columns, data.y, data.weight, settled.start, free, counts=self.data.counts
        )

    @cached_property
    def expected(self) -> tuple[Array, Array]:
        """Residuals f - y (n,) over the standard deviations that the fit takes for true, and their Jacobian (n, f).

        As `at_end`, but for counts: these are divided by the root of their fitted mean (Pearson's residuals), whose
        Jacobian gives the information that Fisher expects.
        """
        return pearson(self.data, self.fitted, self.at_end[1]) if self.data.counts else self.at_end

    @property
    def _held(self) -> NDArray[np.bool_]:
        return self.settled.on_bounds(self.outcome.parameters)

    @cached_property
    def _uncertainty(self) -> Uncertainty:
        if self.shrinkage is not None:
            r, J = self.expected
            return self.shrinkage.uncertainty(
                r, J, held=self._held, loss=self.loss_used, absolute=self.data.absolute
            )
        return at_end(
            lambda: self.expected, self.outcome, held=self._held, plain=self.settled.plain, loss=self.loss_used, dof=self.dof,
            absolute=self.data.absolute, counts=self.data.counts,
        )  # fmt: skip

    @property
    def covariance(self) -> Array:
        """Covariance (k, k) of all parameters; zero for fixed ones, NaN for what the data do not determine."""
        return self.settled.widened(self._uncertainty.covariance)

    @cached_property
    def correlation(self) -> Array:
        """Correlation (k, k) of the parameters; NaN where there is none."""
        return correlation_of(self.covariance)

    @cached_property
    def fitted(self) -> Array:
        """The model (n,) at the rows that were fitted."""
        problem = self.problem
        return problem.model.value(problem.columns, problem.whole(self.outcome.parameters))

    @cached_property
    def residuals(self) -> Array:
        """Observed minus fitted (n,), in the unit of the response."""
        return self.data.y - self.fitted

    @property
    def weighted_residuals(self) -> Array:
        """Residuals (n,) divided by sigma, or times the square root of the weights; of counts the deviance residuals."""
        return -self.at_end[0] / self.data.unit

    @property
    def leverage(self) -> Array:
        """How much each row (n,) determines its own fitted value: 0 to 1."""
        return np.clip(self._uncertainty.leverage(self.expected[1]), 0.0, 1.0)

    # ------------------------------------------------------------------ numbers of the fit

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.data.n

    @property
    def k(self) -> int:
        """Number of free parameters."""
        return len(self.settled.free)

    @property
    def dof(self) -> int:
        """Degrees of freedom: rows minus free parameters; with a penalty minus the effective number of parameters."""
        return self.n - self.k if self.shrinkage is None else self.shrinkage.dof(self.n)

    @property
    def path(self) -> PenaltyPath | None:
        """The strengths of the penalty, else of the noise, that were tried, with their validation loss; None where none were."""
        penalty = None if self.shrinkage is None else self.shrinkage.path
        return self.noise if penalty is None else penalty

    @cached_property
    def rss(self) -> float:
        """Weighted residual sum of squares; of counts the deviance."""
        r = self.at_end[0]
        return float(r @ r) / self.data.unit / self.data.unit

    @property
    def chi2(self) -> float:
        """Chi-square: the same sum as `rss`; a statistic with a known distribution only for counts, or with sigma."""
        return self.rss

    @property
    def deviance(self) -> float:
        """Twice what the log-likelihood of counts lacks to that of a perfect fit; else the same as `rss`."""
        return self.rss

    @cached_property
    def dispersion(self) -> float:
        """Variance of the residuals over the one that is taken for true, per degree of freedom: 1 for counts of events.

        Of counts it is Pearson's chi-square over the degrees of freedom, else `reduced_chi2`.

        References
        ----------
        .. [1] McCullagh & Nelder (1989), Generalized Linear Models, 2nd ed., sec. 4.5.
        """
        r = self.expected[0] / self.data.unit
        return float(r @ r) / self.dof if self.dof > 0 else nan

    @property
    def reduced_chi2(self) -> float:
        """Chi-square per degree of freedom; NaN without one."""
        return self.rss / self.dof if self.dof > 0 else float("nan")

    @property
    def scatter(self) -> float:
        """Residual standard deviation of unit weight, robust where the loss is."""
        if self.loss_used.robust:
            return self._uncertainty.scatter / self.data.unit
        r = self.at_end[0]
        with np.errstate(over="ignore"):
            return float(np.sqrt(r @ r / self.dof)) / self.data.unit if self.dof > 0 else float("nan")

    @cached_property
    def r2(self) -> float:
        """Share of the weighted variance of the response that the model explains; of counts the share of the deviance."""
        if self.data.counts:
            return explained_deviance(self.data, self.rss)
        return explained_variance(self.data, self.at_end[0])

    @cached_property
    def log_likelihood(self) -> float:
        """Logarithm of the likelihood at the fit, with its constants: of normal residuals, or of Poisson counts."""
        if self.data.counts:
            return counts_log_likelihood(self.data, self.fitted)
        return normal_log_likelihood(self.data, self.at_end[0])

    @property
    def _estimated(self) -> float:
        known = self.k if self.shrinkage is None else self.shrinkage.effective
        return known + (not self.data.absolute)  # the scatter is estimated too, as R counts it

    @property
    def aic(self) -> float:
        """Akaike's information criterion, as R's AIC(): an estimated scatter counts as a parameter."""
        return 2 * self._estimated - 2 * self.log_likelihood

    @property
    def aicc(self) -> float:
        """AIC corrected for few rows (Hurvich & Tsai 1989); infinite when there are too few."""
        k, room = self._estimated, self.n - self._estimated - 1
        return self.aic + 2 * k * (k + 1) / room if room > 0 else float("inf")

    @property
    def bic(self) -> float:
        """Bayesian information criterion (Schwarz 1978)."""
        return self._estimated * float(np.log(self.n)) - 2 * self.log_likelihood

    @property
    def loss(self) -> float:
        """What the solver minimised: the sum for Levenberg-Marquardt, the mean for torch.optim."""
        return self.outcome.loss / self.data.unit / self.data.unit

    @property
    def loss_name(self) -> str:
        """The loss with its scale."""
        scale = self.loss_used.scale
        return str(self.loss_used if scale is None else replace(self.loss_used, scale=scale / self.data.unit))

    @property
    def converged(self) -> bool:
        """Whether the parameters are those of a minimum."""
        return self.outcome.converged

    @property
    def status(self) -> str:
        """Why the solver stopped, as a word."""
        return self.outcome.status

    @property
    def message(self) -> str:
        """Why the solver stopped, as a sentence."""
        return self.outcome.message

    @property
    def iterations(self) -> int:
        """Iterations or epochs."""
        return self.outcome.iterations

    @property
    def evaluations(self) -> int:
        """How often the model was evaluated on all rows."""
        return self.outcome.evaluations

    @property
    def history(self) -> History:
        """The way there: step, loss, gradient and parameters."""
        return self.outcome.history

    @cached_property
    def data_hash(self) -> str:
        """SHA-256 of the columns that were used."""
        return self.data.digest(self.response)

    # ------------------------------------------------------------------ held-out rows

    @property
    def seen(self) -> Seen | None:
        """Both parts of the rows as the solver sees them; None where none were held out."""
        if self.held is None:
            return None
        held = self.held.problem(self.problem, self.inputs)
        return Seen(self.problem, held, self.outcome, self.loss_used, self.data.unit)

    @cached_property
    def validation(self) -> Validation | None:
        """What the held-out rows show: both losses, the way they went, and a verdict; None where none were held out."""
        seen = self.seen
        if self.held is None or seen is None:
            return None
        names = self.model.parameters
        return validation_of(seen, self.held, names, findings=self.findings, status=self.status)

    # ------------------------------------------------------------------ judgement

    @cached_property
    def diagnosis(self) -> Diagnosis:
        """Findings and checks."""
        return self.examine(self)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is wrong or noteworthy, worst first."""
        return self.diagnosis.findings

    @property
    def checks(self) -> tuple[Check, ...]:
        """The tests that were made, raised or not."""
        return self.diagnosis.checks

    @cached_property
    def verdict(self) -> str:
        """Return "trust", "caution" (a warning) or "no" (an error, or not converged)."""
        return verdict_of(self.findings, self.converged or self.status == "early-stopped")

    @cached_property
    def sentences(self) -> tuple[str, ...]:
        """At most three sentences that say what the verdict rests on."""
        return stage("sentences").said(self)

    # ------------------------------------------------------------------ use

    def predict(self, data: object = None, *, level: float | None = None) -> Prediction:
        """Return the model at new inputs, with confidence and prediction bands.

        Parameters
        ----------
        data : anything that `fit` takes, optional
            Must hold the input columns. Left out: the rows that were fitted.
        level : float, optional
            Of both bands; the fit's own when left out. With sigma the prediction band is that of a reading of typical
            (root mean square) sigma.

        Raises
        ------
        DataError
            If an input column is missing.
        """
        level = checked_level(self.level if level is None else level)
        columns, rows = new_inputs(self.data, data, self.inputs, self.formula)
        problem = self.problem
        value, J = problem.model.value_jacobian(
            [columns[name] for name in self.inputs] or [np.zeros(rows)], self.parameters
        )
        stderr = self._uncertainty.band(J[:, self.settled.free])
        t = student(level, self.dof) if not self.data.absolute else float(special.ndtri(0.5 + level / 2))
        confidence, new = bands(value, stderr, t, self._reading(), counts=self.data.counts)
        return Prediction(value, stderr, confidence, new, columns, level, self.response)

    def _reading(self) -> float:
        """Return the standard deviation of one new reading; of a count as a multiple of the root of its mean."""
        return self.data.typical_sigma * self._uncertainty.scatter / self.data.unit

    def at_level(self, level: float) -> "FitResult":
        """Return the same fit with intervals and bands of another level."""
        return replace(self, level=checked_level(level))

    def summary(self, width: int = 80) -> str:
        """Return the answer as text for a terminal."""
        return stage("terminal.answer").summary(self, width=width)

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={value:.6g}" for name, value in self.values.items())
        return f"<{self.verdict}: {self.formula}; {inside}>"

    def _repr_html_(self) -> str:
        return stage("report").notebook(self)

    def plot(self, ax: object = None) -> object:
        """Return a matplotlib figure of data, curve, bands and residuals; with `ax`, draw there and return it."""
        return stage("figures").fit_figure(self, ax=ax)

    def plot_way(self) -> object:
        """Return a matplotlib figure of where the solver went: the fit at some steps, the loss or the path over its surface.

        Raises
        ------
        OptionError
            If the fit took no steps.
        """
        return stage("figures.way").way_figure(self)

    def animate(
        self, path: str | Path, *, frames: int = 60, seconds: float = 6.0, force: bool = False
    ) -> Path:
        """Write a moving picture of the fit as it learned (.gif, .html or .mp4), and return its path.

        Raises
        ------
        OptionError
            If the fit took no steps, or the name has another ending.
        """
        return stage("figures.motion").animate(self, path, frames=frames, seconds=seconds, force=force)

    def report(self, path: str | Path, *, force: bool = False) -> Path:
        """Write the report, one self-contained HTML file, and return its path.

        An existing file is not overwritten unless `force` is true.
        """
        return stage("report").write(self, path, force=force)

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write the fit as JSON for `gradfit.load`, and return its path."""
        return stage("saved").save(self, path, force=force)

    def to_dict(self) -> dict[str, object]:
        """Return the fit as plain numbers and text."""
        return stage("saved").summary_dict(self)

    def to_frame(self) -> "polars.DataFrame":
        """Return the parameters as a Polars data frame."""
        return self.params.to_frame()
