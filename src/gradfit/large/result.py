"""The result of a large fit: its numbers are those of all rows; what is drawn and judged is a sample of them."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf, nan

import numpy as np
from numpy.typing import NDArray

from gradfit.diagnose import Diagnosis, Evidence, diagnose
from gradfit.evidence import evidence_of, worth_another_look
from gradfit.large.rows import Facts
from gradfit.loss import Loss
from gradfit.result import FitResult
from gradfit.solve.factor import factorise
from gradfit.solve.passes import Passes
from gradfit.starting import Options, searched
from gradfit.uncertainty import Uncertainty, uncertainty

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Whole:
    """What all rows add up to at the end of a fit.

    Attributes
    ----------
    facts : Facts
        Of the rows.
    passes : Passes
        Over them.
    residuals, jacobian : (k + 1,), (k + 1, k)
        With the same sums of squares and products as the weighted ones of all rows.
    rss : float
        Sum of squared weighted residuals; the deviance of counts.
    psi : tuple of float
        For a robust loss the sums of psi², psi' and psi'² over all rows.
    chi2 : float
        Pearson's, of counts.
    """

    facts: Facts
    passes: Passes
    residuals: Array
    jacobian: Array
    rss: float
    psi: tuple[float, float, float] = (0.0, 0.0, 0.0)
    chi2: float = 0.0


@dataclass(frozen=True, eq=False)
class LargeResult(FitResult):
    """A fit to more rows than are looked at one by one.

    Parameters, standard errors and all numbers of the fit are those of all rows. `data`, `fitted`, `residuals`, `leverage`
    and the findings are those of a sample, which `how` names; the numbers of its rows are in `data.rows`.

    Attributes
    ----------
    whole : Whole
        What all rows add up to.
    """

    whole: Whole | None = None  # None only so that it may follow fields with defaults

    @property
    def _all(self) -> Whole:
        assert self.whole is not None  # noqa: S101  fit_large gives it
        return self.whole

    @property
    def n(self) -> int:
        """Number of rows that were fitted."""
        return self._all.facts.n

    @cached_property
    def _uncertainty(self) -> Uncertainty:
        whole = self._all
        known = uncertainty(whole.residuals, whole.jacobian, held=self._held, loss=Loss(), absolute=True)
        scatter = self._scatter(self.n - int(known.half.shape[1]))
        with np.errstate(over="ignore", under="ignore"):
            covariance = known.covariance * scatter * scatter
        return known._replace(covariance=covariance, stderr=known.stderr * scatter, scatter=scatter)

    def _scatter(self, dof: int) -> float:
        """Return the residual standard deviation of unit weight.

        References
        ----------
        .. [1] Huber (1981), Robust Statistics, eq. 7.6.8: for robust losses.
        """
        if dof <= 0:
            return nan
        if not self.loss_used.robust:
            return 1.0 if self.data.absolute else float(np.sqrt(self._all.rss / dof))
        n, (square, slope, slopes) = self.n, self._all.psi
        middle = slope / n
        if middle <= 0:
            return nan
        correction = 1 + (n - dof) / n * max(slopes / n - middle * middle, 0.0) / middle**2
        return correction * float(np.sqrt(square / dof)) / middle

    @cached_property
    def rss(self) -> float:
        """Weighted residual sum of squares; of counts the deviance."""
        return self._all.rss / self._unit / self._unit

    @property
    def _unit(self) -> float:
        return self.data.unit

    @property
    def scatter(self) -> float:
        """Residual standard deviation of unit weight, robust where the loss is."""
        if self.loss_used.robust:
            return self._uncertainty.scatter / self._unit
        return float(np.sqrt(self._all.rss / self.dof)) / self._unit if self.dof > 0 else nan

    @cached_property
    def dispersion(self) -> float:
        """Variance of the residuals over the one that is taken for true, per degree of freedom."""
        if self._all.facts.tally is None:
            return self.reduced_chi2
        return self._all.chi2 / self.dof if self.dof > 0 else nan

    @cached_property
    def r2(self) -> float:
        """Share of the weighted variance of the response that the model explains; of counts the share of the deviance."""
        tally = self._all.facts.tally
        total = self._all.facts.spread.squares if tally is None else tally.deviance
        return 1 - self.rss / total if 0 < total < inf else nan

    @cached_property
    def log_likelihood(self) -> float:
        """Logarithm of the likelihood at the fit, with its constants: of normal residuals, or of Poisson counts."""
        log_sigma, n, tally = self._all.facts.log_sigma, self.n, self._all.facts.tally
        if tally is not None:
            return tally.likelihood - 0.5 * self.rss
        if self.data.absolute:
            return -0.5 * (self.rss + n * float(np.log(2 * np.pi))) - log_sigma
        log_rss = float(np.log(self.rss)) if self.rss > 0 else -inf
        return -0.5 * n * (float(np.log(2 * np.pi / n)) + log_rss + 1) - log_sigma

    @cached_property
    def data_hash(self) -> str:
        """SHA-256 of the columns that were used, all rows of them, in pieces."""
        digest = hashlib.sha256()
        for name in (*self.data.columns, self.response):
            digest.update(name.encode())
        for part in self._all.facts.kept.parts():
            for column in part():
                digest.update(np.ascontiguousarray(column).data)
        return digest.hexdigest()

    def judged(self, options: Options) -> Diagnosis:
        """Return the findings of the sample; where something looks wrong other starts are tried on it first."""
        with np.errstate(all="ignore"):
            evidence = self._evidence()
            diagnosis = diagnose(evidence)
            if self.k == 0 or not worth_another_look(self, diagnosis):
                return diagnosis
            other = searched(self.model, self.problem, self.settled, options, quick=True)
            better, own = self.problem.residual(other.parameters), self.at_end[0]
        if not float(better @ better) < 0.999 * float(own @ own):
            return diagnosis
        values = self.problem.whole(other.parameters).tolist()
        rss = float(better @ better) * self.n / self.data.n
        names = self.model.parameters
        return diagnose(replace(evidence, other_rss=rss, other_values=dict(zip(names, values, strict=True))))

    def _evidence(self) -> Evidence:
        """Return the evidence of the sample at its own minimum, where the tests of residuals have their known rates.

        All rows have another one, some confidence radii of the sample's away.
        """
        evidence = evidence_of(self)
        if self.data.n == self.n or not self.converged or self.loss_used.robust or self.k == 0:
            return evidence
        moving = ~self._held
        J = evidence.jacobian[:, moving]
        change = J @ factorise(J, -evidence.residuals).newton_step()
        sigma = 1.0 if self.data.sigma is None else self.data.sigma
        sigma = sigma * np.sqrt(evidence.fitted) if self.data.counts else sigma
        fitted = evidence.fitted + change * sigma / self.data.unit
        return replace(evidence, residuals=evidence.residuals - change, fitted=fitted)
