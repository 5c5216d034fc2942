"""What a diagnosis is made from and what it says: Evidence in, Finding, Check and Diagnosis out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Indices = NDArray[np.intp]
Severity = Literal["info", "warning", "error"]
Verdict = Literal["trust", "caution", "no"]
Fact = float | str | tuple[str, ...] | tuple[float, ...]

#: The one budget of false alarms: a healthy fit exceeds one of these lines in about 0.5 % of all cases.
ALARM: Mapping[str, float] = {
    "structured-residuals": 2e-3,
    "outliers": 5e-4,
    "unequal-variance": 1e-3,
    "at-bound": 1e-3,
    "sigma-too-small": 5e-4,
    "overdispersion": 5e-4,
    "overfitting": 5e-3,
    "leakage": 5e-4,
}


@dataclass(frozen=True)
class Way:
    """How a training went, in the numbers that findings about it are made from.

    Attributes
    ----------
    optimizer : str
        Its name.
    rate : float
        The learning rate that it began with.
    epochs : int
        Done.
    offset : float
        Distance of its end to the minimum, in radii of the confidence region; infinite where it diverged or cannot be told.
    first, last, lowest : float
        The loss at the start, at the end, and the lowest on the way; `last` is infinite where the run diverged.
    turning : float
        Median cosine between gradients of successive epochs over the last quarter: near -1 it jumps to and fro.
    limit : float or None
        The largest stable learning rate, the lower one of start and end; None where no law of the optimizer is known.
    conditions : (float, float)
        Condition number at the end in the units of the training, and with parameters in standard units.
    gradients : float
        The largest component of the gradient at the start over the smallest.
    needed : float
        Epochs that are still needed at this rate; infinite where it gets nowhere.
    cures : mapping of str to float
        Arguments that were tried from the same start, with the distance to the minimum where each ended.
    tried : mapping of float to float
        Learning rates that were tried, with the same distance.
    scaled : bool
        Whether it was trained in standard units already.
    """

    optimizer: str
    rate: float
    epochs: int
    offset: float
    first: float
    last: float
    lowest: float
    turning: float = 0.0
    limit: float | None = None
    conditions: tuple[float, float] = (1.0, 1.0)
    gradients: float = 1.0
    needed: float = float("inf")
    cures: Mapping[str, float] = field(default_factory=dict[str, float])
    tried: Mapping[float, float] = field(default_factory=dict[float, float])
    scaled: bool = False


@dataclass(frozen=True, eq=False)
class HeldEvidence:
    """The arrays of held-out rows.

    Attributes
    ----------
    inputs : mapping of str to (m,)
        The columns of x.
    y : (m,)
        Observed values.
    residuals : (m,)
        As those of the rows that were trained on: over sigma, or times the square root of the weights.
    rows : (m,)
        Row numbers in the source.
    step : (s,) int
        Of training: epochs done.
    losses : (s, m) or None
        The loss of each row after so many epochs; None where there is no such way.
    returned : int
        The row of `losses` at the parameters of the result.
    jacobian : (m, k) or None
        Derivatives of the fitted values, as those of the rows that were trained on.
    """

    inputs: Mapping[str, Array]
    y: Array
    residuals: Array
    rows: NDArray[np.int64]
    step: NDArray[np.int64]
    losses: Array | None
    returned: int = -1
    jacobian: Array | None = None


@dataclass(frozen=True)
class Evidence:
    """The arrays at the end of one fit, as `diagnose` takes them.

    Attributes
    ----------
    names : tuple of str, (k,)
        The free parameters, in the order of the columns of `jacobian`.
    inputs : mapping of str to (n,) arrays
        The columns of x that the model uses.
    y, fitted : (n,) arrays
        Observed and fitted values, in the unit of the response.
    residuals : (n,) array
        (y - fitted)/sigma, or times the square root of the weights; of a robust fit the same plain residuals. Of counts
        sigma is the root of the fitted mean: Pearson's residuals.
    jacobian : (n, k) array
        Derivatives of the fitted values by each parameter, rows divided as those of `residuals`.
    values, lower, upper : (k,) arrays
        The parameters and their bounds; infinite where there is none.
    rows : (n,) array
        Row numbers in the source.
    response : str
        Name of the observed column.
    units : mapping of str to str
        Units by column name.
    absolute : bool
        Whether sigma was given, so that the residuals should have variance 1.
    robust : str or None
        Name of the robust loss in use; outliers are then handled already, and never raised.
    status : str
        "converged", "max-iterations", "interrupted", "stalled", "diverged", "singular" or "non-finite".
    message : str
        The solver's own sentence.
    other_rss : float or None
        A weighted residual sum of squares that another start reached.
    other_values : mapping of str to float, or None
        The parameters there.
    unused : tuple of str
        Parameters that the model never uses; those not in `names` are no concern.
    constant : tuple of str
        Input columns that hold one value.
    sigma : str
        The column that sigma came from, empty when it was an array or a number.
    counts : (n,) array or None
        The weights of counts, 1 where none were given; None where y is no count.
    at_zero : (m,) indices
        Of counts, the rows whose fitted mean has run into zero, where the likelihood would still rise beyond.
    held : HeldEvidence or None
        The rows that were held out.
    way : Way or None
        How it was trained, by an optimizer of torch.
    """

    names: tuple[str, ...]
    inputs: Mapping[str, Array]
    y: Array
    fitted: Array
    residuals: Array
    jacobian: Array
    values: Array
    lower: Array
    upper: Array
    rows: NDArray[np.int64]
    response: str = "y"
    units: Mapping[str, str] = field(default_factory=dict[str, str])
    absolute: bool = False
    robust: str | None = None
    status: str = "converged"
    message: str = ""
    other_rss: float | None = None
    other_values: Mapping[str, float] | None = None
    unused: tuple[str, ...] = ()
    constant: tuple[str, ...] = ()
    sigma: str = ""
    counts: Array | None = None
    at_zero: NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, dtype=np.intp))
    held: HeldEvidence | None = None
    way: Way | None = None


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing, about a fit.

    Attributes
    ----------
    code : str
        Its fixed name, as `docs/findings.md` lists it.
    severity : str
        "info" changes nothing; "warning": the answer holds with a condition; "error": do not use it.
    message : str
        One sentence with the number, in the reader's own names and units.
    remedy : str
        An argument of `gradfit.fit` to paste, empty when there is nothing to do.
    evidence : mapping of str to float, str or tuple
        The numbers behind the sentence, ready for JSON.
    """

    code: str
    severity: Severity
    message: str
    remedy: str = ""
    evidence: Mapping[str, Fact] = field(default_factory=dict[str, Fact])


@dataclass(frozen=True)
class Check:
    """One test that was made, raised or not: a row of the report's chart of checks.

    Attributes
    ----------
    name : str
        What it looks for.
    statistic : str
        The test, by the name the field gives it.
    p : float
        Probability of so large a statistic on a healthy fit.
    alarm : float
        The line below which it counts.
    raised : bool
        Whether a warning or an error came of it.
    """

    name: str
    statistic: str
    p: float
    alarm: float
    raised: bool


@dataclass(frozen=True)
class Diagnosis:
    """All findings on one fit, worst first, and the checks that were made."""

    findings: tuple[Finding, ...]
    checks: tuple[Check, ...] = ()


def verdict(findings: Sequence[Finding], converged: bool) -> Verdict:  # noqa: FBT001 - the two facts a verdict is made of
    """Return "no" after an error or without convergence, "caution" after a warning, "trust" otherwise.

    >>> verdict([Finding("at-bound", "info", "a sits on its bound 0.")], True)
    'trust'
    """
    severities = {finding.severity for finding in findings}
    if "error" in severities or not converged:
        return "no"
    return "caution" if "warning" in severities else "trust"
