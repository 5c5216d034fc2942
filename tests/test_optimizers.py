"""The forms in which an optimizer or scheduler may be given, and a sentence for each mistake."""

import functools
import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from objectives import OPTIMIZERS, RICH, Line, Smooth

from gradfit.errors import ModelError, OptionError
from gradfit.solve.descent import Descent
from gradfit.solve.stepping import descend


def test_an_optimizer_may_be_a_class_an_instance_or_a_function():
    own = torch.tensor([5.0, 6.0, 7.0], requires_grad=True)
    instance = torch.optim.SGD([own], lr=torch.tensor(0.01, dtype=torch.float64), momentum=0.9)
    forms = [
        Descent("SGD", lr=0.01, settings={"momentum": 0.9}, epochs=30),
        Descent(torch.optim.SGD, lr=0.01, settings={"momentum": 0.9}, epochs=30),
        Descent(instance, epochs=30),
        Descent(functools.partial(torch.optim.SGD, lr=0.01, momentum=0.9), epochs=30),
        Descent(lambda tensors: torch.optim.SGD(tensors, lr=0.01, momentum=0.9), epochs=30),
        Descent(torch.optim.SGD([own], lr=1.0, momentum=0.9), lr=0.01, epochs=30),
    ]
    ways = [descend(Line(), [1, 0], form).history.parameters for form in forms]
    for way in ways[1:]:
        assert_array_equal(way, ways[0])
    decayed = Descent(instance, epochs=30, scheduler="ExponentialLR", scheduler_settings={"gamma": 0.5})
    assert not np.array_equal(descend(Line(), [1, 0], decayed).parameters, ways[0][-1])
    assert own.tolist() == [5, 6, 7]
    assert own.grad is None
    assert instance.param_groups[0]["lr"].item() == 0.01
    assert not instance.state


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_instance_of_every_optimizer_gives_its_settings(name):
    kind = getattr(torch.optim, name)
    instance = kind([torch.zeros(2, 2)], **{"lr": 0.01, **RICH.get(name, {})})
    chosen = RICH.get(name, {})
    by_name = descend(Line(), [1, 0], Descent(name, lr=0.01, epochs=5, settings=chosen))
    assert_array_equal(descend(Line(), [1, 0], Descent(instance, epochs=5)).parameters, by_name.parameters)


def test_an_optimizer_of_ones_own():
    class Signs(torch.optim.Optimizer):
        def __init__(self, params, size):
            super().__init__(params, {"size": size})

        @torch.no_grad()
        def step(self):
            for group in self.param_groups:
                for tensor in group["params"]:
                    tensor -= group["size"] * tensor.grad.sign()

    outcome = descend(Line(), [1, 0], Descent(Signs, settings={"size": 0.5}, epochs=2))
    assert outcome.parameters.tolist() == [2.0, 1.0]
    assert "Signs" in outcome.message
    with pytest.raises(OptionError, match="Signs has no setting 'lr'"):
        descend(Line(), [1, 0], Descent(Signs, lr=0.5, settings={"size": 0.5}))


class TestMistakes:
    """A sentence for each."""

    @pytest.mark.parametrize(
        ("given", "says"),
        [
            ({"optimizer": "Adm"}, "no optimizer 'Adm' in this torch.\nDid you mean Adam, RAdam or NAdam"),
            ({"optimizer": "sgd"}, "no optimizer 'sgd' in this torch.\nDid you mean SGD?"),
            ({"optimizer": "qqq"}, "no optimizer 'qqq' in this torch.\nThere are ASGD, Adadelta"),
            ({"optimizer": "Optimizer"}, "no optimizer 'Optimizer'"),
            ({"optimizer": 3}, "The optimizer is 3, which is not a name, class, instance or function."),
            ({"optimizer": dict}, "The class dict is not an optimizer of torch."),
            ({"optimizer": lambda _: 3}, "returned int, not an optimizer of torch"),
            (
                {"optimizer": lambda _: torch.optim.SGD([torch.zeros(1)])},
                "for other tensors than the fit's",
            ),
            (
                {"optimizer": functools.partial(torch.optim.SGD, lr=1), "lr": 2},
                "lr=2.0 is given beside a function that makes the optimizer",
            ),
            (
                {"optimizer": torch.optim.SGD([{"params": torch.zeros(1)}, {"params": torch.zeros(2)}])},
                "The SGD given has 2 parameter groups, but a fit has one",
            ),
            ({"settings": {"momentun": 0.9}}, "SGD has no setting 'momentun'.\nDid you mean momentum?"),
            (
                {"settings": {"momentum": -1}},
                "SGD cannot be made with momentum=-1: Invalid momentum value: -1",
            ),
            (
                {"settings": {"nesterov": True}},
                "SGD cannot be made with nesterov=True: Nesterov momentum requires",
            ),
            ({"settings": {"maximize": True}}, "SGD is told to maximize, but a fit makes the loss small"),
            ({"settings": {"differentiable": True}}, "SGD cannot make a step: "),
            ({"settings": {"lr": 0.1}}, "lr is among the optimizer's settings"),
            ({"optimizer": "Muon", "settings": {"ns_steps": 1000}}, "Muon cannot"),
            ({"lr": 0}, "lr is 0.\nGive a positive number"),
            ({"lr": -1e-2}, "lr is -0.01."),
            ({"lr": math.nan}, "lr is nan."),
            ({"lr": math.inf}, "lr is inf."),
            ({"lr": "0.1"}, "lr is '0.1'."),
            ({"lr": True}, "lr is True."),
            ({"epochs": 0}, "epochs is 0.\nGive a whole number from 1 up."),
            ({"epochs": 2.5}, "epochs is 2.5."),
            ({"epochs": None}, "epochs is None."),
            ({"batch_size": 0}, "batch_size is 0."),
            ({"seed": -1}, "seed is -1.\nGive a whole number from 0 up."),
            ({"dtype": "float16"}, "dtype is 'float16'."),
            ({"scheduler": "StepRL"}, "no scheduler 'StepRL' in this torch.\nDid you mean StepLR"),
            ({"scheduler": 3}, "The scheduler is 3, which is not a name, class or function."),
            (
                {"scheduler": "StepLR"},
                "StepLR cannot be made with its own settings: .*step_size.*\n.*step_size must be given",
            ),
            (
                {"scheduler": "StepLR", "scheduler_settings": {"stepsize": 3}},
                "StepLR has no setting 'stepsize'.\nDid you mean step_size",
            ),
            (
                {"scheduler": lambda _: None, "scheduler_settings": {"gamma": 1}},
                "scheduler_settings has gamma, but the scheduler is a function",
            ),
            (
                {"scheduler": lambda _: None},
                "The scheduler function returned NoneType, which has no step",
            ),
            (
                {"scheduler_settings": {"gamma": 0.5}},
                "scheduler_settings has gamma, but there is no scheduler",
            ),
            (
                {
                    "scheduler": "OneCycleLR",
                    "scheduler_settings": {"max_lr": 1, "total_steps": 50},
                    "settings": {"momentum": 0.9},
                },
                "OneCycleLR ends after 50 steps, before the last of 1000 epochs.\nGive total_steps=1000.",
            ),
        ],
    )
    def test_sentences(self, given, says):
        with pytest.raises(OptionError, match=f"(?s){says}"):
            descend(Line(), [1, 0], Descent(**{"optimizer": "SGD", **given}))

    @pytest.mark.parametrize("start", [[], [[1, 0]], [1, math.nan], [math.inf, 0], 1.0])
    def test_starts(self, start):
        with pytest.raises(OptionError, match="The start is "):
            descend(Line(), start, Descent("SGD"))

    def test_a_start_beyond_float32(self):
        with pytest.raises(OptionError, match=r"too large for float32\.\nUse float64\."):
            descend(Line(), [1e300, 0], Descent("SGD", dtype="float32"))

    @pytest.mark.parametrize("function", [lambda _: torch.tensor(1.0), lambda p: (p.detach() ** 2).sum()])
    def test_a_loss_that_forgets_the_parameters(self, function):
        with pytest.raises(ModelError, match="does not depend on the parameters in a way that torch can"):
            descend(Smooth(function), [1, 0], Descent("SGD"))
