"""The findings on a network: what was seen, what to do about it, and a picture where one helps."""

from gradfit.diagnose import Finding
from gradfit.report.commands import remedy_arguments
from gradfit.report.findings import BESIDE_LOSSES, advice, block
from gradfit.report.headlines import of_findings
from gradfit.report.losses import BESIDE_PHONE, BESIDE_WIDE, losses_chart
from gradfit.report.markup import Markup, join, tag
from gradfit.report.mathtext import prose
from gradfit.report.network.again import python, shell
from gradfit.report.network.subject import Subject
from gradfit.report.network.training import gradients_chart
from gradfit.report.page import pre, section, small

_GRADIENTS = frozenset({"exploding-gradient", "vanishing-gradient"})


def findings(subject: Subject) -> Markup:
    """Return the section, empty when nothing was raised or noted."""
    result = subject.result
    raised = [finding for finding in result.findings if finding.severity != "info"]
    if not raised:
        return Markup("")
    blocks = [
        block(
            k,
            result.verdict,
            finding,
            subject.names,
            remedy=_remedy(subject, finding),
            figure=_figure(subject, finding),
        )
        for k, finding in enumerate(raised, start=1)
    ]
    return section("findings", "Findings", of_findings(len(raised)), *blocks)


def noted(subject: Subject) -> Markup:
    """Return what is worth knowing and was not raised; empty where there is nothing."""
    every = [finding for finding in subject.result.findings if finding.severity == "info"]
    lines = [small(prose(finding.message, subject.names)) for finding in every]
    return tag("div", tag("h3", "Noted, not raised"), *lines, class_="below") if lines else Markup("")


def _remedy(subject: Subject, finding: Finding) -> list[Markup]:
    more = remedy_arguments(finding.remedy)
    if more is None:
        return [prose(f"{finding.remedy.rstrip('.')}.", subject.names)]
    line = shell(subject.result, more) or python(subject.result, more)
    return [join([f"{advice(finding.code)} ", tag("code", finding.remedy), ":"]), pre(line)]


def _figure(subject: Subject, finding: Finding) -> Markup:
    if finding.code in _GRADIENTS:
        chart, caption = gradients_chart(subject), "Root mean square of the gradient of each layer."
    elif finding.code in BESIDE_LOSSES:
        chart, caption = losses_chart(subject.losses, BESIDE_WIDE, BESIDE_PHONE), "The loss by epoch."
    else:
        return Markup("")
    return tag("figure", chart, tag("figcaption", caption)) if chart else Markup("")
