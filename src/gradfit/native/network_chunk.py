"""A chunk of rows through a network as code: forward, the loss, and back to the slopes of every parameter."""

from collections.abc import Sequence
from dataclasses import dataclass

from gradfit._lazy import ir
from gradfit.native import network_activation, network_loss
from gradfit.native.code import Code
from gradfit.native.network_tiles import Shape, Tiles, write_tiles

#: what the table of layers says of each, as 64-bit integers; `values` and `slopes` are rows of the work space, `activate`
#: an address, `learns`, `shifts` and `returns` whether slopes of weights, of biases and of the inputs are wanted
FIELDS = (
    "inputs", "outputs", "weight", "bias", "activate", "values", "slopes", "learns", "shifts", "returns",
)  # fmt: skip
SETTINGS = 2  # of an activation, as numbers of 64 bits
_POINTERS = ("parameters", "given", "work", "gradient", "lost", "table", "settings")
_NUMBERS = ("layers", "inputs", "targets", "stride", "vectors", "learn", "lose")


def foreign(pointers: Sequence[str], numbers: Sequence[str], reals: Sequence[str]) -> "ir.FunctionType":
    """Return the type of a function of another library, with these arguments."""
    kinds = (
        [ir.PointerType()] * len(pointers) + [ir.IntType(64)] * len(numbers) + [ir.DoubleType()] * len(reals)
    )
    return ir.FunctionType(ir.IntType(64), kinds)


@dataclass(frozen=True)
class _Layer:
    """The row of the table of one layer."""

    code: Code
    number: "ir.Value"

    def __getitem__(self, field: str) -> "ir.Value":
        at = self.code.product(self.number, len(FIELDS))
        return self.code.load_whole("table", self.code.plus(at, FIELDS.index(field)))

    def setting(self, which: int) -> "ir.Value":
        code = self.code
        with code.in_double():
            return code.load("settings", code.plus(code.product(self.number, SETTINGS), which)).raw

    def rows(self, field: str) -> "ir.Value":
        """Return the address of its values or slopes in the work space."""
        return self.code.element("work", self.code.product(self[field], self.code.number("stride")))


def write_chunk(module: "ir.Module", shape: Shape) -> "ir.Function":
    """Add `chunk(parameters, given, work, gradient, lost, table, settings, layers, inputs, targets, stride, vectors, learn, lose,
    delta, share)` to a module.

    `given` has the inputs, the targets and the weight of each row, feature by feature, `stride` numbers apart. To `lost`
    the chunk's loss is added, and unless `learn` is 0 its slopes to `gradient`.
    """  # noqa: D205  the call is longer than a line
    names = network_activation
    activation = foreign(names.POINTERS, names.NUMBERS, names.REALS)
    tiles = write_tiles(module, shape, activation)
    code = Code(
        module, "chunk", pointers=_POINTERS, numbers=_NUMBERS, reals=("delta", "share"), real=shape.real, inner=True
    )  # fmt: skip
    with code.loop(0, code.number("layers")) as number:
        _forward(code, tiles, _Layer(code, number))
    last = _Layer(code, code.plus(code.number("layers"), -1))
    _lose(code, last)
    with code.when(code.at.icmp_signed("!=", code.number("learn"), code.whole_number(0))):
        left = code.cell(code.number("layers"))
        with code.forever() as leave:
            leave.when(code.at.icmp_signed("<=", left.integer(), code.whole_number(0)))
            left.put(code.plus(left.integer(), -1))
            _backward(code, tiles, _Layer(code, left.integer()))
    code.finish()
    return code.function


def _given(code: Code, number: "ir.Value") -> "ir.Value":
    """Return the address of a layer's inputs: the chunk's own for the first."""
    first = code.at.icmp_signed("==", number, code.whole_number(0))
    before = code.at.select(first, number, code.plus(number, -1))
    return code.at.select(first, code.array("given"), _Layer(code, before).rows("values"))


def _forward(code: Code, tiles: Tiles, layer: _Layer) -> None:
    arguments = [
        code.element("parameters", layer["weight"]), code.element("parameters", layer["bias"]), _given(code, layer.number),
        layer.rows("values"), layer.rows("slopes"), layer["outputs"], layer["inputs"], code.number("stride"),
        code.number("vectors"), layer["activate"], layer.setting(0), layer.setting(1),
    ]  # fmt: skip
    code.call(tiles.forward, arguments)


def _lose(code: Code, last: _Layer) -> None:
    stride = code.number("stride")
    targets = code.element("given", code.at.mul(code.number("inputs"), stride))
    behind = code.plus(code.number("inputs"), code.number("targets"))
    weights = code.element("given", code.at.mul(behind, stride))
    kind = foreign(network_loss.POINTERS, network_loss.NUMBERS, network_loss.REALS)
    function = code.at.inttoptr(code.number("lose"), kind.as_pointer())
    arguments = [
        last.rows("values"), last.rows("slopes"), targets, weights, code.array("lost"), last["outputs"], stride,
        code.number("vectors"), code.arguments["delta"], code.arguments["share"],
    ]  # fmt: skip
    code.at.call(function, arguments)


def _backward(code: Code, tiles: Tiles, layer: _Layer) -> None:
    number, stride, vectors = layer.number, code.number("stride"), code.number("vectors")
    outputs, inputs, slopes = layer["outputs"], layer["inputs"], layer.rows("slopes")
    zero = code.whole_number(0)
    with code.when(code.at.icmp_signed("!=", layer["learns"], zero)):
        target = code.element("gradient", layer["weight"])
        code.call(
            tiles.weight_slopes, [slopes, _given(code, number), target, outputs, inputs, stride, vectors]
        )
    with code.when(code.at.icmp_signed("!=", layer["shifts"], zero)):
        target = code.element("gradient", layer["bias"])
        code.call(tiles.bias_slopes, [slopes, target, outputs, stride, vectors])
    with code.when(code.at.icmp_signed("!=", layer["returns"], zero)):
        weights = code.element("parameters", layer["weight"])
        before = _Layer(code, code.plus(number, -1)).rows("slopes")
        code.call(tiles.backward, [weights, slopes, before, outputs, inputs, stride, vectors])
