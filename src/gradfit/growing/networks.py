"""A ladder of networks: one hidden layer that grows."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradfit.growing.ladder import Array, Dealt, Shown
from gradfit.growing.request import Request
from gradfit.learn import FULL, NetworkResult, NetworkSpec, cores, fit_networks, network
from gradfit.notation import count
from gradfit.splitting import Split
from gradfit.table import Table

LARGEST = 64  # hidden units, where nobody says
EPOCHS = 4000  # for all rows at once: with 1000 small networks are not done, and larger ones only look better by that
ONLY_TORCH = ("dropout", "noise", "mixup", "penalty")  # takes fifty times as long an epoch


def _plain(text: str) -> Any:
    """Return a number, or a text without its quotes."""
    try:
        return float(text)
    except ValueError:
        return text.strip("\"'")


@dataclass(frozen=True, eq=False)
class Networks:
    """Networks by the units of their hidden layer.

    Attributes
    ----------
    request : Request
        Target, inputs and settings, such as activation="relu".
    table : Table
        The rows.
    fit : callable
        `gradfit.fit`.
    training : mapping of str to object
        Its arguments that all sizes share.
    most : int
        The largest size.
    """

    request: Request
    table: Table
    fit: Callable[..., Any]
    training: Mapping[str, object]
    most: int = LARGEST
    patience: int = 4
    seeds: int = 2
    overfull: bool = True
    known: dict[int, int] = field(default_factory=dict[int, int])

    @property
    def sizes(self) -> Sequence[int]:
        """No hidden layer, and doubling numbers of units in it."""
        return [0, *(2**power for power in range(self.most.bit_length()))]

    def label(self, size: int) -> str:
        """Return the number of hidden units."""
        return count(size, "hidden unit") if size else "linear"

    def parameters(self, size: int) -> int:
        """Return how many weights there are, as the last training counted them."""
        inputs = len(self.request.inputs)
        return self.known.get(size, size * (inputs + 2) + 1 if size else inputs + 1)

    def shown(self, sizes: Sequence[int], dealt: Dealt, planned: int) -> Iterator[Shown]:
        """Yield the mean losses after the last epoch, of one number each, on rows that were trained on and held out.

        As many sizes are trained at a time as keep all cores busy.
        """
        members = sum(len(splits) for _, splits in dealt)
        several = -(-cores() // members)
        for first in range(0, len(sizes), several):
            some = sizes[first : first + several]
            made = fit_networks(
                [self._network(size) for size in some for _ in range(members)], self.table,
                [self._held(seed, split) for _ in some for seed, splits in dealt for split in splits],
                share=len(some) / planned,
            )  # fmt: skip
            for i, size in enumerate(some):
                each = iter(made[i * members : (i + 1) * members])
                self.known[size] = made[i * members].k
                yield [[_losses(next(each)) for _ in splits] for _, splits in dealt]

    def _held(self, seed: int, split: Split) -> Mapping[str, object]:
        """Return the arguments of a training in which some rows are held out."""
        rows = self.table.rows
        unused = np.setdiff1d(np.arange(self.table.n), np.concatenate([split.train, split.held]))
        exclude = {"exclude": rows[unused].tolist()} if len(unused) else {}
        return {**self._told(seed), **exclude, "validation": rows[split.held].tolist(), "stop": "last"}

    def refitted(self, size: int, seed: int) -> NetworkResult:
        """Return a network of a size, trained on all rows."""
        made = self.fit(self._network(size), self.table, **self._told(seed))
        self.known[size] = made.k
        return made

    def _network(self, size: int) -> NetworkSpec:
        settings: Mapping[str, Any] = self.request.settings
        return network(
            hidden=[size] if size else [], **{name: _plain(value) for name, value in settings.items()}
        )

    def _told(self, seed: int) -> Mapping[str, object]:
        given = {**self.training, **self.request.settings}
        long = self.table.n <= FULL and not any(name in given for name in ("batch_size", *ONLY_TORCH))
        return {
            **({"epochs": EPOCHS} if long else {}),
            **self.training,
            "inputs": list(self.request.inputs),
            "target": self.request.left,
            "seed": seed,
        }

    def told(self, size: int) -> str:
        """Return what the network is."""
        layers = f"{count(size, 'hidden unit')} in one layer" if size else "No hidden layer: a linear model"
        return f"{layers}, all rows used; predict with it"


def _losses(made: NetworkResult) -> tuple[Array, Array]:
    assert made.validation is not None  # noqa: S101  rows were held out
    return np.array([made.loss]), np.array([made.validation.loss])
