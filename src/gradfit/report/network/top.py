"""The top of the report of a network: verdict, formula, what kind of network it is, at most three sentences, a few facts."""

from gradfit.networks.sentences import MEASURES, measured_text
from gradfit.notation import count, duration, fixed, listing, reach, spelled, with_unit
from gradfit.report.markup import Markup, join, tag
from gradfit.report.mathtext import italic, prose, upright
from gradfit.report.network.headlines import capital
from gradfit.report.network.subject import Subject
from gradfit.report.page import facts, mark, sentence_bold

_MOST_INPUTS, _LONGEST_LINE = 12, 44  # in the formula; characters of a large one


def top(subject: Subject) -> Markup:
    """Return the head of the report."""
    result = subject.result
    verdict = tag("p", mark(result.verdict), result.verdict.capitalize(), class_=f"word {result.verdict}")
    said = [tag("li", sentence_bold(prose(sentence, subject.names))) for sentence in result.sentences[:3]]
    under = tag("p", *_kind(subject), class_="under")
    main = tag(
        "div", verdict, tag("h1", formula(subject)), under, tag("ol", *said, class_="said") if said else ""
    )
    side = tag("div", facts(_facts(subject)), class_="side")
    return tag("header", main, side, class_="top row", id="top")


def formula(subject: Subject) -> Markup:
    """Return "y ≈ network(a, b)", typeset."""
    result = subject.result
    inputs, targets = result.inputs, result.target.names
    shown = [join([", " if k else "", italic(name)]) for k, name in enumerate(inputs[:_MOST_INPUTS])]
    more = f", … {len(inputs) - _MOST_INPUTS} more" if len(inputs) > _MOST_INPUTS else ""
    left = [join([", " if k else "", italic(name)]) for k, name in enumerate(targets[:_MOST_INPUTS])]
    name = "network" if result.spec is not None else type(result.network).__name__
    length = sum(len(part) for part in (*inputs[:_MOST_INPUTS], *targets)) + len(name)
    whole = [*left, " ≈ ", name, "(", *shown, more, ")"]
    return tag("span", *whole, class_="eq" if length <= _LONGEST_LINE else "eq long")


def _kind(subject: Subject) -> list[str]:
    """Return what kind of network it is, and where it may be used."""
    spec = subject.result.spec
    if spec is None:
        words = f"A {type(subject.result.network).__name__}, as it was given."
    elif not spec.hidden:
        words = "No hidden layer: a linear model."
    else:
        units = (
            fixed(spec.hidden[0], 0)
            if len(set(spec.hidden)) == 1
            else listing([fixed(u, 0) for u in spec.hidden])
        )
        layers = f"{spelled(len(spec.hidden))} hidden {'layer' if len(spec.hidden) == 1 else 'layers'}"
        each = " each" if len(spec.hidden) > 1 and len(set(spec.hidden)) == 1 else ""
        words = f"{capital(layers)} of {units} {spec.activation} units{each}."
    if subject.result.verdict == "no" or not subject.along:
        return [words]
    ends = with_unit(reach(*subject.ends), subject.unit_of(subject.along))
    return [words, " It may be used for ", upright(subject.along), f" from {ends}."]


def _facts(subject: Subject) -> list[tuple[str, str]]:
    result = subject.result
    rows = [("Rows trained", f"{fixed(result.n, 0)} of {fixed(result.n_read, 0)}")]
    held = result.validation
    if held is not None:
        rows.append(("Folds", str(len(held.folds))) if held.folds else ("Rows held out", fixed(held.n, 0)))
    rows.append(("Parameters", fixed(result.k, 0)))
    rows += _measure(subject)
    done = len(result.history.epoch)
    if subject.losses.kept is not None:
        rows.append(("Epoch kept", f"{fixed(subject.losses.kept, 0)} of {fixed(done, 0)}"))
    else:
        rows.append(("Trained for", count(done, "epoch")))
    return [*rows, ("Time", duration(result.seconds))]


def _measure(subject: Subject) -> list[tuple[str, str]]:
    """Return the measure that says most, on rows held out where there are any."""
    result, held = subject.result, subject.result.validation
    measures = result.metrics if held is None else held.metrics
    where = "trained on" if held is None else "over the folds" if held.folds else "held out"
    name = next((name for name in ("accuracy", "explained", "rmse") if name in measures), "")
    if not name:
        return []
    text = subject.amount(measures[name]) if name == "rmse" else measured_text(name, measures[name])
    word = "RMSE" if name == "rmse" else capital(MEASURES[name])
    return [(f"{word}, {where}", text)]
