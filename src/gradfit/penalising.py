"""Fits with a penalty: the walk at one strength, and cross-validation along a path of strengths."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gradfit.beginning import Starts
from gradfit.errors import DataError, ModelError, OptionError
from gradfit.loss import Loss
from gradfit.model import BoundModel
from gradfit.notation import count, listing, significant
from gradfit.penalty import Aim, Penalty, described
from gradfit.prepare import Parameters
from gradfit.shrinkage import PenaltyPath, Shrinkage, effective_parameters
from gradfit.solve.descent import Descent
from gradfit.solve.factor import column_lengths
from gradfit.solve.lm import LM
from gradfit.solve.outcome import Outcome
from gradfit.solve.penalised import Shrink, minimise_penalised, without
from gradfit.solve.problem import ModelProblem
from gradfit.solve.ridge import ridge_path
from gradfit.splitting import folds
from gradfit.starting import Options
from gradfit.walk import GIVEN, LEVENBERG_MARQUARDT, NOT_NEEDED, Walk, trained, walked

Array = NDArray[np.float64]

PER_DECADE, MOST = 6, 60  # strengths of a path
SHARP_REACH, FEW_ROWS_REACH = (
    1e-4,
    1e-2,
)  # the last strength of a lasso's path, relative to the first; with fewer rows than parameters
SOFT_REACH = 1e-6  # of a ridge's, relative to where the data and the penalty weigh the same
CLOSED = "closed form (QR and SVD, with the rows of the penalty)"
ADAMW_DECAY = 0.01  # torch's default
SOFT = "Levenberg-Marquardt with soft thresholds"


class Penalised(Options, Protocol):
    """The options that a penalised walk reads."""

    @property
    def penalty(self) -> Penalty | None: ...  # noqa: D102  what is added to the mean loss


def penalised(
    model: BoundModel,
    problem: ModelProblem,
    parameters: Parameters,
    options: Penalised,
    *,
    unit: float,
) -> Walk:
    """Return a penalised fit, its strength as given or found by cross-validation.

    An optimizer of torch trains at a strength that is found by Levenberg-Marquardt: both make the same sum small.

    Parameters
    ----------
    unit : float
        What residuals are multiplied by so that their squares do not overflow, 1 as a rule.

    Raises
    ------
    OptionError
        If the penalty names what is no free parameter.
    DataError
        If there are too few rows for the folds.
    ModelError
        If the model is not finite at the start.
    """
    ground = Ground.of(model, problem, parameters, options, unit=unit)
    path = ground.path(options.seed)
    strength = ground.strength if path is None else float(path.strength[path.chosen])
    if not isinstance(options.solver, LM):
        whole = ground.shrink(ground.every, ground.start, strength)
        shrink = whole.times(1 / ground.rows, 1 / ground.rows)
        done = trained(model, problem, parameters, options, shrink=shrink)
        done.shrinkage = ground.kept(done.outcome, strength, path)
        done.how = (done.shrinkage.text, *_beside(options.solver, ground.aim), *done.how)
        return done
    start = ground.start if path is None else path.parameters[path.chosen]
    outcome = ground.fitted(ground.every, strength, start, watch=True)
    if not isfinite(outcome.loss):
        raise ModelError(
            f"{model.text} is not finite at the start",
            remedy="Give other start values, or none, to have them found",
        )
    solver = SOFT if ground.aim.penalty.share > 0 else CLOSED if ground.closed else LEVENBERG_MARQUARDT
    done = Walk(ground.parameters, outcome, ground.loss, ground.starts, solver, "", ground.how)
    done.shrinkage = ground.kept(outcome, strength, path)
    done.how = (done.shrinkage.text, *done.how)
    return done


@dataclass(frozen=True, eq=False)
class Ground:
    """A penalised fit before its strength is known.

    Attributes
    ----------
    problem : ModelProblem
        All rows.
    parameters : Parameters
        With the start.
    aim : Aim
        What is penalised.
    loss : Loss
        A robust one has its scale.
    start : (f,)
        Of the free parameters.
    linear, closed : bool
        Whether the model is linear in them, and one solve is enough.
    """

    problem: ModelProblem
    parameters: Parameters
    aim: Aim
    loss: Loss
    starts: Starts
    how: tuple[str, ...]
    start: Array
    linear: bool
    closed: bool
    options: Penalised
    unit: float

    @classmethod
    def of(
        cls,
        model: BoundModel,
        problem: ModelProblem,
        parameters: Parameters,
        options: Penalised,
        *,
        unit: float,
    ) -> "Ground":
        """Return the ground of a fit.

        Raises
        ------
        OptionError
            If the penalty names what is no free parameter, or a robust loss has no scale and too few rows for one.
        """
        penalty = options.penalty
        assert penalty is not None  # noqa: S101  the caller has looked
        problem = problem._replace(small=None)
        names = [model.parameters[j] for j in parameters.free]
        graph, every = model.graph, set(parameters.free.tolist())
        linear = graph is not None and every <= set(graph.linear) and not problem.counts
        loss, starts, how, start = _begun(model, problem, parameters, options, linear=linear)
        aim = Aim.of(penalty, names, offsets(problem, start), linear=linear)
        bounded = bool(np.isfinite(np.concatenate(parameters.bounds)).any())
        whole = parameters.start.copy()
        whole[parameters.free] = start
        closed = linear and not bounded and not loss.robust
        return cls(
            problem._replace(template=whole), replace(parameters, start=whole), aim, loss, starts, how, start,
            linear, closed, options, unit,
        )  # fmt: skip

    @property
    def every(self) -> NDArray[np.int64]:
        """All rows."""
        return np.arange(len(self.problem.y))

    @property
    def strength(self) -> float:
        """The strength that was given."""
        return float(self.aim.penalty.strength)  # pyright: ignore[reportArgumentType]  # a number where there is no path

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.problem.y)

    # ------------------------------------------------------------------ one strength

    def shrink(self, rows: NDArray[np.int64], at: Array, strength: float) -> Shrink:
        """Return the penalty in units of the cost of these rows."""
        part = self.problem if len(rows) == self.rows else of_rows(self.problem, rows)
        with np.errstate(all="ignore"):
            J = part.residual_jacobian(at)[1] if self.aim.standard else np.zeros((0, len(at)))
        n = len(rows)
        return self.aim.shrink(J, self.unit).times(n * strength, n * (strength * self.unit))

    def fitted(
        self, rows: NDArray[np.int64], strength: float, start: Array, *, watch: bool = False
    ) -> Outcome:
        """Return the fit of some rows at a strength."""
        part = self.problem if len(rows) == len(self.problem.y) else of_rows(self.problem, rows)
        lower, upper = self.parameters.bounds
        bounded = bool(np.isfinite(lower).any() or np.isfinite(upper).any())
        settings = self.options.solver if isinstance(self.options.solver, LM) else LM()
        with np.errstate(all="ignore"):
            return minimise_penalised(
                part, np.zeros_like(start) if self.closed else start, self.shrink(rows, start, strength),
                linear=self.linear, bounds=(lower, upper) if bounded else None, loss=self.loss,
                settings=settings, watch=self.options.callback if watch else None,
            )  # fmt: skip

    def mean_loss(self, rows: NDArray[np.int64], p: Array) -> float:
        """Return the mean loss of some rows, without the penalty, times the squared unit."""
        part = self.problem if len(rows) == self.rows else of_rows(self.problem, rows)
        with np.errstate(all="ignore"):
            total = self.loss.cost(part.residual(p))
        return total / len(rows) if isfinite(total) else np.inf

    def kept(self, outcome: Outcome, strength: float, path: PenaltyPath | None) -> Shrinkage:
        """Return what a result keeps of the penalty."""
        p = outcome.parameters
        shrink = self.shrink(self.every, p, strength)
        still = shrink.settled(p)
        _, J = self.problem.residual_jacobian(p)
        effective = effective_parameters(J, shrink.rows, ~still)
        zero = tuple(name for name, held in zip(self.aim.names, still.tolist(), strict=True) if held)
        aim = self.aim
        text = f"{described(aim, strength)}. {_cut(aim, zero)}{_chosen(path)}{CONDITIONAL}"
        value = shrink.value(p) / self.rows / self.unit / self.unit
        return Shrinkage(
            aim.penalty.kind, strength, tuple(aim.penalised), zero, text, effective, value, path,
            "the centre" if aim.penalty.centre else "0", shrink.rows, ~still,
        )  # fmt: skip

    # ------------------------------------------------------------------ a path of strengths

    def path(self, seed: int) -> PenaltyPath | None:
        """Return the path of strengths with its cross-validation, None where the strength is given.

        Raises
        ------
        DataError
            If there are too few rows for the folds.
        """
        asked = self.aim.penalty.strength
        if not isinstance(asked, str) and np.ndim(asked) == 0:
            return None
        n, most = len(self.problem.y), self.aim.penalty.folds
        if n < 2 * most:
            raise DataError(
                f"{count(n, 'row')} cannot be cut into {most} folds to find the strength of the penalty",
                remedy='Give the strength, as gradfit.Penalty("ridge", 0.1)',
            )
        strengths = self.reach() if isinstance(asked, str) else np.sort(np.asarray(asked, dtype=float))[::-1]
        splits = folds(n, most, seed=seed)
        held = np.array([self._along(strengths, s.train, s.held) for s in splits])  # (folds, strengths)
        share = np.array([len(s.held) for s in splits]) / n
        with np.errstate(all="ignore"):
            loss = share @ held
            stderr = np.sqrt(share @ (held - loss) ** 2 / (len(splits) - 1))
        ends = self._walked_down(strengths, self.every)
        train = np.array([self.mean_loss(self.every, p) for p in ends])
        effective = np.array([self.kept_effective(p, s) for p, s in zip(ends, strengths, strict=True)])
        best = int(np.argmin(np.where(np.isfinite(loss), loss, np.inf)))
        rule, chosen = self.aim.penalty.rule, best
        if rule == "one-se":
            chosen = int(np.flatnonzero(loss <= loss[best] + stderr[best])[0])
        with np.errstate(all="ignore"):
            loss, stderr, train = (each / self.unit / self.unit for each in (loss, stderr, train))
        return PenaltyPath(
            self.aim.penalty.kind, strengths, loss, stderr, train, np.array(ends), self._scale(), self.aim.names, effective,
            best, chosen, len(splits), rule,
        )  # fmt: skip

    def _scale(self) -> Array:
        """Return what parameters are multiplied by in the penalty, 0 for those that are not in it."""
        inverse = self.aim.inverse(self.problem.residual_jacobian(self.start)[1], self.unit) / self.unit
        return np.where(np.isin(np.arange(len(inverse)), self.aim.places), inverse, 0.0)

    def kept_effective(self, p: Array, strength: float) -> float:
        """Return the effective number of parameters at a point of the path."""
        shrink = self.shrink(self.every, p, strength)
        _, J = self.problem.residual_jacobian(p)
        return effective_parameters(J, shrink.rows, ~shrink.settled(p))

    def _along(self, strengths: Array, train: NDArray[np.int64], held: NDArray[np.int64]) -> Array:
        return np.array([self.mean_loss(held, p) for p in self._walked_down(strengths, train)])

    def _walked_down(self, strengths: Array, rows: NDArray[np.int64]) -> list[Array]:
        """Return the parameters at each strength, each fit begun where the stronger one before it ended."""
        if self.closed and self.aim.penalty.kind == "ridge":
            return self._at_once(strengths, rows)
        ends: list[Array] = []
        p = self.start
        for strength in strengths.tolist():
            end = self.fitted(rows, strength, p).parameters
            p = end if np.isfinite(end).all() else p
            ends.append(p)
        return ends

    def _at_once(self, strengths: Array, rows: NDArray[np.int64]) -> list[Array]:
        """Return the same from one decomposition."""
        part = self.problem if len(rows) == self.rows else of_rows(self.problem, rows)
        zero = np.zeros_like(self.start)
        r, J = part.residual_jacobian(zero)
        unit = self.shrink(rows, zero, 1.0)
        weight = column_lengths(unit.rows) * unit.rows.any(axis=0)
        return list(ridge_path(r, J, strengths, weight=weight, centre=unit.centre))

    def reach(self) -> Array:
        """Return strengths (m,), falling: from one that leaves nothing of the penalised parameters to next to none.

        Raises
        ------
        ModelError
            If the data do not depend on what is penalised.

        References
        ----------
        .. [1] Friedman, Hastie & Tibshirani (2010), J. Stat. Softw. 33(1), sec. 2.5: the path of a lasso.
        """
        unit = self.shrink(self.every, self.start, 1 / self.unit)
        r, J = self.problem.residual_jacobian(self.start)
        ratio = SHARP_REACH if len(r) > len(unit.centre) else FEW_ROWS_REACH
        if unit.sharp:
            first = self._sharp_end(unit)
            last = ratio * first
        else:
            first, last = _soft_ends(unit, J)
        if unit.sharp and first == 0:
            first, last = (
                1.0,
                ratio,
            )  # what is not penalised explains everything: any strength leaves nothing else
        first, last = first / self.unit, last / self.unit
        if not (0 < last < first < np.inf):
            raise ModelError(
                f"No strength of the penalty can be chosen: the data do not depend on {listing(self.aim.penalised)}",
                remedy="Penalise other parameters, or give the strength",
            )
        steps = min(int(np.ceil(PER_DECADE * np.log10(first / last))) + 1, MOST)
        return np.geomspace(first, last, steps)

    def _sharp_end(self, unit: Shrink) -> float:
        """Return the least strength of an absolute value that holds every parameter at its centre."""
        rest = np.flatnonzero(unit.absolute == 0)
        p = np.where(unit.absolute > 0, unit.centre, self.start)
        if len(rest):
            free = rest if self.problem.free is None else self.problem.free[rest]
            inner = self.problem._replace(template=self.problem.whole(p), free=free)
            none = Shrink(np.zeros((0, len(rest))), np.zeros(len(rest)), np.zeros(len(rest)))
            out = minimise_penalised(inner, p[rest], none, linear=self.linear, loss=self.loss, settings=LM())
            p[rest] = out.parameters
        r, J = self.loss.linearised(*self.problem.residual_jacobian(p))
        used = unit.absolute > 0
        pull = 2 * np.abs(r @ J)[used] / unit.absolute[used]
        return float(np.max(pull, initial=0.0)) * (1 + 1e-9)


def _beside(descent: Descent, aim: Aim) -> tuple[str, ...]:
    """Return what else shrinks parameters here: the optimizer's own decay, and what gradients cannot do."""
    told: list[str] = []
    if aim.penalty.share > 0:
        told.append('By gradients no parameter becomes exactly 0: solver="lm" does that')
    name = (
        descent.optimizer
        if isinstance(descent.optimizer, str)
        else getattr(descent.optimizer, "__name__", "")
    )
    decay = descent.settings.get("weight_decay", ADAMW_DECAY if name == "AdamW" else 0.0)
    if decay and name == "AdamW":
        told.append(
            f"AdamW's weight_decay={decay:g} is another thing: each step takes lr*weight_decay of every parameter away, "
            "offsets too, beside the gradient and in no loss; weight_decay=0 leaves the penalty alone"
        )
    elif decay:
        told.append(
            f"weight_decay={decay:g} of {name or 'the optimizer'} comes on top: it adds that times each parameter to the gradient, offsets "
            "too, and is not in the loss told here"
        )
    return tuple(told)


def _soft_ends(unit: Shrink, J: Array) -> tuple[float, float]:
    """Return strengths of a squared penalty that leave nothing of what it is about, and all of it."""
    weight = np.sqrt(np.einsum("ij,ij->j", unit.rows, unit.rows))
    about = weight > 0
    columns = without(J[:, ~about], J[:, about]) / weight[about]
    rows = unit.rows[:, about] / weight[about]
    curve = float(np.max(np.einsum("ij,ij->j", columns, columns), initial=0.0))
    sizes = np.linalg.svd(rows, compute_uv=False) ** 2
    sizes = sizes[sizes > 1e-12 * sizes.max(initial=0.0)]
    if not len(sizes):
        return 0.0, 0.0
    return 1e2 * curve / float(sizes.min()), SOFT_REACH * curve / float(sizes.max())


CONDITIONAL = (
    "Standard errors are conditional on the penalty: they say how the penalised answer varies, and what was pulled "
    "towards the centre stays pulled"
)


def _cut(aim: Aim, zero: Sequence[str]) -> str:
    if not aim.penalty.share:
        return ""
    if not zero:
        return "It set no parameter to its centre. "
    return f"It set {listing(list(zero))} to {'the centre' if aim.penalty.centre else 'exactly 0'}. "


def _chosen(path: PenaltyPath | None) -> str:
    if path is None:
        return ""
    m, best = len(path.strength), path.best
    lowest = f"the lowest of {m} strengths, {significant(float(path.loss[best]), 3)} ± {significant(float(path.stderr[best]), 2)}"
    if path.rule == "one-se" and path.chosen != best:
        lowest = f"within one standard error of {lowest}"
    edge = ""
    if path.chosen == m - 1:
        edge = " It is the weakest that was tried: these data need no penalty"
    elif path.chosen == 0:
        edge = (
            " It is the strongest that was tried: the penalised parameters explain nothing that can be seen"
        )
    ended = f".{edge}. " if edge else ". "
    return f"The strength was found by {path.folds}-fold cross-validation: its loss on held-out rows is {lowest}{ended}"


# ---------------------------------------------------------------------------- the start


def of_rows(problem: ModelProblem, rows: NDArray[np.int64]) -> ModelProblem:
    """Return the problem of some of the rows.

    Raises
    ------
    OptionError
        If errors are correlated: rows then do not stand alone.
    """
    weight = problem.weight
    if weight is not None and weight.ndim > 1:
        raise OptionError(
            "Rows with correlated errors cannot be held out, so the strength of the penalty cannot be found",
            remedy='Give the strength, as gradfit.Penalty("ridge", 0.1)',
        )
    columns = [np.asarray(c)[rows] for c in problem.columns]
    return problem._replace(
        columns=columns, y=problem.y[rows], weight=None if weight is None else weight[rows]
    )


def offsets(problem: ModelProblem, at: Array) -> list[int]:
    """Return which free parameters have the same derivative in all rows, here and elsewhere: an intercept has."""
    seen = np.ones(len(at), dtype=bool)
    for p in (at, 1.1 * at + 0.1):
        with np.errstate(all="ignore"):
            _, whole = problem.model.value_jacobian(problem.columns, problem.whole(p))
        J = whole if problem.free is None else whole[:, problem.free]
        size = np.max(np.abs(J), axis=0, initial=0.0)
        same = np.ptp(J, axis=0) <= 1e-12 * size if len(J) else np.zeros(len(at), dtype=bool)
        seen &= (same & (size > 0)) | ~np.isfinite(size)
    return np.flatnonzero(seen).tolist() if len(problem.y) > 1 else []


def _begun(
    model: BoundModel, problem: ModelProblem, parameters: Parameters, options: Penalised, *, linear: bool
) -> tuple[Loss, Starts, tuple[str, ...], Array]:
    """Return the loss with its scale, where the start came from, what is told of it, and the start (f,).

    Raises
    ------
    OptionError
        If a robust loss has no scale, and there are too few rows to find it.
    """
    loss = options.loss
    free = len(parameters.free)
    scaled = not loss.robust or loss.scale is not None
    if linear and scaled:
        inside = np.clip(np.zeros(free), *parameters.bounds)
        return loss, NOT_NEEDED, (), inside
    if parameters.complete and not options.search and scaled:
        return loss, GIVEN, (), parameters.begin
    if len(problem.y) <= free and not scaled:
        raise OptionError(
            f"{count(len(problem.y), 'row')} for {count(free, 'parameter')} tell no scale of the residuals for {loss.name}",
            remedy=f'Give it, as loss="{loss.name}:0.3"',
        )
    before = walked(model, problem, parameters, options._replace(solver=LM(), callback=None))  # pyright: ignore[reportAttributeAccessIssue]  # a NamedTuple
    told = tuple(before.how) if before.starts.source == "search" else ()
    p = before.outcome.parameters
    return before.loss, before.starts, told, np.where(np.isfinite(p), p, 0.0)
