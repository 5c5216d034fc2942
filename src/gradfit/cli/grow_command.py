"""The command gradfit grow and its options; what it does is in `growing`, imported when it runs."""

from typing import Annotated

import typer

from gradfit._lazy import stage
from gradfit.cli.commands import File, Force, Json, Missing, Sheet, Texts, Where
from gradfit.cli.learning_commands import app


@app.command(short_help="Grow a model until it fits and no further.")
def grow(  # noqa: PLR0913  each option of the command is an argument
    file: File,
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help='"y ~ polynomial(x)", gaussians(x), exponentials(t), fourier(t, period=24) or network(x1, x2).',
        ),
    ],
    *,
    sizes: Annotated[
        str | None,
        typer.Option("--sizes", metavar="8|0:8|1,2,4", help="Degrees, terms or hidden units to try."),
    ] = None,
    kfold: Annotated[
        int | None, typer.Option("--kfold", metavar="K", min=2, help="Folds of cross-validation; 5.")
    ] = None,
    validation: Annotated[
        float | None,
        typer.Option("--validation", metavar="SHARE", help="Hold out a share, instead of folds."),
    ] = None,
    groups: Annotated[
        str | None, typer.Option("--groups", metavar="COL", help="Rows of one group stay together.")
    ] = None,
    order: Annotated[
        str | None, typer.Option("--order", metavar="COL", help="Hold out what comes later, by this column.")
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option("--seeds", metavar="N", min=1, help="How often rows are dealt and fits begun anew."),
    ] = None,
    rule: Annotated[
        str,
        typer.Option(
            "--rule", metavar="one-se|best", help="The smallest within a standard error, or the best."
        ),
    ] = "one-se",
    sigma: Annotated[
        str | None, typer.Option("--sigma", metavar="COL|EXPR", help="Known standard deviations.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option("--weights", metavar="COL|EXPR", help="Relative weights.")
    ] = None,
    where: Where = None,
    exclude: Annotated[
        Texts, typer.Option("--exclude", metavar="3,17", help="Rows to leave out, from 1.")
    ] = None,
    missing: Missing = "error",
    sheet: Sheet = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Of everything random.")] = 0,
    save: Annotated[str | None, typer.Option("--save", metavar="FILE", help="Write the chosen fit.")] = None,
    report: Annotated[str | None, typer.Option("--report", metavar="FILE", help="Write its report.")] = None,
    plot: Annotated[
        str | None,
        typer.Option("--plot", metavar="FILE", help="Write the figure of the sizes: .png, .svg or .pdf."),
    ] = None,
    json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing.")] = False,
    force: Force = False,
) -> int:
    """Grow a model until it fits, and take the smallest size that does as well on rows that were held out.

    Each size is fitted in folds with several seeds; the smallest within one standard error of the lowest validation loss
    is fitted to all rows.
    """
    growing = stage("cli.growing")
    return growing.run(
        growing.GrowCommand(
            file=file, model=model, sizes=sizes, kfold=kfold, validation=validation, groups=groups, order=order,
            seeds=seeds, rule=rule, sigma=sigma, weights=weights, where=where, exclude=exclude, missing=missing,
            sheet=sheet, seed=seed, outputs={"report": report, "fit": save, "figure": plot}, json=json, quiet=quiet,
            force=force,
        )
    )  # fmt: skip
