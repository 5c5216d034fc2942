"""Many fits in torch end where those in NumPy end, on every device, whatever stands beside them."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from gradfit.errors import OptionError
from gradfit.formula import parse
from gradfit.graph import Graph
from gradfit.kernel import DifferenceKernel, NumpyKernel
from gradfit.solve.lockstep import numpy as lockstep
from gradfit.solve.lockstep.batch import STATUS, Batch, Cost, Ends, Settings
from gradfit.solve.lockstep.tensor import solve as tensor_lockstep
from gradfit.solve.lockstep.tensor import walk as tensor_walk
from gradfit.trace import trace_formula

DEVICES = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
DECAY, PEAK = "y = a*exp(-b*x) + c", "y = a*exp(-((x - b)/c)**2) + d"


@dataclass(frozen=True)
class Case:
    """Fits of one model: their truth, noise and start, and what is special about them."""

    text: str
    truth: tuple[float, ...]
    noise: float = 0.05
    x: tuple[float, float] = (0.0, 5.0)
    points: int = 25
    fits: int = 120
    start: tuple[float, ...] | None = None
    free: tuple[int, ...] | None = None
    lower: tuple[float, ...] | None = None
    upper: tuple[float, ...] | None = None
    loss: Cost = field(default_factory=Cost)
    weight: str = "none"
    own: bool = False
    absolute: bool = False
    words: tuple[str, ...] = ("converged",)

    @property
    def graph(self) -> Graph:
        names = parse(self.text).right.names
        return trace_formula(
            parse(self.text).right, ("x",), tuple(sorted(n for n in names if n not in ("x", "pi", "e")))
        )

    def arguments(self) -> tuple[Batch, np.ndarray, dict]:
        m, n, k = self.fits, self.points, len(self.truth)
        random = np.random.default_rng(7)
        x = np.linspace(*self.x, n)
        if self.own:
            x = x + random.uniform(0, 0.1, (m, n))
        p = np.array(self.truth) * random.uniform(0.9, 1.1, (m, k))
        y = NumpyKernel(self.graph).value([x], p.T[:, :, None])
        if self.loss.name == "poisson":
            y = random.poisson(y).astype(float)
        else:
            y = y + self.noise * random.normal(size=(m, n))
            y[::7, 1] += (10 if self.loss.robust else 0) * self.noise
        start = np.array(self.truth if self.start is None else self.start)[None]
        free = np.arange(k) if self.free is None else np.array(self.free)
        return Batch((x,), y, self.weights(random)), start, {
            "free": free,
            "lower": np.full(k, -np.inf) if self.lower is None else np.array(self.lower),
            "upper": np.full(k, np.inf) if self.upper is None else np.array(self.upper),
            "loss": self.loss,
            "settings": Settings(absolute=self.absolute),
        }  # fmt: skip

    def weights(self, random) -> np.ndarray | None:
        m, n = self.fits, self.points
        if self.weight == "none":
            return None
        if self.weight == "shared":
            return random.uniform(0.5, 2, n) / self.noise
        own = random.uniform(0.5, 2, (m, n)) / self.noise
        own[random.uniform(size=(m, n)) < 0.3] = 0.0  # no such points
        return own


nan, inf = np.nan, np.inf
CASES = {
    "decay": Case(DECAY, (5.0, 1.0, 0.5), start=(3.0, 0.5, 0.0)),
    "peak, shared weights": Case(PEAK, (3.0, 2.5, 0.8, 1.0), start=(2.0, 2.2, 1.0, 0.0), weight="shared", absolute=True),
    "own x, missing points": Case(DECAY, (5.0, 1.0, 0.5), start=(3.0, 0.5, 0.0), own=True, weight="own"),
    "on a bound": Case(DECAY, (5.0, 1.0, 0.5), start=(3.0, 0.9, 0.6), lower=(0.0, 0.5, 0.52), upper=(4.9, 2.0, inf)),
    "fixed": Case(PEAK, (3.0, 2.5, 0.8, 1.0), free=(0, 2)),
    "counts": Case(DECAY, (50.0, 1.0, 5.0), start=(30.0, 0.5, 2.0), loss=Cost("poisson")),
    "counts, weights, bounds": Case(
        DECAY, (50.0, 1.0, 5.0), start=(30.0, 0.5, 2.0), loss=Cost("poisson"), weight="own", lower=(0.0, 0.0, 4.0)
    ),
    "linear part unknown": Case(DECAY, (5.0, 1.0, 0.5), start=(nan, 0.4, nan)),
    "linear": Case("y = a + b*x + c*x**2", (5.0, 1.0, 0.5), start=(nan, nan, nan)),
    "offset": Case("y = a + b*x", (1e6, 1.0), start=(nan, nan)),
    "0 to a power": Case("y = a*(x/c)**b", (5.0, 1.5, 3.0), start=(4.0, 1.2, 3.0), free=(0, 1)),
    "dose": Case("y = d + (a - d)/(1 + (x/c)**b)", (1.0, 2.0, 2.5, 9.0), start=(0.5, 1.5, 2.0, 7.0)),
    "voigt": Case("y = a*voigt(x - c, w, b)", (5.0, 0.6, 2.5, 0.4), fits=30),
    "wave": Case("y = a*sin(b*x + c)", (2.0, 3.0, 0.5)),
    "step": Case("y = where(x > 2, a*x, b)", (2.0, 3.0)),
    "undetermined": Case("y = a*b*x", (2.0, 3.0), words=("singular",)),
    "too few": Case(PEAK, (3.0, 2.5, 0.8, 1.0), points=3, words=("too-few-points",)),
    "as many as parameters": Case(DECAY, (5.0, 1.0, 0.5), x=(0.0, 2.0), points=3, noise=0.001),
    "start without a value": Case("y = a*log(x - b)", (2.0, -1.0), start=(2.0, 1.0), words=("non-finite",)),
    "exact": Case(DECAY, (5.0, 1.0, 0.5), noise=0.0, start=(3.0, 0.5, 0.0)),
    **{name: Case(DECAY, (5.0, 1.0, 0.5), start=(4.0, 0.7, 0.1), loss=Cost(name, scale), weight="own")
       for name, scale in [("huber", 1.3), ("soft_l1", 1.3), ("cauchy", 2.4), ("bisquare", 4.7)]},
}  # fmt: skip
EVERY = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def fitted(case: Case, **changes) -> Ends:
    batch, start, arguments = case.arguments()
    return tensor_lockstep.solve(case.graph, batch, start, **(arguments | changes))


def in_numpy(case: Case) -> Ends:
    batch, start, arguments = case.arguments()
    return lockstep.solve(NumpyKernel(case.graph), batch, start, **arguments)


def offset(ends: Ends, expected: Ends) -> np.ndarray:
    """Parameters' distances in standard errors; where there are none, relative."""
    unit = np.where(expected.stderr > 0, expected.stderr, np.abs(expected.parameters))
    return np.abs(ends.parameters - expected.parameters) / np.maximum(
        unit, 1e-9 * np.abs(expected.parameters)
    )


def words(ends: Ends) -> set[str]:
    return {STATUS[s] for s in ends.status}


def same_bits(a: Ends, b: Ends) -> bool:
    names = ("parameters", "stderr", "rss", "iterations", "status", "points")
    return all(np.array_equal(getattr(a, n), getattr(b, n), equal_nan=True) for n in names)


# ---------------------------------------------------------------------------- the same ends


@DEVICES
@EVERY
def test_ends_are_those_of_numpy(case, device):
    ends, expected = fitted(case, device=device), in_numpy(case)
    assert np.array_equal(ends.status, expected.status)
    assert words(ends) == set(case.words)
    assert np.array_equal(ends.points, expected.points)
    assert np.array_equal(np.isnan(ends.parameters), np.isnan(expected.parameters))
    if "singular" not in case.words:  # nothing says where in a valley a fit rests
        assert np.nanmax(offset(ends, expected), initial=0) < 1e-6
    if case.noise:
        assert ends.stderr == pytest.approx(expected.stderr, rel=1e-6, nan_ok=True)
        assert ends.rss == pytest.approx(expected.rss, rel=1e-8, nan_ok=True)


@DEVICES
@pytest.mark.parametrize(
    "name", ["decay", "own x, missing points", "on a bound", "counts", "wave", "dose", "huber", "exact"]
)
def test_float32_gives_what_it_says(name, device):
    case = CASES[name]
    ends, expected = fitted(case, device=device, dtype="float32"), in_numpy(case)
    assert np.array_equal(ends.status, expected.status)
    if case.noise:
        assert np.nanquantile(offset(ends, expected), 0.98) < 2e-4
        assert np.nanmax(offset(ends, expected)) < 0.1
    else:
        assert ends.parameters == pytest.approx(expected.parameters, rel=1e-6)


@DEVICES
def test_fits_that_cannot_be_made_are_named_and_change_nothing(device):
    case = CASES["decay"]
    batch, start, arguments = case.arguments()
    y = batch.y.copy()
    y[1], y[2], y[3], y[4], y[5] = 0.0, 7.0, 1e300, 1e30, np.where(np.arange(case.points) % 2, 1.0, -1.0)
    damaged = Batch(batch.columns, y)
    ends = tensor_lockstep.solve(case.graph, damaged, start, device=device, **arguments)
    expected = lockstep.solve(NumpyKernel(case.graph), damaged, start, **arguments)
    assert words(ends.rows(slice(6, None))) == {"converged"}
    assert np.array_equal(ends.status[:4], expected.status[:4])
    sound = fitted(case, device=device)
    kept = np.setdiff1d(np.arange(case.fits), np.arange(1, 6))
    assert np.max(offset(ends.rows(kept), sound.rows(kept))) < 1e-9
    assert device != "cpu" or same_bits(ends.rows(kept), sound.rows(kept))


def test_negative_counts_are_named():
    case = CASES["counts"]
    batch, start, arguments = case.arguments()
    batch.y[5, 2] = -1
    ends = tensor_lockstep.solve(case.graph, batch, start, **arguments)
    assert [i for i, s in enumerate(ends.status) if STATUS[s] == "negative-counts"] == [5]
    assert np.isnan(ends.parameters[5]).all()


# ---------------------------------------------------------------------------- company


@pytest.mark.parametrize(
    "name", ["0 to a power", "own x, missing points", "on a bound", "counts", "bisquare", "hyperbolic"]
)
def test_on_a_processor_company_and_threads_do_not_change_a_bit(name, monkeypatch):
    hyperbolic = Case(
        "y = a*sinh(x/b)/cosh(x/b) + atan2(c, x)**b", (2.0, 3.0, 1.0), x=(0.5, 3.0), points=23, fits=1500
    )
    case = hyperbolic if name == "hyperbolic" else CASES[name]
    ends = fitted(case, device="cpu")
    batch, start, arguments = case.arguments()
    for which in (slice(0, 1), slice(3, 10), slice(5, 97)):
        part = arguments | {"loss": case.loss.rows(which)}
        alone = tensor_lockstep.solve(case.graph, batch.rows(which), start, device="cpu", **part)
        assert same_bits(alone, ends.rows(which))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert same_bits(fitted(case, device="cpu"), ends)
        assert same_bits(fitted(case, device="cpu", settings=Settings(threads=1)), ends)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    monkeypatch.setattr(tensor_lockstep, "MOST", 17 * case.points)
    assert same_bits(fitted(case, device="cpu"), ends)


def test_long_rows_have_the_same_bits_in_company():
    case = Case(DECAY, (5.0, 1.0, 0.5), points=20_000, fits=4)
    batch, start, arguments = case.arguments()
    ends = tensor_lockstep.solve(case.graph, batch, start, device="cpu", **arguments)
    alone = tensor_lockstep.solve(case.graph, batch.rows(slice(2, 3)), start, device="cpu", **arguments)
    assert same_bits(alone, ends.rows(slice(2, 3)))


def test_when_memory_runs_out_fewer_fits_go_at_a_time(monkeypatch):
    case, sums = CASES["own x, missing points"], tensor_walk.sums
    ends = fitted(case, device="cpu")
    room = 20

    def short_of_memory(model, points, p, **options):
        if len(points.y) > room:
            raise torch.OutOfMemoryError("out of memory")
        return sums(model, points, p, **options)

    monkeypatch.setattr(tensor_walk, "sums", short_of_memory)
    assert same_bits(fitted(case, device="cpu"), ends)
    room = 0
    with pytest.raises(OptionError, match="One fit of 25 points does not fit into the memory of cpu"):
        fitted(case, device="cpu")


@DEVICES
def test_a_device_takes_more_fits_than_its_memory_holds(device, monkeypatch):
    monkeypatch.setattr(tensor_lockstep, "MOST", 50 * 25)
    case = CASES["linear part unknown"]
    assert np.max(offset(fitted(case, device=device), in_numpy(case))) < 1e-6


# ---------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"device": "abacus"}, "The device 'abacus' is not there"),
        ({"device": "cuda:77"}, "The device 'cuda:77' is not there"),
        ({"device": "mps"}, "The device 'mps' has no float64, which fits need"),
        ({"device": "meta"}, "Many fits are made on cpu or cuda, and 'meta' was asked for"),
        ({"dtype": "float16"}, "Many fits are made in float64 or float32, and 'float16' was asked for"),
    ],
)
def test_a_device_that_is_not_there_is_named(options, sentence):
    with pytest.raises(OptionError, match=sentence):
        fitted(CASES["decay"], **options)


def test_a_model_without_a_graph_is_refused():
    batch, start, arguments = CASES["decay"].arguments()
    with pytest.raises(OptionError, match="needs a model that can be traced"):
        tensor_lockstep.solve(DifferenceKernel(lambda x, a, b, c: a + b + c), batch, start, **arguments)


def test_no_fits_are_no_trouble():
    batch, start, arguments = CASES["decay"].arguments()
    ends = tensor_lockstep.solve(CASES["decay"].graph, batch.rows(slice(0, 0)), start, **arguments)
    assert ends.parameters.shape == (0, 3)
