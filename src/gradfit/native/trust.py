"""One small fit in one call, as MINPACK walks: by its rules and its numbers, so that it ends in the same valley.

MINPACK factors the Jacobian and this code JᵀJ, whose steps are the same but for rounding where it is well conditioned; where it
is not, or anything but a clean minimum comes out, the caller has MINPACK walk.

References
----------
.. [1] Moré (1978), The Levenberg-Marquardt algorithm: implementation and theory; lmder and lmpar of MINPACK.
"""

from collections.abc import Sequence

from gradfit.native.code import Code
from gradfit.native.linear import Triangle, by_place, cholesky, forward, solved
from gradfit.native.one import ELSEWHERE, OneFit, dot
from gradfit.native.sums import triangle
from gradfit.native.values import Cell, Lanes, Truth

_DWARF = 2.3e-308  # MINPACK's smallest number
_NEAR = 0.1  # by what share of the bound a step may miss it
_LEAST_GAIN = 1e-4


class TrustFit(OneFit):
    """Writes `fit` with MINPACK's walk: goal is its ftol and xtol, damping the factor of its first bound."""

    def _write_fit(self) -> None:
        code, at = self._begun(), self.layout
        bound, damping = self._first_bound(code), code.cell(code.constant(0.0))
        size = code.cell(self._length(code, "parameters"))
        done, moved = code.cell(code.whole_number(0)), code.cell(code.constant(0.0))
        with code.when(code.load("state", at.cost).same(0.0)):
            self._return(code)
        with code.forever() as leave:
            leave.when(code.at.icmp_signed(">=", done.integer(), code.number("most")))
            done.put(code.at.add(done.integer(), code.whole_number(1)))
            code.store("state", at.done, code.load("state", at.done) + 1.0)
            self._turn(code, bound, damping, size, moved=moved)
        code.finish(ELSEWHERE)

    def _first_bound(self, code: Code) -> Cell:
        size, factor = self._length(code, "parameters"), code.argument("damping")
        return code.cell((size > 0.0).pick(size * factor, factor))

    def _length(self, code: Code, where: str) -> Lanes:
        """Return the length of the free parameters in `where`, each in its scale."""
        at = self.layout
        scaled = [
            code.load("state", at.norm + place) * code.load("state", getattr(at, where) + j)
            for place, j in enumerate(self.free)
        ]
        return code.intrinsic("sqrt", dot(code, scaled, scaled))

    def _turn(self, code: Code, bound: Cell, damping: Cell, size: Cell, *, moved: Cell) -> None:
        """Write a step, taken or refused, the bound of the next one, and the tests that end the walk."""
        at, f = self.layout, self.layout.free
        norm = [code.load("state", at.norm + j) for j in range(f)]
        unit = by_place([code.load("state", at.unit + k) for k in range(len(triangle(f)))], f)
        step = self._bounded(code, unit, norm, bound=bound.get(), damping=damping)
        length = code.intrinsic("sqrt", dot(code, step, step))
        first = moved.get().same(0.0) & (length < bound.get())
        bound.set(first.pick(length, bound.get()))
        finite = self._try(code, [-u / n for u, n in zip(step, norm, strict=True)])
        with code.when(code.at.not_(finite)):
            code.give_back(ELSEWHERE)
        cost, after = code.load("state", at.cost), code.load("state", at.sums)
        seen = (after * 0.01 < cost).pick(1.0 - after / cost, -1.0)
        linear = _square(code, unit, step) / cost
        damped = damping.get() * length * length / cost
        promised = linear + 2.0 * damped
        gain = promised.same(0.0).pick(0.0, seen / promised)
        reach = self._length(code, "trial")
        self._bound_next(code, bound, damping, length=length, seen=seen, slope=-(linear + damped), gain=gain)
        with code.when(gain >= _LEAST_GAIN):
            size.set(reach)
            moved.set(code.constant(1.0))
            self._accept(code, grow=True)
        goal = code.argument("goal")
        level = (abs(seen) <= goal) & (promised <= goal) & (gain <= 2.0)
        self._ended(code, level, bound.get() <= goal * size.get())

    def _ended(self, code: Code, level: Truth, short: Truth) -> None:
        """Where the sum of squares is level, or the bound short, write the last digits and return."""
        at = self.layout
        with code.when(level | short):
            code.store("state", at.reason, level.pick(1.0, 0.0) + short.pick(2.0, 0.0))
            for _ in range(2):  # what the first leaves the second finds: its extrapolation begins anew
                self._polished(code)
            self._return_at_minimum(code)
            code.give_back(ELSEWHERE)

    def _bound_next(
        self, code: Code, bound: Cell, damping: Cell, *, length: Lanes, seen: Lanes, slope: Lanes, gain: Lanes
    ) -> None:
        cost, after = code.load("state", self.layout.cost), code.load("state", self.layout.sums)
        factor = (seen >= 0.0).pick(0.5, 0.5 * slope / (slope + 0.5 * seen))
        factor = ((after * 0.01 >= cost) | (factor < 0.1)).pick(0.1, factor)
        poor = gain <= 0.25
        good = damping.get().same(0.0) | (gain >= 0.75)
        least = code.intrinsic("minnum", bound.get(), length * 10.0)
        bound.set(poor.pick(factor * least, good.pick(length * 2.0, bound.get())))
        damping.set(poor.pick(damping.get() / factor, good.pick(damping.get() * 0.5, damping.get())))

    # ------------------------------------------------------------------ lmpar

    def _bounded(
        self, code: Code, unit: Triangle, norm: Sequence[Lanes], *, bound: Lanes, damping: Cell
    ) -> list[Lanes]:
        """Return the step, its sign changed and in units of the scales, whose length is the bound's; the Gauss-Newton one within."""
        at, f = self.layout, self.layout.free
        newton = [norm[j] * code.load("state", at.newton + j) for j in range(f)]
        length = code.intrinsic("sqrt", dot(code, newton, newton))
        step = [code.cell(u) for u in newton]
        inside = length - bound <= bound * _NEAR
        with code.when(inside):
            damping.set(code.constant(0.0))
        with code.when(~inside):
            gradient = [code.load("state", at.gradient + j) / norm[j] for j in range(f)]
            low, inverse = cholesky(code, unit, f)
            w = forward(low, inverse, [u / length for u in newton])
            least = (length - bound) / bound / dot(code, w, w)
            steep = code.intrinsic("sqrt", dot(code, gradient, gradient))
            most = steep / bound
            most = most.same(0.0).pick(_DWARF / code.intrinsic("minnum", bound, code.constant(0.1)), most)
            begun = code.intrinsic("minnum", code.intrinsic("maxnum", damping.get(), least), most)
            damping.set(begun.same(0.0).pick(steep / length, begun))
            ends = code.cell(least), code.cell(most), code.cell(length - bound)
            self._search(code, unit, gradient, ends, bound=bound, damping=damping, step=step)
        return [cell.get() for cell in step]

    def _search(
        self,
        code: Code,
        unit: Triangle,
        gradient: Sequence[Lanes],
        ends: tuple[Cell, Cell, Cell],
        *,
        bound: Lanes,
        damping: Cell,
        step: Sequence[Cell],
    ) -> None:
        """Change the damping by Newton's method until the step has the bound's length; ten times at most."""
        least, most, miss = ends
        turn = code.cell(code.constant(0.0))
        with code.forever() as leave:
            turn.set(turn.get() + 1.0)
            small = code.intrinsic("maxnum", most.get() * 0.001, code.constant(_DWARF))
            mu = damping.get().same(0.0).pick(small, damping.get())
            damping.set(mu)
            low, inverse = cholesky(
                code, {p: v + mu if p[0] == p[1] else v for p, v in unit.items()}, len(gradient)
            )
            u = solved(low, inverse, gradient)
            for cell, part in zip(step, u, strict=True):
                cell.set(part)
            length = code.intrinsic("sqrt", dot(code, u, u))
            before, now = miss.get(), length - bound
            miss.set(now)
            falling = least.get().same(0.0) & (now <= before) & (before < 0.0)
            leave.when((abs(now) <= bound * _NEAR) | falling | (turn.get() >= 10.0) | code.is_nan(now))
            w = forward(low, inverse, [part / length for part in u])
            change = now / bound / dot(code, w, w)
            least.set((now > 0.0).pick(code.intrinsic("maxnum", least.get(), mu), least.get()))
            most.set((now < 0.0).pick(code.intrinsic("minnum", most.get(), mu), most.get()))
            damping.set(code.intrinsic("maxnum", least.get(), mu + change))


def _square(code: Code, matrix: Triangle, u: Sequence[Lanes]) -> Lanes:
    """Return uᵀ matrix u."""
    total = code.constant(0.0)
    for (i, j), value in matrix.items():
        total = (u[i] * u[j] * (1.0 if i == j else 2.0)).times(value, total)
    return total
