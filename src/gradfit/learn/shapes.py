"""What a module returns for a row, found out before it is trained; and what is wrong with it, in a sentence."""

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from gradfit._lazy import torch
from gradfit.errors import GradfitError, ModelError, ShapeError
from gradfit.learn.target import Target
from gradfit.notation import count

if TYPE_CHECKING:
    from torch import Tensor, nn  # noqa: TID251  only the names of types

_REFUSALS = (
    RuntimeError,
    ValueError,
    TypeError,
    IndexError,
    AttributeError,
    AssertionError,
    NotImplementedError,
)


def output_shape(module: "nn.Module", inputs: "Sequence[Tensor]") -> tuple[int, ...]:
    """Return the shape of the module's output for one row, found with at most two rows, in eval mode.

    Raises
    ------
    ModelError
        If it cannot be evaluated, returns no tensor, or its output does not depend on inputs or parameters.
    ShapeError
        If it does not return one entry for each row.
    """
    n = min(2, len(inputs[0]))
    parts = [part[:n].detach().clone().requires_grad_(part.is_floating_point()) for part in inputs]
    output = _called(module, parts)
    name = type(module).__name__
    if not isinstance(output, torch.Tensor):
        raise ModelError(
            f"{name} returns {type(output).__name__}, and a fit compares one tensor with the target",
            remedy="Let forward return one tensor, or wrap the module in one that does",
        )
    shape = tuple(output.shape)
    if not output.requires_grad:
        raise ModelError(
            f"The output of {name} does not depend on its parameters in a way that torch can differentiate",
            remedy="Leave out detach(), item() and no_grad() in forward",
        )
    if output.is_complex():
        raise ModelError(
            f"{name} returns complex numbers, and no loss compares them with the target",
            remedy="Let forward return real numbers, such as .abs() of them",
        )
    _depends(output, parts, name)
    if shape[:1] != (n,):
        raise ShapeError(
            f"{name} returns shape {shape} for {count(n, 'row')}: torch would broadcast it against the target",
            remedy="Return one entry for each row, in the first axis",
        )
    return shape[1:]


def _called(module: "nn.Module", parts: "Sequence[Tensor]") -> object:
    was = module.training
    try:
        with torch.inference_mode(mode=False), torch.enable_grad():
            return module.eval()(*parts)
    except GradfitError:
        raise
    except _REFUSALS as refused:
        shapes = " and ".join(str(("n", *part.shape[1:])).replace("'", "") for part in parts)
        raise ModelError(
            f"{type(module).__name__} cannot be called with {shapes}: {str(refused).splitlines()[0][:200]}",
            remedy="Give inputs= the columns, in the order, that forward takes",
        ) from refused
    finally:
        _ = module.train(was)


def _depends(output: "Tensor", parts: "Sequence[Tensor]", name: str) -> None:
    """Check that some input leads to the output.

    Raises
    ------
    ModelError
        If none does.
    """
    numbers = [part for part in parts if part.requires_grad]
    if not numbers or len(numbers) < len(parts):
        return  # whole numbers have no gradient to tell it by
    found: tuple[Any, ...] = torch.autograd.grad(output.sum(), numbers, allow_unused=True)
    if all(gradient is None for gradient in found):
        raise ModelError(
            f"{name} ignores its input: its output is the same for every row",
            remedy="Use the argument of forward, without detach() and item()",
        )


def target_shape(shape: tuple[int, ...], target: Target, name: str) -> tuple[int, ...]:
    """Return the shape of the target of one row, as the loss compares it with an output of `shape` a row.

    Raises
    ------
    ShapeError
        If the two do not belong together; torch would broadcast some of them without a word.
    """
    own = tuple(target.values.shape[1:])
    if target.aim == "classes":
        k = len(target.levels)
        if shape[:1] and shape[0] >= k and shape[1:] == own:
            return own
        raise ShapeError(
            f"{name} returns shape {('n', *shape)} and {target.text} has {k} classes: it must return {('n', k, *own)}",
            remedy=f"Let the last layer have {k} outputs",
        )
    if prod(shape) == prod(own):
        return shape
    wide = (
        f", and {('n', *shape)} against {('n', *own)} would broadcast to every pair of rows"
        if 1 in shape
        else ""
    )
    wanted = prod(own)
    raise ShapeError(
        f"{name} returns shape {('n', *shape)} and {target.text} holds {count(wanted, 'number')} a row{wide}",
        remedy=f"Let the last layer have {count(wanted, 'output')}",
    )
