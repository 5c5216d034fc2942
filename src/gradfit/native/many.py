"""Many small fits: one lane a fit. They advance in lock-step, and a finished lane takes the next fit at once.

Every decision is a select between lanes, so what a fit does depends neither on its lane nor on its neighbours. A fit's
data is copied into its lane of `here[point][lane]` when the fit begins, so that a point of all fits is one load. What
belongs to a lane between two turns stands in column `lane` of a small array with one row for each quantity of `Rows`.
Fits end at different turns: results are written at the fit's own place.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradfit.graph import Graph
from gradfit.native.code import Code
from gradfit.native.evaluate import Evaluation
from gradfit.native.layout import FITS, NUMBERS, POINTERS, REALS, Rows, Shape
from gradfit.native.linear import Triangle, by_place, inverse_diagonal, solution
from gradfit.native.sums import ROBUST, Sums, triangle, wanted
from gradfit.native.values import Cell, Lanes, Truth

if TYPE_CHECKING:
    from llvmlite import ir

CONVERGED, MAX_ITERATIONS, NON_FINITE, STALLED = 0, 1, 4, 5  # as in solve.lockstep.batch.STATUS
LEAST_DAMPING, MOST_DAMPING = 1e-12, 1e16
ROUNDING = {64: 1e-11, 32: 1e-4}  # share of the cost that may be lost to rounding
TRUSTED = 1e-6  # damping up to which a short step means a minimum


@dataclass(frozen=True)
class Present:
    """Where the lanes stand: the best point so far and what was summed there."""

    cost: Lanes
    best: list[Lanes]
    gradient: list[Lanes]
    gram: list[Lanes]
    scale: list[Lanes]
    damping: Lanes
    growth: Lanes
    flat: Truth  # where a refused step had promised no more than the cost's rounding


class ManyFits:
    """Writes `fit_range` and `errors` of one graph.

    fit_range(shared, inputs, observed, weights, starts, lower, upper, scales, order, out, gram, scratch,
              points, fits, stride, first, last, room, depth, most, tolerance, damping)
    fits the places first … last of `order`, whose entries are rows of the data. Shared inputs are (points) each, the
    other `inputs`, and own weights, (fits, points) each; starts (fits, k), or (k) with a stride of 0. It writes out[quantity, place - first] in rows of `room`: the k
    parameters, cost, steps, status; and gram[pair, place - first], the lower triangle of JᵀJ, in rows of `depth`.
    errors(gram, out, depth, room, count) writes the diagonal of (JᵀJ)⁻¹, as out[parameter, place].
    """

    def __init__(self, module: "ir.Module", graph: Graph, shape: Shape, *, width: int) -> None:
        self.module, self.graph, self.shape, self.width = module, graph, shape, width
        self.free = shape.free
        self.count = len(graph.parameters)
        self.rows = Rows(self.count, len(self.free))
        self.pairs = triangle(len(self.free))
        self.sums = 1 + len(self.free) + len(self.pairs)
        self.inputs = len(graph.variables)
        self.own = [k for k, shared in enumerate(shape.shared) if not shared]

    def write(self) -> None:
        """Write all functions."""
        self._fill = self._write_fill()
        self._evaluate = self._write_evaluate()
        self._advance = self._write_advance()
        self._write_range()
        self._write_errors()

    # ------------------------------------------------------------------ memory

    @classmethod
    def sizes(cls, graph: Graph, shape: Shape) -> Callable[[int], int]:
        """Return how many numbers of scratch memory a call needs, as a function of the points of a fit."""
        free = len(shape.free)
        rows = Rows(len(graph.parameters), free).total + 1 + free + len(triangle(free))
        return lambda points: (rows + 3 + points * shape.per_point) * FITS

    def _part(self, code: Code, name: str) -> "ir.Value":
        """Return the address of a part of the scratch memory."""
        lanes = {"state": 0, "sums": self.rows.total, "index": self.rows.total + self.sums}
        points = code.number("points")
        place: ir.Value | int = 0
        if name in lanes:
            place = lanes[name] * FITS
        else:
            which = [*(f"input{k}" for k in self.own), "observed", "weight"].index(name)
            if name == "weight":
                which = self.shape.per_point - 1
            base = (self.rows.total + self.sums + 3) * FITS
            place = code.plus(base, code.product(points, which * FITS))
        return code.element("scratch", place)

    # ------------------------------------------------------------------ one lane

    def _write_fill(self) -> "ir.Function":
        """Put the fit at `place` of the order into a lane."""
        code = Code(
            self.module,
            "fill",
            pointers=POINTERS,
            numbers=(*NUMBERS, "lane", "place"),
            reals=REALS,
            real=self.shape.real,
            inner=True,
        )
        lane, place, points = code.number("lane"), code.number("place"), code.number("points")
        fit = code.load_whole("order", place)
        row = code.product(fit, points)
        here = self._part(code, "observed")
        size = code.cell(code.constant(0.0))

        def copy(source: str, start: "ir.Value", target: "ir.Value", i: "ir.Value") -> Lanes:
            value = code.load(source, code.plus(start, i))
            code.store(target, code.plus(code.product(i, FITS), lane), value)
            return value

        targets = {k: self._part(code, f"input{k}") for k in self.own}
        weight = self._part(code, "weight") if self.shape.weight == "own" else None
        for nth, target in enumerate(targets.values()):
            start = code.plus(code.product(code.product(code.number("fits"), points), nth), row)
            with code.loop(0, points) as i:
                copy("inputs", start, target, i)
        with code.loop(0, points) as i:
            y = copy("observed", row, here, i)
            if weight is not None:
                w = copy("weights", row, weight, i)
                y = w.same(0.0).pick(0.0, y * w)
            size.set(y.times(y, size.get()))
        self._begin(code, lane, fit, size.get())
        code.store_whole(self._part(code, "index"), lane, place)
        code.finish()
        return code.function

    def _begin(self, code: Code, lane: "ir.Value", fit: "ir.Value", size: Lanes) -> None:
        """Reset a lane's column."""
        state, infinite = self._part(code, "state"), code.constant(float("inf"))
        first = {
            "cost": infinite, "promised": infinite, "damping": code.argument("damping"), "growth": code.constant(4.0),
            "steps": code.constant(0.0), "floor": size * 1e-28, "tuning": self._scale(code, fit),
        }  # fmt: skip
        for name, value in first.items():
            code.store(state, code.plus(self.rows.at(name), lane), value)
        zero = code.constant(0.0)
        for name, size_ in (
            ("gradient", len(self.free)),
            ("scale", len(self.free)),
            ("gram", len(self.pairs)),
        ):
            for j in range(size_):
                code.store(state, code.plus(self.rows.at(name, j), lane), zero)
        for j in range(self.count):
            value = code.load("starts", code.plus(code.product(fit, code.number("stride")), j))
            code.store(state, code.plus(self.rows.at("trial", j), lane), value)
        for place, j in enumerate(self.free):
            value = code.load("starts", code.plus(code.product(fit, code.number("stride")), j))
            code.store(state, code.plus(self.rows.at("best", place), lane), value)

    def _scale(self, code: Code, fit: "ir.Value") -> Lanes:
        return code.load("scales", fit) if self.shape.cost in ROBUST else code.constant(1.0)

    # ------------------------------------------------------------------ sums over the points

    def _write_evaluate(self) -> "ir.Function":
        """Cost, Jᵀr and JᵀJ of all lanes at their trial parameters."""
        code = Code(
            self.module,
            "evaluate",
            pointers=POINTERS,
            numbers=NUMBERS,
            reals=REALS,
            real=self.shape.real,
            inner=True,
        )
        code.function.attributes.add("noinline")
        state, totals = self._part(code, "state"), self._part(code, "sums")
        for q in range(0, FITS, self.width):
            evaluation = Evaluation(code, self.graph, wanted(self.graph, self.free), self.width)
            evaluation.settle(
                [code.load(state, self.rows.at("trial", j) + q, lanes=self.width) for j in range(self.count)]
            )
            sums = Sums(code, self.graph, self.free, evaluation, cost=self.shape.cost)
            scale = code.load(state, self.rows.at("tuning") + q, lanes=self.width)
            with code.loop(0, code.number("points")) as i:
                self._add_point(sums, i, q=q, scale=scale)
            for k, number in enumerate(sums.totals(evaluation.settled, joined=False).all()):
                code.store(totals, k * FITS + q, number)
        code.finish()
        return code.function

    def _add_point(self, sums: Sums, i: "ir.Value", *, q: int, scale: Lanes) -> None:
        evaluation, code = sums.evaluation, sums.code
        at = code.plus(code.product(i, FITS), q)
        columns: list[Lanes] = []
        for k in range(self.inputs):
            if k in self.own:
                columns.append(code.load(self._part(code, f"input{k}"), at, lanes=self.width))
            else:
                row = k - sum(own < k for own in self.own)
                place = code.plus(code.product(code.number("points"), row), i)
                columns.append(code.load("shared", place))
        observed = code.load(self._part(code, "observed"), at, lanes=self.width)
        weight: Lanes | None = None
        there: Truth | None = None
        if self.shape.weight == "own":
            weight = code.load(self._part(code, "weight"), at, lanes=self.width)
        elif self.shape.weight == "shared":
            weight = code.spread(code.load("weights", i), self.width)
        if weight is not None:
            there = ~weight.same(0.0)
        sums.add(evaluation.at(columns), observed, weight=weight, there=there, scale=scale)

    # ------------------------------------------------------------------ the walk

    def _write_advance(self) -> "ir.Function":
        """Take or refuse the trial points, and make the next; returns the lanes that ended, and writes which converged."""
        code = Code(
            self.module,
            "advance",
            pointers=POINTERS,
            numbers=NUMBERS,
            reals=REALS,
            real=self.shape.real,
            inner=True,
        )
        ended = code.cell(code.whole_number(0))
        index = self._part(code, "index")
        code.store_whole(index, FITS, 0)
        for q in range(0, FITS, self.width):
            done, over = self._turn(code, q)
            shift = code.whole_number(q)
            ended.put(code.at.or_(ended.integer(), code.at.shl((done | over).pattern(), shift)))
            converged = code.at.or_(code.load_whole(index, FITS), code.at.shl(done.pattern(), shift))
            code.store_whole(index, FITS, converged)
        code.finish(ended.integer())
        return code.function

    def _turn(self, code: Code, q: int) -> tuple[Truth, Truth]:
        lanes = self.width
        at = self._judged(code, q)
        trial, promised = self._step(code, q, at)
        steps = self._load(code, q, "steps") + 1.0
        small = promised <= code.argument("tolerance", lanes) * at.cost + self._load(code, q, "floor")
        done = (small | at.flat) & (at.damping <= TRUSTED)
        most = Lanes(code, code.at.sitofp(code.number("most"), code.scalar))
        over = (steps >= code.spread(most, lanes)) | (at.damping > MOST_DAMPING)
        damping = (small & ~done).pick(at.damping * 0.01, at.damping)
        kept = {
            "best": at.best, "gradient": at.gradient, "scale": at.scale, "gram": at.gram, "cost": [at.cost],
            "promised": [promised], "damping": [damping], "growth": [at.growth], "steps": [steps],
        }  # fmt: skip
        state = self._part(code, "state")
        for place, j in enumerate(self.free):
            code.store(state, self.rows.at("trial", j) + q, trial[place])
        for name, values in kept.items():
            for j, value in enumerate(values):
                code.store(state, self.rows.at(name, j) + q, value)
        return done, over

    def _load(self, code: Code, q: int, name: str, j: int = 0) -> Lanes:
        return code.load(self._part(code, "state"), self.rows.at(name, j) + q, lanes=self.width)

    def _judged(self, code: Code, q: int) -> Present:
        """Return where the lanes stand after their trial points are taken or refused."""
        f, totals = len(self.free), self._part(code, "sums")
        new = [code.load(totals, k * FITS + q, lanes=self.width) for k in range(self.sums)]
        before, promised, damping, growth = (
            self._load(code, q, name) for name in ("cost", "promised", "damping", "growth")
        )
        diagonal = {j: 1 + f + k for k, (i, j) in enumerate(self.pairs) if i == j}
        finite = new[0] * 0.0
        for place in diagonal.values():
            finite = new[place].times(0.0, finite)
        good = (new[0] < before) & finite.same(0.0)
        gain = before - new[0]
        less = damping * 0.1
        less = (less < LEAST_DAMPING).pick(LEAST_DAMPING, less)
        poor = (gain < promised * 0.25) & (promised < float("inf"))
        taken = (gain > promised * 0.75).pick(less, poor.pick(damping * 4.0, damping))

        flat = ~good & (promised <= before * ROUNDING[self.shape.real])

        def chosen(name: str, values: Sequence[Lanes]) -> list[Lanes]:
            return [good.pick(value, self._load(code, q, name, j)) for j, value in enumerate(values)]

        gram = chosen("gram", new[1 + f :])
        scale = [self._load(code, q, "scale", j) for j in range(f)]
        length = [gram[diagonal[j] - 1 - f] for j in range(f)]
        return Present(
            cost=good.pick(new[0], before),
            best=chosen("best", [self._load(code, q, "trial", j) for j in self.free]),
            gradient=chosen("gradient", new[1 : 1 + f]),
            gram=gram,
            scale=[(own > old).pick(own, old) for own, old in zip(length, scale, strict=True)],
            damping=good.pick(taken, flat.pick(damping * 0.01, damping * growth)),
            growth=good.pick(4.0, growth * 2.0),
            flat=flat,
        )

    def _step(self, code: Code, q: int, at: Present) -> tuple[list[Lanes], Lanes]:
        """Return the next trial parameters and what the linear model says they lower the cost by.

        Inside bounds: parameters that sit on one, and whose own gradient or step leads out, are held, the rest is
        solved without them.
        """
        f = len(self.free)
        damped = {j: at.scale[j] * at.damping for j in range(f) if j not in self.shape.linear}
        matrix = by_place(at.gram, f)
        for j, more in damped.items():
            matrix[j, j] += more
        held = [self._waits(code, q, j) for j in range(f)]
        if not self.shape.bounded:
            step, gradient = _without(code, matrix, at.gradient, held)
            return [b + s for b, s in zip(at.best, step, strict=True)], _promise(step, gradient, damped)
        lower = [code.spread(code.load("lower", j), self.width) for j in range(f)]
        upper = [code.spread(code.load("upper", j), self.width) for j in range(f)]
        out, left = [-part for part in at.gradient], at.gradient
        for _ in range(2):
            crossed = [
                ((at.best[j] <= lower[j]) & (out[j] < 0.0)) | ((at.best[j] >= upper[j]) & (out[j] > 0.0))
                for j in range(f)
            ]
            held = [c if h is None else h | c for h, c in zip(held, crossed, strict=True)]
            out, left = _without(code, matrix, at.gradient, held)
        there = [b + s for b, s in zip(at.best, out, strict=True)]
        there = [(p < low).pick(low, p) for p, low in zip(there, lower, strict=True)]
        return [(p > top).pick(top, p) for p, top in zip(there, upper, strict=True)], _promise(
            out, left, damped
        )

    def _waits(self, code: Code, q: int, place: int) -> Truth | None:
        """Return where a parameter waits for the linear ones: in the first step, where these lead."""
        if not self.shape.lead or place in self.shape.linear:
            return None
        steps = code.load(self._part(code, "state"), self.rows.at("steps") + q, lanes=self.width)
        return steps < 0.5

    # ------------------------------------------------------------------ all fits of a range

    def _write_range(self) -> None:
        code = Code(
            self.module, "fit_range", pointers=POINTERS, numbers=NUMBERS, reals=REALS, real=self.shape.real
        )
        arguments = list(code.arguments.values())
        index = self._part(code, "index")
        todo, live = code.cell(code.number("first")), code.cell(code.whole_number(0))
        with code.loop(0, FITS) as lane:
            code.store_whole(index, lane, -1)
            self._take(code, lane, todo, live)
        with code.forever() as leave:
            leave.when(code.at.icmp_signed("<=", live.integer(), code.whole_number(0)))
            code.call(self._evaluate, arguments)
            ended = code.call(self._advance, arguments)
            with (
                code.when(code.at.icmp_unsigned("!=", ended, code.whole_number(0))),
                code.loop(0, FITS) as lane,
            ):
                bit = code.at.and_(code.at.lshr(ended, lane), code.whole_number(1))
                place = code.load_whole(index, lane)
                mine = code.at.icmp_signed(">=", place, code.whole_number(0))
                here = code.at.and_(mine, code.at.icmp_unsigned("==", bit, code.whole_number(1)))
                with code.when(here):
                    self._hand_out(code, lane, place)
                    code.store_whole(index, lane, -1)
                    live.put(code.plus(live.integer(), -1))
                    self._take(code, lane, todo, live)
        code.finish()

    def _take(self, code: Code, lane: "ir.Value", todo: Cell, live: Cell) -> None:
        arguments = list(code.arguments.values())
        more = code.at.icmp_signed("<", todo.integer(), code.number("last"))
        with code.when(more):
            code.call(
                self._fill,
                [*arguments[: len(POINTERS) + len(NUMBERS)], lane, todo.integer(), *arguments[-len(REALS) :]],
            )
            todo.put(code.plus(todo.integer(), 1))
            live.put(code.plus(live.integer(), 1))

    def _hand_out(self, code: Code, lane: "ir.Value", place: "ir.Value") -> None:
        """Write a lane's results at its fit's place."""
        state, rows, room = self._part(code, "state"), self.rows, code.number("room")
        column = code.plus(place, code.at.neg(code.number("first")))
        bits = code.load_whole(self._part(code, "index"), FITS)
        bit = code.at.and_(code.at.lshr(bits, lane), code.whole_number(1))
        converged = Truth(code, code.at.icmp_unsigned("==", bit, code.whole_number(1)))

        def get(name: str, j: int = 0) -> Lanes:
            return code.load(state, code.plus(rows.at(name, j), lane))

        def put(quantity: int, value: Lanes) -> None:
            code.store("out", code.plus(code.product(room, quantity), column), value)

        spot = {j: place_ for place_, j in enumerate(self.free)}
        for j in range(self.count):
            trial = get("trial", j)
            put(j, converged.pick(trial, get("best", spot[j])) if j in spot else trial)
        cost = get("cost")
        put(self.count, converged.pick(cost - get("promised"), cost))
        put(self.count + 1, get("steps"))
        many = get("steps") >= Lanes(code, code.at.sitofp(code.number("most"), code.scalar))
        failed = many.pick(float(MAX_ITERATIONS), float(STALLED))
        failed = (cost < float("inf")).pick(failed, float(NON_FINITE))
        put(self.count + 2, converged.pick(float(CONVERGED), failed))
        ends = [converged.pick(get("trial", j), get("best", place_)) for place_, j in enumerate(self.free)]
        on_bound = [self._on_bound(code, end, place_) for place_, end in enumerate(ends)]
        for k, (i, j) in enumerate(self.pairs):
            value = get("gram", k)
            for held in on_bound[i], on_bound[j]:  # errors of the others are conditional on it
                value = value if held is None else held.pick(1.0 if i == j else 0.0, value)
            code.store("gram", code.plus(code.product(code.number("depth"), k), column), value)

    def _on_bound(self, code: Code, value: Lanes, place: int) -> Truth | None:
        if not self.shape.bounded:
            return None
        return (value <= code.load("lower", place)) | (value >= code.load("upper", place))

    # ------------------------------------------------------------------ standard errors

    def _write_errors(self) -> None:
        code = Code(
            self.module,
            "errors",
            pointers=("gram", "out"),
            numbers=("depth", "room", "count"),
            real=self.shape.real,
        )
        f, depth, room = len(self.free), code.number("depth"), code.number("room")
        with code.loop(0, code.number("count"), step=self.width) as i:
            flat = [
                code.load("gram", code.plus(code.product(depth, k), i), lanes=self.width)
                for k in range(len(self.pairs))
            ]
            gram = by_place(flat, f)
            norm = [code.intrinsic("sqrt", gram[j, j]) for j in range(f)]
            unit = {(a, b): gram[a, b] / (norm[a] * norm[b]) for a, b in self.pairs}
            spread = inverse_diagonal(code, unit, f)
            for j in range(f):
                code.store("out", code.plus(code.product(room, j), i), spread[j] / (norm[j] * norm[j]))
        code.finish()


def _promise(step: Sequence[Lanes], gradient: Sequence[Lanes], damped: Mapping[int, Lanes]) -> Lanes:
    """Return the linear model's drop of the cost for a damped step: damping |D s|² - g·s."""
    total = step[0].like(0.0)
    for j, s in enumerate(step):
        total = s.times(damped[j].times(s, -gradient[j]) if j in damped else -gradient[j], total)
    return total


def _without(
    code: Code, matrix: Triangle, gradient: Sequence[Lanes], held: Sequence[Truth | None]
) -> tuple[list[Lanes], list[Lanes]]:
    """Return the step that leaves held parameters where they are, and the gradient without theirs."""
    part: Triangle = {}
    for (i, j), value in matrix.items():
        out = value
        for h in {id(h): h for h in (held[i], held[j]) if h is not None}.values():
            out = h.pick(1.0 if i == j else 0.0, out)
        part[i, j] = out
    right = [g if h is None else h.pick(0.0, g) for h, g in zip(held, gradient, strict=True)]
    return [-s for s in solution(code, part, right)], right
