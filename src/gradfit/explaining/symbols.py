"""What torch calls its functions, as a reader writes them: × for mul, a formula for a chain of them."""

from collections.abc import Mapping, Sequence

LONGEST = 32  # characters of a formula; a longer one is cut

_SAME: Mapping[str, str] = {
    "multiply": "mul", "subtract": "sub", "divide": "div", "true_divide": "div", "truediv": "div", "negative": "neg",
    "rtruediv": "rdiv", "float_power": "pow", "absolute": "abs", "__get__": "view",
}  # fmt: skip
_INFIX: Mapping[str, str] = {
    "add": " + ", "sub": " − ", "mul": "*", "div": "/", "pow": "**", "matmul": " @ ", "lt": " < ", "le": " <= ", "gt": " > ",
    "ge": " >= ", "eq": " == ", "ne": " != ",
}  # fmt: skip
_SYMBOLS: Mapping[str, str] = {
    "add": "+", "sub": "−", "mul": "×", "div": "÷", "pow": "^", "neg": "−( )", "matmul": "@", "square": "( )²",
    "lt": "<", "le": "≤", "gt": ">", "ge": "≥", "eq": "=", "ne": "≠", "sqrt": "√", "getitem": "[ ]",
}  # fmt: skip
_TIGHT = frozenset(["mul", "div", "pow", "neg"])
_OF_LAYERS = frozenset(
    ["linear", "conv1d", "conv2d", "conv3d", "batch_norm", "layer_norm", "embedding", "dropout"]
)


def called(function: object) -> tuple[str, bool]:
    """Return the plain name of a function of torch, and whether it writes into its first argument.

    >>> import torch
    >>> called(torch.mul), called(torch.Tensor.__rsub__), called(torch.Tensor.add_), called(torch.Tensor.T.__get__)
    (('mul', False), ('rsub', False), ('add', True), ('T', False))
    """
    name = str(getattr(function, "__name__", type(function).__name__))
    if name == "__get__":
        return str(getattr(getattr(function, "__self__", None), "__name__", "view")), False
    bare = name.strip("_")
    in_place = (name.endswith("_") and not name.endswith("__")) or (
        name.startswith("__i") and bare[1:] in _INPLACE
    )
    bare = bare[1:] if name.startswith("__i") and bare[1:] in _INPLACE else bare
    return _SAME.get(bare, bare), in_place


_INPLACE = frozenset(["add", "sub", "mul", "truediv", "div", "pow", "matmul"])


def text_of(name: str, arguments: Sequence[str]) -> str:
    """Return a call as a formula, cut where it is long.

    >>> text_of("mul", ["w", "t_u"]), text_of("rsub", ["x", "1"]), text_of("pow", ["a + b", "2"]), text_of("exp", ["k*x"])
    ('w*t_u', '1 − x', '(a + b)**2', 'exp(k*x)')
    """
    given = [a for a in arguments if a]
    if name.startswith("r") and name[1:] in _INFIX and len(given) == 2:
        name, given = name[1:], given[::-1]
    if name in _INFIX and len(given) >= 2:
        sides = [f"({side})" if name in _TIGHT and " " in side else side for side in given[:2]]
        return cut(_INFIX[name].join(sides))
    if name == "neg" and given:
        return cut(f"-({given[0]})" if " " in given[0] else f"-{given[0]}")
    if name in _VIEWS and given:
        return cut(f"{given[0]}.{name}")
    return cut(f"{name}({', '.join(given[:3])})")


_VIEWS = frozenset(
    [
        "reshape",
        "view",
        "squeeze",
        "unsqueeze",
        "T",
        "mT",
        "transpose",
        "permute",
        "flatten",
        "to",
        "expand",
        "getitem",
    ]
)


def cut(text: str) -> str:
    """Return a formula, the middle left out where it is long."""
    half = (LONGEST - 1) // 2
    return text if len(text) <= LONGEST else f"{text[:half]}…{text[-half:]}"


def symbol_of(name: str, arguments: Sequence[str], layer: str = "") -> str:
    """Return a short sign for a picture, with a constant where there is one.

    >>> symbol_of("mul", ["w", "t_u"]), symbol_of("mul", ["x", "0.1"]), symbol_of("pow", ["x", "2"]), symbol_of("linear", [])
    ('×', '× 0.1', '( )²', 'linear')
    """
    if layer and (name in _OF_LAYERS or name == layer.lower()):
        return layer
    plain = name[1:] if name.startswith("r") and name[1:] in _INFIX else name
    if plain == "pow" and arguments[1:2] == ["2"]:
        return "( )²"
    sign = _SYMBOLS.get(plain, plain)
    numbers = [a for a in arguments[:2] if _is_number(a)]
    if plain not in _INFIX or len(numbers) != 1 or len(arguments) < 2:
        return sign
    first = _is_number(arguments[0]) != (plain != name)
    return f"{numbers[0]} {sign}" if first and plain not in ("add", "mul") else f"{sign} {numbers[0]}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
