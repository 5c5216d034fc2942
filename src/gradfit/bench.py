"""What to expect of a model on this machine: times and rates of one small fit, of many, and of a large one, measured."""

import os
import platform
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gradfit import store
from gradfit._lazy import optimize
from gradfit._version import __version__
from gradfit.errors import OptionError
from gradfit.fitting import fit
from gradfit.many import fit_many
from gradfit.many.executors import COMPILING
from gradfit.native.peak import flops, peak
from gradfit.simulation import Simulation, simulation

Array = NDArray[np.float64]

NUMBERS = {"numpy": 100_000, "native": 4_000_000}  # of y in one measured call of fit_many
SETS = 8  # of data that small fits take turns with
WARM = 1000  # small fits at most until a model has earned its machine code
NEEDED = 12 * 8 * SETS  # bytes a point: columns, what they are made of, several sets of them
FASTEST = 1e-7  # seconds: no rate is above its inverse


@dataclass(frozen=True)
class Machine:
    """What the figures are of.

    Attributes
    ----------
    processor : str
        Its name.
    cores : int
        That the system shows.
    memory : int
        Bytes, 0 where that is not known.
    """

    processor: str
    cores: int
    memory: int

    @classmethod
    def here(cls) -> "Machine":
        """Return this machine."""
        memory = 0
        if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
            memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return cls(_processor(), os.cpu_count() or 1, memory)


@dataclass(frozen=True)
class Speed:
    """What one way of fitting takes.

    Attributes
    ----------
    executor : str
        What ran it.
    size : int
        Fits in a call, or points in the one fit of a call.
    seconds : float
        Of a call, the median.
    spread : float
        Of the middle half of the calls, over the median.
    converged : float
        Share of the fits.
    gflops : float or None
        A second, of sums over points alone; None where they are not counted.
    """

    executor: str
    size: int
    seconds: float
    spread: float
    converged: float
    gflops: float | None = None

    @property
    def rate(self) -> float:
        """Fits or points a second."""
        return self.size / max(self.seconds, FASTEST)


@dataclass(frozen=True)
class Bench:
    """What to expect of a model on this machine.

    Attributes
    ----------
    formula : str
        The model.
    truth, start : mapping of str to float
        Parameters of the simulated data, and where fits began.
    noise : float
        Standard deviation of these data.
    span : (float, float)
        Range of their inputs.
    points, fits, threads : int
        What was asked: points of a fit, fits, cores.
    machine : Machine
        Where it was measured.
    flops : int
        Of a point in one evaluation with the sums of a step.
    peak : float
        GFLOP/s that one core reaches.
    small, scipy : Speed
        One small fit by `fit`, and by `scipy.optimize.curve_fit`.
    numpy, native : Speed
        Many by `fit_many`; native is None where there is no machine code for the model.
    why : str
        Why there is none.
    ready, compiled : float, bool
        Seconds until machine code for many fits could run, and whether it was compiled in them or read from disk.
    large : Speed
        One fit over many points.
    """

    formula: str
    truth: Mapping[str, float]
    start: Mapping[str, float]
    noise: float
    span: tuple[float, float]
    points: int
    fits: int
    threads: int
    machine: Machine
    flops: int
    peak: float
    small: Speed
    scipy: Speed
    numpy: Speed
    native: Speed | None
    why: str
    ready: float
    compiled: bool
    large: Speed

    @property
    def chosen(self) -> Speed:
        """What `fit_many` takes for so many fits unless it is told."""
        small = self.fits * self.points < COMPILING
        return self.numpy if self.native is None or small else self.native

    @property
    def seconds(self) -> float:
        """What the requested fits will take, compiling included where the model is new."""
        new = self.ready if self.chosen is self.native and self.compiled else 0.0
        return self.fits / self.chosen.rate + new

    @property
    def bytes(self) -> int:
        """What the data of the requested fits and their results take in memory, at least."""
        return 8 * self.fits * (self.points + 2 * len(self.truth) + 3)

    def share(self, speed: Speed) -> float | None:
        """Return a speed's share of the peak of the cores that it may use."""
        cores = min(self.threads, self.machine.cores)
        return None if speed.gflops is None else speed.gflops / (self.peak * cores)

    def to_dict(self) -> dict[str, object]:
        """Return all of it for JSON."""
        ways = ("small", "scipy", "numpy", "native", "large")
        facts = {name: value for name, value in asdict(self).items() if name not in ways}
        facts["span"] = list(self.span)
        facts["speeds"] = {name: self._plain(getattr(self, name)) for name in ways}
        facts["estimate"] = {
            "executor": self.chosen.executor, "seconds": self.seconds, "bytes": self.bytes,
            "scipy_seconds": self.fits * self.scipy.seconds,
        }  # fmt: skip
        return {"gradfit": __version__, **facts}

    def _plain(self, speed: Speed | None) -> dict[str, object] | None:
        return None if speed is None else {**asdict(speed), "rate": speed.rate, "share": self.share(speed)}


def bench(
    formula: str,
    columns: Sequence[str],
    *,
    points: int = 25,
    fits: int = 1_000_000,
    rows: int = 1_000_000,
    threads: int | None = None,
    start: Mapping[str, float] | None = None,
    span: tuple[float, float] | None = None,
    seconds: float = 0.3,
) -> Bench:
    """Return what to expect of a model on this machine, measured in a few seconds on simulated data.

    Nothing is written but what fits keep in the cache. All calls are the public ones, from arrays to results.

    Parameters
    ----------
    formula : str
        As in `fit`, or the name of a library model.
    columns : sequence of str
        Names in it that are data.
    points, fits : int
        Points of a small fit, and fits that are planned: fewer are made.
    rows : int
        Points of the large fit.
    threads : int, optional
        At most; all cores when left out.
    start : mapping, optional
        True values of parameters; fits begin 10 % above, or less.
    span : (float, float), optional
        Range of the inputs.
    seconds : float
        For each measurement, about.

    Raises
    ------
    OptionError
        If a number makes no sense.
    ModelError
        If no parameters are found that such data determine.
    """
    for name, number in (("points", points), ("fits", fits), ("rows", rows), ("threads", threads)):
        if number is not None and number < 1:
            raise OptionError(
                f"{name} must be at least 1, and is {number}", remedy=f"Give --{name} 1 or more"
            )
    machine = Machine.here()
    _room_for(max(points, rows), machine)
    data = simulation(formula, columns, points=points, start=start, span=span)
    if rows <= len(data.truth):
        raise OptionError(
            f"{rows} points cannot determine {len(data.truth)} parameters",
            remedy=f"Give --rows {len(data.truth) + 1} or more",
        )
    cores = threads or os.cpu_count() or 1
    graph = data.model.graph
    assert graph is not None  # noqa: S101  every formula has one
    free = range(len(data.truth))
    needed = flops(graph, free)
    native, why, ready, compiled = _native(data, points, fits, threads=cores, flops=needed, seconds=seconds)
    return Bench(
        formula=data.model.text, truth=_named(data, data.truth), start=data.begin, noise=data.noise, span=data.span,
        points=points, fits=fits, threads=cores, machine=machine, flops=needed, peak=peak(),
        small=_small(data, points, seconds), scipy=_scipy(data, points, seconds),
        numpy=_many(data, points, fits, executor="numpy", threads=cores, flops=None, seconds=seconds),
        native=native, why=why, ready=ready, compiled=compiled,
        large=_large(data, rows, threads=cores, flops=needed, seconds=seconds),
    )  # fmt: skip


def _room_for(points: int, machine: Machine) -> None:
    """Refuse what would not find room in half of the memory.

    Raises
    ------
    OptionError
        If it is so.
    """
    if machine.memory and NEEDED * points > machine.memory / 2:
        raise OptionError(
            f"Simulated data of {points:.3g} points would take {NEEDED * points / 1e9:.0f} GB, and this machine has "
            f"{machine.memory / 1e9:.0f} GB",
            remedy=f"Give --points and --rows of at most {machine.memory / 2 / NEEDED:.0e}",
        )


# ---------------------------------------------------------------------------- one small fit


def _small(data: Simulation, points: int, seconds: float) -> Speed:
    """Return what a fit takes whose model has been fitted many times."""
    sets = [data.table(points, seed) for seed in range(SETS)]
    executor, converged, began = "", 0, time.perf_counter()
    for turn in range(WARM):
        result = fit(data.model.text, sets[turn % SETS], response=data.model.response, start=data.begin)
        executor = result.executor
        if time.perf_counter() - began > 4 * seconds:
            break

    def each() -> int:
        results = [fit(data.model.text, s, response=data.model.response, start=data.begin) for s in sets]
        return sum(r.converged for r in results)

    middle, spread, converged = _timed(each, seconds)
    return Speed(executor, 1, middle / SETS, spread, converged / SETS)


def _scipy(data: Simulation, points: int, seconds: float) -> Speed:
    """Return what SciPy takes for the same, with a model as fast as one written by hand in NumPy."""
    kernel = data.model.kernel("numpy")
    sets = [list(data.table(points, seed).values()) for seed in range(SETS)]

    def model(x: Array, *p: float) -> Array:
        return kernel.value([*x], np.array(p))

    def each() -> int:
        done = 0
        for *columns, y in sets:
            try:
                optimize.curve_fit(model, np.stack(columns), y, data.start)
            except RuntimeError:  # its word for a fit that does not converge
                continue
            done += 1
        return done

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        middle, spread, converged = _timed(each, seconds)
    return Speed("scipy", 1, middle / SETS, spread, converged / SETS)


# ---------------------------------------------------------------------------- many fits, much data


def _many(
    data: Simulation,
    points: int,
    fits: int,
    *,
    executor: str,
    threads: int,
    flops: int | None,
    seconds: float,
) -> Speed:
    """Return what many fits take; of those planned, as many as a moment allows."""
    m = max(min(NUMBERS[executor] // points, fits), 1)
    arrays = data.many(m, points)
    steps: list[int] = []
    names: list[str] = []

    def call() -> int:
        many = fit_many(
            data.model.text,
            arrays,
            response=data.model.response,
            start=data.begin,
            executor=executor,
            threads=threads,
        )
        steps.append(int(many.iterations.sum()) + m)
        names.append(many.executor)
        return int(np.count_nonzero(many.converged))

    middle, spread, converged = _timed(call, seconds)
    rate = None if flops is None else steps[-1] * points * flops / max(middle, FASTEST) / 1e9
    return Speed(names[-1], m, middle, spread, converged / m, rate)


def _native(
    data: Simulation, points: int, fits: int, *, threads: int, flops: int, seconds: float
) -> tuple[Speed | None, str, float, bool]:
    """Return the speed of machine code, else why there is none; how long its first call took, and whether it compiled."""
    few, before = data.many(1, points), _kept()
    took: list[float] = []
    for _ in range(2):
        began = time.perf_counter()
        first = fit_many(
            data.model.text, few, response=data.model.response, start=data.begin, executor="native"
        )
        took.append(time.perf_counter() - began)
        if first.executor != "native":
            return None, next(iter(first.how), "there is no machine code for it"), 0.0, False
    # without a cache on disk all is compiled in each process
    compiled = _kept() > before or not store.writable()
    speed = _many(data, points, fits, executor="native", threads=threads, flops=flops, seconds=seconds)
    return speed, "", max(took[0] - took[1], 0.0), compiled


def _kept() -> int:
    return sum(kind.count for kind in store.contents() if kind.name == "native")


def _large(data: Simulation, rows: int, *, threads: int, flops: int, seconds: float) -> Speed:
    """Return what one fit over many points takes."""
    columns = data.table(rows)
    passes: list[int] = []
    names: list[str] = []

    def call() -> int:
        result = fit(
            data.model.text, columns, response=data.model.response, start=data.begin, threads=threads
        )
        passes.append(result.outcome.evaluations)
        names.append(result.executor)
        return int(result.converged)

    call()  # compiles
    middle, spread, converged = _timed(call, seconds)
    rate = passes[-1] * rows * flops / max(middle, FASTEST) / 1e9 if names[-1] == "native" else None
    return Speed(names[-1], rows, middle, spread, float(converged), rate)


# ---------------------------------------------------------------------------- clocks and names


def _timed(call: Callable[[], int], seconds: float) -> tuple[float, float, int]:
    """Return the median time of a call and its relative spread, in about so many seconds, and what it returns."""
    times: list[float] = []
    told, began = 0, time.perf_counter()
    while True:
        start = time.perf_counter()
        told = call()
        times.append(time.perf_counter() - start)
        spent = time.perf_counter() - began
        if (spent > seconds and len(times) >= 3) or spent > 5 * seconds:
            break
    low, middle, high = np.quantile(times, (0.25, 0.5, 0.75)).tolist()
    return middle, (high - low) / max(middle, FASTEST), told


def _named(data: Simulation, values: Array) -> dict[str, float]:
    return dict(zip(data.model.parameters, values.tolist(), strict=True))


def _processor() -> str:
    """Return the processor's name."""
    place = Path("/proc/cpuinfo")
    lines = place.read_text(errors="replace").splitlines() if place.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()
