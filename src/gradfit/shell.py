"""Arguments of `gradfit.fit` as options of the command line, and commands as a shell reads them."""

import ast
import re
from collections.abc import Sequence

_OPTIONS = {"fixed": "fix"}  # the others have the argument's name
_OWN = frozenset(
    [
        "start",
        "bounds",
        "fixed",
        "sigma",
        "weights",
        "where",
        "exclude",
        "missing",
        "response",
        "sheet",
        "loss",
        "solver",
        "lr",
        "epochs",
        "batch_size",
        "scheduler",
        "max_iterations",
        "executor",
        "level",
        "seed",
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
        "penalty",
        "scale",
        "noise",
        "mixup",
    ]
)
_SEVERAL = frozenset({"--set", "--fix", "--start", "--bounds", "--exclude"})  # each adds to what was said
_POSITIONAL = frozenset({"model", "data", "x", "y"})
_PLAIN = re.compile(r"[\w@%+=:,./-]+")
_ARGUMENT = re.compile(
    r"""\b(?P<name>[a-z_]+)=(?:"[^"]*"|'[^']*'|\{[^{}]*\}|\[[^\[\]]*\]|\([^()]*\)|-?\d[\w.+-]*(?<![.])|[A-Z]\w*\([^()]*\))"""
)


def as_option(remedy: str) -> str:
    """Return arguments of `fit`, as findings and errors write them, as options of `gradfit fit`.

    Empty where the command line has no such option: an array, another model, or words.

    Examples
    --------
    >>> as_option('loss="bisquare"'), as_option('fixed={"b": 1}'), as_option("exclude=[24, 31]")
    ('--loss bisquare', '--fix b=1', '--exclude 24,31')
    >>> as_option('bounds={"b": (0, None)}'), as_option('start="search"'), as_option('weights="1/y**2"')
    ('--bounds b=0:', '--start search', '--weights "1/y**2"')
    >>> as_option("measure on to 36 s")
    ''
    """
    try:
        call = ast.parse(f"fit({remedy}\n)", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""
    if not isinstance(call, ast.Call) or call.args or not call.keywords:
        return ""
    options = [_option(keyword) for keyword in call.keywords]
    return " ".join(options) if all(options) else ""


def _option(keyword: ast.keyword) -> str:
    name = keyword.arg or ""
    if not name or name in _POSITIONAL:
        return ""
    option = "--" + _OPTIONS.get(name, name).replace("_", "-")
    node = keyword.value
    if name not in _OWN:  # a setting of the optimizer
        return f"--set {quoted(f'{name}={_value(node)}')}" if _value(node) else ""
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        return option if node.value else option.replace("--", "--no-", 1)
    value = _value(node)
    return f"{option} {quoted(value)}" if value else ""


def _value(node: ast.expr) -> str:
    """Return a literal as the command line writes it, empty where it has no way to."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.Dict() | ast.List():
            return _several(node)
        case ast.Tuple(elts=[low, high]):
            return f"{_value(low)}:{_value(high)}"
        case ast.Call(func=ast.Name(id=name), args=[], keywords=[ast.keyword(value=value)]):
            return f"{name.lower()}:{_value(value)}" if _value(value) else ""
        case _:
            return _number(node)


def _several(node: ast.Dict | ast.List) -> str:
    """Return the items of a list or a dict, empty where one of them cannot be written."""
    if isinstance(node, ast.List):
        texts = [_value(item) for item in node.elts]
    else:
        pairs = zip(node.keys, node.values, strict=True)
        texts = [_pair(key, value) for key, value in pairs if key is not None]
    return ",".join(texts) if all(texts) else ""


def _pair(key: ast.expr, value: ast.expr) -> str:
    """Return name=value, and name=: for bounds that are taken away."""
    name = _value(key)
    text = ":" if isinstance(value, ast.Constant) and value.value is None else _value(value)
    return f"{name}={text}" if name and text else ""


def _number(node: ast.expr) -> str:
    """Return a number as it was written, with its sign; empty for anything else, and for infinity."""
    inside = node.operand if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) else node
    if not isinstance(inside, ast.Constant) or not isinstance(inside.value, int | float):
        return ""
    return ast.unparse(node) if abs(inside.value) < float("inf") else ""


def arguments(text: str) -> list[str]:
    """Return the arguments of `fit` that stand in a sentence.

    >>> arguments('To fit the other 93: missing="drop".')
    ['missing="drop"']
    """
    return [match[0] for match in _ARGUMENT.finditer(text) if match["name"] in _OWN]


def with_option(command: str, option: str) -> str:
    """Return a command with an option, in the place of what it said before where it can say only one thing.

    >>> with_option("gradfit fit a.csv line --kfold 1 --set nesterov=true", "--kfold 5")
    'gradfit fit a.csv line --set nesterov=true --kfold 5'
    """
    flag = option.partition(" ")[0]
    if flag not in _SEVERAL:
        command = re.sub(rf"""(?<=\S) {re.escape(flag)} (?:"(?:[^"\\]|\\.)*"|[^\s"]\S*)""", "", command)
    return f"{command} {option}"


def in_options(text: str) -> str:
    """Return a sentence with the arguments of `fit` in it written as options.

    >>> in_options('To fit the other 93: missing="drop".')
    'To fit the other 93: --missing drop.'
    """
    text = _ARGUMENT.sub(
        lambda match: (as_option(match[0]) if match["name"] in _OWN else "") or match[0], text
    )
    return re.sub(r"(--[\w-]+ [^\s()]+) \(\1\)", r"\1", text)


def quoted(value: str) -> str:
    """Return one word of a command, in double quotes where a shell would otherwise read something else.

    >>> quoted("search"), quoted("1/y**2"), quoted("t_c = w*t_u + b")
    ('search', '"1/y**2"', '"t_c = w*t_u + b"')
    """
    if _PLAIN.fullmatch(value):
        return value
    return '"' + re.sub(r'([\\"$`])', r"\\\1", value) + '"'


def command_line(words: Sequence[str]) -> str:
    """Return a command with each of its words quoted where needed.

    >>> command_line(["gradfit", "fit", "a.csv", "y = a*x"])
    'gradfit fit a.csv "y = a*x"'
    """
    return " ".join(quoted(word) for word in words)
