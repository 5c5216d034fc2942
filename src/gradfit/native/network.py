"""A network of dense layers as a value: what the machine code of a training is told about it."""

from dataclasses import dataclass

LOSSES = ("mse", "mae", "huber", "bce", "cross-entropy", "poisson")


@dataclass(frozen=True)
class Layer:
    """a(W x + b), a an activation.

    Attributes
    ----------
    inputs, outputs : int
        Columns and rows of W.
    weight : int
        Where W begins in the vector of parameters, row after row.
    bias : int or None
        Where b begins; None where there is none.
    activation : str
        One of `network_activation.ACTIVATIONS`.
    settings : (float, float)
        Of the activation.
    """

    inputs: int
    outputs: int
    weight: int
    bias: int | None
    activation: str = "identity"
    settings: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Placed:
    """A parameter of the module and its place in the vector: `name` as in named_parameters(), `shape` its own."""

    name: str
    shape: tuple[int, ...]
    place: int


@dataclass(frozen=True)
class Network:
    """Layers one after the other, and the vector that holds their parameters.

    Attributes
    ----------
    layers : tuple of Layer
        From the inputs to the outputs.
    trained : int
        The first so many numbers of the vector are trained; what follows stays as it is.
    parameters : tuple of Placed
        Trained ones first.
    loss : str
        One of LOSSES.
    real : {64, 32}
        Bits of its numbers.
    """

    layers: tuple[Layer, ...]
    trained: int
    parameters: tuple[Placed, ...]
    loss: str
    real: int = 64

    @property
    def size(self) -> int:
        """Numbers in the vector."""
        last = self.parameters[-1]
        count = 1
        for side in last.shape:
            count *= side
        return last.place + count

    @property
    def inputs(self) -> int:
        """Columns of the data that enter."""
        return self.layers[0].inputs

    @property
    def outputs(self) -> int:
        """Numbers that leave for each row."""
        return self.layers[-1].outputs

    @property
    def targets(self) -> int:
        """Columns of the target: the class's number alone for cross-entropy."""
        return 1 if self.loss == "cross-entropy" else self.outputs
