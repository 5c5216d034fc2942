"""Products of a layer as code, in tiles that stay in registers.

Values are stored feature by feature: a feature's rows are neighbours, so that a register holds rows whatever the sizes of
the layers, which are arguments. Nothing is packed: a weight is read where it stands and repeated in all lanes.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from gradfit._lazy import ir
from gradfit.native.code import Code
from gradfit.native.values import Cell, Lanes

FORWARD, BACKWARD, SLOPES, BIASES = "forward", "backward", "weight_slopes", "bias_slopes"
_BLOCK = 16  # features whose rows stay in the first-level cache while a whole product passes over them
_FOUR = 4


@dataclass(frozen=True)
class Shape:
    """What a processor's registers hold.

    Attributes
    ----------
    real, lanes : int
        Bits of a number, and numbers in a register.
    high, wide : int
        Of a product's tile: features, and registers of rows.
    sums : int
        Features of one side in a tile of sums; of the other there are four.
    """

    real: int
    lanes: int
    high: int
    wide: int
    sums: int

    @classmethod
    def of(cls, real: int, lanes: int) -> "Shape":
        """Return the tiles for registers of so many lanes: 32 of them where they have 512 bits, else 16."""
        many = real * lanes == 512
        return cls(real, lanes, _FOUR, 4 if many else 3, 4 if many else 3)


@dataclass(frozen=True)
class Tiles:
    """The functions of a module that go over a chunk of rows."""

    forward: "ir.Function"
    backward: "ir.Function"
    weight_slopes: "ir.Function"
    bias_slopes: "ir.Function"


def write_tiles(module: "ir.Module", shape: Shape, activation: "ir.FunctionType") -> Tiles:
    """Add the products to a module.

    forward(weights, biases, x, y, slopes, outputs, inputs, stride, vectors, activate, alpha, beta) makes y of x, and calls
    the activation at the address `activate`. backward(weights, x, y, outputs, inputs, stride, vectors) multiplies y, the
    slopes of a layer's inputs, by what comes back from x, the slopes of its outputs. weight_slopes(x, y, slopes, outputs,
    inputs, stride, vectors) adds the sums over rows of all products of x, slopes of outputs, with y, inputs;
    bias_slopes(x, slopes, outputs, stride, vectors) those of x alone.
    """
    return Tiles(
        _write_forward(module, shape, activation),
        _write_backward(module, shape),
        _write_weight_slopes(module, shape),
        _write_bias_slopes(module, shape),
    )


def fence(code: Code) -> None:
    """Keep LLVM from unrolling a loop, which has it spill the sums."""
    code.at.asm(ir.FunctionType(ir.VoidType(), []), "", "~{memory}", [], True)


# ---------------------------------------------------------------------------- x to y


@dataclass(frozen=True)
class _Product:
    """y[i] = sum over k of weights[i * over + k * along] * x[k], for panels of some registers of rows."""

    code: Code
    shape: Shape
    over: "ir.Value | int"
    along: "ir.Value | int"
    features: "ir.Value"
    terms: "ir.Value"

    def row(self, array: str, feature: "ir.Value", at: "ir.Value") -> "ir.Value":
        return self.code.element(
            array, self.code.plus(self.code.product(feature, self.code.number("stride")), at)
        )

    def panels(self, panel: Callable[["ir.Value", int], None]) -> None:
        """Write `panel(first row, registers)` for all rows: as wide as there is room for, then what is left."""
        code = self.code
        done = code.cell(code.whole_number(0))
        for wide in range(self.shape.wide, 0, -1):
            with code.forever() as leave:
                begun = done.integer()
                leave.when(code.at.icmp_signed(">", code.plus(begun, wide), code.number("vectors")))
                done.put(code.plus(begun, wide))
                panel(code.product(begun, self.shape.lanes), wide)

    def all_features(self, tile: Callable[["ir.Value", int], None]) -> None:
        """Write `tile(first feature, features)` for all features."""
        code, high = self.code, self.shape.high
        rest = code.at.srem(self.features, code.whole_number(high))
        even = code.at.sub(self.features, rest)
        with code.loop(0, even, step=high) as i:
            tile(i, high)
        with code.loop(even, self.features) as i:
            tile(i, 1)

    def sums(self, first: "ir.Value", at: "ir.Value", begin: Sequence[Lanes], wide: int) -> list[list[Lanes]]:
        """Return the sums of some features, those that begin with these numbers, in so many registers of rows."""
        code, lanes = self.code, self.shape.lanes
        cells = [[code.cell(code.spread(number, lanes)) for _ in range(wide)] for number in begin]
        with code.loop(0, self.terms) as k:
            source = self.row("x", k, at)
            rows = [code.load(source, b * lanes, lanes=lanes) for b in range(wide)]
            for a, sums in enumerate(cells):
                place = code.plus(code.product(code.plus(first, a), self.over), code.product(k, self.along))
                weight = code.spread(code.load("weights", place), lanes)
                for sum_, row in zip(sums, rows, strict=True):
                    sum_.set(weight.times(row, sum_.get()))
            fence(code)
        return [[cell.get() for cell in sums] for sums in cells]


def _write_forward(module: "ir.Module", shape: Shape, activation: "ir.FunctionType") -> "ir.Function":
    code = Code(
        module,
        FORWARD,
        pointers=("weights", "biases", "x", "y", "slopes"),
        numbers=("outputs", "inputs", "stride", "vectors", "activate"),
        reals=("alpha", "beta"),
        real=shape.real,
        inner=True,
    )
    outputs, inputs, stride = (code.number(n) for n in ("outputs", "inputs", "stride"))
    product = _Product(code, shape, inputs, 1, outputs, inputs)
    activate = code.at.inttoptr(code.number("activate"), activation.as_pointer())

    def panel(at: "ir.Value", wide: int) -> None:
        def tile(first: "ir.Value", high: int) -> None:
            begin = [code.load("biases", code.plus(first, a)) for a in range(high)]
            for a, sums in enumerate(product.sums(first, at, begin, wide)):
                target = product.row("y", code.plus(first, a), at)
                for b, value in enumerate(sums):
                    code.store(target, b * shape.lanes, value)

        product.all_features(tile)
        ends = [code.element("y", at), code.element("slopes", at), outputs, stride, code.whole_number(wide)]
        code.at.call(activate, [*ends, code.arguments["alpha"], code.arguments["beta"]])

    product.panels(panel)
    code.finish()
    return code.function


def _write_backward(module: "ir.Module", shape: Shape) -> "ir.Function":
    code = Code(
        module,
        BACKWARD,
        pointers=("weights", "x", "y"),
        numbers=("outputs", "inputs", "stride", "vectors"),
        real=shape.real,
        inner=True,
    )
    outputs, inputs = code.number("outputs"), code.number("inputs")
    product = _Product(code, shape, 1, inputs, inputs, outputs)

    def panel(at: "ir.Value", wide: int) -> None:
        def tile(first: "ir.Value", high: int) -> None:
            begin = [code.constant(0.0)] * high
            for a, sums in enumerate(product.sums(first, at, begin, wide)):
                target = product.row("y", code.plus(first, a), at)
                for b, value in enumerate(sums):
                    place = b * shape.lanes
                    slope = code.load(target, place, lanes=shape.lanes)
                    code.store(target, place, value * slope)

        product.all_features(tile)

    product.panels(panel)
    code.finish()
    return code.function


# ---------------------------------------------------------------------------- sums over rows


def _write_weight_slopes(module: "ir.Module", shape: Shape) -> "ir.Function":
    code = Code(
        module,
        SLOPES,
        pointers=("x", "y", "slopes"),
        numbers=("outputs", "inputs", "stride", "vectors"),
        real=shape.real,
        inner=True,
    )
    outputs, inputs = code.number("outputs"), code.number("inputs")

    def tile(i: "ir.Value", high: int, j: "ir.Value", wide: int) -> None:
        sums = _over_rows(code, shape, _rows(code, "x", i, high), _rows(code, "y", j, wide))
        for a in range(high):
            at = code.plus(code.product(code.plus(i, a), inputs), j)
            _add(code, at, sums[a * wide : (a + 1) * wide])

    def columns(j: "ir.Value", wide: int) -> None:
        with _tiles(code, 0, outputs, shape.sums) as i:
            tile(i, shape.sums, j, wide)
        with code.loop(_even(code, outputs, shape.sums), outputs) as i:
            tile(i, 1, j, wide)

    def block(first: "ir.Value", past: "ir.Value") -> None:
        with _tiles(code, 0, outputs, shape.sums) as i, code.loop(first, past, step=_FOUR) as j:
            tile(i, shape.sums, j, _FOUR)
        with (
            code.loop(_even(code, outputs, shape.sums), outputs) as i,
            code.loop(first, past, step=_FOUR) as j,
        ):
            tile(i, 1, j, _FOUR)

    even = _even(code, inputs, _FOUR)
    with code.loop(0, even, step=_BLOCK) as first:
        past = code.plus(first, _BLOCK)
        block(first, code.at.select(code.at.icmp_signed("<", past, even), past, even))
    with code.loop(even, inputs) as j:
        columns(j, 1)
    code.finish()
    return code.function


def _write_bias_slopes(module: "ir.Module", shape: Shape) -> "ir.Function":
    code = Code(
        module,
        BIASES,
        pointers=("x", "slopes"),
        numbers=("outputs", "stride", "vectors"),
        real=shape.real,
        inner=True,
    )
    outputs = code.number("outputs")
    with _tiles(code, 0, outputs, _FOUR) as i:
        _add(code, i, _over_rows(code, shape, _rows(code, "x", i, _FOUR), None))
    with code.loop(_even(code, outputs, _FOUR), outputs) as i:
        _add(code, i, _over_rows(code, shape, _rows(code, "x", i, 1), None))
    code.finish()
    return code.function


def _even(code: Code, count: "ir.Value", step: int) -> "ir.Value":
    return code.at.sub(count, code.at.srem(count, code.whole_number(step)))


def _tiles(code: Code, start: int, count: "ir.Value", step: int) -> AbstractContextManager["ir.Value"]:
    return code.loop(start, _even(code, count, step), step=step)


def _rows(code: Code, array: str, first: "ir.Value", count: int) -> list["ir.Value"]:
    """Return where the rows of some neighbouring features begin."""
    stride = code.number("stride")
    return [code.element(array, code.product(code.plus(first, k), stride)) for k in range(count)]


def _over_rows(
    code: Code, shape: Shape, left: Sequence["ir.Value"], right: Sequence["ir.Value"] | None
) -> list[Lanes]:
    """Return the sums over rows of all products of left and right, or of left alone, in the order of both."""
    lanes = shape.lanes
    zero = code.constant(0.0, lanes)
    cells: list[list[Cell]] = [[code.cell(zero) for _ in right or (0,)] for _ in left]
    with code.loop(0, code.number("vectors")) as vector:
        at = code.product(vector, lanes)
        values = [code.load(row, at, lanes=lanes) for row in left]
        if right is None:
            for (sum_,), value in zip(cells, values, strict=True):
                sum_.set(sum_.get() + value)
        else:
            for b, row in enumerate(right):
                other = code.load(row, at, lanes=lanes)
                for sums, value in zip(cells, values, strict=True):
                    sums[b].set(value.times(other, sums[b].get()))
        fence(code)
    return [cell.get() for sums in cells for cell in sums]


def _add(code: Code, at: "ir.Value", sums: Sequence[Lanes]) -> None:
    """Add the lanes of each sum to neighbours of the slopes."""
    if len(sums) != _FOUR:
        for k, sum_ in enumerate(sums):
            place = code.plus(at, k)
            code.store("slopes", place, code.load("slopes", place) + code.total(sum_))
        return
    totals = totals_of_four(code, sums)
    code.store("slopes", at, code.load("slopes", at, lanes=_FOUR) + totals)


def totals_of_four(code: Code, sums: Sequence[Lanes]) -> Lanes:
    """Return the totals of four registers side by side; halves are added to halves, as `Code.total` does."""
    parts, segment = list(sums), sums[0].lanes
    while segment > 1:
        lanes, half = parts[0].lanes, segment // 2
        low = [k for k in range(2 * lanes) if k % segment < half]
        high = [k + half for k in low]
        if len(parts) > 1:
            pairs = [(parts[k], parts[k + 1]) for k in range(0, len(parts), 2)]
        else:
            low, high = low[: lanes // 2], high[: lanes // 2]
            pairs = [(parts[0], parts[0])]
        parts = [_shuffled(code, pair, low) + _shuffled(code, pair, high) for pair in pairs]
        segment = half
    if len(parts) > 1:  # registers of two lanes
        parts = [_shuffled(code, (parts[0], parts[1]), [0, 1, 2, 3])]
    return parts[0]


def _shuffled(code: Code, pair: tuple[Lanes, Lanes], places: Sequence[int]) -> Lanes:
    kind = ir.VectorType(ir.IntType(32), len(places))
    return Lanes(code, code.at.shuffle_vector(pair[0].raw, pair[1].raw, kind(list(places))))
