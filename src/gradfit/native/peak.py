"""What this machine can do at most, and how much of it the sums of a model ask for: the two sides of a share of the peak.

A flop is an addition, a subtraction, a product, a quotient or a square root of two numbers of 64 bits; a fused
multiply-add is two. Comparisons, selections, signs, rounding to whole numbers and work on bits are none.
"""

import ctypes
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradfit._lazy import ir
from gradfit.graph import Graph
from gradfit.native.code import Code
from gradfit.native.compiled import lanes, library
from gradfit.native.evaluate import Evaluation
from gradfit.native.sums import Sums, wanted

CHAINS = 12  # independent ones: two multiply-adds a cycle, each four to five cycles long, and registers for all of them
TURNS = 8  # of each chain between two looks at the loop's counter
_FLOPS = {"fadd": 1, "fsub": 1, "fmul": 1, "fdiv": 1}
_CALLED = {"llvm.fma": 2, "llvm.sqrt": 1}
_KEPT = ("store", "br", "ret")  # what is done for its effect


def peak(seconds: float = 0.1) -> float:
    """Return the GFLOP/s that one core reaches with fused multiply-adds in its registers, the best of several rounds.

    Parameters
    ----------
    seconds : float
        To spend, about.
    """
    width = lanes()
    code = library(f"peak {CHAINS} {TURNS} {width}", lambda module: _write_chains(module, width))
    run = code.function("chains", [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64])
    numbers, out = np.array([1 - 1e-9, 1e-9]), np.empty(width)
    turns, best, began = 1000, 0.0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        start = time.perf_counter()
        run(numbers.ctypes.data, out.ctypes.data, turns)
        took = time.perf_counter() - start
        best = max(best, 2 * turns * TURNS * CHAINS * width / took)
        turns = turns if took > seconds / 20 else 2 * turns
    return best / 1e9


def _write_chains(module: "ir.Module", width: int) -> None:
    code = Code(module, "chains", pointers=("numbers", "out"), numbers=("turns",))
    factor, addend = (code.spread(code.load("numbers", k), width) for k in range(2))
    chains = [code.cell(code.spread(code.load("numbers", 0) * float(k), width)) for k in range(CHAINS)]
    with code.loop(0, code.number("turns")):
        for _ in range(TURNS):
            for chain in chains:
                chain.set(chain.get().times(factor, addend))
    total = chains[0].get()
    for chain in chains[1:]:
        total = total + chain.get()
    code.store("out", 0, total)
    code.finish()


def flops(graph: Graph, free: Sequence[int]) -> int:
    """Return the flops of a point in one evaluation: the model, its derivatives, and the sums of a Gauss-Newton step.

    They are counted in the code that is written, so that an `exp` is as many as its own code has; a function of the C
    library counts as one. What depends on parameters alone is computed once, and the solve once a step: neither counts.
    """
    module = ir.Module("flops")
    columns = [f"x{k}" for k in range(len(graph.variables))]
    code = Code(module, "point", pointers=(*columns, "y", "parameters", "out"))
    evaluation = Evaluation(code, graph, wanted(graph, free), lanes=1)
    evaluation.settle([code.load("parameters", j) for j in range(len(graph.parameters))])
    sums = Sums(code, graph, free, evaluation)
    before = {id(i) for block in code.function.blocks for i in block.instructions}
    sums.add(evaluation.at([code.load(name) for name in columns]), code.load("y"))
    return sum(_worth(i) for i in _needed(code.function) if id(i) not in before)


def _needed(function: Any) -> list[Any]:
    """Return the instructions that something is done with."""
    every = [i for block in function.blocks for i in block.instructions]
    todo, seen = [i for i in every if i.opname.startswith(_KEPT)], dict[int, Any]()
    while todo:
        instruction = todo.pop()
        if id(instruction) not in seen:
            seen[id(instruction)] = instruction
            todo += [part for part in instruction.operands if isinstance(part, ir.Instruction)]
    return list(seen.values())


def _worth(instruction: Any) -> int:
    if instruction.opname != "call":
        return _FLOPS.get(instruction.opname, 0)
    name = str(instruction.callee.name)
    if name.startswith("llvm."):
        return _CALLED.get(name.rpartition(".")[0], 0)
    return 1
