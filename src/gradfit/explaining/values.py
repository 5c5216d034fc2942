"""What one forward and one backward pass showed, as values."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite, nan
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import stage

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # noqa: TID251  only the names of types

Array = NDArray[np.float64]

INPUT, OBSERVED, PARAMETER, CONSTANT, OPERATION, LOSS = (
    "input", "observed", "parameter", "constant", "operation", "loss",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Spread:
    """The range of some values.

    Attributes
    ----------
    low, high : float
        Of those that are finite; NaN where none is.
    norm : float
        The root of the sum of their squares.
    lost : int
        How many are not finite.
    """

    low: float
    high: float
    norm: float
    lost: int = 0

    @property
    def finite(self) -> bool:
        """Whether all values are."""
        return self.lost == 0


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the model or the loss, or one of the things that they begin with.

    Attributes
    ----------
    name : str
        "mul", "exp", "linear"; of a column or parameter its name.
    kind : str
        "input", "observed", "parameter", "constant", "operation" or "loss".
    symbol : str
        Short, as a picture shows it: "×", "exp", "Linear".
    text : str
        What is computed, as a formula; cut where it is long.
    operands : tuple of int
        Which of the operations before it are its arguments.
    shape : tuple of int
        Of its value.
    value : Spread
        Going forward.
    gradient : Spread or None
        Of the loss by its value, coming back; None where none comes.
    module : str
        The path of the layer it belongs to, of a torch module: "encoder.0.norm".
    layers : tuple of str
        The classes along that path: ("Sequential", "Block", "LayerNorm").
    rows : tuple of int
        Rows at which its value is not finite, from 1.
    """

    name: str
    kind: str
    symbol: str
    text: str
    operands: tuple[int, ...]
    shape: tuple[int, ...]
    value: Spread
    gradient: Spread | None = None
    module: str = ""
    layers: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False, slots=True)
class ParameterPass:
    """What the passes say of one parameter.

    Attributes
    ----------
    name : str
        Of the parameter; of a layer's weights their path in the module.
    value, gradient : array
        Where the pass was made, and the gradient of the loss; 0-dimensional for the parameters of a formula.
    passes : tuple of array
        `.grad` after one, two and three backward passes, without zeroing it between them.
    unit, gradient_unit : str
        Empty where columns carry none.
    """

    name: str
    value: Array
    gradient: Array
    passes: tuple[Array, ...]
    unit: str = ""
    gradient_unit: str = ""

    @property
    def size(self) -> float:
        """The root mean square of the gradient: its size for one parameter."""
        scale = float(np.max(np.abs(self.gradient), initial=0.0))
        if not scale or not isfinite(scale):
            return scale
        return scale * float(np.sqrt(np.mean((self.gradient / scale) ** 2)))


@dataclass(frozen=True, eq=False, slots=True)
class RateStep:
    """What one step of plain gradient descent does.

    Attributes
    ----------
    lr : float
        The learning rate.
    loss : float
        After the step; infinite or NaN where it overflows.
    values : mapping of str to array
        The parameters after it.
    """

    lr: float
    loss: float
    values: Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Conditioning:
    """How differently the loss bends in different directions.

    Attributes
    ----------
    matrix : str
        "J'J" for the squared residuals of a formula or function, else "Hessian".
    before, after : float
        Condition number as it is, and with every parameter scaled to the same curvature; infinite where a direction does not
        matter, NaN where it was not worked out.
    largest_step : float
        The largest stable learning rate of plain gradient descent, 2 / (largest eigenvalue of the Hessian); infinite where
        the loss bends down everywhere.
    """

    matrix: str
    before: float
    after: float
    largest_step: float


@dataclass(frozen=True, eq=False)
class Explanation:
    """One forward and one backward pass. Printed, it is a table; `plot()` draws it.

    Attributes
    ----------
    model : str
        The formula, the function with its arguments, or the class of the module.
    source : str
        Where the data come from.
    rows : int
        How many.
    dtype : str
        In which numbers the pass was made: "float64" or "float32".
    start_from : str
        A sentence on where the start comes from.
    loss : float
        At the start.
    loss_name, loss_unit : str
        Which one, and its unit where columns carry one.
    operations : tuple of Operation
        In the order in which they were made; the last one is the loss.
    parameters : tuple of ParameterPass
        With their gradients.
    steps : tuple of RateStep
        One for each learning rate.
    conditioning : Conditioning or None
        None where it could not be worked out.
    """

    model: str
    source: str
    rows: int
    dtype: str
    start_from: str
    loss: float
    loss_name: str
    loss_unit: str
    operations: tuple[Operation, ...]
    parameters: tuple[ParameterPass, ...]
    steps: tuple[RateStep, ...]
    conditioning: Conditioning | None

    @property
    def start(self) -> dict[str, Array]:
        """The parameters at which the pass was made."""
        return {p.name: p.value for p in self.parameters}

    @property
    def gradient(self) -> dict[str, Array]:
        """The gradient of the loss by each parameter."""
        return {p.name: p.gradient for p in self.parameters}

    @property
    def ratio(self) -> float:
        """The largest size of a parameter's gradient over the smallest that is not zero; NaN below two parameters."""
        sizes = [p.size for p in self.parameters if p.size > 0]
        return max(sizes) / min(sizes) if len(sizes) > 1 and all(map(isfinite, sizes)) else nan

    @property
    def first_not_finite(self) -> Operation | None:
        """The first operation whose value is not finite, None where all are."""
        return next((o for o in self.operations if not o.value.finite), None)

    @property
    def first_gradient_not_finite(self) -> Operation | None:
        """The operation whose own derivative is not finite: what comes to it is, and what it hands back is not."""
        for i in reversed(range(len(self.operations))):
            o = self.operations[i]
            back = [self.operations[j].gradient for j in o.operands]
            if o.gradient is not None and o.gradient.finite and any(g and not g.finite for g in back):
                return o
        return None

    @property
    def finite(self) -> bool:
        """Whether the loss and every gradient are finite."""
        return isfinite(self.loss) and all(np.isfinite(p.gradient).all() for p in self.parameters)

    @property
    def sentences(self) -> tuple[str, ...]:
        """What there is to see, as sentences, what matters most first."""
        return stage("explaining.words").sentences(self)

    def plot(self) -> "Figure":
        """Return a figure: the operations from left to right, values above and gradients below."""
        return stage("figures").explanation_figure(self)

    def to_dict(self) -> dict[str, object]:
        """Return everything as plain numbers and text, for JSON; what is not finite is None."""
        return stage("explaining.words").plain(self)

    def __str__(self) -> str:
        return stage("terminal.explaining").explanation_text(self)
