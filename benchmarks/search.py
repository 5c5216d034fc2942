"""The search for start values: NIST's nonlinear sets and simulated curves of many kinds, in any units, without any start.

python benchmarks/search.py                       # both executors, 20 data sets a kind: 10 minutes
python benchmarks/search.py --each 5 --executors native
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import gradfit

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from answers import NIST
from simulated import KINDS, found, simulated

EXECUTORS = ("numpy", "native")


def timed(formula: str, data: object, executor: str) -> tuple[float, gradfit.FitResult]:
    """Return the seconds that a fit takes, processor time of all threads, and the fit."""
    began = time.process_time()
    result = gradfit.fit(formula, data, executor=executor)
    return time.process_time() - began, result


def reached(case, result) -> bool:
    """Return whether the certified minimum was reached; Lanczos1 has no noise, so that its loss is rounding."""
    return abs(result.rss / case.rss - 1) < (1e-2 if case.name == "Lanczos1" else 1e-6)


def certified(executors: tuple[str, ...]) -> list[str]:
    """Return lines of a table: NIST's nonlinear sets without start values."""
    head = "".join(f" {name}: s | draws | refined | reached |" for name in executors)
    lines = [f"| set |{head}", "|---|" + "---|" * 4 * len(executors)]
    total, right = dict.fromkeys(executors, 0.0), dict.fromkeys(executors, 0)
    for case in NIST:
        if case.linear:
            continue
        cells = []
        for name in executors:
            timed(case.formula, case.path, name)
            seconds, result = timed(case.formula, case.path, name)
            total[name] += seconds
            right[name] += reached(case, result)
            missed = "" if reached(case, result) else " **missed**"
            starts = result.starts
            cells.append(f" {seconds:.3f}{missed} | {starts.tried} | {starts.refined} | {starts.reached} |")
        lines.append(f"| {case.name} |" + "".join(cells))
    return [
        *lines,
        "| all |" + "".join(f" {total[name]:.1f} | {right[name]} of 27 | | |" for name in executors),
    ]


def study(executors: tuple[str, ...], each: int, first: int) -> list[str]:
    """Return lines of a table: simulated data sets whose minimum was found, and how many were told to have a rival."""
    head = "".join(f" {name}: found | median s | longest s |" for name in executors)
    lines = [f"| kind |{head} rivals |", "|---|" + "---|" * (3 * len(executors) + 1)]
    total, rivals = dict.fromkeys(executors, 0), 0
    for kind in KINDS:
        cells, told = [], 0
        for name in executors:
            seconds, right = list[float](), 0
            for seed in range(first, first + each):
                case = simulated(kind, seed)
                spent, result = timed(case.formula, case.data, name)
                seconds.append(spent)
                right += found(case, result)
                told += name == executors[-1] and any("Another minimum" in text for text in result.how)
            total[name] += right
            middle = statistics.median(seconds)
            cells.append(f" {right} of {each} | {middle:.3f} | {sorted(seconds[1:] or seconds)[-1]:.3f} |")
        rivals += told
        lines.append(f"| {kind} |" + "".join(cells) + f" {told} |")
        print(lines[-1], file=sys.stderr, flush=True)
    fits = each * len(KINDS)
    shares = "".join(f" {total[name]} of {fits}, {total[name] / fits:.1%} | | |" for name in executors)
    return [*lines, f"| all |{shares} {rivals} |"]


def main() -> None:
    """Print both tables."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--each", type=int, default=20, help="data sets of each kind")
    options.add_argument("--first", type=int, default=0, help="seed of the first")
    options.add_argument("--executors", nargs="+", default=list(EXECUTORS), choices=EXECUTORS)
    chosen = options.parse_args()
    executors = tuple(chosen.executors)
    print("\n".join([*certified(executors), "", *study(executors, chosen.each, chosen.first)]))


if __name__ == "__main__":
    main()
