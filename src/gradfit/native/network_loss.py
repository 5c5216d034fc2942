"""The losses of a network as code: the loss of a chunk of rows, and its slopes by the outputs."""

from collections.abc import Callable, Mapping
from functools import lru_cache

from gradfit._lazy import ir
from gradfit.native.code import Code
from gradfit.native.compiled import Library, lanes, library
from gradfit.native.elementary import sign
from gradfit.native.elementary_exponential import exp, log, log1p
from gradfit.native.network_activation import logistic
from gradfit.native.values import Lanes, Truth

NAME = "lose"
POINTERS = ("outputs", "slopes", "targets", "weights", "lost")
NUMBERS, REALS = ("count", "stride", "vectors"), ("delta", "share")
Both = tuple[Lanes, Lanes]


def _mse(z: Lanes, y: Lanes, _delta: Lanes) -> Both:
    miss = z - y
    return miss * miss, miss + miss


def _mae(z: Lanes, y: Lanes, _delta: Lanes) -> Both:
    miss = z - y
    return abs(miss), sign(miss)


def _huber(z: Lanes, y: Lanes, delta: Lanes) -> Both:
    miss = z - y
    size = abs(miss)
    far = size > delta
    value = far.pick(delta * (size - 0.5 * delta), 0.5 * miss * miss)
    return value, far.pick(delta * sign(miss), miss)


def _bce(z: Lanes, y: Lanes, _delta: Lanes) -> Both:
    above = (z > 0.0).pick(z, 0.0)
    return above - z * y + log1p(exp(-abs(z))), logistic(z) - y


def _poisson(z: Lanes, y: Lanes, _delta: Lanes) -> Both:
    mean = exp(z)
    return mean - y * z, mean - y


SINGLE: Mapping[str, Callable[[Lanes, Lanes, Lanes], Both]] = {
    "mse": _mse, "mae": _mae, "huber": _huber, "bce": _bce, "poisson": _poisson,
}  # fmt: skip


def write_loss(module: "ir.Module", name: str, *, real: int, lanes: int) -> None:
    """Add `lose(outputs, slopes, targets, weights, lost, count, stride, vectors, delta, share)` to a module.

    To the number `lost`, of 64 bits, it adds the losses of so many registers of rows times their weights, times `share`;
    `slopes`, those of the last activation, become those of the loss. Rows of weight 0 have no part in anything.
    """
    code = Code(module, NAME, pointers=POINTERS, numbers=NUMBERS, reals=REALS, real=real)
    total = code.cell(code.constant(0.0, lanes))
    with code.loop(0, code.number("vectors")) as vector:
        at = code.product(vector, lanes)
        weight = code.load("weights", at, lanes=lanes)
        rows = _Rows(code, at, weight, ~weight.same(0.0))
        with code.exactly():
            loss = rows.classes() if name == "cross-entropy" else rows.single(SINGLE[name])
        total.set(total.get() + rows.there.pick(loss * weight, 0.0))
    summed = code.total(total.get())
    if real == 32:
        summed = code.widened(summed)
    with code.in_double():
        lost = code.load("lost")
        code.store("lost", 0, lost + summed * code.argument("share"))
    code.finish()


class _Rows:
    """A register of rows: where they begin, their weights, and which are there."""

    def __init__(self, code: Code, at: "ir.Value", weight: Lanes, there: Truth) -> None:
        self.code, self.at, self.weight, self.there = code, at, weight, there
        self.lanes = weight.lanes
        self.scale = weight * code.argument("share", self.lanes)

    def _place(self, feature: "ir.Value | int") -> "ir.Value":
        return self.code.plus(self.code.product(feature, self.code.number("stride")), self.at)

    def _load(self, name: str, feature: "ir.Value | int") -> Lanes:
        return self.code.load(name, self._place(feature), lanes=self.lanes)

    def _learn(self, feature: "ir.Value", slope: Lanes) -> None:
        known = self._load("slopes", feature)
        self.code.store("slopes", self._place(feature), self.there.pick(slope * self.scale * known, 0.0))

    def single(self, loss: Callable[[Lanes, Lanes, Lanes], Both]) -> Lanes:
        """Return the sum of the losses of all outputs, each by itself."""
        code = self.code
        delta = code.argument("delta", self.lanes)
        total = code.cell(code.constant(0.0, self.lanes))
        with code.loop(0, code.number("count")) as feature:
            value, slope = loss(self._load("outputs", feature), self._load("targets", feature), delta)
            total.set(total.get() + value)
            self._learn(feature, slope)
        return total.get()

    def classes(self) -> Lanes:
        """Return the cross-entropy of the classes' probabilities, the softmax of the outputs."""
        code, count = self.code, self.code.number("count")
        own = self._load("targets", 0)
        top, mine = code.cell(self._load("outputs", 0)), code.cell(code.constant(0.0, self.lanes))
        with code.loop(0, count) as feature:
            z = self._load("outputs", feature)
            best = top.get()
            top.set((z > best).pick(z, best))
            mine.set(self._is(feature, own).pick(z, mine.get()))
        largest = top.get()
        below = code.cell(code.constant(0.0, self.lanes))
        with code.loop(0, count) as feature:
            below.set(below.get() + exp(self._load("outputs", feature) - largest))
        sum_ = below.get()
        with code.loop(0, count) as feature:
            probability = exp(self._load("outputs", feature) - largest) / sum_
            self._learn(feature, probability - self._is(feature, own).pick(1.0, probability.like(0.0)))
        return log(sum_) + (largest - mine.get())

    def _is(self, feature: "ir.Value", own: Lanes) -> Truth:
        number = Lanes(self.code, self.code.at.sitofp(feature, self.code.scalar))
        return own.same(self.code.spread(number, self.lanes))


@lru_cache(maxsize=32)
def loss_code(name: str, real: int) -> Library:
    """Return the machine code of a loss."""
    wide = lanes(real)
    return library(
        f"loss {name} {real} {wide}", lambda module: write_loss(module, name, real=real, lanes=wide)
    )
