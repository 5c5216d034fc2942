"""First-order training: each optimizer of torch against a loop written by hand; the reference example; what is around."""

import functools
import warnings

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from objectives import OPTIMIZERS, RICH, T_C, T_U, Line, Smooth, by_hand

from gradfit.errors import OptionError
from gradfit.solve.descent import Descent, epoch_lines, optimizer_names
from gradfit.solve.stepping import descend


def same_way(outcome, losses, gradients, way):
    """The history is that of the loop; the epochs' means are sums in another order for mini-batches."""
    assert outcome.iterations == len(losses)
    assert_array_equal(outcome.history.step, np.arange(len(losses) + 1))
    assert_array_equal(outcome.history.parameters, way)
    assert_array_equal(outcome.parameters, way[-1])
    assert_allclose(outcome.history.loss[:-1], losses, rtol=1e-14)
    assert_allclose(outcome.history.gradient[:-1], gradients, rtol=1e-12, atol=1e-12)


def test_every_optimizer_of_torch_is_known():
    assert optimizer_names() == tuple(OPTIMIZERS)
    assert set(RICH) <= set(OPTIMIZERS)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("rich", [False, True], ids=["plain", "rich"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_equals_a_loop_by_hand(name, rich, dtype):
    chosen = RICH.get(name, {}) if rich else {}
    epochs = 8 if name == "LBFGS" else 30  # each has twenty inner iterations
    outcome = descend(Line(), [1, 0], Descent(name, lr=0.01, epochs=epochs, settings=chosen, dtype=dtype))
    same_way(outcome, *by_hand(name, getattr(torch, dtype), epochs=epochs, given={"lr": 0.01, **chosen}))


@pytest.mark.parametrize("name", ["SGD", "Adam", "LBFGS", "Muon", "SparseAdam"])
@pytest.mark.parametrize("batch", [1, 4, 11, 50])
def test_mini_batches_equal_a_loop_by_hand(name, batch):
    given = {"lr": 0.01, **({"max_iter": 3} if name == "LBFGS" else {})}
    descent = Descent(
        name, lr=0.01, epochs=5, batch_size=batch, settings={k: given[k] for k in given if k != "lr"}
    )
    expected = by_hand(name, torch.float64, epochs=5, batch=batch if batch < 11 else None, given=given)
    same_way(descend(Line(), [1, 0], descent), *expected)


def test_the_seed_sets_the_order_of_mini_batches_alone():
    runs = [
        descend(Line(), [1, 0], Descent("SGD", lr=0.01, epochs=5, batch_size=4, seed=s)) for s in (0, 0, 1)
    ]
    assert_array_equal(runs[0].history.loss, runs[1].history.loss)
    assert not np.array_equal(runs[0].history.loss, runs[2].history.loss)


SCHEDULES = {
    "StepLR": {"step_size": 5, "gamma": 0.5},
    "ExponentialLR": {"gamma": 0.9},
    "CosineAnnealingLR": {"T_max": 40},
    "OneCycleLR": {"max_lr": 0.02, "total_steps": 40},
    "ReduceLROnPlateau": {"patience": 2, "factor": 0.5, "threshold": 0.05},
    "LambdaLR": {"lr_lambda": lambda epoch: 1 / (1 + epoch)},
}


@pytest.mark.parametrize("form", ["name", "class", "function"])
@pytest.mark.parametrize("batch", [None, 4])
@pytest.mark.parametrize("scheduler", SCHEDULES)
def test_schedulers_equal_a_loop_by_hand(scheduler, batch, form):
    kind, chosen = getattr(torch.optim.lr_scheduler, scheduler), SCHEDULES[scheduler]
    bound = functools.partial(kind, **chosen)
    given = {"name": scheduler, "class": kind, "function": bound}[form]
    descent = Descent(
        "SGD",
        lr=0.01,
        epochs=40,
        batch_size=batch,
        settings={"momentum": 0.5},
        scheduler=given,
        scheduler_settings={} if form == "function" else chosen,
    )
    expected = by_hand(
        "SGD", torch.float64, epochs=40, batch=batch, schedule=bound, given={"lr": 0.01, "momentum": 0.5}
    )
    same_way(descend(Line(), [1, 0], descent), *expected)
    constant = by_hand("SGD", torch.float64, epochs=40, batch=batch, given={"lr": 0.01, "momentum": 0.5})
    assert not np.array_equal(expected[2], constant[2])


class TestReferenceExample:
    """Eleven readings of two thermometers, as in the textbook."""

    @pytest.mark.parametrize("dtype", ["float64", "float32"])
    def test_first_gradient(self, dtype):
        outcome = descend(Line(T_U), [1, 0], Descent("SGD", lr=1e-4, epochs=1, dtype=dtype))
        expected = {"float32": [4517.2969, 82.6000], "float64": [4517.2964, 82.6000]}[dtype]
        assert [f"{g:.4f}" for g in outcome.history.gradient[0]] == [f"{g:.4f}" for g in expected]
        assert f"{outcome.history.loss[0]:.4f}" in {"1763.8845", "1763.8848", "1763.8846"}

    @pytest.mark.parametrize("dtype", ["float64", "float32"])
    def test_five_thousand_epochs(self, dtype):
        lines = []
        outcome = descend(
            Line(),
            [1, 0],
            Descent("SGD", lr=1e-2, epochs=5000, dtype=dtype),
            callback=epoch_lines(lines.append),
        )
        history = outcome.history
        assert_allclose(history.parameters[history.step == 1], [[1.7761, 0.1064]], atol=5e-5)
        assert_allclose(history.loss[history.step == 499], 7.8601, atol=5e-5)
        assert_allclose(outcome.parameters, [5.3671, -17.3012], atol=5e-5)
        assert_allclose(outcome.loss, 2.9276, atol=5e-5)
        assert outcome.status == "converged"
        assert (history.step[0], history.step[-1]) == (0, 5000)
        assert len(history.step) <= 1000
        assert_allclose([history.loss[0], history.loss[-1]], [80.3643, 2.9276], atol=5e-5)
        assert [line.split(",")[0] for line in lines] == [
            f"Epoch {n}" for n in (1, 2, 3, *range(500, 5001, 500))
        ]
        assert lines[3].startswith("Epoch 500, Loss 7.86012")
        assert lines[-1] == "Epoch 5000, Loss 2.927647"

    @pytest.mark.parametrize("dtype", ["float64", "float32"])
    def test_a_step_too_large_diverges(self, dtype):
        outcome = descend(Line(T_U), [1, 0], Descent("SGD", lr=1e-2, epochs=5000, dtype=dtype))
        assert outcome.status == "diverged"
        assert not outcome.converged
        assert outcome.iterations < 100
        assert outcome.parameters.tolist() == [1, 0]
        assert_allclose(outcome.loss, 1763.8845, rtol=1e-6)
        assert outcome.message == (
            f"The loss is not finite in epoch {outcome.iterations} of SGD (lr 0.01): the best parameters seen are "
            "returned, those after 0 epochs; lower lr or scale the columns."
        )
        assert np.isfinite(outcome.history.loss).all()
        assert np.isfinite(outcome.history.gradient).all()

    @pytest.mark.parametrize("lr", [1e-4, 1e-6, 1e-12])
    def test_a_step_too_small_stalls(self, lr):
        outcome = descend(Line(T_U), [1, 0], Descent("SGD", lr=lr, epochs=1000))
        assert outcome.status == "stalled" or "still falls" in outcome.message
        assert not outcome.converged
        assert outcome.loss > 28

    def test_what_a_stall_says(self):
        outcome = descend(Line(T_U), [1, 0], Descent("SGD", lr=1e-4, epochs=100))
        assert outcome.status == "stalled"
        assert outcome.message == (
            "After 100 epochs of SGD (lr 0.0001) the loss is 29.022, which hardly falls: a Newton step would lower it "
            "by 26, at this pace the work of 28\u202f549 epochs; raise lr or scale the columns."
        )


class TestBounds:
    """Projection after each step."""

    def test_equals_projection_by_hand(self):
        leaf = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
        optimizer, line, way = torch.optim.Adam([leaf], lr=0.3), Line(), []
        for _ in range(50):
            way.append(leaf.tolist())
            optimizer.zero_grad()
            line.loss(leaf, None).backward()
            optimizer.step()
            with torch.no_grad():
                leaf.clamp_(torch.tensor([-np.inf, -2.0]), torch.tensor([2.0, np.inf]))
        outcome = descend(
            line, [1, 0], Descent("Adam", lr=0.3, epochs=50), lower=[-np.inf, -2], upper=[2, np.inf]
        )
        assert_array_equal(outcome.history.parameters[:-1], way)
        assert (outcome.history.parameters[:, 0] == 2).any()

    @pytest.mark.parametrize("name", ["SGD", "Rprop", "SparseAdam"])
    def test_a_minimum_on_a_bound_is_converged(self, name):
        outcome = descend(Line(), [1, 0], Descent(name, lr=0.02, epochs=1000), upper=[3, np.inf])
        best = np.mean(np.array(T_C) - 0.3 * np.array(T_U))
        assert (outcome.history.parameters[:, 0] <= 3).all()
        assert_allclose(outcome.parameters, [3, best], rtol=0.01)
        assert outcome.converged

    def test_a_bound_that_float32_cannot_hold(self):
        outcome = descend(
            Line(), [1, 0], Descent("SGD", lr=0.01, epochs=200, dtype="float32"), upper=[1.1, np.inf]
        )
        assert outcome.parameters[0] <= 1.1

    @pytest.mark.parametrize(
        ("bounds", "says"),
        [
            ({"lower": [2, -9]}, r"Parameter 1 starts at 1, outside its bounds \[2, inf\]"),
            ({"upper": [2, -9]}, r"Parameter 2 starts at 0, outside its bounds \[-inf, -9\]"),
            ({"lower": [0, 1], "upper": [2, -1]}, r"Parameter 2 starts at 0, outside its bounds \[1, -1\]"),
            ({"lower": [np.nan, 0]}, "Parameter 1 starts at 1, outside"),
            ({"lower": [0]}, r"The bounds have shapes \(1,\) and \(2,\), the start has \(2,\)"),
        ],
    )
    def test_wrong_bounds(self, bounds, says):
        with pytest.raises(OptionError, match=says):
            descend(Line(), [1, 0], Descent("SGD"), **bounds)


class TestSurroundings:
    """What is around a descent stays as it is, and does not matter."""

    @pytest.mark.parametrize(
        "around", [torch.no_grad, torch.inference_mode], ids=["no_grad", "inference_mode"]
    )
    @pytest.mark.parametrize("name", ["SGD", "LBFGS"])
    def test_switched_off_gradients(self, name, around):
        descent, objective = Descent(name, lr=0.01, epochs=1, batch_size=6), Line()
        expected = descend(objective, [1, 0], descent)
        with around():
            outcome = descend(objective, [1, 0], descent)
            assert not torch.is_grad_enabled()
        assert_array_equal(outcome.history.parameters, expected.history.parameters)

    def test_global_state(self):
        def state():
            return torch.get_rng_state().tolist(), torch.get_default_dtype(), torch.get_num_threads()

        before = state()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            descend(Line(), [1, 0], Descent("Adam", epochs=5, batch_size=3, dtype="float32"))
        assert state() == before

    def test_the_start_given_is_not_written_to(self):
        start = np.array([1.0, 0.0])
        descend(Line(), start, Descent("SGD", lr=0.01, epochs=3))
        assert start.tolist() == [1, 0]

    @pytest.mark.parametrize(
        "start", [(1, 0), np.array([1, 0], dtype=np.int32), np.array([1, 0], dtype=np.float32)]
    )
    def test_containers_and_dtypes_of_the_start(self, start):
        expected = descend(Line(), [1.0, 0.0], Descent("SGD", lr=0.01, epochs=3)).parameters
        assert_array_equal(
            descend(Line(), start, Descent("SGD", lr=np.float64(0.01), epochs=np.int64(3))).parameters,
            expected,
        )

    def test_torchs_default_rate_is_named(self):
        assert "SGD (torch's default lr 0.001)" in descend(Line(), [1, 0], Descent("SGD", epochs=2)).message
        assert "SGD (lr 0.001)" in descend(Line(), [1, 0], Descent("SGD", lr=1e-3, epochs=2)).message


@pytest.mark.parametrize(
    ("epochs", "every", "written"),
    [
        (20, None, [1, 2, 3, *range(2, 21, 2)]),
        (7, 5, [1, 2, 3, 5, 7]),
        (1, None, [1]),
        (1000, 400, [1, 2, 3, 400, 800, 1000]),
    ],
)
def test_which_epochs_are_written(epochs, every, written):
    lines = []
    descend(Line(), [1, 0], Descent("SGD", lr=0.01, epochs=epochs), callback=epoch_lines(lines.append, every))
    assert [int(line.split()[1].rstrip(",")) for line in lines] == sorted(set(written))


def test_small_losses_are_written_with_a_power_of_ten():
    lines = []
    descend(
        Smooth(lambda p: 1e-9 * (p**2).sum()),
        [1.0],
        Descent("SGD", epochs=1),
        callback=epoch_lines(lines.append),
    )
    assert lines == ["Epoch 1, Loss 1.000000e-09"]
