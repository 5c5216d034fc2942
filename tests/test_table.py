"""What comes in from memory, and the table that every later stage uses."""

import datetime
import decimal
import fractions
import sys
import warnings

import hypothesis
import hypothesis.extra.numpy
import numpy as np
import pandas
import polars
import pyarrow
import pytest
import torch
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from gradfit.errors import DataError, GradfitError, OptionError
from gradfit.table import Table, read

X = np.array([1.5, 2.0, -3.25])

HOLDERS = {
    "list": list,
    "tuple": tuple,
    "float64": np.asarray,
    "float32": np.float32,
    "float16": np.float16,
    "longdouble": np.longdouble,
    "big-endian": lambda x: x.astype(">f8"),
    "every second": lambda x: np.repeat(x, 2)[::2],
    "(N, 1)": lambda x: x[:, None],
    "(1, N)": lambda x: x[None],
    "objects": lambda x: x.astype(object),
    "numpy scalars": lambda x: [np.float32(v) for v in x],
    "decimals": lambda x: [decimal.Decimal(str(v)) for v in x],
    "fractions": lambda x: [fractions.Fraction(v) for v in x],
    "0-d arrays": lambda x: [np.array(v) for v in x],
    "masked, nothing hidden": np.ma.asarray,
    "memoryview": memoryview,
    "tensor": torch.tensor,
    "tensor float32": lambda x: torch.tensor(x, dtype=torch.float32),
    "tensor bfloat16": lambda x: torch.tensor(x, dtype=torch.bfloat16),
    "tensor with gradient": lambda x: torch.tensor(x, requires_grad=True),
    "tensor (N, 1)": lambda x: torch.tensor(x)[:, None],
    "sparse tensor": lambda x: torch.tensor(x).to_sparse(),
    "list of tensors": lambda x: [torch.tensor(v, requires_grad=True) for v in x],
    "pandas": pandas.Series,
    "pandas, odd index": lambda x: pandas.Series(x, index=[7, 7, -1]),
    "pandas Float64": lambda x: pandas.Series(x, dtype="Float64"),
    "pandas pyarrow": lambda x: pandas.Series(x, dtype="float64[pyarrow]"),
    "pandas index": pandas.Index,
    "Polars": polars.Series,
    "Polars Float32": lambda x: polars.Series(x, dtype=polars.Float32),
    "Polars Decimal": lambda x: polars.Series(list(x)).cast(polars.Decimal(10, 4)),
    "PyArrow": pyarrow.array,
    "PyArrow chunked": lambda x: pyarrow.chunked_array([x[:1], x[1:]]),
}


@pytest.mark.parametrize("other", ["float64", "float32", "list", "pandas, odd index", "tensor"])
@pytest.mark.parametrize("holder", HOLDERS)
def test_any_pair_of_containers_gives_the_same_columns(holder, other):
    table = read({"x": HOLDERS[holder](X), "y": HOLDERS[other](-X)})
    assert_array_equal(table.columns["x"], X)
    assert_array_equal(table.columns["y"], -X)
    for column in table.columns.values():
        assert column.dtype == np.float64
        assert column.flags.c_contiguous
        assert column.flags.writeable


@pytest.mark.parametrize("kind", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", "f2", "f4", "f8", "g", "O"])
@pytest.mark.parametrize("held_in", [np.asarray, list, pandas.Series, polars.Series, pyarrow.array, torch.tensor])
def test_any_dtype_becomes_float64(kind, held_in):
    values = np.array([0, 1, 1], dtype=kind)
    if kind in {"g", "O"} and held_in not in {np.asarray, list}:
        pytest.skip("these containers have no such dtype")
    if kind == "f2" and held_in is polars.Series:
        values = values.astype("f4")
    assert_array_equal(read({"x": held_in(values)}).columns["x"], [0.0, 1.0, 1.0])


@pytest.mark.parametrize(
    "held",
    [
        [1.0, None],
        [1, float("nan")],
        [1, np.float32("nan")],
        [pandas.NA, 1.0][::-1],
        np.ma.array([1.0, 2.0], mask=[False, True]),
        np.ma.array([1, 2], mask=[False, True]),
        pandas.Series([1, None], dtype="Int64"),
        pandas.Series([True, None], dtype="boolean"),
        pandas.Series([1, None], dtype="int64[pyarrow]"),
        polars.Series([1, None]),
        polars.Series(["1.0", None]).cast(polars.Decimal(4, 1)),
        pyarrow.array([1, None]),
        pyarrow.chunked_array([[1], [None]]),
        np.array([1, None], dtype=object),
        [decimal.Decimal(1), None],
    ],
    ids=str,
)
def test_a_missing_value_is_nan_in_every_container(held):
    assert_array_equal(read({"x": held}).columns["x"], [1.0, np.nan])


@hypothesis.given(hypothesis.extra.numpy.arrays(np.float64, st.integers(1, 20)))
def test_no_value_is_changed(x):
    for held in (x, x.tolist(), pandas.Series(x), polars.Series(x), torch.from_numpy(x), x[:, None]):
        assert_array_equal(read({"x": held}).columns["x"], x)


def test_the_table_does_not_change_with_the_array_it_was_made_from():
    x = np.arange(3.0)
    series = pandas.Series(x)
    table = read({"x": x, "y": series.to_numpy(), "z": torch.from_numpy(x)})
    x[:] = 7
    for name in table.names:
        assert_array_equal(table.columns[name], [0, 1, 2])


def test_whole_numbers_that_float64_cannot_hold_are_noted():
    assert read({"t": np.array([2**60 + 1])}).notes == (
        "t holds whole numbers above 2^53, rounded to the nearest float64",
    )
    assert read({"t": np.array([2**40])}).notes == ()
    assert_array_equal(read({"t": [10**400, -(10**400)]}).columns["t"], [np.inf, -np.inf])


# Shapes: nothing is broadcast, images are taken as they are


def test_images_are_ravelled_and_their_shape_is_remembered():
    x, y = np.meshgrid(np.arange(3.0), np.arange(2.0))
    table = read({"x": x, "y": torch.tensor(y), "z": (x + y).tolist(), "k": 2})
    assert (table.n, table.shape) == (6, (2, 3))
    assert_array_equal(table.columns["z"], table.columns["x"] + table.columns["y"])
    assert table.notes == ("k = 2.0 was repeated for all 6 rows",)
    assert table.keep(table.columns["x"] > 0).shape is None
    assert_array_equal(table.with_column("w", x).columns["w"], x.ravel())


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({"x": [1, 2], "y": [1, 2, 3]}, "Columns of the arrays differ in length: x has 2 and y has 3."),
        ({"x": [1, 2], "y": [1]}, "Columns of the arrays differ in length: x has 2 and y has 1."),
        (
            {"x": np.zeros(3), "y": np.zeros(2), "z": np.zeros((2, 3))},
            "Columns of the arrays differ in length: x has 3, y has 2 and z has shape (2, 3).",
        ),
        (
            {"x": np.zeros(6), "z": np.zeros((2, 3))},
            "Columns of the arrays differ in length: x has 6 and z has shape (2, 3).",
        ),
        (
            {"x": np.zeros((3, 2)), "z": np.zeros((2, 3))},
            "Columns of the arrays differ in length: x has shape (3, 2) and z has shape (2, 3).",
        ),
        ({"x": []}, "There are no rows in the arrays (columns x)."),
        ({"x": np.zeros((0, 4))}, "There are no rows in the arrays (columns x)."),
        ({}, "There are no columns in the arrays."),
        (pandas.DataFrame(), "There are no columns in the pandas data frame."),
        ({0: [1], "0": [2]}, "2 columns of the arrays have the name 0 (columns 1 and 2)."),
        (
            pandas.DataFrame([[1, 2, 3]], columns=["x", "y", "x"]),
            "2 columns of the pandas data frame have the name x (columns 1 and 3).",
        ),
        (
            pyarrow.table([[1], [2]], names=["x", "x"]),
            "2 columns of the PyArrow table have the name x (columns 1 and 2).",
        ),
        ({"x": [[1, 2], [3]]}, "x is no column: its parts differ in length or kind."),
        ({"x": np.array([1j])}, "x holds complex numbers, where a column holds real numbers."),
        ({"x": [1, 2j]}, "x holds complex numbers, where a column holds real numbers."),
        ({"x": torch.tensor([1j]).conj()}, "x holds complex numbers, where a column holds real numbers."),
        ({"x": torch.empty(2, device="meta")}, "x is a meta tensor, which holds no numbers."),
        ({"x": {1, 2}}, "x holds set objects, where a column holds real numbers."),
        ({"x": [object()]}, "x holds object objects, where a column holds real numbers."),
        ({"x": polars.Series([[1, 2]])}, "x holds List(Int64), where a column holds real numbers."),
        ({"x": np.zeros(2, dtype="i4,f8")}, "x holds NumPy's [('f0', '<i4'), ('f1', '<f8')], where a column holds real numbers."),
        (np.zeros((2, 2, 2)), "Data of type array with 3 axes cannot be read as a table."),
        (None, "Data of type NoneType cannot be read as a table."),
        (pandas.Series([1]), "Data of type Series cannot be read as a table."),
        ([1, 2], "Data of type list cannot be read as a table."),
    ],
)  # fmt: skip
def test_what_is_no_table_is_refused_in_one_sentence(data, sentence):
    with pytest.raises(DataError) as refused:
        read(data)
    assert refused.value.message == sentence
    assert refused.value.remedy


@pytest.mark.parametrize(
    ("data", "source"),
    [
        ({"x": [1, 2], "y": [3, 4]}, "arrays"),
        ([{"x": 1, "y": 3}, {"x": 2, "y": 4}], "list of records"),
        (pandas.DataFrame({"x": [1, 2], "y": [3, 4]}, index=[5, 5]), "pandas data frame"),
        (pandas.DataFrame({"y": [3, 4]}, index=pandas.Index([1, 2], name="x")), "pandas data frame"),
        (polars.DataFrame({"x": [1, 2], "y": [3, 4]}), "Polars data frame"),
        (polars.LazyFrame({"x": [1, 2], "y": [3, 4]}), "Polars data frame"),
        (pyarrow.table({"x": [1, 2], "y": [3, 4]}), "PyArrow table"),
        (pyarrow.record_batch({"x": [1, 2], "y": [3, 4]}), "PyArrow table"),
        (np.array([(1, 3), (2, 4)], dtype=[("x", "i4"), ("y", "f8")]), "NumPy structured array"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_frame_is_read_by_name(data, source):
    table = read(data)
    assert table.names == ("x", "y")
    assert table.source == source
    assert_array_equal(table.columns["x"], [1, 2])
    assert_array_equal(table.columns["y"], [3, 4])
    assert_array_equal(table.rows, [1, 2])
    assert read(table) is table


@pytest.mark.parametrize("data", [np.array([[1, 3], [2, 4]]), torch.tensor([[1, 3], [2, 4]])])
def test_a_matrix_has_numbered_columns(data):
    table = read(data)
    assert table.names == ("c0", "c1")
    assert_array_equal(table.columns["c1"], [3, 4])
    assert table.notes == ("there is no header, the columns are called c0 and c1",)


def test_units_stand_in_the_header():
    table = read({"t_u [°F]": [1], "t_c (°C)": [2], "V[mV]": [3], "f(x)": [4], "x[0]": [5], "my col": [6]})
    assert table.names == ("t_u", "t_c", "V", "f(x)", "x[0]", "my col")
    assert table.units == {"t_u": "°F", "t_c": "°C", "V": "mV"}
    both = read({"t [s]": [1], "t [min]": [2], "y [m]": [3]})
    assert both.names == ("t [s]", "t [min]", "y")
    assert both.units == {"y": "m"}


# Dates


@pytest.mark.parametrize(
    "held",
    [
        np.array(["2020-01-05", "2020-01-01", "NaT"], dtype="M8[D]"),
        np.array(["2020-01-05", "2020-01-01", "NaT"], dtype="M8[ns]"),
        [datetime.date(2020, 1, 5), datetime.date(2020, 1, 1), None],
        [datetime.datetime(2020, 1, d, 2, tzinfo=datetime.timezone(datetime.timedelta(hours=2))) for d in (5, 1)] + [None],
        pandas.Series(pandas.to_datetime(["2020-01-05", "2020-01-01", None])),
        pandas.Series(pandas.to_datetime(["2020-01-05", "2020-01-01", None])).dt.tz_localize("UTC"),
        polars.Series([datetime.date(2020, 1, 5), datetime.date(2020, 1, 1), None]),
        pyarrow.array([datetime.datetime(2020, 1, 5), datetime.datetime(2020, 1, 1), None]),
        ["2020-01-05", "2020-01-01", ""],
        ["05.01.2020", "01.01.2020", "NA"],
        ["2020-01-05T00:00:00Z", "2020-01-01T01:00:00+01:00", None],
        ["13/01/2020", "01/01/2020", "09/01/2020"],
    ],
    ids=str,
)  # fmt: skip
def test_dates_become_days_since_the_first(held):
    table = read({"d": held})
    if table.columns["d"].dtype == object:
        with pytest.raises(DataError) if None in table.columns["d"].tolist() else warnings.catch_warnings():
            table = table.numeric(["d"])
    if table.columns["d"].dtype == np.float64:
        assert table.notes == ("d became days since 2020-01-01",)
