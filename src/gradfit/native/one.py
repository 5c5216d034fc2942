"""One small fit as one call: evaluation, sums, damped steps and the last digits, all in machine code.

It walks as `solve.lm` does where the normal equations are as good as orthogonal factors, decision by decision. Where
they are not, or a bound is met, or anything but a clean minimum comes out, it says so and the caller walks again with
all that `solve.lm` can do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradfit.graph import Graph
from gradfit.native.code import Code
from gradfit.native.evaluate import Evaluation
from gradfit.native.linear import by_place, cholesky, inverted, solved
from gradfit.native.sums import Sums, triangle, wanted
from gradfit.native.values import Cell, Lanes, Truth

if TYPE_CHECKING:
    from llvmlite import ir

CONVERGED, ELSEWHERE = 1, 2
WELL_CONDITIONED = 3e-3  # as in solve.factor
MOST = 12  # free parameters; sums and solves are written out


@dataclass(frozen=True)
class Layout:
    """Where in the state, an array of numbers, everything stands.

    Before a call: `parameters` (k), `lower` and `upper` (f), `room` (points of the trail). After it: `parameters`, `cost`, `gradient` (f), `gram`
    (f(f+1)/2, lower triangle), `covariance` (the same, (JᵀJ)⁻¹), `done`, `evaluations`, `points`, `reason`
    (MINPACK's number for the test that ended its walk).
    """

    count: int
    free: int

    def __getattr__(self, name: str) -> int:
        place = 0
        for known, size in self.parts():
            if known == name:
                return place
            place += size
        raise AttributeError(name)

    @property
    def size(self) -> int:
        """Numbers in all."""
        return sum(size for _, size in self.parts())

    def parts(self) -> list[tuple[str, int]]:
        """Return names and sizes, in order."""
        f, pairs = self.free, len(triangle(self.free))
        return [
            ("parameters", self.count), ("lower", f), ("upper", f), ("room", 1), ("cost", 1), ("gradient", f), ("gram", pairs),
            ("covariance", pairs), ("done", 1), ("evaluations", 1), ("points", 1), ("trial", self.count),
            ("sums", 1 + f + pairs), ("norm", f), ("unit", pairs), ("newton", f), ("removable", 1), ("before", f), ("reason", 1),
        ]  # fmt: skip


class OneFit:
    """Writes the functions of one graph: `fit(data, state, trail, rows, stride, most, goal, damping)`."""

    def __init__(
        self, module: "ir.Module", graph: Graph, free: Sequence[int], *, weighted: bool, lanes: int
    ) -> None:
        self.module, self.graph, self.free = module, graph, tuple(free)
        self.weighted, self.lanes = weighted, lanes
        self.layout = Layout(len(graph.parameters), len(self.free))

    def write(self) -> None:
        """Write all functions."""
        self._evaluate = self._write_evaluate()
        self._factorise = self._write_factorise()
        self._moved = self._write_moved()
        self._polish = self._write_polish()
        self._write_fit()

    # ------------------------------------------------------------------ the parts

    def _write_evaluate(self) -> "ir.Function":
        """Write the sums at the trial parameters; it returns whether they are finite."""
        code = Code(
            self.module, "evaluate", pointers=("data", "state"), numbers=("rows", "stride"), inner=True
        )
        at, graph, lanes = self.layout, self.graph, self.lanes
        evaluation = Evaluation(code, graph, wanted(graph, self.free), lanes)
        evaluation.settle([code.load("state", at.trial + j) for j in range(at.count)])
        sums = Sums(code, graph, self.free, evaluation)
        rows, stride = code.number("rows"), code.number("stride")
        inputs = len(graph.variables)
        places = code.joined([code.constant(float(k)) for k in range(lanes)])

        def column(k: int, i: "ir.Value") -> Lanes:
            start = code.at.mul(stride, code.whole_number(k))
            return code.load("data", code.at.add(start, i), lanes=lanes)

        with code.loop(0, rows, step=lanes) as i:
            values = evaluation.at([column(k, i) for k in range(inputs)])
            left = Lanes(code, code.at.sitofp(code.at.sub(rows, i), code.scalar))
            sums.add(
                values,
                column(inputs, i),
                weight=column(inputs + 1, i) if self.weighted else None,
                there=places < code.spread(left, lanes),
            )
        totals = sums.totals(evaluation.settled, joined=True).all()
        for k, number in enumerate(totals):
            code.store("state", at.sums + k, number)
        diagonal = [totals[1 + at.free + k] for k, (i, j) in enumerate(triangle(at.free)) if i == j]
        finite = totals[0] * 0.0
        for number in diagonal:
            finite = number.times(0.0, finite)
        code.finish(code.at.zext(finite.same(0.0).raw, code.whole(1)))
        return code.function

    def _write_factorise(self) -> "ir.Function":
        """Write scales, unit matrix and Gauss-Newton step of the present sums; it returns whether these are trusted.

        With `grow` scales only grow (Moré).
        """
        code = Code(self.module, "factorise", pointers=("state",), numbers=("grow",), inner=True)
        at, f = self.layout, self.layout.free
        gram = by_place([code.load("state", at.gram + k) for k in range(len(triangle(f)))], f)
        own = [code.intrinsic("sqrt", gram[j, j]) for j in range(f)]
        unit = {(i, j): gram[i, j] / (own[i] * own[j]) for i, j in triangle(f)}
        low, inverse = cholesky(code, unit, f)
        good = low[0, 0] >= WELL_CONDITIONED
        for j in range(1, f):
            good = good & (low[j, j] >= WELL_CONDITIONED)
        gradient = [code.load("state", at.gradient + j) for j in range(f)]
        newton = solved(low, inverse, [g / o for g, o in zip(gradient, own, strict=True)])
        removable = code.constant(0.0)
        for j in range(f):
            removable = (gradient[j] / own[j]).times(newton[j], removable)
        grow = code.at.icmp_unsigned("!=", code.number("grow"), code.whole_number(0))
        norm: list[Lanes] = []
        for j in range(f):
            before = code.load("state", at.norm + j)
            grown = (before > own[j]).pick(before, own[j])
            norm.append(Lanes(code, code.at.select(grow, grown.raw, own[j].raw)))
            code.store("state", at.norm + j, norm[j])
            code.store("state", at.newton + j, newton[j] / own[j])
        for k, (i, j) in enumerate(triangle(f)):
            code.store("state", at.unit + k, gram[i, j] / (norm[i] * norm[j]))
        spread = inverted(low, inverse)
        for k, (i, j) in enumerate(triangle(f)):
            code.store("state", at.covariance + k, spread[i, j] / (own[i] * own[j]))
        code.store("state", at.removable, removable)
        code.finish(code.at.zext(good.raw, code.whole(1)))
        return code.function

    def _write_moved(self) -> "ir.Function":
        """Take the trial point: it becomes the present one, and a point of the trail."""
        code = Code(self.module, "moved", pointers=("state", "trail"), inner=True)
        at = self.layout
        for j in range(at.count):
            code.store("state", at.parameters + j, code.load("state", at.trial + j))
        for k in range(1 + at.free + len(triangle(at.free))):
            code.store("state", at.cost + k, code.load("state", at.sums + k))
        points = code.load("state", at.points)
        width = code.whole_number(2 + 2 * at.free)
        row = code.element("trail", code.at.mul(code.at.fptosi(points.raw, code.whole(1)), width))
        code.store(row, 0, code.load("state", at.done))
        code.store(row, 1, code.load("state", at.cost))
        for place, j in enumerate(self.free):
            code.store(row, 2 + place, code.load("state", at.gradient + place) * 2.0)
            code.store(row, 2 + at.free + place, code.load("state", at.parameters + j))
        code.store("state", at.points, points + 1.0)
        code.finish()
        return code.function

    def _try(self, code: Code, step: Sequence[Lanes]) -> "ir.Value":
        """Write the trial point a step away, and its sums; return whether these are finite. A bound ends the function."""
        at = self.layout
        inside = code.constant(0.0).same(0.0)
        for place, j in enumerate(self.free):
            there = code.load("state", at.parameters + j) + step[place]
            inside = inside & (there >= code.load("state", at.lower + place))
            inside = inside & (there <= code.load("state", at.upper + place))
            code.store("state", at.trial + j, there)
        with code.when(~inside):
            code.give_back(ELSEWHERE)
        code.store("state", at.evaluations, code.load("state", at.evaluations) + 1.0)
        finite = code.call(self._evaluate, [code.array("data"), code.array("state"), *self._extent(code)])
        return code.at.icmp_unsigned("!=", finite, code.whole_number(0))

    def _extent(self, code: Code) -> "list[ir.Value]":
        return [code.number("rows"), code.number("stride")]

    def _accept(self, code: Code, *, grow: bool) -> None:
        """Write what follows a step that was taken; a full trail, or normal equations not to be trusted, end the function."""
        with code.when(code.load("state", self.layout.points) >= code.load("state", self.layout.room)):
            code.give_back(ELSEWHERE)
        code.call(self._moved, [code.array("state"), code.array("trail")])
        trusted = code.call(self._factorise, [code.array("state"), int(grow)])
        with code.when(code.at.icmp_unsigned("==", trusted, code.whole_number(0))):
            code.give_back(ELSEWHERE)

    def _write_polish(self) -> "ir.Function":
        """Undamped steps that keep shrinking, by a ratio that is known from two of them (Aitken's extrapolation)."""
        names = ("data", "state", "trail")
        code = Code(self.module, "polish", pointers=names, numbers=("rows", "stride"), inner=True)
        at, f = self.layout, self.layout.free
        norm = [code.load("state", at.norm + j) for j in range(f)]
        size = self._measure(code, norm)
        last = code.cell(code.constant(float("inf")))
        with code.loop(0, 100):
            step = [-code.load("state", at.newton + place) for place in range(f)]
            before = [code.load("state", at.before + place) for place in range(f)]
            u = [n * h for n, h in zip(norm, step, strict=True)]
            length = code.intrinsic("sqrt", dot(code, u, u)) / size
            going = (length < last.get() * 0.9) & self._matters(code, step)
            with code.when(~going):
                code.give_back(0)
            ratio = dot(code, u, before) / dot(code, before, before)
            useful = (last.get() < float("inf")) & (abs(ratio) < 0.9)
            longer = useful.pick(1.0 / (1.0 - ratio), 1.0)
            before_cost = code.load("state", at.cost)
            finite = self._try(code, [h * longer for h in step])
            good = code.load("state", at.sums) <= before_cost * (1 + 1e-9) + 1e-300
            with code.when(code.at.not_(code.at.and_(finite, good.raw))):
                code.give_back(0)
            code.store("state", at.done, code.load("state", at.done) + 1.0)
            self._accept(code, grow=False)
            for place in range(f):
                code.store("state", at.before + place, u[place])
            last.set(length)
        code.finish()
        return code.function

    def _matters(self, code: Code, step: Sequence[Lanes]) -> Truth:
        """Return whether a step is more than the rounding of any parameter."""
        more = code.constant(0.0).same(1.0)
        for place, j in enumerate(self.free):
            more = more | (abs(step[place]) > abs(code.load("state", self.layout.parameters + j)) * 1e-16)
        return more

    def _measure(self, code: Code, norm: Sequence[Lanes]) -> Lanes:
        """Return the length of the parameters, each in its scale, and begin with them as the step before."""
        size = code.constant(0.0)
        for place, j in enumerate(self.free):
            part = norm[place] * code.load("state", self.layout.parameters + j)
            code.store("state", self.layout.before + place, part)
            size = part.times(part, size)
        size = code.intrinsic("sqrt", size)
        return (size > 0.0).pick(size, 1.0)

    # ------------------------------------------------------------------ the walk

    def _begun(self) -> Code:
        """Write how a walk begins: the sums at the start."""
        names = ("data", "state", "trail")
        code = Code(
            self.module, "fit", pointers=names, numbers=("rows", "stride", "most"), reals=("goal", "damping")
        )
        at = self.layout
        for name in ("done", "points", "evaluations", "reason"):
            code.store("state", getattr(at, name), code.constant(0.0))
        for j in range(at.count):
            code.store("state", at.trial + j, code.load("state", at.parameters + j))
        finite = self._try(code, [code.constant(0.0)] * at.free)
        with code.when(code.at.not_(finite)):
            code.give_back(ELSEWHERE)
        self._accept(code, grow=False)
        return code

    def _write_fit(self) -> None:
        code, at = self._begun(), self.layout
        goal, damping = code.cell(code.argument("goal")), code.cell(code.argument("damping"))
        growth, done = code.cell(code.constant(2.0)), code.cell(code.whole_number(0))
        most = code.number("most")
        with code.when(
            code.at.icmp_signed("==", most, code.whole_number(0))
        ):  # linear: the step is the answer
            self._polished(code)
            self._return(code)
        with code.forever() as leave:
            leave.when(code.at.icmp_signed(">=", done.integer(), most))
            done.put(code.at.add(done.integer(), code.whole_number(1)))
            code.store("state", at.done, code.load("state", at.done) + 1.0)
            self._step(code, damping, growth)
            removable, cost = code.load("state", at.removable), code.load("state", at.cost)
            with code.when(removable <= goal.get() * cost):
                self._polished(code)
                self._return_at_minimum(code)
                share = code.load("state", at.removable) * 0.01 / code.load("state", at.cost)
                finer = goal.get() * 0.01
                goal.set((share < finer).pick(share, finer))
        code.finish(ELSEWHERE)

    def _polished(self, code: Code) -> None:
        arrays = [code.array(name) for name in ("data", "state", "trail")]
        result = code.call(self._polish, [*arrays, *self._extent(code)])
        with code.when(code.at.icmp_unsigned("!=", result, code.whole_number(0))):
            code.give_back(ELSEWHERE)

    def _step(self, code: Code, damping: "Cell", growth: "Cell") -> None:
        """One damped step, taken or refused. Madsen, Nielsen & Tingleff (2004), Alg. 3.16."""
        at, f = self.layout, self.layout.free
        norm = [code.load("state", at.norm + j) for j in range(f)]
        gradient = [code.load("state", at.gradient + j) / norm[j] for j in range(f)]
        unit = by_place([code.load("state", at.unit + k) for k in range(len(triangle(f)))], f)
        mu = damping.get()
        low, inverse = cholesky(code, {p: v + mu if p[0] == p[1] else v for p, v in unit.items()}, f)
        u = [-part for part in solved(low, inverse, gradient)]
        promised = mu * dot(code, u, u) - dot(code, gradient, u)
        finite = self._try(code, [part / n for part, n in zip(u, norm, strict=True)])
        drop = code.load("state", at.cost) - code.load("state", at.sums)
        good = (drop > 0.0) & (promised > 0.0)
        with code.at.if_else(code.at.and_(finite, good.raw)) as (taken, refused):
            with taken:
                swing = 2.0 * drop / promised - 1.0
                factor = 1.0 - swing * swing * swing
                factor = (factor > 1 / 3).pick(factor, 1 / 3)
                damping.set(code.intrinsic("maxnum", mu * factor, code.constant(1e-15)))
                growth.set(code.constant(2.0))
                self._accept(code, grow=True)
            with refused:
                stuck = (
                    (promised <= 1e-16 * code.load("state", at.cost)) | (mu > 1e20) | code.is_nan(promised)
                )
                with code.when(stuck):
                    code.give_back(ELSEWHERE)
                damping.set(mu * growth.get())
                growth.set(growth.get() * 2.0)

    def _return_at_minimum(self, code: Code) -> None:
        """Return where a Gauss-Newton step would remove nothing, or be shorter than the parameters' rounding."""
        at = self.layout
        cost = code.load("state", at.cost)
        there = cost.same(0.0) | (code.load("state", at.removable) <= 1e-16 * cost)
        norm = [code.load("state", at.norm + j) for j in range(at.free)]
        step = [n * code.load("state", at.newton + j) for j, n in enumerate(norm)]
        where = [n * code.load("state", at.parameters + j) for n, j in zip(norm, self.free, strict=True)]
        there = there | (dot(code, step, step) <= 1e-16 * dot(code, where, where))
        with code.when(there):
            self._return(code)

    def _return(self, code: Code) -> None:
        """Return with success, unless rounding of the residuals shows in a parameter, as `solve.lm.loses_digits` says."""
        at = self.layout
        cost = code.load("state", at.cost)
        lost = code.constant(0.0).same(1.0)
        diagonal = [k for k, (i, j) in enumerate(triangle(at.free)) if i == j]
        for k, j in zip(diagonal, self.free, strict=True):
            p = code.load("state", at.parameters + j)
            lost = lost | (cost * code.load("state", at.covariance + k) > 1e8 * p * p)
        with code.when(lost):
            code.give_back(ELSEWHERE)
        code.give_back(CONVERGED)


def dot(code: Code, a: Sequence[Lanes], b: Sequence[Lanes]) -> Lanes:
    """Return the sum of products."""
    total = code.constant(0.0)
    for x, y in zip(a, b, strict=True):
        total = x.times(y, total)
    return total
