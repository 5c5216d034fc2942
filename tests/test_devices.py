"""The tensor executor gives the numpy executor's numbers on every device."""

import numpy as np
import pytest

from gradfit.formula import parse
from gradfit.kernel import NumpyExecutor, TensorExecutor
from gradfit.trace import trace_formula


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize(
    "text", ["y = a*exp(-((x - c)/w)**2) + b", "y = a*voigt(x - c, w, b)", "y = where(x > c, a*x, b) + w"]
)
def test_a_device_changes_nothing(text, device):
    graph = trace_formula(parse(text).right, ("x",), ("a", "c", "w", "b"))
    x, p = np.linspace(-2, 3, 40), np.array([2.0, 0.3, 0.8, 0.5])
    value, jacobian = NumpyExecutor().compile(graph).value_jacobian([x], p)
    on_device, slopes = TensorExecutor(device).compile(graph).value_jacobian([x], p)
    assert on_device == pytest.approx(value, rel=1e-13)
    assert slopes == pytest.approx(jacobian, rel=1e-12, abs=1e-14)
