"""Values of code under construction: floating-point numbers, bit patterns and truths side by side, and cells that change.

Their operators append instructions to the function being written (`native.code`).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradfit._lazy import ir

if TYPE_CHECKING:
    from gradfit.native.code import Code


class Lanes:
    """Numbers side by side; plain numbers on the other side of an operator are taken for all of them."""

    __slots__ = ("code", "raw")

    def __init__(self, code: "Code", raw: "ir.Value") -> None:
        self.code = code
        self.raw: Any = raw

    @property
    def lanes(self) -> int:
        """How many."""
        kind = self.raw.type
        return kind.count if isinstance(kind, ir.VectorType) else 1

    def like(self, number: float) -> "Lanes":
        """Return a constant in as many lanes."""
        return self.code.constant(number, self.lanes)

    def _other(self, other: "Lanes | float") -> "Lanes":
        if not isinstance(other, Lanes):
            return self.like(other)
        return other if other.lanes == self.lanes else self.code.spread(other, self.lanes)

    def __add__(self, other: "Lanes | float") -> "Lanes":
        return self.code.binary("fadd", self, other)

    def __radd__(self, other: float) -> "Lanes":
        return self.like(other) + self

    def __sub__(self, other: "Lanes | float") -> "Lanes":
        return self.code.binary("fsub", self, other)

    def __rsub__(self, other: float) -> "Lanes":
        return self.like(other) - self

    def __mul__(self, other: "Lanes | float") -> "Lanes":
        return self.code.binary("fmul", self, other)

    def __rmul__(self, other: float) -> "Lanes":
        return self.like(other) * self

    def __truediv__(self, other: "Lanes | float") -> "Lanes":
        return self.code.binary("fdiv", self, other)

    def __rtruediv__(self, other: float) -> "Lanes":
        return self.like(other) / self

    def __neg__(self) -> "Lanes":
        return Lanes(self.code, self.code.at.fneg(self.raw))

    def __abs__(self) -> "Lanes":
        return self.code.intrinsic("fabs", self)

    def __lt__(self, other: "Lanes | float") -> "Truth":
        return self.code.compared("<", self, other)

    def __le__(self, other: "Lanes | float") -> "Truth":
        return self.code.compared("<=", self, other)

    def __gt__(self, other: "Lanes | float") -> "Truth":
        return self.code.compared(">", self, other)

    def __ge__(self, other: "Lanes | float") -> "Truth":
        return self.code.compared(">=", self, other)

    def same(self, other: "Lanes | float") -> "Truth":
        """Return where both are equal; NaN equals nothing."""
        return self.code.compared("==", self, other)

    def times(self, factor: "Lanes | float", addend: "Lanes | float") -> "Lanes":
        """Return self * factor + addend, rounded once whatever the flags."""
        return self.code.intrinsic("fma", self, self._other(factor), self._other(addend))

    def polynomial(self, coefficients: Sequence[float]) -> "Lanes":
        """Return c[0] + c[1] x + c[2] x² and so on.

        In Estrin's order: a few products more than Horner's, and a third of its latency.
        """
        terms = [self.like(c) for c in coefficients]
        power = self
        while len(terms) > 1:
            pairs = range(0, len(terms), 2)
            terms = [power.times(terms[k + 1], terms[k]) if k + 1 < len(terms) else terms[k] for k in pairs]
            power = power * power
        return terms[0]

    def bits(self) -> "Bits":
        """Return the numbers' bits as integers."""
        return Bits(self.code, self.code.at.bitcast(self.raw, self.code.whole(self.lanes)))


class Bits:
    """Integers side by side, as wide as the numbers: what the bits of `Lanes` are worked on with."""

    __slots__ = ("code", "raw")

    def __init__(self, code: "Code", raw: "ir.Value") -> None:
        self.code = code
        self.raw: Any = raw

    @property
    def lanes(self) -> int:
        """How many."""
        kind = self.raw.type
        return kind.count if isinstance(kind, ir.VectorType) else 1

    def _other(self, other: "Bits | int") -> "ir.Value":
        if isinstance(other, Bits):
            return other.raw
        width = self.code.real
        number = other & ((1 << width) - 1)
        return ir.Constant(self.raw.type, number if self.lanes == 1 else [number] * self.lanes)

    def __add__(self, other: "Bits | int") -> "Bits":
        return Bits(self.code, self.code.at.add(self.raw, self._other(other)))

    def __sub__(self, other: "Bits | int") -> "Bits":
        return Bits(self.code, self.code.at.sub(self.raw, self._other(other)))

    def __and__(self, other: "Bits | int") -> "Bits":
        return Bits(self.code, self.code.at.and_(self.raw, self._other(other)))

    def __or__(self, other: "Bits | int") -> "Bits":
        return Bits(self.code, self.code.at.or_(self.raw, self._other(other)))

    def __xor__(self, other: "Bits | int") -> "Bits":
        return Bits(self.code, self.code.at.xor(self.raw, self._other(other)))

    def __lshift__(self, places: int) -> "Bits":
        return Bits(self.code, self.code.at.shl(self.raw, self._other(places)))

    def __rshift__(self, places: int) -> "Bits":
        """Return the bits moved down, zeros entering (there is no cheap signed shift on AVX2)."""
        return Bits(self.code, self.code.at.lshr(self.raw, self._other(places)))

    def same(self, other: "Bits | int") -> "Truth":
        """Return where both are equal."""
        return Truth(self.code, self.code.at.icmp_unsigned("==", self.raw, self._other(other)))

    def below(self, other: "Bits | int") -> "Truth":
        """Return where this is less, as signed integers."""
        return Truth(self.code, self.code.at.icmp_signed("<", self.raw, self._other(other)))

    def number(self) -> "Lanes":
        """Return the numbers that have these bits."""
        return Lanes(self.code, self.code.at.bitcast(self.raw, self.code.kind(self.lanes)))


class Truth:
    """Truth values side by side."""

    __slots__ = ("code", "raw")

    def __init__(self, code: "Code", raw: "ir.Value") -> None:
        self.code = code
        self.raw: Any = raw

    def __and__(self, other: "Truth") -> "Truth":
        return Truth(self.code, self.code.at.and_(self.raw, other.raw))

    def __or__(self, other: "Truth") -> "Truth":
        return Truth(self.code, self.code.at.or_(self.raw, other.raw))

    def __invert__(self) -> "Truth":
        return Truth(self.code, self.code.at.not_(self.raw))

    @property
    def lanes(self) -> int:
        """How many."""
        kind = self.raw.type
        return kind.count if isinstance(kind, ir.VectorType) else 1

    def pick(self, yes: "Lanes | float", no: "Lanes | float") -> "Lanes":
        """Return `yes` where true, `no` elsewhere; what is not picked has no influence, NaN included."""
        yes, no = self.code.wide(yes, self.lanes), self.code.wide(no, self.lanes)
        return Lanes(self.code, self.code.at.select(self.raw, yes.raw, no.raw))

    def pattern(self) -> "ir.Value":
        """Return the truth values as the bits of one integer (64 bits), lane 0 lowest."""
        if self.lanes == 1:
            return self.code.at.zext(self.raw, ir.IntType(64))
        packed = self.code.at.bitcast(self.raw, ir.IntType(self.lanes))
        return self.code.at.zext(packed, ir.IntType(64)) if self.lanes < 64 else packed

    def any(self) -> "ir.Value":
        """Return one truth value: whether any lane is true."""
        return self.code.at.icmp_unsigned("!=", self.pattern(), ir.Constant(ir.IntType(64), 0))


class Cell:
    """A value that changes while the code runs; LLVM keeps it in a register where it can."""

    __slots__ = ("code", "place", "type")

    def __init__(self, code: "Code", raw: Any) -> None:
        self.code, self.type = code, raw.type
        with code.at.goto_entry_block():
            self.place = code.at.alloca(raw.type)
        code.at.store(raw, self.place)

    def get(self) -> Lanes:
        """Return the present value."""
        return Lanes(self.code, self.integer())

    def set(self, value: Lanes) -> None:
        """Replace it."""
        self.code.at.store(value.raw, self.place)

    def integer(self) -> "ir.Value":
        """Return the present value, of whatever type."""
        return self.code.at.load(self.place, typ=self.type)

    def put(self, raw: "ir.Value") -> None:
        """Replace it by a value of the same type."""
        self.code.at.store(raw, self.place)
