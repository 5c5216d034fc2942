"""The findings: what was seen, what to do about it, and a picture where one helps."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from gradfit.diagnose.evidence import Finding
from gradfit.notation import significant, spelled
from gradfit.report.axes import Axis
from gradfit.report.charts import Chart, Frame
from gradfit.report.commands import python, remedy_arguments, settings_of, shell, with_arguments
from gradfit.report.headlines import of_findings
from gradfit.report.losses import BESIDE_PHONE, BESIDE_WIDE
from gradfit.report.markup import Markup, join, tag
from gradfit.report.mathtext import prose, short, upright
from gradfit.report.page import pre, section
from gradfit.report.parameters import joint_region
from gradfit.report.residuals import against, residual_chart
from gradfit.report.search import loss_chart
from gradfit.report.subject import Subject

Array = NDArray[np.float64]
_ALONE = Frame("", 400, 250, left=36, right=16, top=30, bottom=42)
_SMALL = Frame("wide", 400, 250, left=36, right=16, top=30, bottom=42)
_BINS = 24  # of a running mean
_SMALL_PHONE = Frame("phone", 354, 250, left=36, right=16, top=30, bottom=42)
_DIRECTIONS = Frame("", 400, 190, left=16, right=16, top=30, bottom=42)
_MOST_NAMED = 4  # parameters in a title
_ZERO = 1e-11  # of the largest singular value: a direction that the rows do not see

#: what a finding of each code says in short; {} stands for the parameters or the column it names
TITLES: Mapping[str, tuple[str, str]] = {  # (with names, without)
    "structured-residuals": ("The residuals follow a pattern along {}.", "The residuals follow a pattern."),
    "underfitting": (
        "The model misses the rows in a pattern along {}.",
        "The model misses the rows in a pattern.",
    ),
    "outliers": ("A few rows pull the fit.", "A few rows pull the fit."),
    "unequal-variance": ("The scatter changes along {}.", "The scatter is not the same everywhere."),
    "unidentifiable": ("{} cannot be told apart.", "The rows do not determine every parameter."),
    "strong-correlation": ("{} are known only together.", "Some parameters are known only together."),
    "at-bound": ("{} sits on a bound.", "A parameter sits on its bound."),
    "not-converged": ("The fit did not end at a minimum.", "The fit did not end at a minimum."),
    "too-few-points": (
        "There are too few rows for these parameters.",
        "There are too few rows for these parameters.",
    ),
    "local-minimum": ("Another start ends lower.", "Another start ends lower."),
    "non-finite": ("Some numbers are not finite.", "Some numbers are not finite."),
    "sigma-too-small": ("The rows scatter more than sigma says.", "The rows scatter more than sigma says."),
    "lr-too-large": ("", "The learning rate is too large."),
    "lr-too-small": ("", "The learning rate is too small."),
    "gradient-scale": ("", "No one rate serves all parameters."),
    "overfitting": ("", "It fits the noise of the rows it was trained on."),
    "leakage": ("", "Rows held out are not new."),
    "not-learned": ("", "The network has learned nothing."),
    "no-signal": ("", "Rows held out are predicted no better than by chance."),
    "unscaled-data": ("", "The columns are far from standard units."),
    "loss-mismatch": ("", "The last layer does not belong to the loss."),
    "exploding-gradient": ("", "Gradients grow beyond any size."),
    "vanishing-gradient": ("", "The gradient of a layer vanishes."),
    "dead-units": ("", "Units are dead."),
    "saturated-units": ("", "Units are saturated."),
    "batch-noise": ("", "The batches are too small to see the gradient."),
}

#: what to do about it, before the argument that does it
ADVICE: Mapping[str, str] = {
    "structured-residuals": "Add what the formula lacks; if it is right, look for a lower minimum with",
    "underfitting": "Take a richer formula; if it is right, look for a lower minimum with",
    "outliers": "Check these rows at their source. If they cannot be explained, keep them and weigh them down with",
    "unequal-variance": "Let each row count as much as it is worth, with",
    "unidentifiable": "Give what the rows cannot tell:",
    "strong-correlation": "Measure where the two act differently; or, if one is known, fix it:",
    "at-bound": "If the bound is not certain, open it:",
    "not-converged": "Let it go on, with",
    "too-few-points": "Measure more; or fix what is known:",
    "local-minimum": "Start there, with",
    "non-finite": "Leave them out or start elsewhere, with",
    "sigma-too-small": "Find out why; or let the rows say how large their scatter is, with",
    "lr-too-large": "Take smaller steps, with",
    "lr-too-small": "Take larger steps, with",
    "gradient-scale": "Train in standard units, with",
    "overfitting": "Hold it back, with",
    "leakage": "Keep what belongs together on one side, with",
    "unscaled-data": "Train in standard units, with",
    "exploding-gradient": "Cut the gradient, with",
    "batch-noise": "Average over more rows, with",
}

#: codes that the losses by step show
BESIDE_LOSSES = frozenset(
    [
        "not-converged",
        "local-minimum",
        "lr-too-large",
        "lr-too-small",
        "gradient-scale",
        "overfitting",
        "not-learned",
        "no-signal",
    ]
)


def findings(subject: Subject) -> Markup:
    """Return the section, empty when nothing was raised."""
    raised = [finding for finding in subject.result.findings if finding.severity != "info"]
    if not raised:
        return Markup("")
    lead = of_findings(len(raised))
    return section(
        "findings", "Findings", lead, *(_shown(subject, k, f) for k, f in enumerate(raised, start=1))
    )


def title(finding: Finding) -> Markup:
    """Return the cause in a few words, with the names that the evidence gives."""
    named, plain = TITLES.get(finding.code, ("", f"{finding.code.replace('-', ' ').capitalize()}."))
    if finding.code == "outliers" and finding.evidence.get("count") == 1:
        return Markup("One row pulls the fit.")
    if finding.code == "leakage" and "input" in finding.evidence:
        return Markup("The target is among the inputs.")
    names = finding.evidence.get("parameters", finding.evidence.get("along", ()))
    names = (names,) if isinstance(names, str) else names
    if not isinstance(names, tuple) or not names or len(names) > _MOST_NAMED or "{}" not in named:
        return join([plain])
    if len(names) == 1 and finding.code == "unidentifiable":
        return join([upright(str(names[0])), " is not determined."])
    words: list[str] = []
    for k, name in enumerate(names):
        words += ["" if k == 0 else " and " if k == len(names) - 1 else ", ", _name(str(name))]
    before, after = named.split("{}")
    if len(names) > 1:
        after = after.replace(" sits on a bound", " sit on their bounds")
    return join([before, *words, after])


def _name(name: str) -> Markup:
    return upright(name) if name.isidentifier() else join([name])


def _shown(subject: Subject, number: int, finding: Finding) -> Markup:
    remedy, figure = _remedy(subject, finding), _figure(subject, finding)
    return block(number, subject.result.verdict, finding, subject.names, remedy=remedy, figure=figure)


def advice(code: str) -> str:
    """Return what is said before the argument that mends a finding."""
    return ADVICE.get(code, "Fit again with")


def block(
    number: int,
    verdict: str,
    finding: Finding,
    names: tuple[str, ...],
    *,
    remedy: list[Markup],
    figure: Markup,
) -> Markup:
    """Return a finding as it stands on the page.

    Parameters
    ----------
    number : int
        Its number.
    verdict : str
        Of the result, for the number's colour.
    names : tuple of str
        That occur in its sentence.
    remedy : list of Markup
        What to do, where it has a remedy.
    figure : Markup
        Beside it, empty for none.
    """
    head = tag("h3", tag("span", str(number), class_=f"n {verdict}"), title(finding))
    facts = [tag("dt", "What was seen"), tag("dd", prose(finding.message, names))]
    if finding.remedy:
        facts += [tag("dt", "What to do"), tag("dd", *remedy)]
    words = tag("div", head, tag("dl", *facts))
    return tag("div", words, figure, class_="finding" if figure else "finding alone")


def _remedy(subject: Subject, finding: Finding) -> list[Markup]:
    """Return what to do: the advice of the code, and the command with the remedy in it."""
    result = subject.result
    more = remedy_arguments(finding.remedy)
    if more is None:
        return [prose(finding.remedy, subject.names)]
    words = advice(finding.code)
    if finding.code == "not-converged" and "start" in more:
        words = "Look for the minimum from other starts, with"
    if finding.code in ("underfitting", "structured-residuals") and result.starts.source == "not needed":
        return [Markup("Add to the formula what it lacks; this one has no other minimum to look for.")]
    settings = with_arguments(settings_of(result), more)
    lines = [shell(result, settings) or python(result, settings)]
    return [join([f"{words} ", tag("code", finding.remedy.split("  #")[0]), ":"]), *map(pre, lines)]


# ---------------------------------------------------------------------------- figures


def _figure(subject: Subject, finding: Finding) -> Markup:
    """Return a figure with its caption; empty where none helps."""
    draw = _FIGURES.get(finding.code)
    if draw is None or not subject.shown.any():
        return Markup("")
    chart, caption = draw(subject, finding)
    return tag("figure", chart, tag("figcaption", caption)) if chart else Markup("")


def _rows_off(subject: Subject, _finding: Finding) -> tuple[Markup, str]:
    return against(subject, _ALONE).svg(), "Residuals; grey: ±\u00a02 s.d."


def _along(subject: Subject, finding: Finding) -> tuple[Array, Axis]:
    """Return the column along which a finding was seen: an input, else the fitted values."""
    name = str(finding.evidence.get("along", ""))
    if name in subject.result.inputs:
        xs = subject.result.data.columns[name]
        if name == subject.x_name:
            return xs, subject.x_axis
        return xs, Axis.around(xs[subject.shown], name, subject.unit_of(name), pad=0.03)
    xs = subject.result.fitted
    return xs, Axis.around(
        xs[subject.shown], f"fitted {short(subject.result.response, 20)}", subject.unit, pad=0.03
    )


def in_bins(xs: Array, values: Array) -> tuple[Array, Array, Array]:
    """Return for bins of equally many rows along x: the mean of x, the mean and the root mean square of the values."""
    order = np.argsort(xs, kind="stable")
    parts = np.array_split(order, int(np.clip(len(xs) // 6, 3, _BINS)))
    parts = [part for part in parts if len(part)]
    means = [(xs[part].mean(), values[part].mean(), np.sqrt(np.mean(values[part] ** 2))) for part in parts]
    at, mean, rms = np.array(means).T
    return at, mean, rms


def _pattern(subject: Subject, finding: Finding) -> tuple[Markup, str]:
    xs, axis = _along(subject, finding)
    chart = residual_chart(subject, xs, axis, frame=_ALONE)
    at, mean, _ = in_bins(xs[subject.shown], subject.residuals[subject.shown])
    return chart.path(
        at, mean, "second"
    ).svg(), "Residuals; dashed: their running mean, which noise would keep near zero."


def _spread(subject: Subject, finding: Finding) -> tuple[Markup, str]:
    xs, axis = _along(subject, finding)
    chart = residual_chart(subject, xs, axis, frame=_ALONE)
    at, _, rms = in_bins(xs[subject.shown], subject.residuals[subject.shown])
    chart.path(at, 2 * rms, "second").path(at, -2 * rms, "second")
    return chart.svg(), "Residuals; dashed: ±\u00a02 s.d. of the rows nearby; grey: of all rows."


def _valley(subject: Subject, finding: Finding) -> tuple[Markup, str]:
    """Return the joint region of the two parameters that are known only together."""
    result = subject.result
    names = finding.evidence.get("parameters", ())
    every = list(result.params)
    pair = [every.index(str(name)) for name in names if name in every] if isinstance(names, tuple) else []
    pair = sorted(k for k in pair if subject.known(result.params[every[k]]))[:2]
    if len(pair) < 2 or not np.isfinite(result.correlation[pair[0], pair[1]]):
        return Markup(""), ""
    chart = joint_region(subject, (pair[0], pair[1]), _SMALL, _SMALL_PHONE)
    return chart, f"Any pair inside the ellipse fits the rows ({subject.level})."


def _directions(subject: Subject, _finding: Finding) -> tuple[Markup, str]:
    """Return the singular values of the scaled Jacobian: what is left of the line moves no row."""
    result = subject.result
    _, jacobian = result.problem.residual_jacobian(result.outcome.parameters)
    if not np.isfinite(jacobian).all() or jacobian.shape[1] < 2:
        return Markup(""), ""
    size = np.sqrt(np.sum(jacobian**2, axis=0))
    values = np.linalg.svd(jacobian / np.where(size > 0, size, 1.0), compute_uv=False)
    ratio = np.clip(values / values[0], 1e-18, 1.0)
    axis = Axis(1e-18, 1.0, "share of the largest singular value", log=True, most=4)
    message = "Singular values: " + ", ".join(significant(float(value), 1) for value in values / values[0])
    chart = Chart(_DIRECTIONS, axis, Axis(-0.8, len(ratio) - 0.2, at=()), message).axes(upright_grid=True)
    chart.upright(_ZERO, "limit")
    at = float(chart.px(_ZERO))
    chart.write(at - 6, 20, "not seen by the rows", "k-second fine", anchor="end").write(
        at + 6, 20, "determined", "mute fine"
    )
    levels = np.arange(len(ratio), dtype=float)
    for mask, cls in ((ratio >= _ZERO, "dot"), (ratio < _ZERO, "dot bad")):
        chart.dots(ratio[mask], levels[::-1][mask], cls, radius=5)
    lost = int((ratio < _ZERO).sum())
    return (
        chart.svg(),
        f"{spelled(lost).capitalize()} of {spelled(len(ratio))} directions of the parameters moves no row."
        if lost == 1
        else f"{spelled(lost).capitalize()} of {spelled(len(ratio))} directions of the parameters move no row.",
    )


def _history(subject: Subject, _finding: Finding) -> tuple[Markup, str]:
    return loss_chart(subject, BESIDE_WIDE, BESIDE_PHONE), "The loss on its way down."


_FIGURES: Mapping[str, Callable[[Subject, Finding], tuple[Markup, str]]] = {
    "outliers": _rows_off,
    "structured-residuals": _pattern,
    "underfitting": _pattern,
    "unequal-variance": _spread,
    "strong-correlation": _valley,
    "unidentifiable": _directions,
    **dict.fromkeys(BESIDE_LOSSES, _history),
}
