"""grow(): the smallest model of a kind that generalises."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import isfinite
from typing import Any, NamedTuple, NoReturn

import numpy as np

from gradfit.binding import bind, table_of
from gradfit.errors import DataError, FormulaError, OptionError
from gradfit.fitting import fit
from gradfit.growing.bases import Fourier, Polynomial
from gradfit.growing.climb import Plan, climb
from gradfit.growing.ladder import Ground, Ladder, Rung
from gradfit.growing.networks import LARGEST, Networks
from gradfit.growing.request import Request, request_of
from gradfit.growing.result import GrowResult
from gradfit.growing.sums import Exponential, Gaussian, Sum
from gradfit.notation import count
from gradfit.prepare import Data, assemble, attached, chosen_rows
from gradfit.result import FitResult
from gradfit.splitting import Split, Ties, folds, held_out, ties_of
from gradfit.table import Table

LEAST_ROWS = 4
RULES = ("one-se", "best")


def grow(  # noqa: PLR0913  the public call lists its options by name
    model: str,
    data: object,
    *,
    sizes: Sequence[int] | int | None = None,
    kfold: int | None = None,
    validation: float | None = None,
    groups: str | None = None,
    order: str | None = None,
    seeds: int | None = None,
    patience: int | None = None,
    rule: str = "one-se",
    sigma: object = None,
    weights: object = None,
    where: str | None = None,
    exclude: Sequence[int] | None = None,
    missing: str = "error",
    level: float = 0.95,
    seed: int = 0,
    callback: Callable[[Rung], object] | None = None,
    **training: object,
) -> GrowResult:
    """Return the smallest model of a kind that generalises, with the whole ladder that it was chosen from.

    The size grows until the loss on rows that were held out has risen for a while, and then goes down again to the
    smallest model whose loss is within one standard error of the lowest. Each size is fitted in folds, with several seeds.
    The one that is chosen is fitted to all rows.

    Parameters
    ----------
    model : str
        What to grow: "y ~ polynomial(x)", "y ~ gaussians(x)", "y ~ exponentials(t)", "y ~ fourier(t)", with the period
        as in "y ~ fourier(t, period=24)" (the span of the data when left out), or "y ~ network(x1, x2)".
    data : path, mapping of arrays, data frame, ...
        Whatever `gradfit.read` takes.
    sizes : sequence of int or int, optional
        Sizes to try, or the largest one: degrees, terms, pairs of terms, hidden units.
    kfold : int, optional
        Folds; 5 when neither it nor `validation` is given, and fewer where rows are few.
    validation : float, optional
        A share of the rows that is held out instead of folds.
    groups, order : str, optional
        Columns: rows of one group stay together; by order, the last rows are held out.
    seeds : int, optional
        How often rows are dealt into folds anew, and fits begun anew: 3, and 2 for networks.
    patience : int, optional
        How many sizes may bring no lower validation loss before growing ends: 2 for sums, of which each size is long work, 4 for
        networks; polynomials and Fourier terms are all looked at.
    rule : {"one-se", "best"}
        Which size is chosen: the smallest within one standard error of the lowest validation loss, or that one.
    sigma, weights, where, exclude, missing, level
        As in `fit`.
    seed : int
        Of everything random.
    callback : callable, optional
        Called with each `Rung` as it is done; a true answer ends the growing.
    **training
        Of networks, as in `fit`: epochs=500 (4000 for up to 1024 rows when left out), lr=0.01, batch_size=64.

    Raises
    ------
    FormulaError
        If there is no such ladder.
    DataError
        If there are too few rows.
    OptionError
        If an argument makes no sense.

    References
    ----------
    .. [1] Breiman, Friedman, Olshen & Stone (1984), Classification and Regression Trees, sec. 3.4.3.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.linspace(0, 4, 40)
    >>> grown = grow("y ~ polynomial(x)", {"x": x, "y": 1 + 2 * x - x**2})
    >>> grown.size, {name: round(value, 6) for name, value in grown.values.items()}
    (2, {'c0': 1.0, 'c1': 2.0, 'c2': -1.0})
    """
    request = request_of(model)
    _checked(rule, kfold, validation, seeds=seeds, patience=patience)
    if training and request.kind != "network":
        raise OptionError(f"{next(iter(training))}= is for networks", remedy="Leave it out")
    table = table_of(data)
    table.require(list(request.inputs))
    asked = Asked(table, request, sigma, weights, where, exclude, missing)
    if request.kind == "network":
        stand = _networks(asked, training, _largest(sizes))
    else:
        again = partial(
            fit, data=table, sigma=sigma, weights=weights, where=where, exclude=exclude, missing=missing, level=level,
            seed=seed,
        )  # fmt: skip
        stand = _numeric(asked, again, _largest(sizes))
    ladder = stand.ladder
    splits = _splits(
        stand.rows, kfold, validation, (groups, order, ladder.seeds if seeds is None else seeds, seed)
    )
    plan = Plan(splits, ladder.patience if patience is None else patience, rule, stand.size, callback)
    way = climb(ladder, _sizes(ladder, sizes, plan), plan)
    best = way.rungs[way.chosen].size
    return GrowResult(
        request.text, request.kind, request.left, request.inputs, way, ladder.refitted(best, seed), _how(plan),
        len(plan.splits), stand.rows.n, rule, ladder.told(best),
    )  # fmt: skip


def _checked(rule: str, kfold: int | None, validation: float | None, **whole: int | None) -> None:
    for name, value in whole.items():
        if value is not None and (isinstance(value, bool) or value != int(value) or value < 1):
            raise OptionError(f"{name}={value!r} must be a whole number from 1 up")
    if rule not in RULES:
        raise OptionError(f"There is no rule {rule!r}", remedy='Give rule="one-se" or rule="best"')
    if kfold is not None and validation is not None:
        raise OptionError("kfold= and validation= were both given", remedy="Leave one out")


# ---------------------------------------------------------------------------- rows


class Asked(NamedTuple):
    """A table, what is to grow on it, and which rows count how much."""

    table: Table
    request: Request
    sigma: object
    weights: object
    where: str | None
    exclude: Sequence[int] | None
    missing: str

    @property
    def chosen(self) -> Table:
        """The rows that where= and exclude= leave."""
        return self._of(self.table)

    def _of(self, table: Table) -> Table:
        if self.where is None and self.exclude is None:
            return table
        return chosen_rows(table, self.where, self.exclude)

    def weighted(self) -> Table:
        """Return those rows with their sigma or weights.

        Raises
        ------
        OptionError
            If errors are correlated.
        """
        table, covariance = attached(self.table, self.sigma, self.weights)
        if covariance is not None:
            raise OptionError(
                "Rows with correlated errors cannot be held out", remedy="Give sigma= as standard deviations"
            )
        return self._of(table)


class Stand(NamedTuple):
    """A ladder, the rows that it stands on, and the mean square of their response (0: nothing is rounding)."""

    ladder: Ladder
    rows: Table
    size: float


def _numeric(asked: Asked, again: Callable[..., FitResult], most: int | None) -> Stand:
    """Return the ladder of a curve."""
    rows, used = _rows(asked)
    ground = _ground(rows, asked, again)
    size = float(np.mean((ground.y * ground.weight) ** 2))
    return Stand(_ladder(ground, asked.request, most), used, size)


def _networks(asked: Asked, training: Mapping[str, object], most: int | None) -> Stand:
    """Return the ladder of networks.

    Raises
    ------
    OptionError
        If a network is given standard deviations or weights.
    """
    if asked.sigma is not None or asked.weights is not None:
        raise OptionError("A network takes no sigma= and no weights=", remedy="Leave them out")
    used, request = asked.chosen, asked.request
    names = [*request.inputs, request.left]
    used.require(names)
    if asked.missing == "drop":
        holes = [np.array([v is None or v != v for v in used.columns[name].tolist()]) for name in names]
        used = used.keep(~np.any(holes, axis=0), "")
    if used.n < LEAST_ROWS:
        _too_few(used.n, used.source)
    shared = {"missing": asked.missing, **training}
    return Stand(Networks(request, used, fit, shared, most or LARGEST), used, 0.0)


def _rows(asked: Asked) -> tuple[Data, Table]:
    """Return the rows as numbers, and the table that they are of, for groups and order."""
    chosen, request = asked.weighted(), asked.request
    stem = "p"
    while any(name.startswith(stem) for name in chosen.columns):
        stem += "p"
    terms = [f"{stem}{j}*{_quoted(name)}" for j, name in enumerate(request.inputs)]
    bound = bind(f"{request.left} = {' + '.join(terms)}", chosen, missing=asked.missing)
    rows = assemble(chosen, bound, missing=asked.missing, n_read=asked.table.n)
    return rows, chosen.keep(np.isin(chosen.rows, rows.rows), "")


def _quoted(name: str) -> str:
    return name if name.isidentifier() else f"{{{name}}}"


def _ground(rows: Data, asked: Asked, again: Callable[..., FitResult]) -> Ground:
    """Return what ladders stand on.

    Raises
    ------
    DataError
        If there are too few rows, or all inputs are the same.
    FormulaError
        If a ladder of one input is given several.
    """
    if rows.n < LEAST_ROWS:
        _too_few(rows.n, rows.source)
    request = asked.request
    name, *others = request.inputs
    if others:
        raise FormulaError(
            f"{request.kind} takes one input, and {len(request.inputs)} are given",
            remedy=f'Write "{request.left} ~ {request.kind}({name})"',
        )
    x = rows.columns[name]
    if np.ptp(x) == 0:
        raise DataError(f"{name} is {x[0]:g} in all rows, and nothing can grow along it")
    weight = np.ones(rows.n) if rows.sigma is None else 1 / rows.sigma
    taken = frozenset((*asked.table.columns, "pi", "e"))
    return Ground(rows, x, rows.y * rows.unit, weight, request.left, _quoted(name), taken, again)


def _too_few(rows: int, source: str) -> NoReturn:
    raise DataError(
        f"{count(rows, 'row')} of {source} cannot show which size generalises",
        remedy=f"Give {LEAST_ROWS} or more",
    )


def _splits(
    table: Table, kfold: int | None, validation: float | None, told: tuple[str | None, str | None, int, int]
) -> list[tuple[int, Sequence[Split]]]:
    groups, order, seeds, seed = told
    ties = ties_of(table, groups=groups, order=order) if groups or order else Ties()
    several = 1 if order is not None else int(seeds)
    if validation is not None:
        return [
            (seed + s, (held_out(table.n, validation, seed=seed + s, ties=ties),)) for s in range(several)
        ]
    k = min(5, table.n) if kfold is None else kfold
    return [(seed + s, folds(table.n, k, seed=seed + s, ties=ties)) for s in range(several)]


def _how(plan: Plan) -> str:
    first = plan.splits[0][1]
    seeds = f", dealt anew with {count(len(plan.splits), 'seed')}" if len(plan.splits) > 1 else ""
    if len(first) == 1:
        return f"{count(len(first[0].held), 'row')} held out{seeds}"
    return f"{len(first)} folds{seeds}"


# ---------------------------------------------------------------------------- ladders


def _largest(sizes: Sequence[int] | int | None) -> int | None:
    return None if sizes is None else int(sizes) if isinstance(sizes, int) else int(max(sizes))


def _ladder(ground: Ground, request: Request, most: int | None) -> Any:
    """Return the ladder of a kind.

    Raises
    ------
    FormulaError
        If a setting is unknown, or no positive number.
    """
    known = {"fourier": ("period",)}.get(request.kind, ())
    for name in request.settings:
        if name not in known:
            raise FormulaError(
                f"{request.kind} has no setting {name!r}",
                remedy=f"It has {', '.join(known)}" if known else "It has none",
            )
    if request.kind == "polynomial":
        return Polynomial(ground) if most is None else Polynomial(ground, most)
    if request.kind == "fourier":
        period = _period(request, ground)
        return Fourier(ground, period) if most is None else Fourier(ground, period, most)
    first = float(ground.x.min())
    origin = 0.0 if 0 <= first <= ground.span else first
    return Sum(ground, Gaussian()) if request.kind == "gaussians" else Sum(ground, Exponential(), origin)


def _period(request: Request, ground: Ground) -> float:
    """Return the period that was given; else the span with one more step, so that even rows are one whole period.

    Raises
    ------
    FormulaError
        If it is no positive number.
    """
    given = request.settings.get("period")
    if given is None:
        steps = len(np.unique(ground.x)) - 1
        return ground.span * (steps + 1) / steps
    try:
        period = float(given)
    except ValueError:
        period = np.nan
    if not (isfinite(period) and period > 0):
        raise FormulaError(
            f"period={given} is no positive number", remedy='Write "y ~ fourier(t, period=24)"'
        )
    return period


def _sizes(ladder: Ladder, asked: Sequence[int] | int | None, plan: Plan) -> list[int]:
    """Return the sizes to climb: those of the ladder, or asked for, that the fewest rows of a fold can determine.

    Raises
    ------
    OptionError
        If none is left, or one is no size.
    """
    rows = min(len(split.train) for _, splits in plan.splits for split in splits)
    if asked is None or isinstance(asked, int):
        wanted = [s for s in ladder.sizes if asked is None or s <= asked]
    else:
        wanted = sorted({int(s) for s in asked})
    if any(s < 0 for s in wanted):
        raise OptionError(f"sizes= holds {min(wanted)}, and a size is 0 or more")
    fitting = [s for s in wanted if ladder.overfull or ladder.parameters(s) < rows]
    if not fitting:
        raise OptionError(
            f"No size of sizes={asked} has fewer parameters than the {rows} rows that a fold is fitted to",
            remedy="Give smaller sizes, or more rows",
        )
    return fitting
