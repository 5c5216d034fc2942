"""The layers of a network: their sizes, and where the parameters are."""

from typing import TYPE_CHECKING, Any

from gradfit.notation import count, fixed, percent
from gradfit.report.markup import Markup, tag
from gradfit.report.mathtext import short
from gradfit.report.network.headlines import of_layers
from gradfit.report.network.subject import Subject
from gradfit.report.page import section, small, table

if TYPE_CHECKING:
    from torch import nn  # noqa: TID251  only the names of types

_MOST = 60  # layers in the table
#: attributes of a layer that say what goes in and what comes out
_SIZES = (
    ("in_features", "out_features"), ("in_channels", "out_channels"), ("num_embeddings", "embedding_dim"),
    ("input_size", "hidden_size"), ("in1_features", "out_features"),
)  # fmt: skip
_MORE = (
    ("kernel_size", "kernel"),
    ("stride", "stride"),
    ("p", "dropout"),
    ("normalized_shape", "over"),
    ("num_features", "features"),
)


def layers(subject: Subject) -> Markup:
    """Return the section."""
    network, k = subject.result.network, max(subject.result.k, 1)
    found = [(name, layer) for name, layer in network.named_modules() if _is_layer(layer)]
    rows: list[list[str]] = []
    for name, layer in found[:_MOST]:
        own = _own(layer)
        rows.append(
            [
                short(name or "the module", 40),
                type(layer).__name__,
                size_text(layer),
                fixed(own, 0) if own else "none",
                percent(own / k) if own else "",
            ]
        )
    weighted = sum(bool(_own(layer)) for _, layer in found)
    head = ["Layer", "Kind", "Size", "Parameters", "Share"]
    frozen = sum(p.numel() for p in network.parameters() if not p.requires_grad)
    words = f"{count(len(found), 'layer')}; the first {_MOST} are shown." if len(found) > _MOST else ""
    if frozen:
        words = f"{words} {count(frozen, 'parameter')} were frozen and not trained.".strip()
    whole = tag("div", table("The layers of the network", head, rows), class_="layers")
    return section("layers", "Layers", of_layers(subject, weighted), whole, small(words) if words else "")


def _is_layer(layer: "nn.Module") -> bool:
    return not list(layer.children()) or bool(_own(layer))


def _own(layer: "nn.Module") -> int:
    """Return how many parameters a layer has of its own."""
    return sum(p.numel() for p in layer.parameters(recurse=False))


def size_text(layer: Any) -> str:
    """Return what goes into a layer and what comes out, as far as it says so.

    Parameters
    ----------
    layer : torch.nn.Module
        Any layer.
    """
    parts: list[str] = []
    for before, after in _SIZES:
        ends = getattr(layer, before, None), getattr(layer, after, None)
        if isinstance(ends[0], int) and isinstance(ends[1], int):
            parts.append(f"{fixed(ends[0], 0)} → {fixed(ends[1], 0)}")
            break
    for name, words in _MORE:
        value = getattr(layer, name, None)
        if (
            isinstance(value, tuple | int | float)
            and not isinstance(value, bool)
            and value not in (1, (1,), (1, 1), (1, 1, 1))
        ):
            numbers: tuple[Any, ...] = value if isinstance(value, tuple) else (value,)
            parts.append(f"{words} {' × '.join(f'{number:g}' for number in numbers)}")
    return ", ".join(parts) if parts else "as it comes in"
