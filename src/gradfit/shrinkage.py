"""What a penalised fit keeps of its penalty: strengths that were tried, effective parameters, errors that go with it."""

from dataclasses import dataclass, field
from math import nan, sqrt
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import polars, stage
from gradfit.loss import Loss
from gradfit.notation import listing, significant
from gradfit.solve.factor import column_lengths
from gradfit.uncertainty import Uncertainty, uncertainty

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # noqa: TID251  only the name of a type

Array = NDArray[np.float64]

_SQUARED = Loss()


@dataclass(frozen=True, eq=False)
class PenaltyPath:
    """A path of strengths, with what cross-validation says of each.

    Attributes
    ----------
    kind : str
        Of the penalty.
    strength : (m,)
        Falling.
    loss, stderr : (m,)
        Mean loss per row that was held out, without the penalty, and its standard error over the folds.
    train : (m,)
        Mean loss of all rows when all are fitted, without the penalty.
    parameters : (m, f)
        The free parameters when all rows are fitted.
    scale : (f,)
        What each is multiplied by to give b; 0 for those that are not penalised.
    names : tuple of str
        Of those.
    effective : (m,)
        Effective number of parameters.
    best, chosen : int
        The place of the lowest validation loss, of equal ones the strongest; and which strength was taken.
    folds : int
        How many there were.
    rule : str
        "best" or "one-se".
    """

    kind: str
    strength: Array
    loss: Array
    stderr: Array
    train: Array
    parameters: Array
    scale: Array
    names: tuple[str, ...]
    effective: Array
    best: int
    chosen: int
    folds: int
    rule: str

    def to_frame(self) -> "polars.DataFrame":
        """Return the path as a Polars data frame, a row for each strength."""
        columns: dict[str, object] = {
            "strength": self.strength, "loss": self.loss, "stderr": self.stderr, "train": self.train,
            "effective": self.effective, "chosen": np.arange(len(self.strength)) == self.chosen,
        }  # fmt: skip
        return polars.DataFrame(columns | {n: self.parameters[:, j] for j, n in enumerate(self.names)})

    def plot(self) -> "Figure":
        """Return a figure: validation loss with its standard errors, and the parameters, along the strength."""
        return stage("figures.path").path_figure(self)


@dataclass(frozen=True, eq=False)
class Shrinkage:
    """What a penalised fit keeps of its penalty.

    Attributes
    ----------
    kind : str
        Of the penalty.
    strength : float
        That was used.
    names : tuple of str
        Parameters that are penalised.
    zero : tuple of str
        Those of them that the penalty set to their centre exactly.
    text : str
        The penalty as a sentence.
    effective : float
        Effective number of parameters.
    value : float
        Strength times penalty at the end: what the loss contains beside the mean over the rows.
    path : PenaltyPath or None
        How the strength was found.
    rest : str
        Where those are: "0", or "the centre".
    rows : (m, f)
        Rows that the residuals go on with in the eyes of the solver.
    moving : (f,) bool
        Which free parameters are not held at their centre.
    """

    kind: str
    strength: float
    names: tuple[str, ...]
    zero: tuple[str, ...]
    text: str
    effective: float
    value: float
    path: PenaltyPath | None = None
    rest: str = "0"
    rows: Array = field(default_factory=lambda: np.zeros((0, 0)))
    moving: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))

    @property
    def sentence(self) -> str:
        """What the penalty did, and what standard errors are worth beside it."""
        kind = "lasso" if self.kind == "lasso" else f"{self.kind} penalty"
        an = "An" if self.kind[0] in "aeiou" else "A"
        cut = (
            f" set {listing(list(self.zero))} to {self.rest}"
            if self.zero
            else f" holds {listing(list(self.names))}"
        )
        found = ", found by cross-validation," if self.path is not None else ""
        return (
            f"{an} {kind} of strength {significant(self.strength, 3)}{found}{cut}; standard errors hold for this penalty and do "
            "not contain its pull"
        )

    def dof(self, n: int) -> int:
        """Return the degrees of freedom that n rows leave, rounded down."""
        return int(np.floor(n - self.effective + 1e-9))

    def uncertainty(
        self, r: Array, J: Array, *, held: NDArray[np.bool_], loss: Loss, absolute: bool
    ) -> Uncertainty:
        """Return the uncertainty of the free parameters, given the penalty: scatter² (JᵀJ + RᵀR)⁻¹.

        Those that are held at their centre have none. A squared penalty is what a normal prior would say, and this the
        covariance that follows from it; it contains the squared bias on average (Nychka 1988).

        References
        ----------
        .. [1] Nychka (1988), J. Am. Stat. Assoc. 83, 1134: confidence intervals for smoothing splines.
        .. [2] Wood (2017), Generalized Additive Models, 2nd ed., sec. 4.8.
        """
        J = J if np.isfinite(J).all() else np.zeros_like(J)
        longer = np.concatenate([r, np.zeros(len(self.rows))])
        unit = uncertainty(
            longer, np.vstack([J, self.rows]), held=held | ~self.moving, loss=_SQUARED, absolute=True
        )
        scatter = 1.0
        if not absolute or loss.robust:
            n, dof = len(r), self.dof(len(r))
            psi, slope = loss.curvature(r)
            middle = float(np.mean(slope)) if loss.robust else 1.0
            scatter = sqrt(float(psi @ psi) / dof) / middle if dof > 0 and n and middle > 0 else nan
        return unit._replace(
            covariance=scatter * unit.covariance * scatter, stderr=scatter * unit.stderr, scatter=scatter
        )


def effective_parameters(J: Array, rows: Array, moving: NDArray[np.bool_]) -> float:
    """Return the effective number of parameters: the trace of J (JᵀJ + RᵀR)⁻¹ Jᵀ over those that move.

    References
    ----------
    .. [1] Hastie, Tibshirani & Friedman (2009), The Elements of Statistical Learning, 2nd ed., eq. 3.50 and 7.32.
    .. [2] Zou, Hastie & Tibshirani (2007), Ann. Stat. 35, 2173: of a lasso the number of nonzero coefficients.
    """
    if not moving.any() or not np.isfinite(J).all():
        return float(np.count_nonzero(moving))
    whole = np.vstack([J[:, moving], rows[:, moving]])
    whole = whole / column_lengths(whole)
    Q, R = np.linalg.qr(whole)
    sizes = np.abs(R.diagonal())
    if not (
        len(R) == R.shape[1] and sizes.min() > 1e-10 * sizes.max()
    ):  # redundant columns share what they explain
        U, s, _ = np.linalg.svd(whole, full_matrices=False)
        Q = U[:, s > 1e-12 * s[0]] if s[0] > 0 else U[:, :0]
    top = Q[: len(J)]
    return float(np.sum(top * top))
