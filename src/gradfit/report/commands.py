"""How a fit is written down again: as a shell command, as Python, and as a SciPy program to compare with."""

import ast
import json
import keyword
import re
import textwrap
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import PurePath
from typing import cast

import numpy as np
from numpy.typing import NDArray

from gradfit.errors import FormulaError
from gradfit.formula import Expression, parse
from gradfit.loss import Loss
from gradfit.penalty import Penalty
from gradfit.result import FitResult
from gradfit.saved.plain import given
from gradfit.shell import as_option, quoted

Array = NDArray[np.float64]
_EMBEDDED = 40  # rows up to which a program carries its data
_FEW = 12  # numbers that are written out in an argument
_NARROW = 60  # characters that fit beside a figure
_WIDTH = 92  # characters of a line of code

#: arguments of fit that are options of the command; other settings are an optimizer's own
OPTIONS = frozenset(
    [
        "response",
        "start",
        "bounds",
        "fixed",
        "sigma",
        "weights",
        "where",
        "exclude",
        "missing",
        "loss",
        "solver",
        "executor",
        "level",
        "seed",
        "max_iterations",
        "lr",
        "epochs",
        "batch_size",
        "scheduler",
        "penalty",
        "scale",
        "validation",
        "kfold",
        "groups",
        "order",
        "patience",
        "min_delta",
        "stop",
        "checkpoint",
        "checkpoint_every",
        "resume",
    ]
)


def settings_of(result: FitResult) -> dict[str, object]:
    """Return the arguments of the fit that were given, a loss by its name, start values by the parameters' names."""
    out = given(result.settings)
    if isinstance(loss := out.get("loss"), Loss):
        out["loss"] = loss.name if loss.scale is None else f"{loss.name}:{loss.scale:g}"
    start = out.get("start")
    if isinstance(start, Sequence) and not isinstance(start, str):
        out["start"] = dict(zip(result.params, start, strict=False))
    return out


def is_file(source: str) -> bool:
    """Return whether a source is the name of a file.

    >>> is_file("a/b.csv"), is_file("pandas data frame")
    (True, False)
    """
    return bool(PurePath(source).suffix) and "\n" not in source and not source.startswith("-")


def remedy_arguments(remedy: str) -> dict[str, object] | None:
    """Return the arguments that a remedy names; None where it is no code but words.

    >>> remedy_arguments('fixed={"b": 1}'), remedy_arguments("measure longer")
    ({'fixed': {'b': 1}}, None)
    """
    try:
        call = ast.parse(f"fit({remedy}\n)", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or not call.keywords:
            return None
        return {str(word.arg): ast.literal_eval(word.value) for word in call.keywords if word.arg}
    except (SyntaxError, ValueError):
        return None


def with_arguments(settings: Mapping[str, object], more: Mapping[str, object]) -> dict[str, object]:
    """Return settings with others put over them; what maps names to values is merged."""
    out = dict(settings)
    for key, value in more.items():
        old = out.get(key)
        out[key] = {**old, **value} if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return out


# ---------------------------------------------------------------------------- shell


def shell(result: FitResult, settings: Mapping[str, object]) -> str:
    """Return the command line; empty where the fit cannot be written as one."""
    if not is_file(result.data.source) or not _is_formula(result):
        return ""
    options = [_option(key, value) for key, value in settings.items()]
    if not all(options):
        return ""
    line = f"gradfit fit {quoted(result.data.source)} {quoted(result.formula)}"
    if options and len(" ".join([line, *options])) > _NARROW:
        return f"{line} \\\n    {' '.join(options)}"
    return " ".join([line, *options])


def _option(key: str, value: object) -> str:
    if key in OPTIONS:
        return as_option(f"{key}={argument(key, value)}")
    return f"--set {key}={value}" if isinstance(value, str | int | float) else ""


def _is_formula(result: FitResult) -> bool:
    try:
        return parse(result.formula).left is not None
    except FormulaError:
        return False


# ---------------------------------------------------------------------------- Python


def python(result: FitResult, settings: Mapping[str, object]) -> str:
    """Return the call of `gradfit.fit`."""
    model = literal(result.formula) if _has_tree(result) else result.formula.split("(")[0]
    data = literal(result.data.source) if is_file(result.data.source) else "data"
    words = [model, data, *(f"{key}={argument(key, value)}" for key, value in settings.items())]
    if not _is_formula(result) and "response" not in settings:
        words.append(f"response={literal(result.response)}")
    return call("result = gf.fit", words)


def _has_tree(result: FitResult) -> bool:
    try:
        parse(result.formula)
    except FormulaError:
        return False
    return not re.fullmatch(r"\w+\(.*\)", result.formula) or "=" in result.formula


def call(head: str, words: Sequence[str]) -> str:
    """Return a call in Python, on several lines where one is too long."""
    line = f"{head}({', '.join(words)})"
    if len(line) <= _WIDTH:
        return line
    return "\n".join([f"{head}(", *(f"    {word}," for word in words), ")"])


def argument(key: str, value: object) -> str:
    """Return a value as Python writes it; what has no short form is called by the argument's name."""
    if isinstance(value, Penalty):
        return f"gf.{value!r}"
    plain = isinstance(value, str | int | float | Mapping)
    if isinstance(value, Sequence) and not plain:
        parts: Sequence[object] = value
        plain = len(parts) <= _FEW
    return literal(value) if plain else key


def literal(value: object, *, inside: bool = False) -> str:
    """Return a value as Python writes it: names and numbers, lists of them, and pairs inside a mapping."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        pairs = cast("Mapping[str, object]", value)
        return f"{{{', '.join(f'{literal(name)}: {literal(part, inside=True)}' for name, part in pairs.items())}}}"
    if isinstance(value, Sequence):
        parts: Sequence[object] = value
        words = ", ".join(literal(part, inside=True) for part in parts)
        return f"({words})" if inside else f"[{words}]"
    if isinstance(value, float) and not isfinite(value):
        return "None"
    return repr(value)


# ---------------------------------------------------------------------------- SciPy

_BINARY = {"add": (4, "+"), "sub": (4, "-"), "mul": (5, "*"), "div": (5, "/"), "pow": (7, "**")}
_COMPARE = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
_CALLS = {
    "min": "np.minimum", "max": "np.maximum", "asin": "np.arcsin", "acos": "np.arccos", "atan": "np.arctan",
    "atan2": "np.arctan2", "asinh": "np.arcsinh", "acosh": "np.arccosh", "atanh": "np.arctanh", "erf": "special.erf",
    "erfc": "special.erfc", "lgamma": "special.gammaln", "gamma": "special.gamma", "voigt": "special.voigt_profile",
    "and": "np.logical_and", "or": "np.logical_or", "not": "np.logical_not",
}  # fmt: skip


def numpy_code(expression: Expression, names: Mapping[str, str]) -> str:
    """Return an expression as NumPy code, with its names replaced.

    >>> from gradfit.formula import parse_expression
    >>> numpy_code(parse_expression("-(a + b)*exp(x)**2"), {})
    '-(a + b)*np.exp(x)**2'
    """
    done: list[tuple[str, int]] = []  # code and how tightly it binds
    for name, *rest in expression.nodes:
        parts = [done[int(j)] for j in rest] if name not in ("const", "name", "text") else []  # pyright: ignore[reportArgumentType]  # ids
        done.append(_code(str(name), rest, parts, names))
    return done[-1][0]


def _code(
    name: str, leaf: Sequence[object], parts: list[tuple[str, int]], names: Mapping[str, str]
) -> tuple[str, int]:
    if not parts:
        return _leaf(name, leaf[0], names), 9
    if name in _BINARY:
        return _infix(name, parts)
    if name in ("neg", "pos"):
        return ("-" + _bracketed(parts[0], 6), 5) if name == "neg" else parts[0]
    inside = ", ".join(code for code, _ in parts)
    if name in _COMPARE:
        return f"({parts[0][0]} {_COMPARE[name]} {parts[1][0]})", 9
    return (
        f"np.heaviside({inside}, 1.0)" if name == "step" else f"{_CALLS.get(name, f'np.{name}')}({inside})",
        9,
    )


def _leaf(kind: str, what: object, names: Mapping[str, str]) -> str:
    if kind == "const":
        return repr(what).removesuffix(".0")
    plain = str(what)
    return names.get(plain, {"pi": "np.pi", "e": "np.e"}.get(plain, plain))


def _infix(name: str, parts: list[tuple[str, int]]) -> tuple[str, int]:
    binds, sign = _BINARY[name]
    left = _bracketed(parts[0], binds + (name == "pow"))
    right = _bracketed(parts[1], binds if name == "pow" else binds + (name != "add"))
    return f"{left} {sign} {right}" if binds == 4 else f"{left}{sign}{right}", binds


def _bracketed(part: tuple[str, int], binds: int) -> str:
    return part[0] if part[1] >= binds else f"({part[0]})"


def _identifier(name: str, taken: set[str]) -> str:
    plain = re.sub(r"\W", "_", name) or "column"
    plain = f"_{plain}" if plain[0].isdigit() else plain
    while plain in taken or keyword.iskeyword(plain) or plain in ("np", "special", "curve_fit", "model"):
        plain += "_"
    taken.add(plain)
    return plain


def scipy_twin(result: FitResult) -> str:
    """Return a program that repeats the fit with SciPy alone; empty where SciPy has no such fit."""
    free = [p for p in result.params.values() if not p.fixed]
    known = all(p.determined and isfinite(p.value) for p in free)
    if result.loss_name != "squared" or not known or not 0 < len(free) < result.n or not _is_formula(result):
        return ""
    taken: set[str] = set()
    names = {name: _identifier(name, taken) for name in (*result.inputs, *result.params)}
    observed = _identifier(result.response, taken)
    code = numpy_code(parse(result.formula).right, names)
    imports = ["import numpy as np", "from scipy.optimize import curve_fit"]
    if "special." in code:
        imports.insert(1, "from scipy import special")
    inputs = [names[name] for name in result.inputs]
    along = "row" if not inputs else inputs[0] if len(inputs) == 1 else "X"
    body = [f"    {names[p.name]} = {p.value!r}" for p in result.params.values() if p.fixed]
    body += [f"    {', '.join(inputs)} = X"] if len(inputs) > 1 else []
    body.append(f"    return {code}" + (" + 0*row" if not inputs else ""))
    function = [f"def model({', '.join([along, *(names[p.name] for p in free)])}):", *body]
    lines = [
        *imports,
        "",
        *_columns(result, names, observed),
        "",
        *function,
        "",
        *_solved(result, along, observed),
    ]
    return "\n".join(lines)


def _columns(result: FitResult, names: Mapping[str, str], observed: str) -> list[str]:
    """Return the lines that make the columns: numbers for few rows, taken from the result for many."""
    few = result.data.n <= _EMBEDDED
    lines = [] if few else ["# result: from the Python lines above"]
    for name in result.inputs:
        value = _array(result.data.columns[name]) if few else f"result.data.columns[{literal(name)}]"
        lines.append(f"{names[name]} = {value}")
    lines.append(f"{observed} = {_array(result.data.y) if few else 'result.data.y'}")
    if result.data.sigma is not None:
        lines.append(f"sigma = {_array(result.data.sigma) if few else 'result.data.sigma'}")
    if not result.inputs:
        lines.append(f"row = np.arange({result.data.n})")
    if len(result.inputs) > 1:
        lines.append(f"X = ({', '.join(names[name] for name in result.inputs)})")
    return lines


def _array(values: Array) -> str:
    words = [repr(float(value)).removesuffix(".0") for value in values]
    line = f"np.array([{', '.join(words)}], float)"
    if len(line) <= _WIDTH - 12:
        return line
    rows = textwrap.wrap(", ".join(words) + ",", _WIDTH - 4)
    return "\n".join(["np.array(["] + [f"    {row}" for row in rows] + ["], float)"])


def _solved(result: FitResult, along: str, observed: str) -> list[str]:
    """Return the lines that call SciPy, started near the answer, and print it beside ours."""
    free = [p for p in result.params.values() if not p.fixed]
    words = ["model", along, observed, f"p0=[{', '.join(_near(p.value) for p in free)}]"]
    if any(isfinite(end) for p in free for end in p.bounds):
        ends = [", ".join(_end(p.bounds[k]) for p in free) for k in (0, 1)]
        words.append(f"bounds=([{ends[0]}], [{ends[1]}])")
    if result.data.sigma is not None:
        words.append("sigma=sigma" + (", absolute_sigma=True" if result.data.absolute else ""))
    ours = [
        " ".join(f"{value:.6g}" for value in values)
        for values in ([p.value for p in free], [p.stderr for p in free])
    ]
    check = f"print(p, np.sqrt(np.diag(cov)))  # [{ours[0]}] [{ours[1]}]"
    if len(check) > _WIDTH:
        check = f"print(p, np.sqrt(np.diag(cov)))\n# [{ours[0]}]\n# [{ours[1]}]"
    return [call("p, cov = curve_fit", words), check]


def _near(value: float) -> str:
    """Return a start value two digits from the answer, inside any bounds that a value of three digits is inside of."""
    return f"{value:.3g}"


def _end(value: float) -> str:
    return repr(float(value)) if isfinite(value) else ("np.inf" if value > 0 else "-np.inf")
