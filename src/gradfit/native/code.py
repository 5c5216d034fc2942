"""Code under construction: LLVM instructions, written as Python arithmetic on lanes.

A `Lanes` is a run-time value of one or more numbers side by side, in one register where the machine has one that
wide. Its operators append instructions to the function being written:

    code = Code(module, "twice", pointers=("x", "out"), numbers=("n",))
    with code.loop(0, code.number("n"), step=4) as i:
        x = code.load("x", i, lanes=4)
        code.store("out", i, x + x)
    code.finish()

Products and sums carry LLVM's `contract` flag, so that they fuse to one rounding where the machine can; no other
freedom is given, so that NaN and infinities keep their meaning. Inside `with code.exactly():` not even that.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

from gradfit._lazy import ir
from gradfit.native.values import Cell, Lanes, Truth


class Code:
    """A function being written.

    Parameters
    ----------
    module : llvmlite.ir.Module
        It joins this one.
    name : str
        By which it is found when compiled.
    pointers, numbers, reals : sequence of str
        Its arguments in this order: addresses of arrays of floating-point numbers, 64-bit integers, and numbers of 64 bits.
    real : {64, 32}
        Bits of the floating-point numbers it computes with.
    inner : bool
        Whether only functions of the same module call it.
    """

    def __init__(
        self,
        module: "ir.Module",
        name: str,
        *,
        pointers: Sequence[str] = (),
        numbers: Sequence[str] = (),
        reals: Sequence[str] = (),
        real: int = 64,
        inner: bool = False,
    ) -> None:
        self.real = real
        self.scalar = ir.DoubleType() if real == 64 else ir.FloatType()
        kinds = [ir.PointerType()] * len(pointers) + [ir.IntType(64)] * len(numbers)
        kinds += [ir.DoubleType()] * len(reals)
        self.module = module
        self.function = ir.Function(module, ir.FunctionType(ir.IntType(64), kinds), name)
        for name_, argument in zip((*pointers, *numbers, *reals), self.function.args, strict=True):
            argument.name = name_
            if name_ in pointers:
                argument.add_attribute("noalias")
        if inner:
            self.function.linkage = "internal"
        self.arguments = dict(zip((*pointers, *numbers, *reals), self.function.args, strict=True))
        self.at: Any = ir.IRBuilder(self.function.append_basic_block())
        self._flags: tuple[str, ...] = ("contract",)

    def finish(self, result: "ir.Value | int" = 0) -> None:
        """End the function; it returns an integer."""
        self.at.ret(self.whole_number(result))

    # ------------------------------------------------------------------ types and constants

    def kind(self, lanes: int) -> "ir.Type":
        """Return the type of so many numbers."""
        return self.scalar if lanes == 1 else ir.VectorType(self.scalar, lanes)

    def whole(self, lanes: int) -> "ir.Type":
        """Return the type of so many integers of the numbers' size."""
        return ir.IntType(self.real) if lanes == 1 else ir.VectorType(ir.IntType(self.real), lanes)

    def constant(self, number: float, lanes: int = 1) -> Lanes:
        """Return the same constant in every lane."""
        number = float(number)
        kind = self.kind(lanes)
        return Lanes(self, ir.Constant(kind, number if lanes == 1 else [number] * lanes))

    def whole_number(self, number: "ir.Value | int") -> "ir.Value":
        """Return a 64-bit integer."""
        return ir.Constant(ir.IntType(64), number) if isinstance(number, int) else number

    def number(self, name: str) -> "ir.Value":
        """Return an integer argument."""
        return self.arguments[name]

    def argument(self, name: str, lanes: int = 1) -> Lanes:
        """Return a floating-point argument."""
        raw = self.arguments[name]
        return self.spread(Lanes(self, raw if self.real == 64 else self.at.fptrunc(raw, self.scalar)), lanes)

    def wide(self, value: Lanes | float, lanes: int) -> Lanes:
        """Return a number or a value in so many lanes."""
        if not isinstance(value, Lanes):
            return self.constant(value, lanes)
        return value if value.lanes == lanes else self.spread(value, lanes)

    def spread(self, value: Lanes, lanes: int) -> Lanes:
        """Return a single number repeated in every lane."""
        if lanes == 1:
            return value
        kind = self.kind(lanes)
        empty = ir.Constant(kind, ir.Undefined)
        first = self.at.insert_element(empty, value.raw, ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
        return Lanes(self, self.at.shuffle_vector(first, empty, zeros))

    def lane(self, value: Lanes, index: int) -> Lanes:
        """Return one of the numbers."""
        if value.lanes == 1:
            return value
        return Lanes(self, self.at.extract_element(value.raw, ir.Constant(ir.IntType(32), index)))

    def joined(self, parts: Sequence[Lanes]) -> Lanes:
        """Return single numbers side by side."""
        if len(parts) == 1:
            return parts[0]
        out = ir.Constant(self.kind(len(parts)), ir.Undefined)
        for i, part in enumerate(parts):
            out = self.at.insert_element(out, part.raw, ir.Constant(ir.IntType(32), i))
        return Lanes(self, out)

    def total(self, value: Lanes) -> Lanes:
        """Return the sum of all lanes, halves added to halves: a fixed order."""
        while value.lanes > 2:
            half = value.lanes // 2
            empty = ir.Constant(value.raw.type, ir.Undefined)
            places = [ir.VectorType(ir.IntType(32), half)(list(range(k, k + half))) for k in (0, half)]
            low, high = (Lanes(self, self.at.shuffle_vector(value.raw, empty, p)) for p in places)
            value = low + high
        if value.lanes == 2:
            value = self.lane(value, 0) + self.lane(value, 1)
        return value

    # ------------------------------------------------------------------ arithmetic

    @contextmanager
    def exactly(self) -> Generator[None]:
        """Round every operation by itself, as written."""
        before, self._flags = self._flags, ()
        try:
            yield
        finally:
            self._flags = before

    def binary(self, name: str, a: Lanes, b: Lanes | float) -> Lanes:
        """Return LLVM's fadd, fsub, fmul or fdiv of two values."""
        b = self.wide(b, a.lanes) if a.lanes > 1 or not isinstance(b, Lanes) else b
        a = self.wide(a, b.lanes)
        flags = self._flags if name != "fdiv" else ()
        return Lanes(self, getattr(self.at, name)(a.raw, b.raw, flags=flags))

    def compared(self, sign: str, a: Lanes, b: Lanes | float) -> Truth:
        """Return where the comparison holds; never for NaN."""
        b = self.wide(b, a.lanes) if a.lanes > 1 or not isinstance(b, Lanes) else b
        a = self.wide(a, b.lanes)
        return Truth(self, self.at.fcmp_ordered(sign, a.raw, b.raw))

    def is_nan(self, a: Lanes) -> Truth:
        """Return where a value is NaN."""
        return Truth(self, self.at.fcmp_unordered("uno", a.raw, a.raw))

    def intrinsic(self, name: str, *values: Lanes) -> Lanes:
        """Return LLVM's operation of that name (fma, sqrt, fabs, floor, copysign, …), lane by lane."""
        kind = values[0].raw.type
        lanes = values[0].lanes
        suffix = f"f{self.real}" if lanes == 1 else f"v{lanes}f{self.real}"
        function = self._declared(f"llvm.{name}.{suffix}", ir.FunctionType(kind, [kind] * len(values)))
        return Lanes(self, self.at.call(function, [v.raw for v in values]))

    def library(self, name: str, *values: Lanes) -> Lanes:
        """Return a function of the C mathematical library, called for each lane: right, not fast."""
        function = self._declared(name, ir.FunctionType(ir.DoubleType(), [ir.DoubleType()] * len(values)))
        out: list[Lanes] = []
        for k in range(values[0].lanes):
            raws = [self.lane(v, k).raw for v in values]
            if self.real == 32:
                raws = [self.at.fpext(raw, ir.DoubleType()) for raw in raws]
            raw = self.at.call(function, raws)
            out.append(Lanes(self, raw if self.real == 64 else self.at.fptrunc(raw, self.scalar)))
        return self.joined(out)

    @contextmanager
    def in_double(self) -> Generator[None]:
        """Compute with numbers of 64 bits inside, whatever the function does elsewhere."""
        before = self.real, self.scalar
        self.real, self.scalar = 64, ir.DoubleType()
        try:
            yield
        finally:
            self.real, self.scalar = before

    def widened(self, value: Lanes) -> Lanes:
        """Return numbers of 32 bits as ones of 64."""
        with self.in_double():
            return Lanes(self, self.at.fpext(value.raw, self.kind(value.lanes)))

    def narrowed(self, value: Lanes) -> Lanes:
        """Return numbers of 64 bits rounded to the 32 that this function computes with."""
        return Lanes(self, self.at.fptrunc(value.raw, self.kind(value.lanes)))

    def _declared(self, name: str, kind: "ir.FunctionType") -> "ir.Function":
        known = self.module.globals.get(name)
        return ir.Function(self.module, kind, name) if known is None else known

    # ------------------------------------------------------------------ memory

    def array(self, name: str) -> "ir.Value":
        """Return the address of an argument's array."""
        return self.arguments[name]

    def room(self, count: int) -> "ir.Value":
        """Return the address of so many numbers on the stack."""
        with self.at.goto_entry_block():
            place = self.at.alloca(self.scalar, size=count)
            place.align = 64
            place.type = ir.PointerType()  # of whatever is stored there: a number, or several side by side
        return place

    def element(self, address: "str | ir.Value", index: "ir.Value | int") -> "ir.Value":
        """Return the address of an array's element."""
        base = self.arguments[address] if isinstance(address, str) else address
        return self.at.gep(base, [self.whole_number(index)], source_etype=self.scalar)

    def load(self, address: "str | ir.Value", index: "ir.Value | int" = 0, *, lanes: int = 1) -> Lanes:
        """Return neighbours of an array, from an index on."""
        raw = self.at.load(self.element(address, index), typ=self.kind(lanes))
        raw.align = self.real // 8
        return Lanes(self, raw)

    def store(self, address: "str | ir.Value", index: "ir.Value | int", value: Lanes) -> None:
        """Write neighbours of an array, from an index on."""
        self.at.store(value.raw, self.element(address, index)).align = self.real // 8

    def load_whole(self, address: "str | ir.Value", index: "ir.Value | int" = 0) -> "ir.Value":
        """Return an element of an array of 64-bit integers."""
        return self.at.load(self._whole_element(address, index), typ=ir.IntType(64))

    def store_whole(
        self, address: "str | ir.Value", index: "ir.Value | int", value: "ir.Value | int"
    ) -> None:
        """Write an element of an array of 64-bit integers."""
        self.at.store(self.whole_number(value), self._whole_element(address, index))

    def _whole_element(self, address: "str | ir.Value", index: "ir.Value | int") -> "ir.Value":
        base = self.arguments[address] if isinstance(address, str) else address
        return self.at.gep(base, [self.whole_number(index)], source_etype=ir.IntType(64))

    def plus(self, *numbers: "ir.Value | int") -> "ir.Value":
        """Return the sum of 64-bit integers."""
        total = self.whole_number(numbers[0])
        for number in numbers[1:]:
            total = self.at.add(total, self.whole_number(number))
        return total

    def product(self, a: "ir.Value | int", b: "ir.Value | int") -> "ir.Value":
        """Return the product of 64-bit integers."""
        return self.at.mul(self.whole_number(a), self.whole_number(b))

    # ------------------------------------------------------------------ control

    def call(self, function: "ir.Function", arguments: Sequence["ir.Value | int"]) -> "ir.Value":
        """Call another function of the module, and return its integer."""
        return self.at.call(function, [self.whole_number(a) for a in arguments])

    def give_back(self, result: "ir.Value | int") -> None:
        """Return from the function here; what follows is reached by other ways only."""
        self.at.ret(self.whole_number(result))
        self.at.position_at_end(self.function.append_basic_block())

    def cell(self, value: "Lanes | ir.Value") -> Cell:
        """Return a variable that begins with this value."""
        return Cell(self, value.raw if isinstance(value, Lanes) else value)

    @contextmanager
    def loop(self, start: "ir.Value | int", stop: "ir.Value | int", step: int = 1) -> Generator["ir.Value"]:
        """Repeat what follows for index = start, start + step, … below stop."""
        index = self.cell(self.whole_number(start))
        stop = self.whole_number(stop)
        head, body, after = (self.function.append_basic_block() for _ in range(3))
        self.at.branch(head)
        self.at.position_at_end(head)
        i = index.integer()
        self.at.cbranch(self.at.icmp_signed("<", i, stop), body, after)
        self.at.position_at_end(body)
        yield i
        index.put(self.at.add(i, self.whole_number(step)))
        self.at.branch(head)
        self.at.position_at_end(after)

    @contextmanager
    def forever(self) -> Generator["Exit"]:
        """Repeat what follows until the exit is taken."""
        body, after = (self.function.append_basic_block() for _ in range(2))
        self.at.branch(body)
        self.at.position_at_end(body)
        yield Exit(self, after)
        self.at.branch(body)
        self.at.position_at_end(after)

    @contextmanager
    def when(self, condition: "Truth | ir.Value") -> Generator[None]:
        """Do what follows only where the single truth value holds."""
        with self.at.if_then(condition.raw if isinstance(condition, Truth) else condition):
            yield


class Exit:
    """The way out of a loop."""

    def __init__(self, code: Code, after: "ir.Block") -> None:
        self.code, self.after = code, after

    def when(self, condition: "Truth | ir.Value") -> None:
        """Leave the loop here where the single truth value holds."""
        code = self.code
        more = code.function.append_basic_block()
        raw = condition.raw if isinstance(condition, Truth) else condition
        code.at.cbranch(raw, self.after, more)
        code.at.position_at_end(more)
