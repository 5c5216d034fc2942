"""shapes(): what becomes of shapes in "(3,1) * (1,3)", "(5,3) @ (3,2)" or "(11,1).mean(0)", and of arrays and tensors."""

import re
from collections.abc import Callable, Sequence
from math import prod

from gradfit.broadcasting import Dimension, Operand, Shape, Shapes, Step, dtype_of, join, multiply, text_of
from gradfit.errors import FormulaError, OptionError, ShapeError

__all__ = ["shapes"]

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<sign>\*\*|//|==|!=|<=|>=|\.\.\.|[-+*/@%<>&|()\[\],.:=×−])|(?P<end>$))"
)
_JOINING = (("==", "!=", "<", "<=", ">", ">=", "&", "|"), ("+", "-", "−"), ("*", "×", "/", "//", "%", "@"))
_OVER = "sum mean max min amax amin prod std var median argmax argmin any all norm nansum nanmean"
_EACH = (
    "abs exp log log2 log10 log1p expm1 sqrt sin cos tan tanh sinh cosh sigmoid relu square sign neg softmax cumsum clone "
    "contiguous detach float double"
)
_REDUCTIONS, _POINTWISE = frozenset(_OVER.split()), frozenset(_EACH.split())
_MODULES = frozenset(["np", "numpy", "torch", "F"])
LONGEST = 18  # digits of a size
_REST, _WHOLE, _ENDS = "...", ":", (")", "")
DEEPEST = 100  # brackets in brackets


def shapes(*operands: object, dtype: object = "float64") -> Shapes:
    """Return what becomes of shapes: the result, aligned operands, the rule of each dimension, what is repeated, the memory.

    Parameters
    ----------
    *operands : str, or arrays, tensors, tuples of int
        An expression of shapes, or what is to be joined.
    dtype : str or a dtype
        What memory is counted in.

    Raises
    ------
    ShapeError
        If shapes do not join, naming the dimension at fault. A `GradfitError`, as all errors here are.
    FormulaError
        If an expression is not understood.
    OptionError
        If an operand has no shape.

    Examples
    --------
    >>> shapes("(3,1) * (1,3) * (2,1,1)").shape
    (2, 3, 3)
    >>> shapes((11,), (11, 1)).steps[0].notes[0]
    'Each value of (11,) meets each of (11, 1): 121 values. To pair (11, 1) with (11,) one by one, end (11, 1) with .squeeze(-1)'
    """
    kind = dtype_of(dtype)
    if not operands:
        raise OptionError("shapes() needs shapes", remedy='Write shapes("(3,1) * (1,3)"), or shapes(x, w)')
    if len(operands) == 1 and isinstance(operands[0], str):
        return _Reader(operands[0]).read(kind)
    given = [_shape_of(operand, i) for i, operand in enumerate(operands, 1)]
    text = ", ".join(text_of(shape) for shape in given)
    if len(given) == 1:
        return Shapes(text, (), given[0], kind)
    step = join([Operand(text_of(shape), shape) for shape in given], text)
    return Shapes(text, (step,), step.result, kind)


def _shape_of(operand: object, place: int) -> Shape:
    """Return the shape of an array, a tensor, a number, or a tuple that is one.

    Raises
    ------
    OptionError
        If it has none.
    """
    if isinstance(operand, bool | int | float | complex):
        return ()
    shape = operand if isinstance(operand, tuple) else getattr(operand, "shape", None)
    if isinstance(shape, tuple) and all(isinstance(size, int) and size >= 0 for size in shape):
        return tuple(int(size) for size in shape)
    if isinstance(operand, tuple):
        raise OptionError(f"Operand {place}, {operand!r:.60}, is no shape: sizes are whole numbers from 0 up")
    remedy = "Give arrays, tensors, shapes as tuples of int, or one text"
    raise OptionError(f"Operand {place}, a {type(operand).__name__}, has no shape", remedy=remedy)


# ---------------------------------------------------------------------------- expressions


class _Reader:
    """Reads an expression of shapes, and works it out on the way.

    Operations value by value are one join, however many they are: the rule does not depend on their order.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = _tokens(text)
        self.at = 0
        self.depth = 0
        self.steps: list[Step] = []

    def read(self, dtype: str) -> Shapes:
        """Return what the expression makes of its shapes.

        Raises
        ------
        FormulaError
            If it is not understood.
        """
        pending = self._list()
        if self._peek():
            raise self._error(f"{self._peek()!r} is not understood here")
        result = self._settled(pending, 0)
        return Shapes(self.text.strip(), tuple(self.steps), result.shape, dtype)

    # each of these returns operands that are still to be joined: one, or several of operations value by value

    def _list(self) -> list[Operand]:
        out = self._joined(0)
        while self._peek() == "," and self._peek(1) not in ("", ")"):
            self.at += 1
            out += self._joined(0)
        return out

    def _joined(self, level: int) -> list[Operand]:
        if level == len(_JOINING):
            return self._signed()
        start = self._start
        out = self._joined(level + 1)
        while self._peek() in _JOINING[level]:
            sign = self._take()
            right = self._start
            other = self._joined(level + 1)
            if sign == "@":
                first = self._settled(out, start, right - 1)
                second = self._settled(other, right)
                self.steps.append(multiply(first, second, self._since(start)))
                out = [Operand(text_of(self.steps[-1].result), self.steps[-1].result)]
            else:
                out += other
        return out

    def _signed(self) -> list[Operand]:
        while self._peek() in ("-", "+", "−"):
            self.at += 1
        out = self._postfixed()
        if self._peek() == "**":
            self.at += 1
            out += self._signed()
        return out

    def _postfixed(self) -> list[Operand]:
        start = self._start
        out = self._atom()
        while self._peek() in (".", "["):
            before = self._settled(out, start)
            out = [self._indexed(before) if self._peek() == "[" else self._method(before, start)]
        return out

    def _atom(self) -> list[Operand]:
        word = self._peek()
        self.depth += 1
        if self.depth > DEEPEST:
            raise self._error("Too many brackets stand in each other")
        try:
            if word[:1].isdigit():
                return [Operand(self._take(), ())]
            if word == "[" or (word == "(" and self._is_shape()):
                return [self._literal()]
            if word == "(":
                self.at += 1
                out = self._joined(0)
                if self._peek() == ",":
                    raise self._error("A shape holds whole numbers from 0 up, and commas between them")
                self._expect(")")
                return out
            if word[:1].isalpha():
                return self._call()
        finally:
            self.depth -= 1
        raise self._error("A shape is missing here" if not word else f"{word!r} is no shape")

    def _is_shape(self) -> bool:
        """Return whether brackets hold sizes and nothing else: (), (3), (3,) and (3, 1) do; (3, 1).T in brackets does not."""
        i = 1
        while self._peek(i).isdigit():
            if self._peek(i + 1) != ",":
                return self._peek(i + 1) in _ENDS
            i += 2
        return self._peek(i) in _ENDS

    def _literal(self) -> Operand:
        close = ")" if self._take() == "(" else "]"
        sizes: list[int] = []
        while self._peek().isdigit():
            if len(self._peek()) > LONGEST:
                raise self._error("No size is as large as this")
            sizes.append(int(self._take()))
            if self._peek() != ",":
                break
            self.at += 1
        self._expect(close)
        return Operand(text_of(tuple(sizes)), tuple(sizes))

    def _call(self) -> list[Operand]:
        start, name = self._start, self._take()
        while name in _MODULES and self._peek() == ".":
            self.at += 1
            name = self._take()
        known = name in _POINTWISE or name in _REDUCTIONS or name == "Size"
        if not known or self._peek() != "(":
            self.at -= 1
            raise self._error(f"{name} is no shape", "Write shapes for names, as in (11,) * () + ()")
        self.at += 1
        out = self._joined(0)
        arguments = self._arguments() if self._peek() == "," else []
        self._expect(")")
        if name in _REDUCTIONS:
            return [self._done(_reduced(self._settled(out, start), name, arguments), start)]
        return out

    # ------------------------------------------------------------------ after a shape

    def _method(self, operand: Operand, start: int) -> Operand:
        self._expect(".")
        name = self._take()
        arguments: list[tuple[str, object]] = []
        if self._peek() == "(":
            self.at += 1
            arguments = self._arguments(first=True)
            self._expect(")")
        if name in _POINTWISE:
            return operand
        if name in _REDUCTIONS:
            return self._done(_reduced(operand, name, arguments), start)
        if name not in _CHANGES:
            self.at -= 1
            raise self._error(
                f".{name} is not known", f"Known: {', '.join(sorted(_CHANGES))}, sum, mean, max ..."
            )
        try:
            shape = _CHANGES[name](operand.shape, [value for _, value in arguments if isinstance(value, int)])
        except _UnfitError as error:
            raise ShapeError(f"{operand.label}.{name} cannot be: {error}") from error
        except (IndexError, ValueError) as error:
            raise ShapeError(f"{operand.label}.{name} with these arguments cannot be") from error
        return Operand(text_of(shape), shape)

    def _arguments(self, *, first: bool = False) -> list[tuple[str, object]]:
        """Return arguments up to a bracket: whole numbers, tuples of them and truth values, with their names."""
        out: list[tuple[str, object]] = []
        while self._peek() and self._peek() != ")":
            if not first:
                self._expect(",")
            first = False
            if self._peek() == ")":
                break
            name = self._take() if self._peek(1) == "=" else ""
            if name:
                self._expect("=")
            out += [(name, value) for value in self._values()]
        return out

    def _values(self) -> list[object]:
        if self._peek() in ("(", "["):
            close = ")" if self._take() == "(" else "]"
            out: list[object] = []
            while self._peek() and self._peek() != close:
                out += self._values()
                if self._peek() == ",":
                    self.at += 1
            self._expect(close)
            return out
        sign = -1 if self._peek() in ("-", "−") else 1
        self.at += sign < 0
        word = self._take()
        if len(word) > LONGEST:
            raise self._error("No size is as large as this")
        if word in ("True", "False", "None"):
            return [] if word == "None" else [word == "True"]
        if not word.isdigit():
            self.at -= 1
            raise self._error(f"{word!r} is no whole number" if word else "A number is missing here")
        return [sign * int(word)]

    def _indexed(self, operand: Operand) -> Operand:
        """Return a shape after [:, None], [0] or [..., 0]: whole dimensions, new ones and single places.

        Raises
        ------
        ShapeError
            If it has fewer dimensions.
        """
        self._expect("[")
        shape, kept = list(operand.shape), list[int]()
        while self._peek() not in ("", "]"):
            word = self._take()
            if word == _REST:
                rest = len(shape) - self._left_over()
                kept, shape = kept + shape[:rest], shape[rest:]
            elif word in ("None", "newaxis"):
                kept.append(1)
            elif (word != _WHOLE and not word.isdigit()) or self._peek() not in (",", "]"):
                self.at -= 1
                raise self._error(f"{word!r} is not understood here", "Known: [:, None], [0], [..., None]")
            elif not shape:
                raise ShapeError(f"{operand.label} has no more than {len(operand.shape)} dimensions")
            else:
                kept += shape[:1] if word == _WHOLE else []
                shape = shape[1:]
            self.at += self._peek() == ","
        self._expect("]")
        result = (*kept, *shape)
        return Operand(text_of(result), result)

    def _left_over(self) -> int:
        """Return how many dimensions the rest of an index speaks of."""
        i, found = 0, 0
        while self._peek(i) not in ("]", ""):
            found += self._peek(i) == _WHOLE or self._peek(i).isdigit()
            i += 1
        return found

    # ------------------------------------------------------------------ tokens

    def _settled(self, pending: list[Operand], start: int, stop: int | None = None) -> Operand:
        """Return operands joined to one."""
        if len(pending) == 1:
            return pending[0]
        return self._done(join(pending), start, stop)

    def _done(self, step: Step, start: int, stop: int | None = None) -> Operand:
        said = Step(
            self._since(start, stop), step.operands, step.result, step.dimensions, step.broadcasts, step.notes
        )
        self.steps.append(said)
        return Operand(text_of(step.result), step.result)

    def _since(self, start: int, stop: int | None = None) -> str:
        end = self.tokens[self.at - 1][2] if stop is None else stop
        return self.text[start:end].strip()

    @property
    def _start(self) -> int:
        return self.tokens[self.at][1]

    def _peek(self, further: int = 0) -> str:
        return self.tokens[min(self.at + further, len(self.tokens) - 1)][0]

    def _take(self) -> str:
        word = self._peek()
        self.at += self.at < len(self.tokens) - 1
        return word

    def _expect(self, sign: str) -> None:
        if self._peek() != sign:
            raise self._error(f"{sign!r} is missing here")
        self.at += 1

    def _error(
        self, message: str, remedy: str = 'Write shapes with operations between, as in "(3,1) * (1,3)"'
    ) -> FormulaError:
        word, start, _ = self.tokens[self.at]
        line = " ".join(self.text.split("\n"))
        return FormulaError(message, excerpt=f"{line}\n{' ' * start}{'^' * max(len(word), 1)}", remedy=remedy)


def _tokens(text: str) -> list[tuple[str, int, int]]:
    """Return the tokens of a text, with where they start and stop; the last one is empty.

    Raises
    ------
    FormulaError
        At a sign that means nothing here.
    """
    out: list[tuple[str, int, int]] = []
    at = 0
    while not out or out[-1][0]:
        found = _TOKEN.match(text, at)
        if found is None:
            at += len(text[at:]) - len(text[at:].lstrip())
            raise FormulaError(f"{text[at]!r} is not understood here", excerpt=f"{text}\n{' ' * at}^")
        word = found[found.lastgroup or "end"]
        out.append((word, found.end() - len(word), found.end()))
        at = found.end()
    return out


# ---------------------------------------------------------------------------- what changes one shape


class _UnfitError(ValueError):
    """What a shape cannot become, in words."""


def _reduced(operand: Operand, name: str, arguments: Sequence[tuple[str, object]]) -> Step:
    """Return what a sum, mean ... over some dimensions makes; over all of them when none is named.

    Raises
    ------
    ShapeError
        If there is no such dimension.
    """
    wide = len(operand.shape)
    keep = any(value is True for _, value in arguments)
    axes = {_axis(value, operand) for _, value in arguments if type(value) is int} or set(range(wide))
    kept = [(i, 1 if i in axes else size) for i, size in enumerate(operand.shape) if keep or i not in axes]
    result = tuple(size for _, size in kept)
    dimensions = tuple(
        Dimension(
            -1 - k, size, (operand.shape[i],), f"{name} over {operand.shape[i]}" if i in axes else "as it was"
        )
        for k, (i, size) in enumerate(reversed(kept))
    )
    gone = prod(operand.shape[i] for i in axes)
    note = f"{name} over dimension{'' if len(axes) == 1 else 's'} {', '.join(str(i - wide) for i in sorted(axes))}: "
    notes = (f"{note}{gone} values make one",) if axes else ()
    return Step("", (operand,), result, dimensions, broadcasts=False, notes=notes)


def _axis(value: object, operand: Operand) -> int:
    wide = len(operand.shape)
    if not isinstance(value, int) or not -wide <= value < wide:
        raise ShapeError(
            f"{operand.label} has no dimension {value}",
            remedy=f"It has {wide}: {-wide} to {wide - 1}" if wide else "",
        )
    return value % wide


def _turned(shape: Shape, axes: Sequence[int]) -> Shape:
    if not axes:
        return shape[::-1]
    out = list(shape)
    first, second = axes
    out[first], out[second] = out[second], out[first]
    return tuple(out)


def _permuted(shape: Shape, axes: Sequence[int]) -> Shape:
    if sorted(axis % len(shape) for axis in axes) != list(range(len(shape))):
        raise _UnfitError(f"it needs the {len(shape)} dimensions in a new order")
    return tuple(shape[axis] for axis in axes)


def _squeezed(shape: Shape, axes: Sequence[int]) -> Shape:
    if any(not -len(shape) <= axis < len(shape) for axis in axes):
        raise _UnfitError(f"it has {len(shape)} dimensions")
    chosen = {axis % len(shape) for axis in axes} if axes else set(range(len(shape)))
    return tuple(size for i, size in enumerate(shape) if size != 1 or i not in chosen)


def _unsqueezed(shape: Shape, axes: Sequence[int]) -> Shape:
    (axis,) = axes
    if not -len(shape) - 1 <= axis <= len(shape):
        raise _UnfitError(f"there is no place {axis}")
    at = axis % (len(shape) + 1)
    return (*shape[:at], 1, *shape[at:])


def _reshaped(shape: Shape, sizes: Sequence[int]) -> Shape:
    known = prod(size for size in sizes if size != -1)
    if list(sizes).count(-1) == 1 and known and prod(shape) % known == 0:
        return tuple(prod(shape) // known if size == -1 else size for size in sizes)
    if known != prod(shape) or -1 in sizes or not sizes:
        raise _UnfitError(f"{prod(shape)} values do not make {text_of(tuple(sizes))}")
    return tuple(sizes)


def _flat(shape: Shape, axes: Sequence[int]) -> Shape:
    if not axes:
        return (prod(shape),)
    start = axes[0] % len(shape)
    return (*shape[:start], prod(shape[start:]))


def _last_two(shape: Shape, axes: Sequence[int]) -> Shape:
    del axes
    return _turned(shape, (-1, -2))


def _expanded(shape: Shape, sizes: Sequence[int]) -> Shape:
    wanted = tuple(sizes)
    if len(wanted) < len(shape):
        raise _UnfitError(f"it has {len(shape)} dimensions already")
    padded = (1,) * (len(wanted) - len(shape)) + shape
    if any(have not in (1, want) and want != -1 for have, want in zip(padded, wanted, strict=True)):
        raise _UnfitError(f"only a size of 1 is repeated, and it is {text_of(shape)}")
    return tuple(have if want == -1 else want for have, want in zip(padded, wanted, strict=True))


_CHANGES: dict[str, Callable[[Shape, Sequence[int]], Shape]] = {
    "T": _turned, "t": _turned, "mT": _last_two, "transpose": _turned, "permute": _permuted, "squeeze": _squeezed,
    "unsqueeze": _unsqueezed, "reshape": _reshaped, "view": _reshaped, "flatten": _flat, "ravel": _flat, "expand": _expanded,
}  # fmt: skip
