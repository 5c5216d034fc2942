"""A fit that came from a file: the numbers are those that were saved, what can be computed from them is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from gradfit.diagnose import Diagnosis
from gradfit.errors import DataError, ModelError
from gradfit.prepare import Data
from gradfit.result import FitResult
from gradfit.solve.problem import ModelProblem
from gradfit.uncertainty import Uncertainty
from gradfit.validation import Validation

Array = NDArray[np.float64]

AT_ROWS = ("fitted", "weighted_residuals", "leverage")
_ROWS = frozenset({"columns", "y", "rows", "sigma", "cholesky"})


class AbsentData(Data):
    """The rows of a fit too long to be saved: what is known of them, and a sentence for whoever asks for the rest."""

    @classmethod
    def of(cls, known: Data, size: int, *, unit: float, why: str) -> "AbsentData":
        """Return what is known of `size` rows that are not there."""
        absent = cls.__new__(cls)
        kept = {field.name: getattr(known, field.name) for field in fields(known) if field.name not in _ROWS}
        for name, value in {**kept, "size": size, "unit": unit, "why": why}.items():
            object.__setattr__(absent, name, value)  # as a frozen dataclass does it; the rows stay unset
        return absent

    def __getattr__(self, name: str) -> NoReturn:
        if name in _ROWS:
            self.refuse()
        raise AttributeError(f"the data of a fit have no attribute {name!r}")

    def refuse(self) -> NoReturn:
        """Say that the rows are not here.

        Raises
        ------
        DataError
            Always.
        """
        raise DataError(
            str(self.__dict__["why"]),
            remedy="Fit again to see residuals, plots and the report; values, errors and predict do not need the rows",
        )

    @property
    def n(self) -> int:
        """Number of rows."""
        return int(self.__dict__["size"])


@dataclass(frozen=True)
class Recalled:
    """The judgement that was saved with a fit."""

    diagnosis: Diagnosis

    def __call__(self, result: FitResult) -> Diagnosis:  # noqa: ARG002  any result is judged as it was
        """Return it."""
        return self.diagnosis


@dataclass(frozen=True, eq=False)
class Kept:
    """Numbers that were saved, so that they are the same on every machine.

    Attributes
    ----------
    numbers : mapping of str to float
        rss, r2, log_likelihood, scatter and reading, the standard deviation of a new reading; of counts the dispersion.
    rows : mapping of str to (n,)
        Those AT_ROWS; empty where the rows were not saved.
    uncertainty : Uncertainty
        How well the parameters are known.
    sentences : tuple of str
        Those at `level`.
    data_hash : str
        SHA-256 of the columns.
    versions : mapping of str to str
        Of gradfit, Python and NumPy, when the fit was made.
    validation : Validation or None
        What held-out rows said.
    """

    numbers: Mapping[str, float]
    rows: Mapping[str, Array]
    uncertainty: Uncertainty
    sentences: tuple[str, ...]
    level: float
    data_hash: str
    versions: Mapping[str, str]
    validation: Validation | None = None


@dataclass(frozen=True)
class _NoFunction:
    """Takes the place of the kernel of a function that could not be saved."""

    text: str
    name: str = "none"

    def value(self, columns: Sequence[Array], parameters: Array) -> Array:  # noqa: ARG002  a kernel's arguments
        """Refuse: there is nothing to evaluate."""
        raise self._missing()

    def value_jacobian(self, columns: Sequence[Array], parameters: Array) -> tuple[Array, Array]:  # noqa: ARG002  a kernel's arguments
        """Refuse: there is nothing to evaluate."""
        raise self._missing()

    def _missing(self) -> ModelError:
        return ModelError(
            f"{self.text} could not be traced, so the file holds its numbers but not the function, which predict needs",
            remedy="Fit again with the function at hand, or write it as a formula",
        )


@dataclass(frozen=True, eq=False)
class SavedResult(FitResult):
    """A fit as it was saved."""

    kept: Kept = field(kw_only=True)

    @cached_property
    def problem(self) -> ModelProblem:
        """The weighted residuals as a function of the free parameters, as far as rows and function were saved."""
        model, data = self.model, self.data
        executor = self.executor.split(" ")[0]
        kernel = _NoFunction(model.text)
        if model.graph is not None:
            kernel = model.kernel(executor if executor in ("numpy", "tensor") else "numpy")
        free = None if self.k == len(self.settled.start) else self.settled.free
        if isinstance(data, AbsentData):
            return ModelProblem(kernel, [], np.empty(0), None, self.settled.start, free)
        columns = [data.columns[name] for name in model.inputs] or [np.zeros(data.n)]
        return ModelProblem(
            kernel, columns, data.y, data.weight, self.settled.start, free, counts=data.counts
        )

    @cached_property
    def at_end(self) -> tuple[Array, Array]:
        """Residuals f - y (n,), weighted, and their Jacobian (n, f) by the free parameters, as the solver sees them."""
        weighted = self.weighted_residuals
        return -weighted * self.data.unit, self.problem.residual_jacobian(self.outcome.parameters)[1]

    def _at_rows(self, name: str) -> Array:
        if isinstance(self.data, AbsentData):
            self.data.refuse()
        return self.kept.rows[name]

    @cached_property
    def _uncertainty(self) -> Uncertainty:
        return self.kept.uncertainty

    @cached_property
    def fitted(self) -> Array:
        """The model (n,) at the rows that were fitted."""
        return self._at_rows("fitted")

    @property
    def weighted_residuals(self) -> Array:
        """Residuals (n,) divided by sigma, or times the square root of the weights."""
        return self._at_rows("weighted_residuals")

    @property
    def leverage(self) -> Array:
        """How much each row (n,) determines its own fitted value: 0 to 1."""
        return self._at_rows("leverage")

    @cached_property
    def validation(self) -> Validation | None:
        """What the held-out rows showed."""
        return self.kept.validation

    @cached_property
    def rss(self) -> float:
        """Weighted residual sum of squares."""
        return self.kept.numbers["rss"]

    @cached_property
    def dispersion(self) -> float:
        """Variance of the residuals over the one that is taken for true, per degree of freedom."""
        return self.kept.numbers["dispersion"] if self.data.counts else self.reduced_chi2

    @cached_property
    def r2(self) -> float:
        """Share of the weighted variance of the response that the model explains."""
        return self.kept.numbers["r2"]

    @cached_property
    def log_likelihood(self) -> float:
        """Logarithm of the normal likelihood at the fit, with its constants."""
        return self.kept.numbers["log_likelihood"]

    @property
    def scatter(self) -> float:
        """Residual standard deviation of unit weight, robust where the loss is."""
        return self.kept.numbers["scatter"]

    @cached_property
    def data_hash(self) -> str:
        """SHA-256 of the columns that were used."""
        return self.kept.data_hash

    @cached_property
    def sentences(self) -> tuple[str, ...]:
        """At most three sentences that say what the verdict rests on."""
        return self.kept.sentences if self.level == self.kept.level else super().sentences

    def _reading(self) -> float:
        return self.kept.numbers["reading"]
