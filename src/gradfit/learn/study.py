"""What findings about a network are made from: the result, and its losses and layers looked at once more."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import special, torch
from gradfit.learn.result import NetworkResult, Part
from gradfit.learn.target import LOSSES
from gradfit.learn.task import Samples, Task
from gradfit.learn.trials import Trials

if TYPE_CHECKING:
    from torch import Tensor, nn  # noqa: TID251  only the names of types

Array = NDArray[np.float64]

FEWEST = 20  # rows held out, to say that there is no signal
LEARNED = 0.5  # of the loss of saying the same for every row is explained: training has got somewhere
DOUBTFUL = 0.8  # less than so much is explained: something may be wrong
MEMORISED = 0.9  # so much of the training rows, and less than half of those held out: that is overfitting
NOWHERE = 0.05  # hardly anything is
SAME = 1e-6  # standard deviation of outputs over their size: less is no answer
MOST = 2048  # rows that layers and losses are looked at


@dataclass(frozen=True, eq=False)
class Study:
    """A trained network under examination.

    Attributes
    ----------
    task : Task
        As it was trained; its module holds the parameters that were kept.
    result : NetworkResult
        What came of it.
    """

    task: Task
    result: NetworkResult

    @property
    def module(self) -> "nn.Module":
        """The network, on the CPU."""
        return self.result.network

    @cached_property
    def some(self) -> Samples:
        """At most MOST of the training rows, evenly spread."""
        n = self.task.train.n
        places = torch.as_tensor(np.unique(np.linspace(0, n - 1, min(n, MOST)).astype(np.int64)))
        return self.task.train.to("cpu").at(places)

    @cached_property
    def leaves(self) -> "list[tuple[str, nn.Module]]":
        """The layers without layers inside, in the order in which they were called."""
        return [(name, layer) for name, layer, _ in self._passed]

    def outputs(self, *kinds: type) -> "list[tuple[str, Tensor]]":
        """Return what the layers of some kinds put out for those rows, (n, units)."""
        return [
            (name, output.reshape(len(output), -1))
            for name, layer, output in self._passed
            if isinstance(layer, kinds) and output.ndim > 1
        ]

    @cached_property
    def _passed(self) -> "list[tuple[str, nn.Module, Tensor]]":
        seen: list[tuple[str, nn.Module, Tensor]] = []
        hooks: list[Any] = []

        def hook(name: str) -> Any:
            def look(layer: "nn.Module", _inputs: object, output: object) -> None:
                if isinstance(output, torch.Tensor):
                    seen.append((name, layer, output.detach()))

            return look

        for name, layer in self.module.named_modules():
            if not list(layer.children()):
                hooks.append(layer.register_forward_hook(hook(name)))
        try:
            with torch.no_grad():
                self.module.eval()(*self.some.inputs)
        finally:
            for one in hooks:
                one.remove()
        return seen

    # ------------------------------------------------------------------ losses

    @cached_property
    def baseline(self) -> float:
        """The training loss of saying the same for every row: the mean, the median, the shares of the classes; NaN if unknown."""
        return self.constant_loss(self.task.train)

    def constant_loss(self, samples: Samples) -> float:
        """Return the loss of saying the same for every one of these rows; NaN if unknown."""
        name = self.task.loss_name
        if self.result.train is None or not (name in LOSSES or self.of_chances):
            return float("nan")
        y = samples.target.detach().cpu().double().numpy()
        if name in ("mse", "huber"):  # of huber it is half or less, which is near enough
            return float(np.mean((y - y.mean(axis=0)) ** 2))
        if name == "mae":
            return float(np.mean(np.abs(y - np.median(y, axis=0))))
        if name == "poisson":
            mean = y.mean()
            return float(mean - special.xlogy(mean, mean))
        shares = np.unique(y, return_counts=True)[1] / y.size
        return float(-np.sum(special.xlogy(shares, shares)))

    @property
    def of_chances(self) -> bool:
        """Whether the loss is torch's own of probabilities or their logarithms, handed over as such."""
        title = self.task.loss_name.lower().replace("_", "").removesuffix("loss")
        return title in ("bce", "binarycrossentropy", "nll", "crossentropy", "bcewithlogits")

    @cached_property
    def explained(self) -> float:
        """The share of that loss which the network explains; NaN if unknown, minus infinity where it diverged."""
        if self.result.ending == "diverged":
            return -np.inf
        floor = self.floor(self.task.train)
        with np.errstate(all="ignore"):
            return float((self.baseline - self.result.loss) / np.float64(self.baseline - floor))

    def floor(self, samples: Samples) -> float:
        """Return the loss that perfect predictions would have."""
        if self.task.loss_name != "poisson":
            return 0.0
        y = samples.target.detach().cpu().double().numpy()
        return float(np.mean(y - special.xlogy(y, y)))

    @cached_property
    def trials(self) -> Trials:
        """Trainings with one thing changed, made when they are asked for."""
        return Trials(self.task, self.result, lambda rows: (self.constant_loss(rows), self.floor(rows)))

    @cached_property
    def constant(self) -> bool:
        """Whether the network says the same for every row."""
        outputs = [output.reshape(len(output), -1).double() for _, _, output in self._passed[-1:]]
        return any(
            bool((output.std(dim=0, correction=0) <= SAME * output.abs().mean()).all()) for output in outputs
        )

    @property
    def failed(self) -> bool:
        """Whether so little was learned that other trainings are worth a try."""
        validation, held = self.result.validation, 1.0
        if validation is not None and self.task.held is not None:
            base, floor = self.constant_loss(self.task.held), self.floor(self.task.held)
            held = (base - validation.loss) / (base - floor or 1.0)
        return self.explained < DOUBTFUL or held < 0 or (self.explained < MEMORISED and held < LEARNED)

    def losses(self, part: Part | None) -> Array:
        """Return the loss of each row of a part (n,): squares or absolute misses, minus log likelihoods."""
        if part is None:
            return np.zeros(0)
        prediction = self.result.predict(part.rows)
        return row_losses(prediction.output, part, self)


def row_losses(output: Array, part: Part, study: Study) -> Array:
    """Return the loss of each row (n,) for outputs (n, ...) of the network."""
    encoding, aim = study.result.encoding, study.result.target.aim
    target = encoding.target_tensor(part.target, np.arange(part.n), torch.float64).numpy()
    if aim == "classes":
        chances = special.log_softmax(output, axis=1)
        own = np.take_along_axis(chances, target[:, None].astype(np.int64), axis=1)
        return -own.reshape(len(own), -1).mean(axis=1)
    y, f = target.reshape(part.n, -1), output.reshape(part.n, -1)
    with np.errstate(all="ignore"):
        if aim == "two classes":
            each = _of_chances(y, f) if study.result.plain else np.logaddexp(0, f) - y * f
        elif aim == "counts":
            each = f - special.xlogy(y, f) if study.result.plain else np.exp(f) - y * f
        else:
            each = np.abs(y - f) if study.task.loss_name == "mae" else (y - f) ** 2
    return each.mean(axis=1)


def _of_chances(y: Array, p: Array) -> Array:
    return -special.xlogy(y, p) - special.xlogy(1 - y, 1 - p)


def study_of(task: Task, result: NetworkResult) -> Study:
    """Return a result made ready for examination."""
    return Study(task, result)
