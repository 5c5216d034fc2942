"""The commands that show how learning works, and their options: shapes, explain, lr."""

from typing import Annotated

import typer

from gradfit._lazy import stage
from gradfit.cli.commands import File, Force, Json, Missing, Sheet, Texts, Where, app


@app.command(short_help="Show what broadcasting makes of shapes.")
def shapes(
    text: Annotated[
        str, typer.Argument(metavar="SHAPES", help='As in "(3,1) * (1,3) * (2,1,1)" or "(5,3) @ (3,2)".')
    ],
    *,
    dtype: Annotated[
        str, typer.Option("--dtype", metavar="NAME", help="What memory is counted in.")
    ] = "float64",
    json: Json = False,
) -> int:
    """Show what broadcasting makes of shapes: aligned from the back, the rule of each dimension, what is repeated, the memory."""
    return stage("cli.explaining").shapes_shown(text, dtype=dtype, as_json=json)


@app.command(short_help="Show one forward and one backward pass.")
def explain(  # noqa: PLR0913  each option of the command is an argument
    file: File,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A formula, or a model of the library.")],
    *,
    start: Annotated[
        Texts, typer.Option("--start", metavar="a=1,b=2", help="Where; a guess, or 1, when left out.")
    ] = None,
    lr: Annotated[
        Texts, typer.Option("--lr", metavar="RATE", help="Learning rates, for what a step of each does.")
    ] = None,
    where: Where = None,
    response: Annotated[
        str | None, typer.Option("--response", metavar="COL", help="The observed column.")
    ] = None,
    missing: Missing = "error",
    sheet: Sheet = None,
    dtype: Annotated[str, typer.Option("--dtype", metavar="NAME", help="float64 or float32.")] = "float64",
    plot: Annotated[
        str | None, typer.Option("--plot", metavar="FILE", help="Write a figure: .png, .svg or .pdf.")
    ] = None,
    json: Json = False,
    force: Force = False,
) -> int:
    """Show one forward and one backward pass: every operation with its value and gradient, and what a step would do.

    Exit code 1: done, but the loss or a gradient is not finite.
    """
    explaining = stage("cli.explaining")
    return explaining.explained(
        explaining.ExplainCommand(
            file=file, model=model, start=start, lr=lr, where=where, response=response, missing=missing, sheet=sheet,
            dtype=dtype, plot=plot, json=json, force=force,
        )
    )  # fmt: skip


@app.command("lr", short_help="Find the learning rate of an optimizer.")
def learning_rate(  # noqa: PLR0913  each option of the command is an argument
    file: File,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A formula, or a model of the library.")],
    *,
    solver: Annotated[
        str, typer.Option("--solver", metavar="NAME", help="Any optimizer of torch.optim.")
    ] = "SGD",
    epochs: Annotated[
        int, typer.Option("--epochs", metavar="N", min=1, help="Of the training that is to come.")
    ] = 1000,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", metavar="N", help="Rows a step of the optimizer.")
    ] = None,
    more: Annotated[
        Texts, typer.Option("--set", metavar="momentum=0.9", help="Settings of the optimizer.")
    ] = None,
    start: Annotated[
        Texts, typer.Option("--start", metavar="a=1,b=2", help="Where; a guess, or 1, when left out.")
    ] = None,
    bounds: Annotated[Texts, typer.Option("--bounds", metavar="a=0:10", help="Limits of parameters.")] = None,
    fix: Annotated[
        Texts, typer.Option("--fix", metavar="c=3", help="Parameters that are not fitted.")
    ] = None,
    sigma: Annotated[
        str | None,
        typer.Option("--sigma", metavar="COL|EXPR", help="Standard deviations of the observations."),
    ] = None,
    where: Where = None,
    missing: Missing = "error",
    response: Annotated[
        str | None, typer.Option("--response", metavar="COL", help="The observed column.")
    ] = None,
    sheet: Sheet = None,
    loss: Annotated[
        str, typer.Option("--loss", metavar="NAME[:SCALE]", help="As for gradfit fit.")
    ] = "squared",
    scale: Annotated[
        str, typer.Option("--scale", metavar="none|auto", help="auto: the rate in standard units.")
    ] = "none",
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Of mini-batches.")] = 0,
    plot: Annotated[
        str | None, typer.Option("--plot", metavar="FILE", help="Write a figure: .png, .svg or .pdf.")
    ] = None,
    json: Json = False,
    force: Force = False,
) -> int:
    """Find the learning rate of an optimizer: by curvature where that decides it, and a range test of the others."""
    rates = stage("cli.rates")
    return rates.surveyed(
        rates.RateCommand(
            file=file, model=model, solver=solver, epochs=epochs, batch_size=batch_size, more=more, start=start,
            bounds=bounds, fix=fix, sigma=sigma, where=where, missing=missing, response=response, sheet=sheet, loss=loss,
            scale=scale, seed=seed, plot=plot, json=json, force=force,
        )
    )  # fmt: skip
