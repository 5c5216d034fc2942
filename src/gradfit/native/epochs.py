"""The code of a training loop: gradient of the mean loss, the optimizer's step and the history, epoch after epoch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from gradfit._lazy import ir
from gradfit.graph import Graph, Node
from gradfit.native.code import Code
from gradfit.native.elementary import FUNCTIONS
from gradfit.native.evaluate import Evaluation, Value
from gradfit.native.penalty import Shape, value_slope
from gradfit.native.step import Step
from gradfit.native.values import Cell, Lanes, Truth
from gradfit.native.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "train"
ARRAYS = ("data", "state", "rates", "kept", "trail", "order", "held")
NUMBERS = ("rows", "stride", "size", "epochs", "done", "held_rows", "held_stride")


@dataclass(frozen=True, eq=False)
class Plan:
    """What a training loop is made for.

    Attributes
    ----------
    graph : Graph
        The model.
    free : tuple of int
        Which parameters are trained.
    step : Step
        The optimizer's.
    loss : str
        Its name, as in gradfit.loss.
    weighted, batched, bounded : bool
        Whether residuals have weights, there are mini-batches, and parameters have bounds.
    watched : bool
        Whether the loss over held-out rows is looked at before each epoch.
    penalty : Shape, optional
        Of what is added to the mean loss of each update.
    """

    graph: Graph
    free: tuple[int, ...]
    step: Step
    loss: str
    weighted: bool
    batched: bool
    bounded: bool
    watched: bool = False
    penalty: Shape | None = None

    @cached_property
    def key(self) -> str:
        """All that decides the code, as text."""
        return f"train {self!r}"

    @cached_property
    def width(self) -> int:
        """Lanes of the vector of free parameters: a power of two."""
        return 1 << (len(self.free) - 1).bit_length()

    @property
    def trail_width(self) -> int:
        """Numbers in a row of the history."""
        return 2 + 2 * len(self.free) + self.watched


def places(plan: Plan) -> dict[str, int]:
    """Return where in the state, an array of numbers, everything begins; "size" is its length.

    `parameters`, `lower`, `upper`, the vectors of `last` and `best` and the optimizer's own have `width` numbers each.
    `last` and `best` are epochs: the number of epochs before it, its loss, gradient and parameters. `watch` is the loss over
    the held-out rows at the parameters and at the last epoch's; the lowest and when; the mark and when it was set; patience
    and the least progress; and `chosen` the parameters where it was lowest.
    """
    width = plan.width
    parts = {
        "parameters": width, "lower": width, "upper": width, "fixed": len(plan.graph.parameters), "square": 1, "kept": 1,
        "last": 2 + 2 * width, "best": 2 + 2 * width, "watch": 8, "chosen": width,
        **{f"own{s}": width if vector else 1 for s, vector in enumerate(plan.step.vector)},
        **({} if plan.penalty is None else plan.penalty.parts(width, len(plan.free))),
    }  # fmt: skip
    out: dict[str, int] = {}
    total = 0
    for name, size in parts.items():
        out[name], total = total, total + size
    return {**out, "size": total}


def write_training(module: "ir.Module", plan: Plan, *, lanes: int) -> None:
    """Add the function `train` to a module.

    train(data, state, rates, kept, trail, order, held, rows, stride, size, epochs, done, held_rows, held_stride) goes through
    so many epochs and returns how many it did: fewer only if the loss was not finite or patience has run out. `done` are the
    epochs before; `rates` the learning rate of each epoch now; `kept` the steps of the history, `trail` its rows (step, loss,
    gradient, parameters, loss over held-out rows); `order` the rows of all epochs' mini-batches as 64-bit integers, `size`
    rows each; `held` the held-out rows, as `data` has the others.
    """
    _Loop(module, plan, lanes).write()


class _StepEvaluation(Evaluation):
    """A step's operations; vectors have a lane for each parameter, numbers one."""

    def __init__(self, code: Code, plan: Plan, ends: Sequence[int]) -> None:
        names = ("parameter", "gradient", "rate", *plan.step.names)
        super().__init__(code, Graph(plan.step.nodes, 0, (), (), names, ()), ends, plan.width)
        self._count = len(plan.free)
        self.settle(())

    def _operation(self, node: Node, values: Sequence[Value]) -> Value:
        first = values[0]
        if node[0] == "single" and isinstance(first, Lanes):
            return _rounded(self.code, first)
        if node[0] == "total" and isinstance(first, Lanes):
            total = self.code.lane(first, 0)
            for k in range(1, self._count):
                total = total + self.code.lane(first, k)
            return total
        return super()._operation(node, values)


def _rounded(code: Code, value: Lanes) -> Lanes:
    kind = ir.FloatType() if value.lanes == 1 else ir.VectorType(ir.FloatType(), value.lanes)
    return Lanes(code, code.at.fpext(code.at.fptrunc(value.raw, kind), code.kind(value.lanes)))


# ---------------------------------------------------------------------------- losses


def _sqrt(x: Lanes) -> Lanes:
    return FUNCTIONS["sqrt"](x)


def _soft_l1(z: Lanes) -> tuple[Lanes, Lanes]:
    root = _sqrt(z + 1.0)
    return 2.0 * (root - 1.0), 1.0 / root


def _huber(z: Lanes) -> tuple[Lanes, Lanes]:
    inside = z <= 1.0
    root = _sqrt(inside.pick(1.0, z))
    return inside.pick(z, 2.0 * root - 1.0), inside.pick(1.0, 1.0 / root)


def _cauchy(z: Lanes) -> tuple[Lanes, Lanes]:
    return FUNCTIONS["log1p"](z), 1.0 / (z + 1.0)


def _bisquare(z: Lanes) -> tuple[Lanes, Lanes]:
    left = 1.0 - z
    left = (left < 0.0).pick(0.0, left)
    return (1.0 - left * left * left) / 3.0, left * left


_ROBUST: "Mapping[str, Callable[[Lanes], tuple[Lanes, Lanes]]]" = {
    "soft_l1": _soft_l1,
    "huber": _huber,
    "cauchy": _cauchy,
    "bisquare": _bisquare,
}


# ---------------------------------------------------------------------------- sums over the rows of one update


class _RowSums:
    """The loss and the cores of its gradient, summed over rows."""

    def __init__(
        self,
        code: Code,
        plan: Plan,
        lanes: int,
        *,
        parameters: Sequence[Lanes],
        square: Lanes,
        count: Lanes,
        differentiated: bool = True,
    ) -> None:
        self.code, self.plan, self.lanes, self.square = code, plan, lanes, square
        self._share = 1.0 / count
        graph = plan.graph
        self._cores = [graph.core[j] for j in plan.free] if differentiated else []
        self._scales = [graph.scale[j] for j in plan.free] if differentiated else []
        self.evaluation = Evaluation(code, graph, [graph.value, *self._cores, *self._scales], lanes)
        self.evaluation.settle(parameters)
        zero = code.constant(0.0, lanes)
        self._loss = code.cell(zero)
        self._slopes: Mapping[int, Cell] = {core: code.cell(zero) for core in dict.fromkeys(self._cores)}

    def add(self, columns: Sequence[Lanes], there: Truth | None) -> None:
        """Add a row in each lane: inputs, observed value and weight; where there is none, nothing."""
        graph, number = self.plan.graph, self.evaluation.number
        inputs = len(graph.variables)
        values = self.evaluation.at(columns[:inputs])
        residual = number(values, graph.value) - columns[inputs]
        weight = columns[inputs + 1] if self.plan.weighted else None
        if weight is not None:
            residual = residual * weight
        loss, slope = residual * residual, residual
        if self.plan.loss in _ROBUST:
            square = self.code.wide(self.square, self.lanes)
            loss, first = _ROBUST[self.plan.loss](loss / square)
            slope = first * residual
        slope = slope if weight is None else slope * weight
        twice = self.code.spread(self._share * 2.0, self.lanes)
        # the core first: it seldom waits for the residual, and every epoch waits for the one before
        parts = {core: (number(values, core) * twice) * slope for core in self._slopes}
        if there is not None:
            loss = there.pick(loss, 0.0)
            parts = {core: there.pick(part, 0.0) for core, part in parts.items()}
        self._loss.set(self._loss.get() + loss)
        for core, cell in self._slopes.items():
            cell.set(cell.get() + parts[core])

    def loss(self) -> Lanes:
        """Return the mean loss."""
        loss = self.code.total(self._loss.get()) * self._share
        return loss * self.square if self.plan.loss in _ROBUST else loss

    def means(self) -> tuple[Lanes, Lanes]:
        """Return the mean loss, and its gradient with a lane for each parameter."""
        code, number = self.code, self.evaluation
        loss = self.loss()
        sums = {core: code.total(cell.get()) for core, cell in self._slopes.items()}
        parts = [
            sums[core] * code.lane(number.number(number.settled, scale), 0)
            for core, scale in zip(self._cores, self._scales, strict=True)
        ]
        rest = [code.constant(0.0)] * (self.plan.width - len(parts))
        return loss, code.joined([*parts, *rest])


# ---------------------------------------------------------------------------- the loop


@dataclass(frozen=True)
class _Epoch:
    """What is known of one epoch: its loss and gradient, and the parameters before it."""

    before: Cell
    loss: Cell
    gradient: Cell
    number: Cell


class _Loop:
    def __init__(self, module: "ir.Module", plan: Plan, lanes: int) -> None:
        self.plan, self.lanes = plan, lanes
        self.at = places(plan)
        self.code = Code(module, NAME, pointers=ARRAYS, numbers=NUMBERS)
        self.rows = self.code.number("rows")
        self.square = self.code.load("state", self.at["square"])
        self.parameters = self._vector("parameters")
        self.own = [self._cell(f"own{s}", vector=v) for s, v in enumerate(plan.step.vector)]
        self.last, self.best = self._epoch("last"), self._epoch("best")
        self.watch = (
            Watch(code=self.code, places=self.at, width=plan.width, parameters=self.parameters)
            if plan.watched
            else None
        )

    # ------------------------------------------------------------------ state

    def _load(self, name: str, offset: int = 0, *, vector: bool) -> Lanes:
        return self.code.load("state", self.at[name] + offset, lanes=self.plan.width if vector else 1)

    def _part(self, name: str, offset: int, lanes: int) -> Lanes:
        return self.code.load("state", self.at[name] + offset, lanes=lanes)

    def _cell(self, name: str, offset: int = 0, *, vector: bool) -> Cell:
        return self.code.cell(self._load(name, offset, vector=vector))

    def _vector(self, name: str, offset: int = 0) -> Cell:
        return self._cell(name, offset, vector=True)

    def _epoch(self, name: str) -> _Epoch:
        return _Epoch(
            number=self._cell(name, vector=False),
            loss=self._cell(name, 1, vector=False),
            gradient=self._vector(name, 2),
            before=self._vector(name, 2 + self.plan.width),
        )

    def _save(self) -> None:
        cells = {self.at["parameters"]: self.parameters}
        cells |= {self.at[f"own{s}"]: cell for s, cell in enumerate(self.own)}
        for name, epoch in (("last", self.last), ("best", self.best)):
            parts = (epoch.number, epoch.loss, epoch.gradient, epoch.before)
            offsets = (0, 1, 2, 2 + self.plan.width)
            cells |= {self.at[name] + offset: cell for offset, cell in zip(offsets, parts, strict=True)}
        cells |= {} if self.watch is None else self.watch.cells
        for place, cell in cells.items():
            self.code.store("state", place, cell.get())

    # ------------------------------------------------------------------ control

    def write(self) -> None:
        """Write the function."""
        code = self.code
        epochs, done = code.number("epochs"), code.number("done")
        counter, kept = code.cell(code.whole_number(0)), code.cell(code.whole_number(0))
        next_kept = code.cell(code.load("kept", 0))
        with code.forever() as leave:
            e = counter.integer()
            number = self._real(code.at.add(done, e))
            if self.watch is not None:
                leave.when(self.watch.look(number, self._held_loss()))
            leave.when(code.at.icmp_signed(">=", e, epochs))
            counter.put(code.at.add(e, code.whole_number(1)))
            if self.watch is not None:
                self.watch.before.set(self.watch.now.get())
            self.last.before.set(self.parameters.get())
            self.last.number.set(number)
            self._updates(e, code.load("rates", e))
            loss = self.last.loss.get()
            leave.when(~((loss - loss) >= 0.0))
            self._remember_best(loss)
            with code.when(number >= next_kept.get()):
                self._keep(kept, next_kept)
        self._save()
        code.store("state", self.at["kept"], self._real(kept.integer()))
        code.finish(counter.integer())

    def _real(self, whole: "ir.Value") -> Lanes:
        return Lanes(self.code, self.code.at.sitofp(whole, self.code.scalar))

    def _remember_best(self, loss: Lanes) -> None:
        """Write the epoch over the best one where its loss is lower."""
        better = loss < self.best.loss.get()
        for mine, now in (
            (self.best.number, self.last.number),
            (self.best.gradient, self.last.gradient),
            (self.best.before, self.last.before),
            (self.best.loss, self.last.loss),
        ):
            mine.put(self.code.at.select(better.raw, now.integer(), mine.integer()))

    def _keep(self, kept: Cell, next_kept: Cell) -> None:
        """Write the epoch as the next row of the history."""
        code, k, last = self.code, len(self.plan.free), self.last
        width = code.whole_number(self.plan.trail_width)
        row = code.element("trail", code.at.mul(kept.integer(), width))
        numbers = [last.number.get(), last.loss.get()]
        numbers += [code.lane(cell.get(), j) for cell in (last.gradient, last.before) for j in range(k)]
        numbers += [] if self.watch is None else [self.watch.before.get()]
        for place, value in enumerate(numbers):
            code.store(row, place, value)
        kept.put(code.at.add(kept.integer(), code.whole_number(1)))
        next_kept.set(code.load("kept", kept.integer()))

    # ------------------------------------------------------------------ updates

    def _updates(self, epoch: "ir.Value", rate: Lanes) -> None:
        """Write the updates of one epoch; its loss and gradient are means over its mini-batches."""
        code = self.code
        begun = code.at.icmp_signed(">", code.at.add(code.number("done"), epoch), code.whole_number(0))
        if not self.plan.batched:
            loss, gradient = self._update(code.whole_number(0), self.rows, first=None, rate=rate, again=begun)
            self.last.loss.set(loss)
            self.last.gradient.set(gradient)
            return
        self.last.loss.set(code.constant(0.0))
        self.last.gradient.set(code.constant(0.0, self.plan.width))
        first = code.at.mul(epoch, self.rows)
        size = code.number("size")
        start = code.cell(code.whole_number(0))
        with code.forever() as leave:
            low = start.integer()
            leave.when(code.at.icmp_signed(">=", low, self.rows))
            high = code.at.add(low, size)
            high = code.at.select(code.at.icmp_signed("<", high, self.rows), high, self.rows)
            start.put(high)
            again = code.at.or_(begun, code.at.icmp_signed(">", low, code.whole_number(0)))
            loss, gradient = self._update(low, high, first=first, rate=rate, again=again)
            share = self._real(code.at.sub(high, low)) / self._real(self.rows)
            self.last.loss.set(self.last.loss.get() + share * loss)
            self.last.gradient.set(self.last.gradient.get() + code.spread(share, self.plan.width) * gradient)

    def _update(
        self,
        low: "ir.Value",
        high: "ir.Value",
        *,
        first: "ir.Value | None",
        rate: Lanes,
        again: "ir.Value",
    ) -> tuple[Lanes, Lanes]:
        """Write one update from the rows low … high; return its loss and gradient, before it."""
        code, plan = self.code, self.plan
        before = self.parameters.get()
        loss, gradient = self._summed(low, high, lambda i: self._columns(i, first)).means()
        if plan.penalty is not None:
            value, slope = value_slope(code, plan.penalty, self._part, before, free=len(plan.free))
            loss, gradient = loss + value, gradient + slope
        inputs = [before, gradient, rate, *(cell.get() for cell in self.own)]
        with code.at.if_else(again) as (later, at_first):
            with later:
                self._step(plan.step.later, inputs)
            with at_first:
                self._step(plan.step.first, inputs)
        return loss, gradient

    def _summed(
        self,
        low: "ir.Value",
        high: "ir.Value",
        columns: "Callable[[ir.Value], Sequence[Lanes]]",
        *,
        differentiated: bool = True,
    ) -> _RowSums:
        """Write the sums over the rows low … high at the parameters."""
        code, plan, lanes, before = self.code, self.plan, self.lanes, self.parameters.get()
        whole = [code.load("state", self.at["fixed"] + j) for j in range(len(plan.graph.parameters))]
        for k, j in enumerate(plan.free):
            whole[j] = code.lane(before, k)
        count = self._real(code.at.sub(high, low))
        sums = _RowSums(
            code,
            plan,
            lanes,
            parameters=whole,
            square=self.square,
            count=count,
            differentiated=differentiated,
        )
        rest = code.at.and_(code.at.sub(high, low), code.whole_number(lanes - 1))
        even = code.at.sub(high, rest)
        with code.loop(low, even, step=lanes) as i:
            sums.add(columns(i), None)
        if lanes > 1:
            with code.when(code.at.icmp_signed(">", rest, code.whole_number(0))):
                numbers = code.joined([code.constant(float(k)) for k in range(lanes)])
                sums.add(columns(even), numbers < code.spread(self._real(rest), lanes))
        return sums

    def _held_loss(self) -> Lanes:
        """Write the mean loss over the held-out rows at the parameters."""
        code = self.code
        rows, stride = code.number("held_rows"), code.number("held_stride")

        def columns(i: "ir.Value") -> list[Lanes]:
            starts = [code.at.mul(stride, code.whole_number(c)) for c in range(self._width)]
            return [code.load("held", code.at.add(start, i), lanes=self.lanes) for start in starts]

        return self._summed(code.whole_number(0), rows, columns, differentiated=False).loss()

    @property
    def _width(self) -> int:
        return len(self.plan.graph.variables) + 1 + self.plan.weighted

    def _columns(self, i: "ir.Value", first: "ir.Value | None") -> list[Lanes]:
        """Return inputs, observed values and weights of the rows from the i-th on, or from the i-th of the order on."""
        code, lanes, stride = self.code, self.lanes, self.code.number("stride")
        starts = [code.at.mul(stride, code.whole_number(c)) for c in range(self._width)]
        if first is None:
            return [code.load("data", code.at.add(start, i), lanes=lanes) for start in starts]
        place = code.at.add(first, i)
        rows = [
            code.at.load(
                code.at.gep(
                    code.array("order"),
                    [code.at.add(place, code.whole_number(k))],
                    source_etype=ir.IntType(64),
                ),
                typ=ir.IntType(64),
            )
            for k in range(lanes)
        ]
        return [code.joined([code.load("data", code.at.add(start, row)) for row in rows]) for start in starts]

    def _step(self, ends: Sequence[int], inputs: Sequence[Lanes]) -> None:
        """Write the optimizer's step, and the projection onto the bounds."""
        code, plan = self.code, self.plan
        evaluation = _StepEvaluation(code, plan, ends)
        values = evaluation.at(inputs)
        after = evaluation.number(values, ends[0])
        if plan.bounded:
            lower, upper = self._load("lower", vector=True), self._load("upper", vector=True)
            after = (after < lower).pick(lower, after)
            after = (after > upper).pick(upper, after)
        self.parameters.set(after)
        for cell, end, vector in zip(self.own, ends[1:], plan.step.vector, strict=True):
            value = evaluation.number(values, end)
            cell.set(value if vector else code.lane(value, 0))
