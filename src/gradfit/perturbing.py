"""Noise on the inputs and mixed rows in a training: what a caller asks for, the same in numbers, and how much is best."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from numbers import Real
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from gradfit.errors import DataError, OptionError
from gradfit.model import nearest
from gradfit.notation import count, listing, significant
from gradfit.shrinkage import PenaltyPath
from gradfit.solve.perturbation import Perturbation
from gradfit.splitting import folds

Array = NDArray[np.float64]
Rows = NDArray[np.int64]

AUTO = "auto"
STRENGTHS = (1.0, 0.5, 0.25, 0.1, 0.03, 0.01)  # standard deviations; the last does next to nothing
FOLDS = 5


@dataclass(frozen=True, eq=False)
class Perturbing:
    """What `fit` was told of noise= and mixup=.

    Attributes
    ----------
    noise : float, mapping of str to float, or "auto"
        On the inputs, in standard deviations of each; of some by name; or found by cross-validation.
    mixup : float
        Both parameters of the beta distribution from which the share of another row is drawn; 0 mixes none.
    codes : tuple of str
        Inputs that are codes of classes, which stay as they are.
    """

    noise: float | Mapping[str, float] | str
    mixup: float
    codes: tuple[str, ...] = ()

    @property
    def searched(self) -> bool:
        """Whether the strength of the noise is to be found."""
        return self.noise == AUTO

    def over(self, names: Sequence[str], columns: Sequence[Array]) -> Perturbation | None:
        """Return the same for input columns (n,) of a training, with noise of strength 1 where it is to be found.

        Raises
        ------
        OptionError
            If there is nothing to perturb, or a name is no input.
        """
        if not self.noise and not self.mixup:
            return None
        numbers = np.array([name not in self.codes for name in names], dtype=bool)
        if not numbers.any():
            given = "noise" if self.noise else "mixup"
            raise OptionError(
                f"{given}= changes inputs that are numbers, and the model has none",
                remedy=f"Leave {given}= out",
            )
        strength = np.array([self._strength(name) for name in names])
        for name in self.noise if isinstance(self.noise, Mapping) else ():
            if name not in names or name in self.codes:
                raise OptionError(
                    f"noise= names {name}, which is no input of the model that is a number",
                    remedy=nearest(str(name), [known for known in names if known not in self.codes]),
                )
        return Perturbation(
            strength * np.array([spread(c) for c in columns[: len(names)]]), self.mixup, numbers
        )

    def _strength(self, name: str) -> float:
        if name in self.codes:
            return 0.0
        if isinstance(self.noise, Mapping):
            return float(self.noise.get(name, 0.0))
        return 1.0 if isinstance(self.noise, str) else float(self.noise)

    def told(self, path: PenaltyPath | None) -> str:
        """Return what was done as a sentence."""
        said: list[str] = []
        if isinstance(self.noise, Mapping):
            sizes = [f"{significant(size, 3)} of {name}" for name, size in self.noise.items()]
            said.append(f"noise of {listing(sizes)}, in standard deviations, on the inputs")
        elif self.noise:
            size = float(self.noise) if path is None else float(path.strength[path.chosen])
            said.append(f"noise of {significant(size, 3)} standard deviations on the inputs")
        if self.mixup:
            said.append(f"rows mixed with others, shares from Beta({self.mixup:g}, {self.mixup:g})")
        whole = f"Each update saw {listing(said)}; rows that are held out stay as they are"
        return whole if path is None else f"{whole}. {_chosen(path)}"


def _chosen(path: PenaltyPath) -> str:
    loss, stderr = float(path.loss[path.chosen]), float(path.stderr[path.chosen])
    edge = ""
    if path.chosen == len(path.strength) - 1:
        edge = ". It is the weakest that was tried: these data need no noise"
    elif path.chosen == 0:
        edge = ". It is the strongest that was tried: the inputs explain next to nothing"
    return (
        f"The strength was found by {path.folds}-fold cross-validation: its loss on held-out rows is the lowest of "
        f"{len(path.strength)} strengths, {significant(loss, 3)} ± {significant(stderr, 2)}{edge}"
    )


def spread(column: Array) -> float:
    """Return the standard deviation of a column (n,), whatever its size; 0 of a constant one."""
    size = float(np.max(np.abs(column), initial=0.0))
    return size * float(np.std(column / size)) if np.ptp(column) and isfinite(size) else 0.0


def perturbing_of(noise: object, mixup: object, *, trained: bool) -> Perturbing | None:
    """Return what `fit` was told of noise and mixup, None where that is nothing.

    Parameters
    ----------
    trained : bool
        Whether an optimizer of torch trains; there are no updates elsewhere.

    Raises
    ------
    OptionError
        If one of them makes no sense.

    Examples
    --------
    >>> perturbing_of(0.1, None, trained=True).noise, perturbing_of(None, None, trained=False)
    (0.1, None)
    """
    for name, value in (("noise", noise), ("mixup", mixup)):
        if value is not None and not trained:
            raise OptionError(
                f"{name}= needs an optimizer of torch: Levenberg-Marquardt makes no updates that could each see other rows",
                remedy=f'Train with solver="Adam", or leave {name}= out',
            )
    if noise is None and mixup is None:
        return None
    if isinstance(noise, Mapping):
        known: float | Mapping[str, float] | str = {
            str(name): _size(size, "noise") for name, size in noise.items()
        }
    else:
        known = AUTO if isinstance(noise, str) and noise == AUTO else _size(noise, "noise")
    return Perturbing(known, _size(mixup, "mixup"))


def _size(value: object, name: str) -> float:
    if value is None:
        return 0.0
    if not _is_number(value) or value < 0:
        also = ', {"x": 0.1} or "auto"' if name == "noise" else ""
        raise OptionError(
            f"{name}={value!r} must be 0 or more", remedy=f"Give a number such as {name}=0.1{also}"
        )
    return float(value)


def _is_number(value: object) -> TypeGuard[float]:
    return not isinstance(value, bool) and isinstance(value, Real) and isfinite(value)


# ---------------------------------------------------------------------------- how much


def noise_path(
    n: int,
    names: tuple[str, ...],
    *,
    trained: Callable[[float, Rows], Array],
    loss: Callable[[Array, Rows], float],
    seed: int,
) -> PenaltyPath:
    """Return what cross-validation says of strengths of the noise.

    Parameters
    ----------
    n : int
        Number of rows.
    names : tuple of str, (f,)
        Of the free parameters.
    trained : callable
        Returns the parameters (f,) of a training with so much noise, on these rows.
    loss : callable
        Returns the mean loss at parameters (f,) over rows as they are.
    seed : int
        Of the folds.

    Raises
    ------
    DataError
        If there are too few rows for the folds.
    """
    if n < 2 * FOLDS:
        raise DataError(
            f"{count(n, 'row')} cannot be cut into {FOLDS} folds to find the strength of the noise",
            remedy="Give it, as noise=0.1",
        )
    splits, every = folds(n, FOLDS, seed=seed), np.arange(n)
    held = np.array(
        [[_finite(loss(trained(strength, s.train), s.held)) for strength in STRENGTHS] for s in splits]
    )
    share = np.array([len(s.held) for s in splits]) / n
    with np.errstate(all="ignore"):
        mean = share @ held
        stderr = np.sqrt(share @ (held - mean) ** 2 / (len(splits) - 1))
    ends = np.array([trained(strength, every) for strength in STRENGTHS])
    best = int(np.argmin(mean))
    f = len(names)
    return PenaltyPath(
        kind="noise", strength=np.array(STRENGTHS), loss=mean, stderr=stderr, train=np.array([_finite(loss(p, every)) for p in ends]),
        parameters=ends, scale=np.ones(f), names=names, effective=np.full(len(ends), float(f)), best=best, chosen=best,
        folds=len(splits), rule="best",
    )  # fmt: skip


def _finite(loss: float) -> float:
    return loss if isfinite(loss) else np.inf
