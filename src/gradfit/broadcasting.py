"""The broadcasting rule: shapes aligned from the back, what joins each dimension, what is repeated, what it takes.

Pure Python: `gradfit shapes` must not wait for NumPy, and errors about shapes are made of this, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from gradfit.errors import OptionError, ShapeError
from gradfit.notation import THIN, fixed, listing, significant

Shape = tuple[int, ...]
Sizes = tuple[int | None, ...]  # of one dimension in each operand; None where it is missing

_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "complex128": 16, "complex64": 8,
          "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint8": 1, "bool": 1}  # fmt: skip
_GAP = 3  # columns between the sizes of a picture
_PREFIXES = ("bytes", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")


@dataclass(frozen=True, slots=True)
class Operand:
    """One of the things that are joined.

    Attributes
    ----------
    label : str
        What stands before its sizes in a picture.
    shape : tuple of int
        Its sizes.
    """

    label: str
    shape: Shape


@dataclass(frozen=True, slots=True)
class Dimension:
    """One dimension of a result.

    Attributes
    ----------
    axis : int
        Counted from the back: -1 is the last.
    size : int
        In the result.
    sizes : tuple of int or None
        In each operand, None where it is missing.
    rule : str
        What made this size of them.
    """

    axis: int
    size: int
    sizes: Sizes
    rule: str


@dataclass(frozen=True, slots=True)
class Step:
    """One operation on shapes: a join by broadcasting, a matrix product, a sum over a dimension ...

    Attributes
    ----------
    text : str
        The operation as it was written.
    operands : tuple of Operand
        What goes in.
    result : tuple of int
        The shape that comes out.
    dimensions : tuple of Dimension
        From the back.
    broadcasts : bool
        Whether operands are repeated to fit each other.
    notes : tuple of str
        What a reader may not expect.
    """

    text: str
    operands: tuple[Operand, ...]
    result: Shape
    dimensions: tuple[Dimension, ...]
    broadcasts: bool = True
    notes: tuple[str, ...] = ()

    @property
    def repeats(self) -> tuple[int, ...]:
        """How often each operand is repeated; all 1 where nothing is."""
        if not self.broadcasts:
            return (1,) * len(self.operands)
        size = prod(self.result)
        return tuple(size // prod(o.shape) if prod(o.shape) else 1 for o in self.operands)


@dataclass(frozen=True, slots=True)
class Shapes:
    """What becomes of shapes in an expression; printed, it is a picture.

    Attributes
    ----------
    text : str
        The expression.
    steps : tuple of Step
        Its operations in order; empty for a single operand.
    shape : tuple of int
        The result's.
    dtype : str
        What memory is counted in.
    """

    text: str
    steps: tuple[Step, ...]
    shape: Shape
    dtype: str = "float64"

    @property
    def size(self) -> int:
        """How many values the result has."""
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        """What the result takes in memory."""
        return self.size * _BYTES[self.dtype]

    def __str__(self) -> str:
        return "\n".join([self.text, *(line for _, line in picture(self))])


def join(operands: Sequence[Operand], text: str = "") -> Step:
    """Return operands joined by broadcasting.

    Sizes are compared from the back. Where they are equal they stay, where one is 1 it is repeated, and where one is missing
    it counts as 1; anything else cannot be joined.

    Raises
    ------
    ShapeError
        If two sizes of a dimension differ and neither is 1; the excerpt points at the dimension.

    Examples
    --------
    >>> join([Operand("x", (3, 1)), Operand("w", (1, 3)), Operand("b", (2, 1, 1))]).result
    (2, 3, 3)
    """
    wide = max((len(o.shape) for o in operands), default=0)
    columns = [_column(operands, -1 - i) for i in range(wide)]
    for i, sizes in enumerate(columns):
        if len({size for size in sizes if size not in (1, None)}) > 1:
            error = _not_joined(operands, -1 - i, sizes)
            raise error
    dimensions = tuple(_joined(operands, -1 - i, sizes) for i, sizes in enumerate(columns))
    result = tuple(dimension.size for dimension in reversed(dimensions))
    return Step(text, tuple(operands), result, dimensions, notes=_pairings(operands, result))


def _column(operands: Sequence[Operand], axis: int) -> Sizes:
    return tuple(o.shape[axis] if -axis <= len(o.shape) else None for o in operands)


def _joined(operands: Sequence[Operand], axis: int, sizes: Sizes) -> Dimension:
    size = next((s for s in sizes if s not in (1, None)), 1)
    absent = [o.label for o, s in zip(operands, sizes, strict=True) if s is None and o.shape]
    numbers = [o.label for o in operands if not o.shape] if size != 1 else []
    single = [o.label for o, s in zip(operands, sizes, strict=True) if s == 1 and size != 1]
    parts = [f"the 1 of {listing(_once(single))} is repeated"] if single else []
    if absent:
        then = ", then repeated" if size != 1 else ""
        parts.append(f"missing in {listing(_once(absent))}: put in front as 1{then}")
    if numbers:
        parts.append(f"{listing(_once(numbers))}, a single number, is repeated")
    return Dimension(axis, size, sizes, "; ".join(parts) or ("equal" if len(sizes) > 1 else "as it was"))


def _once(labels: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(labels))


def _pairings(operands: Sequence[Operand], result: Shape) -> tuple[str, ...]:
    """Return what a reader should know of a result that is larger than everything it is made of."""
    several = [o for o in operands if prod(o.shape) > 1]
    if len(several) < 2 or prod(result) <= max(prod(o.shape) for o in several):
        return ()
    note = f"Each value of {several[0].label} meets each of {listing([o.label for o in several[1:]])}"
    note = f"{note}: {_values(prod(result))}"
    twins = [(a, b) for a in several for b in several if a.shape == (*b.shape, 1) and len(b.shape) == 1]
    if not twins:
        return (note,)
    a, b = twins[0]
    return (f"{note}. To pair {a.label} with {b.label} one by one, end {a.label} with .squeeze(-1)",)


def _not_joined(operands: Sequence[Operand], axis: int, sizes: Sizes) -> ShapeError:
    odd = [o for o, s in zip(operands, sizes, strict=True) if s not in (1, None)]
    different = [o for o in odd[1:] if o.shape[axis] != odd[0].shape[axis]]
    first, second = odd[0], different[0]
    lines = aligned(operands)
    at = len(lines[0]) - 1 - (-axis - 1) * _pitch(operands)
    lines.append(f"{' ' * at}^")
    return ShapeError(
        f"{first.label} and {second.label} cannot be joined: dimension {axis}, counted from the back, has "
        f"{first.shape[axis]} in one and {second.shape[axis]} in the other",
        excerpt="\n".join(lines),
        remedy=_remedy(first, second),
    )


def _remedy(first: Operand, second: Operand) -> str:
    """Return how two operands would join, where a change of one of them does it."""
    pairs = ((first, second), (second, first))
    for one, other in pairs:
        if len(one.shape) == 1 and len(other.shape) > 1 and one.shape[0] in other.shape[:-1]:
            return f"End {one.label} with .unsqueeze(-1), or [:, None], to make it {text_of((*one.shape, 1))}"
    for one, other in pairs:
        if len(one.shape) == 2 and joins(one.shape[::-1], other.shape):
            return f"Turn {one.label} over with .T, to make it {text_of(one.shape[::-1])}"
    return "Two sizes must be equal, or one of them 1"


def joins(*shapes: Shape) -> bool:
    """Return whether shapes can be broadcast together.

    >>> joins((3, 1), (1, 4)), joins((3,), (4,))
    (True, False)
    """
    wide = max((len(s) for s in shapes), default=0)
    columns = ({s[-1 - i] for s in shapes if i < len(s)} - {1} for i in range(wide))
    return all(len(column) <= 1 for column in columns)


def multiply(first: Operand, second: Operand, text: str = "") -> Step:
    """Return the shape of a matrix product, `@`: rows of the first meet columns of the second.

    Raises
    ------
    ShapeError
        If one has no dimension, or the sizes that are summed over differ.

    Examples
    --------
    >>> multiply(Operand("x", (5, 3)), Operand("w", (3, 2))).result
    (5, 2)
    """
    for operand in (first, second):
        if not operand.shape:
            raise ShapeError(f"{operand.label} has no dimension, and @ sums over one", remedy="Use *")
    a, b = first.shape, second.shape
    inner = b[-2:][0]
    if a[-1] != inner:
        error = _not_multiplied(first, second, (a[-1], inner))
        raise error
    batch = join([Operand(first.label, a[:-2]), Operand(second.label, b[:-2])])
    across = f"summed over the {a[-1]} that both have"
    ends: list[Dimension] = []
    if len(b) > 1:
        ends.append(Dimension(-1, b[-1], (None, b[-1]), f"columns of {second.label}; {across}"))
    if len(a) > 1:
        ends.append(Dimension(-1 - len(ends), a[-2], (a[-2], None), f"rows of {first.label}; {across}"))
    rest = [Dimension(d.axis - len(ends), d.size, d.sizes, d.rule) for d in batch.dimensions]
    result = (*batch.result, *(d.size for d in reversed(ends)))
    return Step(text, (first, second), result, (*ends, *rest), broadcasts=False)


def _not_multiplied(first: Operand, second: Operand, sizes: tuple[int, int]) -> ShapeError:
    lines, pitch = aligned([first, second]), _pitch([first, second])
    end, back = len(lines[0]) - 1, pitch if len(second.shape) > 1 else 0
    lines = [lines[0], f"{' ' * end}^", lines[1], f"{' ' * (end - back)}^"]
    place = "first" if len(second.shape) < 3 else "last but one"
    remedy = f"@ sums over the last size of {first.label} and the {place} of {second.label}"
    for operand, fits in (
        (second, second.shape[-1:] == (sizes[0],)),
        (first, first.shape[-2:-1] == (sizes[1],)),
    ):
        if fits and len(operand.shape) > 1:
            turned = text_of((*operand.shape[:-2], *operand.shape[:-3:-1]))
            remedy = f"Turn {operand.label} over with {'.T' if len(operand.shape) == 2 else '.mT'}, to make it {turned}"
            break
    return ShapeError(
        f"{first.label} @ {second.label} cannot be multiplied: the first has {sizes[0]} in its last dimension, the second "
        f"{sizes[1]} in its {place}",
        excerpt="\n".join(lines),
        remedy=remedy,
    )


# ---------------------------------------------------------------------------- pictures


def text_of(shape: Shape) -> str:
    """Return a shape as Python writes it.

    >>> text_of((3, 1)), text_of((3,)), text_of(())
    ('(3, 1)', '(3,)', '()')
    """
    return f"({shape[0]},)" if len(shape) == 1 else f"({', '.join(str(size) for size in shape)})"


def aligned(operands: Sequence[Operand]) -> list[str]:
    """Return a line for each operand, with its sizes under those that they are compared with.

    >>> print(*aligned([Operand("x", (11, 1)), Operand("y", (11,))]), sep="|")
    x   11    1|y        11
    """
    wide = max((len(o.shape) for o in operands), default=0)
    margin, pitch = max((len(o.label) for o in operands), default=0), _pitch(operands)
    return [
        f"{o.label:<{margin}}{''.join(f'{size:>{pitch}}' for size in o.shape):>{pitch * wide}}"
        for o in operands
    ]


def _pitch(operands: Sequence[Operand]) -> int:
    return _GAP + max((len(str(size)) for o in operands for size in o.shape), default=1)


def picture(shapes: Shapes) -> list[tuple[str, str]]:
    """Return the lines of a picture, each with what it is: "", "sizes", "result", "rule", "fact" or "note"."""
    lines: list[tuple[str, str]] = []
    for step in shapes.steps:
        if len(shapes.steps) > 1:
            lines += [("", ""), ("step", f"{step.text}")]
        lines += [("", ""), *((kind, f"  {line}".rstrip()) for kind, line in step_lines(step))]
    lines.append(("", ""))
    if not shapes.steps:
        lines += [("result", f"  {text_of(shapes.shape)}"), ("", "")]
    return [*lines, ("fact", f"  memory    {_values(shapes.size)} of {shapes.dtype}: {memory(shapes.bytes)}")]


def step_lines(step: Step, name: str = "result") -> list[tuple[str, str]]:
    """Return the lines of one step's picture: operands over `name`, their dimensions, what is repeated."""
    rows = aligned([*step.operands, Operand(name, step.result)])
    lines = [("sizes", row) for row in rows[:-1]]
    lines += [
        ("rule", "-" * max(len(row) for row in rows)),
        ("result", f"{rows[-1]}   {text_of(step.result)}"),
    ]
    lines.append(("", ""))
    lines += [("fact", f"dimension {d.axis}   {_made(step, d)}: {d.rule}") for d in step.dimensions]
    if not step.dimensions:
        lines.append(("fact", "no dimension: a single number"))
    often = [
        f"{o.label} {fixed(n, 0)} times" for o, n in zip(step.operands, step.repeats, strict=True) if n > 1
    ]
    if often:
        lines.append(("fact", f"repeated  {listing(often)}"))
    return [*lines, *(("note", note) for note in step.notes)]


def _made(step: Step, dimension: Dimension) -> str:
    if not step.broadcasts:
        return str(dimension.size)
    return f"{', '.join('none' if size is None else str(size) for size in dimension.sizes)} make {dimension.size}"


def _values(size: int) -> str:
    return (
        f"{fixed(size, 0)} value{'' if size == 1 else 's'}"
        if size < 10**15
        else f"{significant(size, 3)} values"
    )


def memory(size: int) -> str:
    r"""Return a number of bytes for people.

    >>> memory(144), memory(8 * 10**12)
    ('144\u202fbytes', '8.00\u202fTB')
    """
    power = min((len(str(size)) - 1) // 3, len(_PREFIXES) - 1)
    number = fixed(size, 0) if power == 0 else significant(size / 1000**power, 3)
    return f"{number}{THIN}{_PREFIXES[power]}"


def dtype_of(dtype: object) -> str:
    """Return the name of a kind of number: "float32", torch.float32 and numpy.float32 are the same.

    Raises
    ------
    OptionError
        If its size is not known.

    Examples
    --------
    >>> dtype_of("float32"), dtype_of(float)
    ('float32', 'float64')
    """
    name = dtype if isinstance(dtype, str) else getattr(dtype, "__name__", None) or str(dtype)
    name = {"float": "float64", "int": "int64", "double": "float64", "half": "float16"}.get(name, name)
    name = name.removeprefix("torch.").removeprefix("numpy.")
    if name not in _BYTES:
        raise OptionError(f"There is no dtype {name!r}", remedy=f"Known: {', '.join(_BYTES)}")
    return name
