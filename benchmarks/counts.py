"""Measures the findings on fits of counts: false alarms on healthy ones, and how often overdispersion is found.

    python benchmarks/counts.py                    # 8,000 healthy fits, 1,500 of each dispersion: 2 minutes
    python benchmarks/counts.py --healthy 500 --sick 100

A fit is healthy when its design determines each parameter to 25 % (one standard error; those of an exponential of a line, and
slopes, are not asked), counts are Poisson's, and there are at least four degrees of freedom.
"""

import argparse
from collections import Counter

import numpy as np

import gradfit
from gradfit.binding import bind

PEAK = "exp(-(x - {})**2/(2*s**2))"
TWO = f"y = a*{PEAK.format(3)} + b*{PEAK.format(7)} + c + d*x"
UNASKED = ("d", "b0", "b1")


def designs(g, size):
    """Return the formulas with parameters drawn for a mean count of `size`."""
    u = g.uniform
    return [
        ("y = a + 0*x", {"a": size}),
        ("y = a*x + c", {"a": size * u(0.02, 0.3), "c": size * u(0.2, 1)}),
        ("y = a*exp(-x/tau) + c", {"a": size, "tau": u(0.7, 5), "c": size * u(0.02, 0.5)}),
        (
            f"y = a*{PEAK.format('m')} + c",
            {"a": size, "m": u(3, 7), "s": u(0.4, 1.5), "c": size * u(0.01, 0.5)},
        ),
        ("y = exp(b0 + b1*x)", {"b0": np.log(size), "b1": u(-0.4, 0.2)}),
        (
            TWO,
            {
                "a": size,
                "b": size * u(0.2, 1),
                "s": u(0.4, 1),
                "c": size * u(0.05, 0.5),
                "d": size * u(-0.004, 0.03),
            },
        ),
        ("y = a*(1 + v*sin(w*x))", {"a": size, "v": u(0.3, 0.7), "w": u(1.5, 3)}),
    ]


def healthy(model, x, p):
    """Return the mean counts, None where the design does not determine the parameters."""
    names = list(p)
    mean, jacobian = model.kernel("numpy").value_jacobian([x], np.array(list(p.values())))
    if not (mean > 0).all() or len(x) - len(p) < 4:
        return None
    scaled = jacobian * np.array(list(p.values())) / np.sqrt(mean)[:, None]
    try:
        variance = np.diag(np.linalg.inv(scaled.T @ scaled))
    except np.linalg.LinAlgError:
        return None
    asked = [j for j, name in enumerate(names) if name not in UNASKED]
    return mean if (variance > 0).all() and (variance[asked] < 0.25**2).all() else None


def counted(fits, excess, seed):
    """Return how often each code was raised among fits of counts with variance (1 + excess) times the mean."""
    g, raised, done = np.random.default_rng(seed), Counter(), 0
    models = {}
    while done < fits:
        n = int(np.exp(g.uniform(np.log(10), np.log(600))))
        x = np.sort(g.uniform(0, 10, n)) if g.random() < 0.5 else np.linspace(0, 10, n)
        drawn = designs(g, float(np.exp(g.uniform(np.log(0.1), np.log(1e4)))))
        formula, p = drawn[g.integers(len(drawn))]
        if formula not in models:
            models[formula] = bind(formula, gradfit.read({"x": x, "y": x}), "y")
        model = models[formula]
        mean = healthy(model, x, {name: p[name] for name in model.parameters})
        if mean is None:
            continue
        y = g.poisson(g.gamma(mean / excess, excess) if excess else mean)
        if not y.any():
            continue
        start = {name: value * (1 + (0.01 if name == "w" else 0.1) * g.normal()) for name, value in p.items()}
        result = gradfit.fit(formula, {"x": x, "y": y}, loss="poisson", start=start)
        codes = [f.code for f in result.findings if f.severity != "info"]
        raised.update([*codes, *(["any"] if codes else [])])
        raised.update(
            ["50 rows or more"] * (n >= 50) + ["found in these"] * (n >= 50 and "overdispersion" in codes)
        )
        done += 1
    return raised


def main():
    """Print the figures of docs/findings.md."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--healthy", type=int, default=8000)
    parser.add_argument("--sick", type=int, default=1500)
    args = parser.parse_args()
    for fits, excess in ((args.healthy, 0), (args.sick, 1), (args.sick, 3)):
        raised = counted(fits, excess, seed=12 + excess)
        print(f"variance {1 + excess} times the mean, {fits} fits: {dict(raised.most_common())}")


if __name__ == "__main__":
    main()
