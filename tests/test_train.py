"""Training as one compiled loop: the numbers of torch's own loop, whatever the optimizer, and a word on which way it went."""

import functools
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from objectives import OPTIMIZERS, RICH, T_C, T_U, T_UN

import gradfit
from gradfit.errors import OptionError
from gradfit.training import COMPILED

LINE, THERMOMETER = "t_c = w*t_un + b", {"t_un": np.array(T_UN), "t_c": np.array(T_C)}
REASONS = {
    "LBFGS": "LBFGS computes the loss several times in each step",
    "Muon": "Muon is for parameters in a matrix",
    "SparseAdam": "SparseAdam is for sparse gradients",
}
RNG = np.random.default_rng(7)
X = np.sort(RNG.uniform(0, 4, 37))
DECAY = {
    "x": X,
    "y": 3 * np.exp(-1.3 * X) + 0.5 + RNG.normal(0, 0.05, 37) + (RNG.random(37) < 0.1),
    "s": RNG.uniform(0.02, 0.2, 37),
}
EXPONENTIAL, AT = "y = a*exp(-b*x) + c", {"a": 2.0, "b": 1.0, "c": 0.0}


def both(formula=LINE, data=None, *, start=(1, 0), **options):
    """The fit by torch's loop and by the compiled one."""
    data = THERMOMETER if data is None else data
    start = list(start) if isinstance(start, tuple) else start
    eager = gradfit.fit(formula, data, start=start, executor="numpy", **options)
    compiled = gradfit.fit(formula, data, start=start, executor="auto", **options)
    assert eager.executor == "numpy"
    assert 'Torch made each step: executor="numpy" was asked for' in eager.how
    return eager.outcome, compiled


def agree(eager, compiled, *, relative=1e-10):
    """Same ends, same way there."""
    assert compiled.executor == COMPILED, compiled.how
    assert "One compiled loop went through all epochs" in compiled.how[-1]
    ours = compiled.outcome
    assert (ours.status, ours.iterations, ours.evaluations) == (
        eager.status,
        eager.iterations,
        eager.evaluations,
    )
    assert_allclose(ours.parameters, eager.parameters, rtol=relative)
    assert_allclose(ours.loss, eager.loss, rtol=relative)
    mine, theirs = ours.history, eager.history
    assert_array_equal(mine.step, theirs.step)
    assert_allclose(mine.parameters, theirs.parameters, rtol=relative, atol=relative)
    assert_allclose(mine.loss, theirs.loss, rtol=relative)
    steepest = np.abs(theirs.gradient).max()
    assert_allclose(mine.gradient, theirs.gradient, rtol=relative, atol=relative * steepest)


@pytest.mark.parametrize("rich", [False, True], ids=["plain", "rich"])
@pytest.mark.parametrize("name", sorted(set(OPTIMIZERS) - set(REASONS)))
def test_every_optimizer_equals_its_loop_in_torch(name, rich):
    # Adafactor's steps have a fixed length: near the minimum they tumble, and rounding decides where to
    lr = {"Adafactor": 1e-3}.get(name, 1e-2)
    agree(*both(solver=name, lr=lr, epochs=500, **(RICH.get(name, {}) if rich else {})))


@pytest.mark.parametrize("name", REASONS)
def test_what_is_no_step_of_numbers_goes_the_long_way_and_says_so(name):
    options = {"max_iter": 1} if name == "LBFGS" else {}
    result = gradfit.fit(LINE, THERMOMETER, start=[1, 0], solver=name, lr=0.01, epochs=300, **options)
    assert result.executor == "numpy"
    assert result.how[-1] == f"Torch made each step: {REASONS[name]}"


VARIATIONS = {
    "bounds": {"bounds": {"b": (0.5, 1.2), "a": (None, 2.9)}},
    "weights": {"sigma": "s"},
    "fixed": {"fixed": {"c": 0.45}, "start": {"a": 2.0, "b": 1.0}},
    "one left": {"fixed": {"c": 0.45, "a": 3.0}, "start": {"b": 1.0}},
    "batches": {"batch_size": 5, "seed": 3, "epochs": 60},
    "batches of one": {"batch_size": 1, "lr": 2e-3, "epochs": 20},
    "batches, weights and bounds": {
        "batch_size": 16,
        "epochs": 100,
        "sigma": "s",
        "bounds": {"b": (0.5, 1.2)},
    },
    "one batch too large": {"batch_size": 100},
    "soft_l1": {"loss": "soft_l1"},
    "huber": {"loss": "huber:0.1"},
    "cauchy": {"loss": "cauchy", "sigma": "s"},
    "bisquare": {"loss": "bisquare", "batch_size": 10, "epochs": 90},
    "decayed": {"scheduler": "ExponentialLR", "scheduler_settings": {"gamma": 0.99}},
    "waves": {
        "scheduler": "CosineAnnealingWarmRestarts",
        "scheduler_settings": {"T_0": 17},
        "batch_size": 9,
        "epochs": 70,
    },
    "plateau": {"scheduler": "ReduceLROnPlateau", "scheduler_settings": {"patience": 5, "threshold": 0.01}},
    "own schedule": {
        "scheduler": "LambdaLR",
        "scheduler_settings": {"lr_lambda": lambda e: 1 / (1 + e / 50)},
    },
}


@pytest.mark.parametrize("name", ["SGD", "Adam"])
@pytest.mark.parametrize("variation", VARIATIONS)
def test_variations(variation, name):
    chosen = {"start": AT, "lr": 0.02, "epochs": 300, **VARIATIONS[variation]}
    agree(*both(EXPONENTIAL, DECAY, solver=name, **chosen))


@pytest.mark.parametrize("rows", [2, 3, 4, 5, 7, 8, 9])
def test_any_number_of_rows(rows):
    data = {name: column[:rows] for name, column in THERMOMETER.items()}
    agree(*both(LINE, data, solver="SGD", lr=1e-3, epochs=300))


@pytest.mark.parametrize(
    ("formula", "start"),
    [
        ("y = a*x", {"a": 1}),
        ("y = a + b*x + c*x^2 + d*x^3 + f*x^4", dict.fromkeys("abcdf", 0.1)),
        ("y = where(x < k, a, b*x)", {"a": 1, "b": 1, "k": 1}),
        (
            "y = a*sin(b*x) + c*log(1 + x^2)/(1 + d^2) - tanh(f*x)",
            {"a": 1, "b": 1, "c": 0.5, "d": 0.3, "f": 0.2},
        ),
        ("y = a*x^b + sqrt(c^2 + x)", {"a": 1, "b": 1, "c": 0.3}),
        ("y = a*lgamma(b + x) + c*erf(x)", {"a": 1, "b": 2, "c": 0.3}),
        (
            "y = " + " + ".join(f"p{i}*cos(q*{i}*x)" for i in range(9)),
            dict.fromkeys([*(f"p{i}" for i in range(9)), "q"], 0.9),
        ),
    ],
)
def test_models(formula, start):
    eager, compiled = both(formula, DECAY, start=start, solver="Adam", lr=1e-2, epochs=300)
    agree(eager, compiled)
    assert compiled.outcome.message == eager.message


class TestThermometer:
    """The textbook's example."""

    def test_to_the_digit(self):
        result = gradfit.fit(LINE, THERMOMETER, start=[1, 0], solver="SGD", lr=1e-2, epochs=5000)
        assert result.executor == COMPILED
        assert [f"{v:.4f}" for v in result.values.values()] == ["5.3671", "-17.3012"]
        assert f"{result.outcome.loss:.4f}" == "2.9276"
        assert result.outcome.status == "converged"
        history = result.outcome.history
        assert_allclose(history.parameters[history.step == 1], [[1.7761, 0.1064]], atol=5e-5)
        assert_allclose(history.loss[history.step == 499], 7.8601, atol=5e-5)

    def test_a_step_too_large_diverges_in_the_same_words(self):
        data = {"t_un": np.array(T_U), "t_c": np.array(T_C)}
        eager, compiled = both(LINE, data, solver="SGD", lr=1e-2, epochs=5000)
        assert compiled.executor == COMPILED
        assert compiled.outcome.message == eager.message
        assert compiled.outcome.parameters.tolist() == [1, 0]
        assert np.isfinite(compiled.outcome.history.loss).all()

    def test_a_step_too_small_stalls_in_the_same_words(self):
        eager, compiled = both(solver="SGD", lr=1e-6, epochs=400)
        assert eager.status == "stalled"
        assert compiled.outcome.message == eager.message


class TestCallbacks:
    """They see each epoch, and may end it."""

    def test_progress_is_that_of_the_loop_in_torch(self):
        seen = {}
        for executor in ("numpy", "auto"):
            lines = seen.setdefault(executor, [])
            gradfit.fit(
                LINE, THERMOMETER, start=[1, 0], solver="Adam", lr=0.1, epochs=300, batch_size=4, executor=executor,
                callback=lambda now, lines=lines: lines.append((now.epoch, now.epochs, now.evaluations, now.loss, *now.gradient, *now.parameters)),
            )  # fmt: skip
        assert_allclose(seen["auto"], seen["numpy"], rtol=1e-10, atol=1e-9)

    @pytest.mark.parametrize("executor", ["numpy", "auto"])
    def test_a_true_answer_stops(self, executor):
        result = gradfit.fit(
            LINE, THERMOMETER, start=[1, 0], solver="SGD", lr=0.01, epochs=900, executor=executor,
            callback=lambda now: now.loss < 10,
        )  # fmt: skip
        assert result.outcome.iterations < 900
        assert result.outcome.message.startswith("Stopped by the callback: after")

    def test_an_interrupt_while_the_loop_runs(self):
        def interrupted(_number, _frame):
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGALRM, interrupted)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            result = gradfit.fit(LINE, THERMOMETER, start=[1, 0], solver="SGD", lr=1e-2, epochs=10**10)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert result.outcome.status == "interrupted"
        assert 0 < result.outcome.iterations < 10**10
        assert_allclose(result.outcome.loss, 2.9276, rtol=1e-4)


class Counting(torch.optim.Optimizer):
    """Counts its steps where no tensor is: the third differs from the second."""

    def __init__(self, params, lr=0.01):
        super().__init__(params, {"lr": lr})
        self.steps = 0

    @torch.no_grad()
    def step(self):
        self.steps += 1
        for group in self.param_groups:
            for tensor in group["params"]:
                tensor -= group["lr"] / self.steps * tensor.grad


class Hesitant(torch.optim.Optimizer):
    """Goes slower where the gradient's first component is large, and backs off from what it reads."""

    def __init__(self, params, *, lr=0.01, number=False):
        super().__init__(params, {"lr": lr, "number": number})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for tensor in group["params"]:
                large = tensor.grad.norm().item() > 10
                factor = float(tensor.grad.norm()) if group["number"] else 0.1 if large else 1.0
                tensor.sub_(tensor.grad, alpha=group["lr"] * factor)


class TestOwnOptimizers:
    """Classes that torch does not have."""

    def test_one_that_decides_is_traced_both_ways(self):
        agree(*both(solver=Hesitant, lr=0.01, epochs=400))

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"solver": Counting}, "of Counting, its step depends on more than parameters, gradient and state"),
            ({"solver": Hesitant, "number": True}, "of Hesitant, its step reads a value (float() or .item()) to go on with"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_traced_says_why(self, options, says):
        result = gradfit.fit(LINE, THERMOMETER, start=[1, 0], lr=1e-4, epochs=300, **options)
        assert result.executor == "numpy"
        assert result.how[-1] == f"Torch made each step: {says}"

    def test_instances_and_functions(self):
        own = torch.zeros(1, requires_grad=True)
        forms = [
            {"solver": torch.optim.SGD, "lr": 0.01, "momentum": 0.9},
            {"solver": torch.optim.SGD([own], lr=0.01, momentum=0.9)},
            {"solver": functools.partial(torch.optim.SGD, lr=0.01, momentum=0.9)},
        ]
        results = [gradfit.fit(LINE, THERMOMETER, start=[1, 0], epochs=300, **form) for form in forms]
        assert [result.executor for result in results] == [COMPILED] * 3
        for result in results[1:]:
            assert_array_equal(result.outcome.parameters, results[0].outcome.parameters)


class TestWhichWay:
    """Not everything is compiled, and what is not says why."""

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"epochs": 20}, "20 updates would take longer to compile"),
            ({"dtype": "float32"}, "the compiled loop is for float64"),
            (
                {
                    "momentum": 0.5,
                    "scheduler": "OneCycleLR",
                    "scheduler_settings": {"max_lr": 0.02, "total_steps": 300},
                },
                "the scheduler changes momentum too",
            ),
        ],
    )
    def test_reasons(self, options, says):
        chosen = {"solver": "SGD", "lr": 0.01, "epochs": 300, **options}
        result = gradfit.fit(LINE, THERMOMETER, start=[1, 0], **chosen)
        assert result.how[-1] == f"Torch made each step: {says}"

    def test_a_model_that_joins_rows(self):
        def centred(t_un, w, b):
            return w * (t_un - t_un.mean()) + b

        data = {"t_un": T_UN, "t_c": T_C}
        result = gradfit.fit(centred, data, start=[1, 0], solver="SGD", lr=0.01, epochs=300)
        assert result.how[-1] == "Torch made each step: the model is no expression of single rows"

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"momentun": 0.9}, "SGD has no setting 'momentun'"),
            ({"scheduler": "StepRL"}, "no scheduler 'StepRL'"),
            (
                {"scheduler": "OneCycleLR", "scheduler_settings": {"max_lr": 1, "total_steps": 50}},
                "OneCycleLR ends after 50 steps",
            ),
            ({"maximize": True}, "SGD is told to maximize"),
        ],
    )
    def test_mistakes_are_those_of_the_loop_in_torch(self, options, says):
        with pytest.raises(OptionError, match=says):
            gradfit.fit(LINE, THERMOMETER, start=[1, 0], solver="SGD", epochs=1000, **options)

    def test_what_is_around_stays_as_it_is(self):
        def state():
            return torch.get_rng_state().tolist(), torch.get_default_dtype(), torch.is_grad_enabled()

        before = state()
        with torch.inference_mode():
            result = gradfit.fit(
                LINE, THERMOMETER, start=[1, 0], solver="NAdam", lr=0.013, epochs=300, batch_size=3
            )
        assert result.executor == COMPILED
        assert state() == before


def test_a_second_process_traces_nothing():
    gradfit.fit(EXPONENTIAL, DECAY, start=AT, solver="Adamax", lr=0.011, epochs=300)
    program = (
        "import sys, gradfit\n"
        f"fitted = gradfit.fit({EXPONENTIAL!r}, { ({name: column.tolist() for name, column in DECAY.items()})!r}, start={AT!r},"
        ' solver="Adamax", lr=0.011, epochs=300)\n'
        'print(fitted.executor, "torch" in sys.modules)'
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{COMPILED} False"


def test_counts_of_zero_are_trained_on():
    x = np.linspace(0, 1, 40)
    data = {"x": x, "y": np.round(3 * np.exp(-2 * x))}
    assert (data["y"] == 0).any()
    least = gradfit.fit("y = exp(a*x + b)", data, loss="poisson")
    result = gradfit.fit(
        "y = exp(a*x + b)", data, loss="poisson", start=[0.1, 0.1], solver="Adam", lr=0.05, epochs=600
    )
    assert result.converged
    assert_allclose(result.parameters, least.parameters, rtol=1e-4)
