"""What a large run is asked, and how far it has come."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradfit.many.arguments import Spread
from gradfit.many.portions import Columns


@dataclass(frozen=True)
class Job:
    """Many fits that are to be written to a file; the fields are the arguments of `fit_many`.

    Attributes
    ----------
    model : str
        A formula, or the name of a library model.
    data : path, or mapping of str to path or array
        A table: Parquet and Arrow files and folders of Parquet files are read in portions, others whole. Or arrays.
    out : path
        .parquet, .csv, .feather, .arrow or .jsonl.
    start, fixed : mapping, optional
        By parameter a number, or the name of a column.
    sheet : str, optional
        Of an Excel file.
    """

    model: str
    data: Any
    out: str
    by: tuple[str, ...] = ()
    axis: int | tuple[int, ...] | None = None
    response: str | None = None
    start: Mapping[str, float | str] | Sequence[float] | None = None
    bounds: Mapping[str, tuple[float | None, float | None]] | None = None
    fixed: Mapping[str, float | str] | None = None
    sigma: str | None = None
    weights: str | None = None
    loss: str = "squared"
    where: str | None = None
    missing: str = "drop"
    executor: str = "auto"
    dtype: str = "float64"
    max_iterations: int = 200
    seed: int = 0
    threads: int | None = None
    sheet: str | None = None

    @property
    def spread(self) -> Spread:
        """What is known of precision."""
        return Spread(self.sigma, self.weights)

    @property
    def asked(self) -> dict[str, object]:
        """What decides the results; not how many threads make them."""
        names = (
            "model", "by", "axis", "response", "start", "bounds", "fixed", "sigma", "weights", "loss", "where", "missing",
            "executor", "dtype", "max_iterations", "seed", "sheet",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}

    @property
    def columns(self) -> Columns:
        """Which columns are asked for."""
        texts = [self.sigma, self.weights, self.where]
        for values in (self.start, self.fixed):
            texts += list(values.values()) if isinstance(values, Mapping) else []
        others = tuple(text for text in texts if isinstance(text, str))
        return Columns(self.model, self.by, others, self.response)


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Attributes
    ----------
    share : float
        Of all points, 0 to 1.
    fits : int
        Fits done, those of an earlier run included.
    new : int
        Fits done by this process.
    total : int or None
        Fits in all, where that is known.
    parts, of : int
        Parts done, and all of them.
    executor : str
        What runs the fits.
    """

    share: float
    fits: int
    new: int
    total: int | None
    parts: int
    of: int
    executor: str
