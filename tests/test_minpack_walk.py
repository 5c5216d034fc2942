"""The compiled walk of curve_fit is MINPACK's: it ends in the same valley, for the same reason, with SciPy's returns."""

import numpy as np
import pytest
from answers import NIST
from scipy.optimize import OptimizeWarning, leastsq

import gradfit
from gradfit.native.small import small_fits
from gradfit.scipy_api.function import observed, traced
from gradfit.solve.quick import FTOL, as_minpack

X = np.linspace(-3, 3, 40)
NOISE = np.random.default_rng(5).normal(size=40)


def gauss(x, a, c, w, b):
    return a * np.exp(-(((x - c) / w) ** 2)) + b


def line(x, a, b):
    return a * x + b


def wave(x, a, k, w, p):
    return a * np.exp(-k * x) * np.sin(w * x + p)


CASES = {
    "gauss": (gauss, (5, 0.3, 1.1, 1), (4, 0, 1.3, 0.8)),
    "gauss, far": (gauss, (5, 0.3, 1.1, 1), (1, 1, 1, 1)),
    "line": (line, (2, 1), (1, 1)),
    "wave": (wave, (2, 0.2, 3, 0.5), (1.5, 0.1, 2.9, 0)),
}


def earn(f, x, y, start):
    """Do the work that makes machine code worth its while."""
    trace = traced(observed(f, x, y, None, start=np.array(start, float)), np.array(start, float), None)
    trace.small.worked(10**7, len(x))


@pytest.mark.parametrize("sigma", [None, np.linspace(0.5, 2, 40)], ids=["plain", "sigma"])
@pytest.mark.parametrize("name", CASES)
def test_compiled_curve_fit_returns_what_the_other_does(name, sigma):
    f, truth, start = CASES[name]
    y = f(X, *truth) + 0.1 * NOISE
    told = {"sigma": sigma, "absolute_sigma": sigma is not None, "full_output": True}
    before = gradfit.curve_fit(f, X, y, start, **told, xtol=FTOL)  # with a setting MINPACK itself walks
    earn(f, X, y, start)
    p, pcov, info, message, ier = gradfit.curve_fit(f, X, y, start, **told)
    error = np.sqrt(np.diag(before[1]))
    assert np.all(np.abs(p - before[0]) <= 1e-7 * error)
    np.testing.assert_allclose(pcov, before[1], rtol=2e-5, atol=1e-5 * np.min(error) ** 2)
    assert ier == before[4]
    assert message.split() == before[3].split()
    assert set(info) == set(before[2])
    np.testing.assert_allclose(info["fvec"], before[2]["fvec"], atol=1e-8)


def test_what_the_compiled_walk_cannot_do_goes_to_minpack():
    def product(x, a, b):
        return a * b * np.exp(-0.3 * x)

    start, y = (1.0, 2.0), 1.5 * np.exp(-0.3 * X) + 0.01 * NOISE
    earn(product, X, y, start)
    with pytest.warns(OptimizeWarning, match="could not be estimated"):
        p, pcov = gradfit.curve_fit(product, X, y, start)
    assert p[0] * p[1] == pytest.approx(1.5, abs=0.01)
    assert np.isinf(pcov).all()


def both(case, start):
    """Return where the compiled walk ends, None where it does not, and where MINPACK does."""
    result = gradfit.fit(case.formula, case.path, start=start, max_iterations=1)
    begin = np.array([start[name] for name in result.model.parameters], float)
    problem = result.problem._replace(small=small_fits(result.model.graph))
    with np.errstate(all="ignore"):
        ended = as_minpack(problem, begin)
        p, _, info, _, ier = leastsq(
            problem.residual, begin, Dfun=lambda p: problem.residual_jacobian(p)[1], full_output=True,
            maxfev=200 * (len(begin) + 1),
        )  # fmt: skip
    assert ier in (1, 2, 3, 4)
    return None if ended is None else ended[0], p, float(info["fvec"] @ info["fvec"])


def test_the_valley_is_minpacks_on_every_problem_of_nist():
    done = 0
    for case in NIST:
        for start in case.starts:
            end, p, cost = both(case, start)
            if end is not None:  # else it is ill-conditioned, or no clean minimum
                assert end.cost == pytest.approx(cost, rel=1e-7), case.name
                assert end.parameters == pytest.approx(p, rel=1e-3), case.name
                done += 1
    assert done >= 36
