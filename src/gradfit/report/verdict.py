"""The top of a report: verdict, formula, the formula with its numbers, at most three sentences, a few facts."""

from math import isfinite

from gradfit.notation import MINUS, duration, fixed, plus_minus, significant
from gradfit.parameter import ParameterResult
from gradfit.report.headlines import bare
from gradfit.report.markup import Markup, join, tag, text
from gradfit.report.mathtext import italic, leaf, prose
from gradfit.report.page import facts, mark, sentence_bold
from gradfit.report.parameters import cells
from gradfit.report.subject import Subject

_MOST_PUT_IN, _LONGEST_PUT_IN, _LONGEST_LINE = 4, 72, 44  # parameters; characters of the formula


def top(subject: Subject) -> Markup:
    """Return the head of the report."""
    result = subject.result
    verdict = tag("p", mark(result.verdict), result.verdict.capitalize(), class_=f"word {result.verdict}")
    formula = tag(
        "span", subject.typeset.html(), class_="eq" if len(result.formula) <= _LONGEST_LINE else "eq long"
    )
    said = [tag("li", sentence_bold(prose(sentence, subject.names))) for sentence in result.sentences[:3]]
    main = tag(
        "div", verdict, tag("h1", formula), _numbers(subject), tag("ol", *said, class_="said") if said else ""
    )
    side = tag("div", facts(_facts(subject)), class_="side")
    return tag("header", main, side, class_="top row", id="top")


_ANSWER = """
.gradfit{font-size:14px;line-height:1.5;max-width:46em}
.gradfit p,.gradfit ul{margin:0 0 .5em}
.gradfit .f{font-family:"STIX Two Text","Cambria Math",Cambria,Georgia,serif;font-size:20px}
.gradfit table{border-collapse:collapse;margin:0}
.gradfit th,.gradfit td{text-align:right;padding:2px 14px 2px 0;background:none;border:0}
.gradfit sub,.gradfit sup{font-size:.7em;line-height:0}
.gradfit .frac{display:inline-flex;flex-direction:column;vertical-align:middle;text-align:center;font-size:.82em}
.gradfit .frac>span+span{border-top:1px solid currentColor}
.gradfit .root{border-top:1px solid currentColor}
"""


def answer(subject: Subject) -> Markup:
    """Return verdict, formula, sentences and parameters without the page, in colours of the place it is shown in."""
    result = subject.result
    formula = tag("span", subject.typeset.html(), class_="f")
    head = tag("p", tag("b", result.verdict.capitalize()), " \u00a0", formula)
    said = tag("ul", *(tag("li", prose(sentence, subject.names)) for sentence in result.sentences[:3]))
    top_row = tag(
        "tr", *(tag("th", words, scope="col") for words in ("", "value ± s.e.", f"{subject.level} interval"))
    )
    rows = [
        tag("tr", tag("th", italic(p.name), scope="row"), *cells(subject, p)) for p in result.params.values()
    ]
    parameters = tag("table", tag("thead", top_row), tag("tbody", *rows))
    return tag("div", Markup(f"<style>{_ANSWER}</style>"), head, said, parameters, class_="gradfit")


def _put_in(subject: Subject, parameter: ParameterResult) -> tuple[Markup, bool]:
    """Return a parameter's number as it stands in the formula, without its minus, and whether there is one."""
    if not subject.known(parameter):
        words = bare(parameter.value)
        return text(words.removeprefix(MINUS)), words.startswith(MINUS)
    value, error, power = plus_minus(parameter.value, parameter.stderr)
    error = join([f"({value.removeprefix(MINUS)} ", tag("span", f"±\u00a0{error}", class_="pm"), f"){power}"])
    return tag("span", error, class_="number"), value.startswith(MINUS)


def _numbers(subject: Subject) -> Markup:
    """Return the line under the formula: its numbers put in, or what may still be used when there are none."""
    result = subject.result
    parameters = list(result.params.values())
    if result.verdict == "no" and not all(p.determined or p.fixed for p in parameters):
        if subject.codes & {
            "underfitting",
            "structured-residuals",
            "not-converged",
            "non-finite",
            "local-minimum",
        }:
            return Markup("")
        return tag(
            "p", f"The {subject.noun} describes these rows. Its parameters are not known.", class_="under"
        )
    alone = subject.typeset.right is not None and len(subject.typeset.right.nodes) == 1
    simple = not alone and 0 < len(parameters) <= _MOST_PUT_IN and len(result.formula) <= _LONGEST_PUT_IN
    if not simple or not all(p.determined or p.fixed for p in parameters):
        return Markup("")
    if not all(isfinite(p.value) and subject.typeset.uses(p.name) <= 1 for p in parameters):
        return Markup("")
    pieces = {
        p.name: leaf(words, "group", minus=minus, length=9)
        for p in parameters
        for words, minus in [_put_in(subject, p)]
    }
    filled = subject.typeset.filled(pieces.get)
    unit = f"\u202f{subject.unit}" if subject.unit else ""
    return tag("p", tag("span", "= ", filled, unit, class_="eq"), class_="under filled") if filled else filled


def _facts(subject: Subject) -> list[tuple[str, str]]:
    result = subject.result
    every = list(result.params.values())
    free = [p for p in every if not p.fixed]
    lost = [p for p in free if not p.determined]
    parameters = str(len(every))
    if lost:
        parameters = f"{len(free) - len(lost)} of {len(free)} determined"
    elif len(free) < len(every):
        parameters = f"{len(free)} free, {len(every) - len(free)} fixed"
    rows = [
        ("Rows used", f"{fixed(result.n, 0)} of {fixed(result.data.n_read, 0)}"),
        ("Parameters", parameters),
        ("Degrees of freedom", fixed(result.dof, 0)),
    ]
    if result.data.counts:
        rows.append(("Deviance", _number(result.deviance)))
        rows.append(("per degree of freedom", _number(result.reduced_chi2)))
    elif result.data.absolute:
        rows.append(("Reduced χ²", _number(result.reduced_chi2)))
    else:
        rows.append(
            ("Scatter, s.d.", subject.amount(result.scatter) if result.dof > 0 else "none left to see")
        )
    rows.append(("Deviance explained" if result.data.counts else "r²", _number(result.r2)))
    if result.loss_name != "squared":
        rows.append(("Loss", result.loss_name))
    return [*rows, ("Time", duration(result.seconds))]


def _number(value: float) -> str:
    if not isfinite(value):
        return "not defined"
    if 0.9995 <= value < 1:  # r² of 0.99996 is not 1.000
        nines = f"{1 - value:.0e}".split("e-")
        return fixed(value, min(int(nines[1]) if len(nines) > 1 else 3, 9))
    return significant(value, 3)
