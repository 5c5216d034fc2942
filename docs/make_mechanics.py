"""Writes the pictures of docs/mechanics.md; run it after a change: python docs/make_mechanics.py."""

from pathlib import Path

import numpy as np

import gradfit
from gradfit.figures import data_figure, save
from gradfit.figures.sheet import FIT, GREY, INK, heading, new_figure, own_fonts, style

FOLDER = Path(__file__).with_name("mechanics")
THERMOMETER = Path(__file__).parents[1] / "examples" / "thermometer.csv"
MODEL = "t_c = w*t_u + b"
SECOND = "#b34700"
HIGHEST = 1e8  # of the losses that are drawn


def main() -> None:
    """Write every picture."""
    FOLDER.mkdir(exist_ok=True)
    table = gradfit.read(THERMOMETER)
    scaled = {"t_un": 0.1 * table.columns["t_u"], "t_c [°C]": table.columns["t_c"]}
    save(data_figure(table, "t_u", "t_c"), FOLDER / "data.png", force=True)
    seen = gradfit.explain(MODEL, table, start=[1, 0], lr=[1e-2, 1e-4])
    save(seen.plot(), FOLDER / "pass.png", force=True)
    runs = {
        "lr 0.01: every step is larger\nthan the one before": trained(MODEL, table, 1e-2, 100),
        "lr 0.0001: w is learnt,\nb hardly moves": trained(MODEL, table, 1e-4, 5000),
        "lr 0.01 with t_un = 0.1 t_u": trained("t_c = w*t_un + b", scaled, 1e-2, 5000),
    }
    save(rates_figure(runs), FOLDER / "rates.png", force=True)
    learnt = gradfit.fit("t_c = w*t_un + b", scaled, start=[1, 0], solver="SGD", lr=1e-2, epochs=5000)
    save(learnt.plot(), FOLDER / "learnt.png", force=True)


def trained(model: str, data: object, lr: float, epochs: int) -> tuple[np.ndarray, np.ndarray]:
    """Return epochs of plain gradient descent from (1, 0), and their losses."""
    history = gradfit.fit(model, data, start=[1, 0], solver="SGD", lr=lr, epochs=epochs).history
    return history.step, history.loss


def rates_figure(runs: dict[str, tuple[np.ndarray, np.ndarray]]):
    """Return a figure of losses against epochs, each named at its end."""
    looks = [(SECOND, "--"), (INK, ":"), (FIT, "-")]
    with style():
        figure = new_figure(2.9)
        top = heading(
            figure, ["The same line learnt three ways"], ["Mean squared error by epoch, from w = 1, b = 0"]
        )
        height = figure.get_figheight()
        axes = figure.add_axes((0.09, 0.42 / height, 0.62, 1 - (top + 0.75) / height))
        for (words, (epochs, losses)), (color, line) in zip(runs.items(), looks, strict=True):
            shown = losses[losses <= HIGHEST]
            steps = epochs[losses <= HIGHEST] + 1
            axes.plot(steps, shown, color=color, ls=line, lw=2)
            steep = len(shown) < len(losses)
            axes.annotate(
                words, (steps[-1], shown[-1]), (8, 6 if steep else 0), textcoords="offset points", color=color, fontsize=9,
                va="center", annotation_clip=False,
            )  # fmt: skip
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylim(1, HIGHEST)
        axes.set_xlim(1, 5200)
        axes.minorticks_off()
        axes.set_xticks([1, 10, 100, 1000], labels=["0", "9", "99", "999"])
        axes.set_yticks([1, 1e2, 1e4, 1e6, 1e8], labels=["1", "100", "10⁴", "10⁶", "10⁸"])
        axes.annotate(
            "loss, °C²",
            (0, 1),
            (0, 8),
            xycoords="axes fraction",
            textcoords="offset points",
            color=GREY,
            fontsize=9,
        )
        axes.set_xlabel("epoch", loc="right")
        own_fonts(figure)
    return figure


if __name__ == "__main__":
    main()
