"""Rows and modules that the tests of networks share."""

import numpy as np
import torch


def wave(n=120, seed=0):
    """Return two inputs and a curved surface with noise of 0.1."""
    draw = np.random.default_rng(seed)
    a, b = draw.normal(size=(2, n))
    return {"a": a, "b": b, "y": np.sin(a) * b + draw.normal(0, 0.1, n)}


def sequential(*layers, seed=0):
    """Return layers with weights drawn from `seed`: the layers are given as functions."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return torch.nn.Sequential(*[layer() for layer in layers])


def dense(inputs=2, units=8, outputs=1, seed=0, activation=torch.nn.Tanh):
    """Return a network with one hidden layer."""
    return sequential(
        lambda: torch.nn.Linear(inputs, units), activation, lambda: torch.nn.Linear(units, outputs), seed=seed
    )


def same_bits(one, other):
    """Whether two modules have the same weights to the last bit."""
    mine, theirs = one.state_dict(), other.state_dict()
    return list(mine) == list(theirs) and all(torch.equal(mine[name], theirs[name]) for name in mine)
