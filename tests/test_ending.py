"""What first-order training calls converged, and how it ends otherwise; the history that is kept."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from objectives import T_C, T_U, Line, Smooth, by_hand

from gradfit.solve.descent import Descent
from gradfit.solve.outcome import History, kept_steps
from gradfit.solve.stepping import descend


class TestConvergence:
    """What may call itself converged."""

    @settings(max_examples=20, deadline=None)
    @given(
        st.integers(0, 10**6),
        st.sampled_from([1, 2, 4]),
        st.floats(-6, 6),
        st.sampled_from(["SGD", "Adam", "Rprop", "LBFGS"]),
        st.sampled_from([1e-9, 1e-4, 1e-2, 1.0]),
        st.integers(1, 80),
    )
    def test_converged_means_at_the_minimum(self, seed, k, unit, name, lr, epochs):
        rng = np.random.default_rng(seed)
        X, y = rng.normal(size=(30, k)), 10**unit * rng.normal(size=30)
        design, observed = torch.tensor(X), torch.tensor(y)
        objective = Smooth(lambda p: ((design.to(p.dtype) @ p - observed.to(p.dtype)) ** 2).mean(), rows=30)
        outcome = descend(objective, np.zeros(k), Descent(name, lr=lr, epochs=epochs))
        _, rss, _, _ = np.linalg.lstsq(X, y, rcond=None)
        excess = outcome.loss * 30 / rss[0] - 1
        if outcome.converged:
            assert excess <= 0.03**2 * k / (30 - k) * 1.001
        else:
            assert excess > 0 or outcome.status == "diverged"

    @pytest.mark.parametrize(
        ("name", "lr", "epochs"), [("SGD", 0.05, 1500), ("Adam", 0.05, 1500), ("LBFGS", 1, 20)]
    )
    def test_data_without_noise(self, name, lr, epochs):
        line = Line([1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 5.0, 7.0])
        outcome = descend(line, [0, 0], Descent(name, lr=lr, epochs=epochs))
        assert outcome.converged
        assert_allclose(outcome.parameters, [2, -1], rtol=2e-6)

    @pytest.mark.parametrize(
        ("function", "start", "status", "says"),
        [
            (lambda p: (p[0] ** 2 - p[1] ** 2) + 0 * p.sum(), [0.0, 0.0], "epochs-done", "no minimum nearby"),
            (
                lambda p: (p[0] - 3) ** 2 + 1 + 0 * p[1],
                [3.0, 5.0],
                "converged",
                "Newton step would lower it by 0",
            ),
            (
                lambda p: (p[0] * p[1] - 6) ** 2 + 1,
                [2.0, 3.0],
                "converged",
                "Newton step would lower it by 0",
            ),
            (lambda p: p.sum(), [1.0, 1.0], "epochs-done", "still changes"),
            (lambda p: torch.exp(-p[0]) + 0 * p[1], [-5.0, 0.0], "epochs-done", "still falls"),
            (lambda p: 1e-30 * p[0] ** 2 + (p[1] - 1) ** 2 + 1, [1e15, 0.0], "stalled", "hardly falls"),
        ],
        ids=["saddle", "unused", "ridge", "plane", "no-minimum", "flat-valley"],
    )
    def test_shapes_of_losses(self, function, start, status, says):
        outcome = descend(Smooth(function), start, Descent("SGD", lr=0.05, epochs=200))
        assert (outcome.status, says in outcome.message) == (status, True), outcome.message

    def test_a_bouncing_step_is_not_converged(self):
        outcome = descend(
            Smooth(lambda p: p.abs().sum() + 1e-3 * (p**2).sum()), [1.03], Descent("SGD", lr=0.5, epochs=301)
        )
        assert outcome.status in {"stalled", "epochs-done"}

    @pytest.mark.parametrize("epochs", [3, 800])
    def test_many_parameters_are_judged_by_change(self, epochs):
        target = torch.linspace(-1, 1, 60, dtype=torch.float64)
        objective = Smooth(lambda p: ((p - target) ** 2).mean() + 1)
        outcome = descend(objective, np.full(60, 2.0), Descent("SGD", lr=2.0, epochs=epochs))
        assert outcome.converged == (epochs == 800)

    def test_a_model_without_second_derivatives(self):
        x = np.array(T_U) * 0.1

        class Foreign(torch.autograd.Function):
            @staticmethod
            def forward(_ctx, parameters):
                return torch.from_numpy(parameters.detach().numpy()[0] * x + parameters.detach().numpy()[1])

            @staticmethod
            @torch.autograd.function.once_differentiable
            def backward(_ctx, above):
                return torch.from_numpy(np.array([above.numpy() @ x, above.numpy().sum()]))

        y = torch.tensor(T_C, dtype=torch.float64)
        objective = Smooth(lambda p: ((Foreign.apply(p) - y) ** 2).mean(), rows=11)
        for epochs, status in ((50, "epochs-done"), (800, "converged")):
            outcome = descend(
                objective, [1, 0], Descent("SGD", lr=0.02, settings={"momentum": 0.9}, epochs=epochs)
            )
            assert outcome.status == status, outcome.message

    def test_growth_without_overflow_is_diverged(self):
        outcome = descend(Smooth(lambda p: (p**2).mean() + 1), [1.0], Descent("SGD", lr=1.01, epochs=100))
        assert outcome.status == "diverged"
        assert outcome.message.startswith("The loss grew from 2.0000 to ")
        assert outcome.parameters.tolist() == [1.0]
        assert outcome.history.step[-1] == 100


class TestStopping:
    """Ctrl-C, callbacks, and values that are no numbers."""

    @pytest.mark.parametrize("when", [1, 2, 3, 40, 100, 101, 102, 103])
    def test_an_interrupt_keeps_the_best_so_far(self, when):
        line, calls = Line(), []

        class Interrupted:
            rows = line.rows

            def loss(self, parameters, rows):
                calls.append(None)
                if len(calls) == when:
                    raise KeyboardInterrupt
                return line.loss(parameters, rows)

        outcome = descend(Interrupted(), [1, 0], Descent("SGD", lr=0.01, epochs=100))
        assert outcome.status == "interrupted"
        done = min(when - 1, 100)
        assert outcome.message.startswith(f"Interrupted after {done} of 100 epochs of SGD (lr 0.01): ")
        assert outcome.iterations == done
        losses = by_hand("SGD", torch.float64, epochs=100)[0]
        assert outcome.loss == losses[: max(done, 1)].min()
        assert outcome.history.step[-1] == max(done - 1, 0)

    def test_an_interrupted_best_is_not_the_last(self):
        def stop(progress):
            if progress.epoch == 30:
                raise KeyboardInterrupt

        outcome = descend(Line(), [1, 0], Descent("SGD", lr=0.2, epochs=100), callback=stop)
        assert outcome.parameters.tolist() == [1, 0]
        assert outcome.loss < outcome.history.loss[-1]

    def test_a_callback_sees_each_epoch_and_may_stop(self):
        seen = []

        def callback(progress):
            seen.append((progress.epoch, progress.loss, *progress.parameters, *progress.gradient))
            return progress.loss < 20

        outcome = descend(Line(), [1, 0], Descent("SGD", lr=0.01, epochs=500), callback=callback)
        losses, gradients, way = by_hand("SGD", torch.float64, epochs=len(seen))
        assert_allclose(
            seen, np.column_stack([np.arange(1, len(seen) + 1), losses, way[:-1], gradients]), rtol=1e-12
        )
        assert outcome.iterations == len(seen) < 500
        assert_array_equal(outcome.parameters, way[-1])
        assert outcome.message.startswith(f"Stopped by the callback: after {len(seen)} epochs")
        assert outcome.status == "epochs-done"

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_no_number_at_the_start(self, value):
        outcome = descend(Smooth(lambda p: (p * value).sum()), [1.0, 2.0], Descent("Adam"))
        assert (outcome.status, outcome.parameters.tolist()) == ("diverged", [1, 2])
        assert outcome.message == (
            "The loss is not finite at the start of Adam (torch's default lr 0.001): the start is returned."
        )
        assert_array_equal(outcome.history.step, [0])

    def test_a_gradient_that_is_no_number(self):
        outcome = descend(
            Smooth(lambda p: torch.sqrt(p[0] - 1) + p[1] ** 2), [1.0, 1.0], Descent("SGD", lr=0.1)
        )
        assert outcome.status == "diverged"
        assert outcome.parameters.tolist() == [1.0, 1.0]

    def test_parameters_that_leave_the_numbers_unseen_by_the_loss(self):
        def hidden(p):
            return torch.where(p[0] > 0, p[1] ** 2, torch.sqrt(p[0] * 0) + p[1] ** 2)

        outcome = descend(Smooth(hidden), [-1.0, 1.0], Descent("SGD", lr=0.1, epochs=20))
        assert np.isfinite(outcome.parameters).all()
        assert outcome.status == "diverged"

    @pytest.mark.parametrize("scale", [1e-300, 1e-150, 1e150, 1e300])
    def test_extreme_values_end_in_a_sentence(self, scale):
        outcome = descend(Line(y=scale * np.array(T_C)), [scale, 0], Descent("Adam", lr=0.01, epochs=20))
        assert np.isfinite(outcome.parameters).all()
        assert outcome.message.endswith(".")

    def test_one_row(self):
        outcome = descend(Line([2.0], [6.0]), [1, 0], Descent("SGD", lr=0.1, epochs=200))
        assert outcome.converged
        assert_allclose(outcome.parameters @ [2, 1], 6)


class TestHistory:
    """Thinning."""

    @given(st.integers(0, 10**7))
    def test_kept_steps(self, total):
        kept = kept_steps(total)
        assert (kept[0], kept[-1]) == (0, total)
        assert (np.diff(kept) > 0).all()
        assert len(kept) <= 1001
        assert total > 1000 or len(kept) == total + 1

    def test_points_are_thinned(self):
        points = [(n, float(n), [n, 2 * n], [0.0, n]) for n in range(3001)]
        history = History.of(points)
        assert_array_equal(history.step, kept_steps(3000))
        assert_array_equal(history.loss, history.step)
        assert_array_equal(history.gradient, np.column_stack([history.step, 2 * history.step]))

    def test_no_points(self):
        assert History.of([]).step.shape == (0,)
