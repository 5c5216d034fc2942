"""The commands and their options; what they do is in the modules beside this one, imported when a command runs."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from gradfit._lazy import stage
from gradfit._version import __version__
from gradfit.cli.screen import Screen

COMMANDS = (
    "fit",
    "grow",
    "many",
    "plot",
    "predict",
    "models",
    "show",
    "shapes",
    "explain",
    "lr",
    "bench",
    "cache",
)


class Commands(TyperGroup):
    """The commands; a Ctrl-C in one of them comes out of `app`, which would swallow it without a word."""

    def invoke(self, ctx: Any) -> Any:
        """Return what the command answers.

        Raises
        ------
        Abort
            At Ctrl-C.
        """
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stopped:
            raise typer.Abort from stopped


app = typer.Typer(
    name="gradfit",
    cls=Commands,
    help="Fit any function to data by gradients, and see whether to trust the answer.",
    epilog="Exit codes: 0 done, a fit with verdict Trust or Caution; 1 fitted, verdict No; 2 bad use or input, nothing written.",
    add_completion=False,
    rich_markup_mode=None,  # plain help: boxes say nothing, and rich takes 0.1 s to import
    pretty_exceptions_enable=False,
)

File = Annotated[
    str,
    typer.Argument(
        metavar="FILE", help="CSV, TSV, Parquet, Arrow, JSON, Excel, .npy, .npz; - is standard input."
    ),
]
Where = Annotated[
    list[str] | None, typer.Option("--where", metavar="EXPR", help='Rows to use, as in "dose > 0".')
]
Sheet = Annotated[str | None, typer.Option("--sheet", metavar="NAME", help="Sheet of an Excel file.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")]
Json = Annotated[bool, typer.Option("--json", help="JSON alone on standard output.")]
Missing = Annotated[
    str,
    typer.Option(
        "--missing", metavar="error|drop", help="Rows without a number: refuse them, or drop and count them."
    ),
]
Texts = list[str] | None


def _print_version(asked: bool) -> None:  # noqa: FBT001  typer's signature
    if asked:
        Screen.of("stdout").write(f"gradfit {__version__}")
        raise typer.Exit


@app.callback()
def gradfit(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Fit any function to data by gradients, and see whether to trust the answer."""
    del version  # its callback has answered


@app.command(short_help="Fit a model to data.")
def fit(  # noqa: PLR0913  each option of the command is an argument
    context: typer.Context,
    file: File,
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help='A formula, "t_c = w*t_u + b", or a model of the library.')
    ],
    *,
    start: Annotated[
        Texts, typer.Option("--start", metavar="a=1,b=2|search", help="Start values; found when left out.")
    ] = None,
    bounds: Annotated[
        Texts, typer.Option("--bounds", metavar="a=0:10,b=:5", help="Limits of parameters.")
    ] = None,
    fix: Annotated[
        Texts, typer.Option("--fix", metavar="c=3", help="Parameters that are not fitted.")
    ] = None,
    sigma: Annotated[
        str | None,
        typer.Option("--sigma", metavar="COL|EXPR", help="Known standard deviations of the observations."),
    ] = None,
    weights: Annotated[
        str | None, typer.Option("--weights", metavar="COL|EXPR", help='Relative weights, as in "1/y**2".')
    ] = None,
    where: Where = None,
    exclude: Annotated[
        Texts, typer.Option("--exclude", metavar="3,17", help="Rows to leave out, from 1.")
    ] = None,
    missing: Missing = "error",
    response: Annotated[
        str | None, typer.Option("--response", metavar="COL", help="The observed column.")
    ] = None,
    sheet: Sheet = None,
    loss: Annotated[
        str,
        typer.Option(
            "--loss",
            metavar="NAME[:SCALE]",
            help="squared, poisson (counts), soft_l1, huber, cauchy or bisquare.",
        ),
    ] = "squared",
    penalty: Annotated[
        str | None,
        typer.Option("--penalty", metavar="KIND[:STRENGTH]", help="ridge, lasso, elastic-net or smooth."),
    ] = None,
    solver: Annotated[
        str,
        typer.Option(
            "--solver", metavar="NAME", help="lm, or any optimizer of torch.optim: SGD, Adam, LBFGS ..."
        ),
    ] = "lm",
    lr: Annotated[
        str | None,
        typer.Option("--lr", metavar="RATE|auto", help="Learning rate of an optimizer; auto finds one."),
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option("--scale", metavar="none|auto", help="auto: an optimizer works in standard units."),
    ] = None,
    noise: Annotated[
        str | None,
        typer.Option(
            "--noise", metavar="0.1|x=0.1|auto", help="On inputs in training, in standard deviations of each."
        ),
    ] = None,
    mixup: Annotated[
        float | None,
        typer.Option("--mixup", metavar="A", help="Mix rows in training, shares from Beta(A, A)."),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", metavar="N", help="How often an optimizer goes through the rows."),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", metavar="N", help="Rows a step of an optimizer.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", metavar="NAME", help="Of torch.optim.lr_scheduler.")
    ] = None,
    more: Annotated[
        Texts,
        typer.Option(
            "--set", metavar="momentum=0.9", help="Settings of the optimizer, and scheduler.gamma=0.9."
        ),
    ] = None,
    max_iterations: Annotated[
        int | None, typer.Option("--max-iterations", metavar="N", help="Of Levenberg-Marquardt; 500.")
    ] = None,
    executor: Annotated[
        str, typer.Option("--executor", metavar="NAME", help="auto, numpy, native or tensor.")
    ] = "auto",
    memory: Annotated[
        str | None,
        typer.Option("--memory", metavar="1GB", help="What to hold at most: rows are read in pieces."),
    ] = None,
    level: Annotated[float, typer.Option("--level", metavar="P", help="Of intervals and bands.")] = 0.95,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Of everything random.")] = 0,
    validation: Annotated[
        str | None,
        typer.Option(
            "--validation", metavar="0.2|COL|FILE|3,17", help="Rows to hold out and judge the fit by."
        ),
    ] = None,
    kfold: Annotated[
        int | None, typer.Option("--kfold", metavar="K", help="Cross-validation with so many parts.")
    ] = None,
    groups: Annotated[
        str | None, typer.Option("--groups", metavar="COL", help="Rows that are equal here stay together.")
    ] = None,
    order: Annotated[
        str | None, typer.Option("--order", metavar="COL", help="Hold out the last rows in this order.")
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option("--patience", metavar="N", help="Stop when N epochs do not lower the validation loss."),
    ] = None,
    min_delta: Annotated[
        float, typer.Option("--min-delta", metavar="L", help="By more than this, that is.")
    ] = 0.0,
    stop: Annotated[
        str | None, typer.Option("--stop", metavar="best|last", help="Which parameters training hands back.")
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option("--checkpoint", metavar="FILE", help="Write the state of the training.")
    ] = None,
    checkpoint_every: Annotated[
        int | None, typer.Option("--checkpoint-every", metavar="N", help="After so many epochs.")
    ] = None,
    resume: Annotated[
        str | None, typer.Option("--resume", metavar="FILE", help="Go on from a checkpoint.")
    ] = None,
    save: Annotated[
        str | None, typer.Option("--save", metavar="FILE", help="Write the fit, for gradfit predict.")
    ] = None,
    report: Annotated[
        str | None, typer.Option("--report", metavar="FILE", help="Write the report, an HTML page.")
    ] = None,
    plot: Annotated[
        str | None, typer.Option("--plot", metavar="FILE", help="Write a figure: .png, .svg or .pdf.")
    ] = None,
    json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but a doubt.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Print the way there, on standard error.")
    ] = False,
    force: Force = False,
) -> int:
    """Fit a model to data: parameters with uncertainties, findings and a verdict.

    Names in the formula that are columns of FILE are data, the others are parameters. Options that name several things
    can be given several times.
    """
    fitting = stage("cli.fitting")
    return fitting.run(
        fitting.FitCommand(
            command=str(context.obj),
            file=file, model=model, start=start, bounds=bounds, fix=fix, sigma=sigma, weights=weights, where=where,
            exclude=exclude, missing=missing, response=response, sheet=sheet, loss=loss, penalty=penalty, solver=solver, lr=lr, scale=scale, epochs=epochs,
            batch_size=batch_size, scheduler=scheduler, more=more, max_iterations=max_iterations, executor=executor, memory=memory,
            level=level, seed=seed, outputs={"report": report, "fit": save, "figure": plot}, json=json, quiet=quiet,
            verbose=verbose, force=force, validation=validation, kfold=kfold, groups=groups, order=order,
            patience=patience, min_delta=min_delta, stop=stop, checkpoint=checkpoint,
            checkpoint_every=checkpoint_every, resume=resume, noise=noise, mixup=mixup,
        )
    )  # fmt: skip


@app.command(short_help="Fit a model to each of many groups, pixels or rows.")
def many(  # noqa: PLR0913  each option of the command is an argument
    context: typer.Context,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="Parquet or Arrow, or a folder of Parquet, of any size; other tables; .npy or .npz.",
        ),
    ],
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help='A formula, "y = a*exp(-t/tau) + c", or a model of the library.'
        ),
    ],
    *,
    out: Annotated[
        str,
        typer.Option(
            "--out", metavar="FILE", help="Write one row a fit: .parquet, .csv, .feather or .jsonl."
        ),
    ],
    by: Annotated[
        str | None,
        typer.Option("--by", metavar="COL[,COL]", help="Columns whose values tell the fits apart."),
    ] = None,
    axis: Annotated[
        str | None,
        typer.Option(
            "--axis", metavar="N[,N]", help="Axes of an array over the points of a fit: 0 for films."
        ),
    ] = None,
    array: Annotated[
        Texts, typer.Option("--array", metavar="t=t.npy", help="One more array, such as the times of a film.")
    ] = None,
    start: Annotated[
        Texts, typer.Option("--start", metavar="a=1,b=COL", help="Start values; found when left out.")
    ] = None,
    bounds: Annotated[
        Texts, typer.Option("--bounds", metavar="a=0:10,b=:5", help="Limits of parameters.")
    ] = None,
    fix: Annotated[
        Texts, typer.Option("--fix", metavar="c=3,d=COL", help="Parameters that are not fitted.")
    ] = None,
    sigma: Annotated[
        str | None,
        typer.Option("--sigma", metavar="COL|EXPR", help="Known standard deviations of the observations."),
    ] = None,
    weights: Annotated[
        str | None, typer.Option("--weights", metavar="COL|EXPR", help='Relative weights, as in "1/y**2".')
    ] = None,
    where: Where = None,
    missing: Annotated[
        str,
        typer.Option(
            "--missing",
            metavar="error|drop",
            help="Points without a number: drop and count them, or refuse them.",
        ),
    ] = "drop",
    response: Annotated[
        str | None, typer.Option("--response", metavar="COL", help="The observed column.")
    ] = None,
    sheet: Sheet = None,
    loss: Annotated[
        str,
        typer.Option(
            "--loss", metavar="NAME[:SCALE]", help="squared, poisson, soft_l1, huber, cauchy or bisquare."
        ),
    ] = "squared",
    executor: Annotated[
        str, typer.Option("--executor", metavar="NAME", help="auto, numpy, native or tensor.")
    ] = "auto",
    dtype: Annotated[
        str, typer.Option("--dtype", metavar="NAME", help="float64, or float32 in machine code and on a GPU.")
    ] = "float64",
    max_iterations: Annotated[
        int, typer.Option("--max-iterations", metavar="N", min=1, help="Steps at most for each fit.")
    ] = 200,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", min=0, help="Of the search for start values.")
    ] = 0,
    threads: Annotated[int | None, typer.Option("--threads", metavar="N", min=1, help="At most.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that was killed; begin where there is none.")
    ] = False,
    json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite what is there, an unfinished run too.")
    ] = False,
) -> int:
    """Fit a model to each of many groups of rows, pixels or rows of an array, and write one row a fit.

    Results are kept in FILE.parts beside the output while it runs; after a crash, --resume goes on.
    Exit code 1: written, but most of the fits failed.
    """
    command = stage("cli.many")
    return command.run(
        command.ManyCommand(
            command=str(context.obj),
            file=file, model=model, out=out, by=by, axis=axis, arrays=array, start=start, bounds=bounds, fix=fix,
            sigma=sigma, weights=weights, where=where, missing=missing, response=response, sheet=sheet, loss=loss,
            executor=executor, dtype=dtype, max_iterations=max_iterations, seed=seed, threads=threads, resume=resume, json=json,
            quiet=quiet, force=force,
        )
    )  # fmt: skip


@app.command(short_help="Look at data before fitting.")
def plot(
    file: File,
    x: Annotated[str | None, typer.Argument(metavar="[X]", help="A column.")] = None,
    y: Annotated[str | None, typer.Argument(metavar="[Y]", help="A column that is drawn against it.")] = None,
    *,
    out: Annotated[
        str | None, typer.Option("--out", metavar="FILE", help="Write a figure: .png, .svg or .pdf.")
    ] = None,
    where: Where = None,
    sheet: Sheet = None,
    force: Force = False,
) -> int:
    """Look at data before fitting: one column, one against another, or all of them."""
    return stage("cli.looking").look(file, x, y, out=out, where=where or (), sheet=sheet, force=force)


@app.command(short_help="Predict at new inputs from a saved fit.")
def predict(
    fit: Annotated[
        str, typer.Argument(metavar="FIT.json", help="A fit that gradfit fit --save has written.")
    ],
    file: File,
    *,
    level: Annotated[
        float | None, typer.Option("--level", metavar="P", help="Of the bands; that of the fit.")
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", metavar="FILE", help="Write the table: .csv, .parquet or .json.")
    ] = None,
    missing: Missing = "error",
    sheet: Sheet = None,
    json: Json = False,
    force: Force = False,
) -> int:
    """Predict at new inputs, with bands: a table for a person in a terminal, CSV in a pipe."""
    return stage("cli.predicting").predicted(
        fit, file, level=level, out=out, missing=missing, sheet=sheet, json=json, force=force
    )


@app.command(short_help="List the library of models.")
def models(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One of them, in full.")] = None,
    *,
    plot: Annotated[
        str | None, typer.Option("--plot", metavar="FILE", help="Write a figure: .png, .svg or .pdf.")
    ] = None,
    force: Force = False,
) -> int:
    """List the library of models, or show one of them."""
    return stage("cli.looking").models_shown(name, plot=plot, force=force)


@app.command(short_help="Explain a formula, and print its code.")
def show(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A formula, or a model of the library.")],
    *,
    columns: Annotated[
        str | None,
        typer.Option(
            "--columns", metavar="x,y", help="Names that are data; x, t and the left side when left out."
        ),
    ] = None,
) -> int:
    """Show what is understood of a formula, and the code of its value and derivatives."""
    return stage("cli.looking").shown(model, columns)


@app.command(short_help="Measure what to expect of a model on this machine.")
def bench(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A formula, or a model of the library.")],
    *,
    points: Annotated[str, typer.Option("--points", metavar="N", help="Of each of many fits.")] = "25",
    fits: Annotated[str, typer.Option("--fits", metavar="N", help="That are planned, as 1e6.")] = "1e6",
    rows: Annotated[str, typer.Option("--rows", metavar="N", help="Points of one large fit.")] = "1e6",
    start: Annotated[
        Texts,
        typer.Option(
            "--start", metavar="a=1,b=2", help="True parameters; those that data determine when left out."
        ),
    ] = None,
    x: Annotated[str | None, typer.Option("--x", metavar="LOW:HIGH", help="Range of the inputs.")] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            "--columns", metavar="x,y", help="Names that are data; x, t and the left side when left out."
        ),
    ] = None,
    threads: Annotated[int | None, typer.Option("--threads", metavar="N", min=1, help="At most.")] = None,
    json: Json = False,
) -> int:
    """Measure what to expect of a model on this machine, on simulated data: one small fit, many fits, one large fit.

    Takes a few seconds. SciPy's curve_fit makes the same small fit, for comparison. No file is written.
    """
    return stage("cli.bench").measured(
        model,
        points=points,
        fits=fits,
        rows=rows,
        start=start,
        x=x,
        columns=columns,
        threads=threads,
        json=json,
    )


@app.command(short_help="Show what is kept on disk, or clear it.")
def cache(
    *, clear: Annotated[bool, typer.Option("--clear", help="Remove what is kept; it is made again.")] = False
) -> int:
    """Show what is kept on disk so that a model seen before starts at once: where, how much, of what kind."""
    return stage("cli.keeping").kept(clear=clear)
