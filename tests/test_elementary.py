"""The elementary functions that native code is made of, against extended precision, mpmath and SciPy."""

import ctypes
import math
import platform
from collections.abc import Callable, Sequence
from functools import cache
from types import SimpleNamespace

import llvmlite.binding as llvm
import mpmath
import numpy as np
import pytest
from llvmlite import ir
from scipy import special

from gradfit.graph import BINARY, UNARY
from gradfit.native.code import Code
from gradfit.native.elementary import FUNCTIONS

Wide = np.longdouble
ON_X86 = platform.machine() in ("x86_64", "AMD64")
extended = pytest.mark.skipif(np.finfo(Wide).eps > 2e-19, reason="long double is no wider than double here")
SPECIAL = [
    0.0,
    5e-324,
    1e-310,
    2.3e-308,
    1e-20,
    0.5,
    1.0,
    1.5,
    2.0,
    3.0,
    37.5,
    708.5,
    709.79,
    745.2,
    1e5,
    2.0**30,
]
SPECIAL = np.array([*SPECIAL, 2.0**53 - 1, 2.0**53 + 2, 1e22, 1e308, math.inf, math.nan])
SPECIAL = np.concatenate([SPECIAL, -SPECIAL])


# ---------------------------------------------------------------------------- running them


def machine(cpu: str | None) -> llvm.TargetMachine:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features().flatten() if cpu is None else ""
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(
        cpu=cpu or llvm.get_host_cpu_name(), features=features, opt=3, codemodel="jitdefault", jit=True
    )


@cache
def compiled(lanes: int, real: int = 64, cpu: str | None = None) -> SimpleNamespace:
    """Every function, as one that runs over arrays of a length that the lanes divide."""
    module = ir.Module("elementary")
    for name, function in FUNCTIONS.items():
        inputs = ("x", "y")[: 1 + (name in BINARY)]
        code = Code(module, f"run_{name}", pointers=(*inputs, "out"), numbers=("n",), real=real)
        with code.loop(0, code.number("n"), step=lanes) as i:
            code.store("out", i, function(*(code.load(p, i, lanes=lanes) for p in inputs)))
        code.finish()
    target = machine(cpu)
    assembly = llvm.parse_assembly(str(module))
    assembly.triple, assembly.data_layout = llvm.get_process_triple(), str(target.target_data)
    builder = llvm.create_pass_builder(target, llvm.create_pipeline_tuning_options(speed_level=3))
    builder.getModulePassManager().run(assembly, builder)
    data = target.emit_object(assembly)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target)
    engine.add_object_file(llvm.ObjectFileRef.from_data(data))
    engine.finalize_object()
    return SimpleNamespace(engine=engine)


def run(name: str, *values: np.ndarray, lanes: int = 8, real: int = 64, cpu: str | None = None) -> np.ndarray:
    number = np.float64 if real == 64 else np.float32
    rows = np.broadcast_arrays(*values)
    padded = [np.concatenate([row, np.ones(-row.size % lanes)]).astype(number) for row in rows]
    out = np.empty_like(padded[0])
    address = compiled(lanes, real, cpu).engine.get_function_address(f"run_{name}")
    kinds = [ctypes.c_void_p] * (len(padded) + 1) + [ctypes.c_int64]
    call = ctypes.CFUNCTYPE(ctypes.c_int64, *kinds)(address)
    assert call(*(row.ctypes.data for row in padded), out.ctypes.data, out.size) == 0
    return out[: rows[0].size]


def worst(got: np.ndarray, wanted: np.ndarray) -> float:
    """Largest error in units in the last place; infinite where one is NaN or infinite and the other is not."""
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = wanted.astype(got.dtype)
        finite = np.isfinite(rounded) & np.isfinite(got)
        error = np.abs(got.astype(wanted.dtype) - wanted) / np.spacing(np.abs(rounded)).astype(wanted.dtype)
    same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
    return float(np.max(np.where(finite, error, np.where(same, 0.0, math.inf))))


# ---------------------------------------------------------------------------- where they are looked at

ROWS = 250_000


def between(low: float, high: float, rows: int = ROWS) -> np.ndarray:
    return np.random.default_rng(1).uniform(low, high, rows)


def all_sizes(low: float = -1074, high: float = 1024, *, both: bool = True) -> np.ndarray:
    """Numbers of every exponent, subnormal ones too, of both signs or one."""
    rng = np.random.default_rng(2)
    exponent = np.floor(rng.uniform(low, high, ROWS)).astype(int)
    size = np.ldexp(rng.uniform(1.0, 2.0, ROWS), exponent)
    return size * rng.choice([-1.0, 1.0], ROWS) if both else size


def quarter_turns(most: float) -> np.ndarray:
    return np.rint(between(-most, most)) * (math.pi / 2)


TURNS = (
    between(-10, 10),
    between(-1e5, 1e5),
    between(-2e9, 2e9),
    quarter_turns(1e6),
    quarter_turns(6e8),
    all_sizes(),
)
STRATA = {
    "exp": (between(-746, 711), between(-1, 1), between(-745.2, -707), all_sizes(-60, 10)),
    "expm1": (between(-746, 711), between(-1, 1), between(0.3, 0.4), all_sizes(high=10)),
    "log": (all_sizes(both=False), between(0.5, 2), between(0.99, 1.01), all_sizes(-1074, -1022, both=False)),
    "log1p": (all_sizes(both=False), between(-1, 2), between(-0.01, 0.01), all_sizes(high=0)),
    "sin": TURNS,
    "cos": TURNS,
    "tan": TURNS,
    "tanh": (between(-1, 1), between(-25, 25), between(0.6, 0.7), all_sizes(high=6)),
    "sinh": (between(-1, 1), between(-5, 5), between(-711, 711), all_sizes(high=9)),
    "cosh": (between(-1, 1), between(-5, 5), between(-711, 711), all_sizes(high=9)),
    "atan": (between(-3, 3), between(0.4, 0.45), between(2.3, 2.5), all_sizes()),
    "sqrt": (all_sizes(both=False),),
}


@extended
@pytest.mark.parametrize("name", STRATA)
def test_two_units_in_the_last_place(name: str) -> None:
    wide = {"atan": np.arctan}.get(name) or getattr(np, name)
    for x in (*STRATA[name], SPECIAL):
        with np.errstate(all="ignore"):
            assert worst(run(name, x), wide(x.astype(Wide))) <= 2


def reaching(x: np.ndarray, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Bases, and exponents with which the logarithm of the power is anywhere between two numbers."""
    return x, np.random.default_rng(3).uniform(low, high, x.size) / np.log(x)


POWERS = {
    "moderate": (between(0.01, 10), between(-10, 10)[::-1]),
    "any base": reaching(all_sizes(-1022, both=False), -746, 710),
    "near 1": reaching(1 + between(-1, 1) * 10 ** between(-15, -1), -746, 710),
    "around 1": reaching(between(0.5, 2), -746, 710),
    "nothing": reaching(between(0.5, 2), -1e-3, 1e-3),
    "subnormal base": reaching(all_sizes(-1074, -1022, both=False), -700, 700),
    "whole exponents": (all_sizes(), np.rint(between(-20, 20))),
}


@extended
@pytest.mark.parametrize("name", POWERS)
def test_power_is_good_over_its_whole_range(name: str) -> None:
    x, y = POWERS[name]
    with np.errstate(all="ignore"):
        wanted = x.astype(Wide) ** y.astype(Wide)
    assert worst(run("pow", x, y), wanted) <= 2


def test_power_follows_the_rules_of_c() -> None:
    x, y = (part.ravel() for part in np.meshgrid(SPECIAL, SPECIAL))
    with np.errstate(all="ignore"):
        wanted = np.float_power(x, y)
    got = run("pow", x, y)
    assert worst(got, wanted) <= 2
    number = ~np.isnan(wanted)
    assert np.array_equal(np.signbit(got[number]), np.signbit(wanted[number]))


ROOT_PI = np.sqrt(Wide(math.pi) + Wide(1.2246467991473532e-16))


def wide_erf(x: np.ndarray) -> np.ndarray:
    """By its series whose terms are all positive (Abramowitz & Stegun 7.1.6)."""
    x = x.astype(Wide)
    term = total = x * np.exp(-x * x) * 2 / ROOT_PI
    for k in range(1, int(3 * np.max(x * x)) + 40):
        term = term * 2 * x * x / (2 * k + 1)
        total = total + term
    return total


def wide_erfc(x: np.ndarray) -> np.ndarray:
    """By a continued fraction (Abramowitz & Stegun 7.1.14), for x > 2."""
    x = x.astype(Wide)
    below = x
    for k in range(60, 0, -1):
        below = x + Wide(k) / 2 / below
    return np.exp(-x * x) / below / ROOT_PI


@extended
def test_error_function_over_a_million_values() -> None:
    for x in (between(-1.2, 1.2), between(1, 1.3), between(-6.2, 6.2, 40_000)):
        assert worst(run("erf", x), wide_erf(x)) <= 2
    for x in (between(-1, 2), between(0.4, 0.6), between(-6.2, 0, 20_000)):
        assert worst(run("erfc", x), 1 - wide_erf(x)) <= 2
    for x in (between(2, 7), between(7, 27.3)):
        assert worst(run("erfc", x), wide_erfc(x)) <= 2


@pytest.mark.parametrize("name", ["erf", "erfc"])
def test_error_function_of_special_values(name: str) -> None:
    got, wanted = run(name, SPECIAL), getattr(special, name)(SPECIAL)
    np.testing.assert_allclose(got, wanted, rtol=1e-14, atol=5e-324)
    assert name == "erfc" or np.array_equal(np.signbit(got), np.signbit(SPECIAL))


def to_double(value: object) -> float:
    return float(value)  # pyright: ignore[reportArgumentType]


def by_mpmath(function: Callable[[object], object], x: np.ndarray) -> np.ndarray:
    """In two doubles, added in long double."""
    out = np.empty(x.size, Wide)
    with mpmath.workprec(160):
        for i, value in enumerate(x):
            exact = function(mpmath.mpf(float(value)))
            head = to_double(exact)
            out[i] = Wide(head) + (Wide(to_double(exact - head)) if math.isfinite(head) else 0)
    return out


@pytest.mark.parametrize("name", ["erf", "erfc", "asin", "acos", "asinh", "acosh", "atanh", "lgamma"])
def test_against_mpmath(name: str) -> None:
    own = {"lgamma": lambda v: mpmath.log(abs(mpmath.gamma(v)))}
    low, high = {"erf": (-6, 6), "erfc": (-6, 27), "acosh": (1, 90), "lgamma": (0.01, 90)}.get(name, (-1, 1))
    x = between(low, high, 1500)
    limit = 2 if name.startswith("erf") else 4  # the rest is the C library's
    assert worst(run(name, x), by_mpmath(own.get(name) or getattr(mpmath, name), x)) <= limit


@pytest.mark.parametrize(("low", "high"), [(0, 20), (1.4, 1.5), (-10, 0), (1e-8, 1e-3), (1e3, 1e300)])
def test_digamma(low: float, high: float) -> None:
    x = between(low, high, 1500)
    wanted = by_mpmath(mpmath.digamma, x)
    error = np.abs(run("digamma", x) - wanted) / np.maximum(1, np.abs(wanted))
    assert error.max() < 4e-15


def test_digamma_of_special_values() -> None:
    x = np.array([0.0, -0.0, -1.0, -2.0, math.inf, -math.inf, math.nan, 5e-324, 1e308])
    np.testing.assert_allclose(run("digamma", x), special.psi(x), rtol=1e-15)


FADDEEVA = {
    "peak": (between(-10, 10, 300), between(0, 10, 300)[::-1]),
    "narrow": (between(-30, 30, 300), 10 ** between(-12, 1, 300)[::-1]),
    "real": (between(-10, 10, 300), np.zeros(300)),
    "below": (between(-3, 3, 300), between(-3, 0, 300)[::-1]),
    "small": (10 ** between(-10, 0, 300), 10 ** between(-10, 0, 300)[::-1]),
    "far": (10 ** between(2, 300, 300), 10 ** between(2, 300, 300)[::-1]),
}


@pytest.mark.parametrize("name", FADDEEVA)
def test_faddeeva(name: str) -> None:
    x, y = FADDEEVA[name]
    z = np.empty(x.size, complex)
    z.real, z.imag = x, y
    if name == "far":
        wanted = special.wofz(z)
    else:
        with mpmath.workdps(60):
            exact = [mpmath.exp(-(v**2)) * mpmath.erfc(-1j * v) for v in map(mpmath.mpmathify, z.tolist())]
        wanted = np.array([complex(v) for v in exact])
    got = run("wofz_real", x, y) + 1j * run("wofz_imag", x, y)
    assert np.all(np.abs(got - wanted) <= (1e-14 if name in ("below", "far") else 2e-15) * np.abs(wanted))
    np.testing.assert_allclose(got.real, wanted.real, rtol=3e-13, atol=1e-300)
    np.testing.assert_allclose(got.imag, wanted.imag, rtol=3e-13, atol=1e-300)


# ---------------------------------------------------------------------------- what all of them keep


def test_every_operation_of_the_graph_is_there() -> None:
    assert set(FUNCTIONS) == UNARY | BINARY


def bits(values: np.ndarray) -> np.ndarray:
    """The bits of numbers; every NaN has the same, whatever its sign, which processors choose differently."""
    return np.where(np.isnan(values), np.nan, values).astype(values.dtype).view(f"i{values.itemsize}")


def looked_at(name: str) -> list[np.ndarray]:
    values = [between(-30, 30, 4000), between(-1, 1, 4000), all_sizes()[:4000], SPECIAL]
    x = np.concatenate(values)
    if name not in BINARY:
        return [x]
    return [np.abs(x) if name == "pow" else x, np.random.default_rng(4).permutation(x)]


@pytest.mark.parametrize("real", [64, 32])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_neither_lanes_nor_neighbours_change_a_bit(name: str, real: int) -> None:
    values = looked_at(name)
    with np.errstate(over="ignore"):
        values = [v.astype(np.float64 if real == 64 else np.float32) for v in values]
    order = np.random.default_rng(5).permutation(values[0].size)
    alone = bits(run(name, *values, lanes=1, real=real))
    for lanes in (2, 4, 8) if real == 64 else (8, 16):
        assert np.array_equal(bits(run(name, *values, lanes=lanes, real=real)), alone)
        moved = run(name, *(v[order] for v in values), lanes=lanes, real=real)
        assert np.array_equal(bits(moved), alone[order])


@pytest.mark.skipif(not ON_X86, reason="processors of the x86 family")
@pytest.mark.parametrize("cpu", ["x86-64", "haswell"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_older_processors_give_the_same_bits(name: str, cpu: str) -> None:
    if cpu == "haswell" and not llvm.get_host_cpu_features().get("avx2"):
        pytest.skip("this processor has no AVX2")
    values = looked_at(name)
    assert np.array_equal(bits(run(name, *values, lanes=4, cpu=cpu)), bits(run(name, *values, lanes=8)))


def doubled(name: str) -> Callable[..., np.ndarray]:
    """The same function of doubles, by another library."""
    other = {"atan": "arctan", "pow": "float_power"}.get(name, name)
    return getattr(special if name.startswith("erf") else np, other)


SINGLE: Sequence[tuple[str, tuple[np.ndarray, ...]]] = [
    ("exp", (between(-105, 89),)),
    ("exp", (between(-1, 1),)),
    ("log", (all_sizes(-149, 128, both=False),)),
    ("log", (between(0.5, 2),)),
    ("sin", (between(-70000, 70000),)),
    ("sin", (all_sizes(-149, 128),)),
    ("cos", (between(-70000, 70000),)),
    ("cos", (all_sizes(-149, 128),)),
    ("sin", (quarter_turns(4e4),)),
    ("tanh", (between(-1, 1),)),
    ("tanh", (between(-12, 12),)),
    ("tanh", (all_sizes(-149, 128),)),
    ("erf", (between(-1.2, 1.2),)),
    ("erf", (between(-5, 5),)),
    ("erfc", (between(-5, 10),)),
    ("atan", (all_sizes(-149, 128),)),
    ("expm1", (between(-1, 9),)),
    ("pow", (between(0, 10), between(-30, 30)[::-1])),
    *((name, (SPECIAL,)) for name in ["exp", "log", "sin", "cos", "tanh", "erf", "erfc", "atan", "sinh"]),
]


@pytest.mark.parametrize(("name", "values"), SINGLE, ids=[f"{name}{i}" for i, (name, _) in enumerate(SINGLE)])
def test_two_units_of_single_precision(name: str, values: tuple[np.ndarray, ...]) -> None:
    with np.errstate(all="ignore"):
        rounded = [v.astype(np.float32) for v in values]
        wanted = doubled(name)(*(v.astype(np.float64) for v in rounded))
        got = run(name, *rounded, lanes=16, real=32)
    assert worst(got, wanted) <= 2


@extended
def test_angle_of_a_point() -> None:
    y, x = (part.ravel() for part in np.meshgrid(SPECIAL, SPECIAL))
    y, x = np.concatenate([y, between(-5, 5)]), np.concatenate([x, all_sizes()])
    assert worst(run("atan2", y, x), np.arctan2(y.astype(Wide), x.astype(Wide))) <= 2


def test_sign_is_that_of_numpy() -> None:
    got = run("sign", SPECIAL)
    np.testing.assert_array_equal(got, np.sign(SPECIAL))
    np.testing.assert_array_equal(run("floor", SPECIAL), np.floor(SPECIAL))


@pytest.mark.parametrize("name", ["sin", "tan", "sinh", "tanh", "erf", "atan", "expm1", "log1p", "asinh"])
def test_negative_zero_stays_negative(name: str) -> None:
    assert np.signbit(run(name, np.array([-0.0, 0.0]))).tolist() == [True, False]
