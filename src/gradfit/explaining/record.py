"""Every function of torch that a model calls, written down with its value, and with the gradient when it comes back."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeGuard, cast

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import torch
from gradfit.explaining.symbols import called, symbol_of, text_of
from gradfit.explaining.values import CONSTANT, LOSS, OPERATION, Operation, Spread

Rows = NDArray[np.int64]
Hand = Callable[[object, Sequence[object], Mapping[str, object]], object]

_COPIES = frozenset(["clone", "contiguous", "alias"])
MOST_ROWS = 1000  # at which a value is not finite, that are named


@dataclass
class _Made:
    """A value on its way: the gradient comes later."""

    name: str
    kind: str
    symbol: str
    text: str
    operands: tuple[int, ...]
    shape: tuple[int, ...]
    value: Spread
    module: str = ""
    layers: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()
    gradients: list[Spread] = field(default_factory=list[Spread])

    def done(self) -> Operation:
        """Return it with the gradient that has come."""
        gradient = self.gradients[0] if self.gradients else None
        return Operation(
            self.name, self.kind, self.symbol, self.text, self.operands, self.shape, self.value, gradient,
            self.module, self.layers, self.rows,
        )  # fmt: skip


class Record:
    """Operations in the order in which a model makes them.

    Tensors are known by identity, and held, so that no identity is used twice.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._made: list[_Made] = []
        self._held: dict[int, tuple[object, int]] = {}
        self._called: dict[int, str] = {}  # what later formulas call a value
        self._path: list[
            tuple[str, tuple[str, ...]]
        ] = []  # layers that are being called: path, classes along it

    def leaf(self, name: str, kind: str, tensor: "torch.Tensor") -> None:
        """Write down something that the model begins with."""
        shape, rows = tuple(tensor.shape), self._lost(tensor)
        self._put(tensor, _Made(name, kind, name, name, (), shape, spread(tensor), rows=rows))

    def call(self, tensor: "torch.Tensor", name: str) -> None:
        """Give a value a name, by which the formulas of what is made of it call it; what the model begins with has one."""
        if id(tensor) in self._held and self._made[self._held[id(tensor)][1]].kind == OPERATION:
            self._called[self._held[id(tensor)][1]] = name

    @contextmanager
    def recording(self, module: object = None) -> Generator[None]:
        """Write down what torch is called for inside; a module's layers lend their names."""
        hooks = self._hooks(module) if isinstance(module, torch.nn.Module) else []
        try:
            with _mode()(self._record):
                yield
        finally:
            for hook in hooks:
                hook.remove()

    def operations(self, loss: "torch.Tensor") -> tuple[Operation, ...]:
        """Return the operations that lead to the loss, which is the last one, with the gradients that have come."""
        end = self._held[id(loss)][1]
        self._made[end].kind = LOSS
        needed = {end}
        for i in range(end, -1, -1):
            if i in needed:
                needed.update(self._made[i].operands)
        # leaves stay although nothing needs them: that they are not used is what a reader should see
        kept = [i for i, m in enumerate(self._made) if i in needed or not (m.operands or m.kind == CONSTANT)]
        kept = [i for i in kept if i <= end]
        place = {old: new for new, old in enumerate(kept)}
        out: list[Operation] = []
        for i in kept:
            self._made[i].operands = tuple(place[j] for j in self._made[i].operands)
            out.append(self._made[i].done())
        return tuple(out)

    def reaches(self, start: "torch.Tensor", end: "torch.Tensor") -> bool:
        """Whether one tensor was made of the other."""
        if id(start) not in self._held or id(end) not in self._held:
            return False
        wanted, todo = self._held[id(start)][1], [self._held[id(end)][1]]
        seen: set[int] = set()
        while todo:
            i = todo.pop()
            if i not in seen:
                seen.add(i)
                todo.extend(self._made[i].operands)
        return wanted in seen

    # ------------------------------------------------------------------ what torch hands in

    def _record(self, function: object, args: Sequence[object], named: Mapping[str, object]) -> object:
        result = cast("Callable[..., object]", function)(*args, **named)
        if isinstance(result, torch.Tensor):
            self._note(function, args, named, result, "")
        elif _is_sequence(result) and any(isinstance(part, torch.Tensor) for part in result):
            for i, part in enumerate(result):
                if isinstance(part, torch.Tensor):
                    self._note(function, args, named, part, f"[{i}]")
        return result

    def _note(  # noqa: PLR0917  two calls, beside each other
        self,
        function: object,
        args: Sequence[object],
        named: Mapping[str, object],
        result: "torch.Tensor",
        part: str,
    ) -> None:
        name, in_place = called(function)
        tensors = [a for a in _flat([args, list(named.values())]) if isinstance(a, torch.Tensor)]
        if not tensors or (not in_place and id(result) in self._held and any(result is t for t in tensors)):
            return  # made of nothing: a constant, if it is used; or handed back as it came
        if not any(id(t) in self._held for t in tensors):
            return
        if name in _COPIES and len(tensors) == 1 and not in_place:
            self._held[id(result)] = (result, self._place(tensors[0]))
            return
        arguments = [self._argument(a) for a in args]
        operands = tuple(self._place(t) for t in tensors if t.numel() != 1 or id(t) in self._held)
        path, layers = self._path[-1] if self._path else ("", ())
        layer = layers[-1] if layers else ""
        symbol = symbol_of(name, arguments, layer)
        text = f"{layer} {path}" if layer and symbol == layer else text_of(name, arguments)
        made = _Made(
            name + part, OPERATION, symbol + part, text + part, operands,
            tuple(result.shape), spread(result), path, layers, self._lost(result),
        )  # fmt: skip
        self._put(result, made)

    def _argument(self, value: object) -> str:
        """Return an argument as a formula shows it."""
        if isinstance(value, torch.Tensor):
            if id(value) in self._held:
                place = self._held[id(value)][1]
                return self._called.get(place, self._made[place].text)
            return f"{value.item():.6g}" if value.numel() == 1 else "constant"
        if isinstance(value, bool | int | float):
            return f"{value:.6g}" if isinstance(value, float) else str(value)
        return ""

    def _place(self, tensor: "torch.Tensor") -> int:
        """Return where a tensor stands; one that nobody has made is a constant of the model."""
        if id(tensor) not in self._held:
            shape = tuple(tensor.shape)
            self._put(tensor, _Made("constant", CONSTANT, "const", "constant", (), shape, spread(tensor)))
        return self._held[id(tensor)][1]

    def _put(self, tensor: "torch.Tensor", made: _Made) -> None:
        self._held[id(tensor)] = (tensor, len(self._made))
        self._made.append(made)
        if tensor.requires_grad:

            def arrived(gradient: "torch.Tensor") -> None:
                made.gradients.append(spread(gradient))

            _ = tensor.register_hook(arrived)

    def _lost(self, value: "torch.Tensor") -> tuple[int, ...]:
        """Return the rows at which a value is not finite."""
        if value.dim() == 0 or len(value) != len(self._rows) or not value.is_floating_point():
            return ()
        bad = ~torch.isfinite(value.detach()).reshape(len(value), -1).all(dim=1)
        return tuple(self._rows[bad.cpu().numpy()][:MOST_ROWS].tolist())

    def _hooks(self, module: "torch.nn.Module") -> list[Any]:
        hooks: list[Any] = []
        classes = {path: type(layer).__name__ for path, layer in module.named_modules()}
        for path, layer in module.named_modules():
            parts = path.split(".")
            entry = (path, tuple(classes.get(".".join(parts[: i + 1]), "") for i in range(len(parts))))

            def begin(*_: object, entry: tuple[str, tuple[str, ...]] = entry) -> None:
                self._path.append(entry)

            def end(*_: object) -> None:
                _ = self._path.pop()

            if path:
                hooks += [
                    layer.register_forward_pre_hook(begin),
                    layer.register_forward_hook(end, always_call=True),
                ]
        return hooks


def spread(tensor: "torch.Tensor") -> Spread:
    """Return the range of a tensor's values."""
    values = tensor.detach()
    values = torch.view_as_real(values) if values.is_complex() else values
    values = values.to(torch.float64).reshape(-1)
    finite = torch.isfinite(values)
    kept = values[finite]
    lost = values.numel() - kept.numel()
    if not kept.numel():
        return Spread(float("nan"), float("nan"), float("nan"), lost)
    return Spread(float(kept.min()), float(kept.max()), float(torch.linalg.vector_norm(kept)), lost)


def _is_sequence(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, list | tuple)


def _flat(value: object) -> Iterator[object]:
    if _is_sequence(value):
        for part in value:
            yield from _flat(part)
    else:
        yield value


@lru_cache(maxsize=1)
def _mode() -> Callable[[Hand], AbstractContextManager[object]]:
    """Return torch's context that hands every call to a function; made at the first use, as torch is a late import."""
    base: type = torch.overrides.TorchFunctionMode

    class Mode(base):  # pyright: ignore[reportUntypedBaseClass]  # torch's own has no types
        def __init__(self, record: Hand) -> None:
            super().__init__()  # pyright: ignore[reportUnknownMemberType]  # torch's own has no types
            self.record: Hand = record

        def __torch_function__(
            self,
            function: object,
            types: object,
            args: tuple[object, ...] = (),
            kwargs: dict[str, object] | None = None,
        ) -> object:
            return self.record(function, args, kwargs or {})

    return Mode
