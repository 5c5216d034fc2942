"""What comes in from memory, and the table that every later stage uses."""

import contextlib
import datetime
import decimal
import fractions
import subprocess
import sys

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
from gradfit.table import read

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


@pytest.mark.parametrize("kind", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", "f4", "f8"])
@pytest.mark.parametrize(
    "held_in", [np.asarray, list, pandas.Series, polars.Series, pyarrow.array, torch.tensor]
)
def test_any_dtype_becomes_float64(kind, held_in):
    assert_array_equal(read({"x": held_in(np.array([0, 1, 1], dtype=kind))}).columns["x"], [0.0, 1.0, 1.0])


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
    ],
    ids=str,
)  # fmt: skip
def test_dates_become_days_since_the_first(held):
    table = read({"d": held}).numeric(["d"], missing="drop")
    assert_array_equal(table.columns["d"], [4.0, 0.0])
    assert table.notes[0] == "d became days since 2020-01-01"
    assert table.units == {"d": "days"}


@pytest.mark.parametrize(
    ("held", "values", "note"),
    [
        (["2020-01-01 10:00", "2020-01-01 10:01"], [0, 60], "d became seconds since 2020-01-01 10:00"),
        (["2020-01-01 10:00:00.5", "2020-01-01 10:00:01"], [0, 0.5], "d became seconds since 2020-01-01 10:00:00.500"),
        (["13/01/2020", "01/02/2020"], [0, 19], "d became days since 2020-01-13"),
        (["01/13/2020", "02/01/2020"], [0, 19], "d became days since 2020-01-13"),
        (np.array(["1969-07", "2020-01"], dtype="M8[M]"), [0, 18446], "d became days since 1969-07-01"),
        (["10:30", "10:31"], [37800, 37860], "d became seconds"),
        ([datetime.time(0, 0, 1, 500_000)], [1.5], "d became seconds"),
        (np.array([1, 2], dtype="m8[m]"), [60, 120], "d became seconds"),
        ([datetime.timedelta(hours=1), None][:1], [3600], "d became seconds"),
        (pandas.Series(pandas.to_timedelta([1, 2], unit="s")), [1, 2], "d became seconds"),
        (polars.Series([datetime.timedelta(days=1)]), [86400], "d became seconds"),
    ],
)  # fmt: skip
def test_times_become_seconds_and_long_spans_days(held, values, note):
    table = read({"d": held}).numeric(["d"])
    assert_array_equal(table.columns["d"], values)
    assert table.notes == (note,)


def test_new_dates_are_counted_from_the_origin_of_the_first_table():
    first = read({"d": np.array(["2020-01-01", "2020-06-01"], dtype="M8[D]")})
    assert first.origins == {"d": "days since 2020-01-01"}
    for held in (np.array(["2020-02-01"], dtype="M8[D]"), ["2020-02-01"], [datetime.date(2020, 2, 1)]):
        assert_array_equal(read({"d": held}, origins=first.origins).numeric(["d"]).columns["d"], [31.0])


def test_a_date_that_can_be_read_in_two_ways_is_refused():
    with pytest.raises(DataError, match=r'd in the arrays is text, such as "03/04/2020"') as refused:
        read({"d": ["03/04/2020", "05/06/2020"]}).numeric(["d"])
    assert (
        refused.value.remedy == "Write dates as 2020-04-03: here the day and the month cannot be told apart."
    )


# Columns that are asked for


def test_numeric_leaves_a_clean_table_as_it_is():
    table = read({"x": [1, 2], "g": ["a", "b"]})
    assert table.numeric(["x"]) is table
    assert table.numeric(["x"], missing="drop") is table


def test_text_that_reads_as_numbers_becomes_numbers_when_asked_for():
    table = read({"x": ["1.5", "2", "1e-3"], "y": ["1,5", "2,25", "3"], "z": [True, "2", 3.5]})
    assert table.columns["x"].tolist() == ["1.5", "2", "1e-3"]
    table = table.numeric(["x", "y"])
    assert_array_equal(table.columns["x"], [1.5, 2, 1e-3])
    assert_array_equal(table.columns["y"], [1.5, 2.25, 3])
    assert table.notes == ("y was read with a decimal comma",)


def test_rows_without_a_number_are_named_with_what_was_seen():
    y = ["1", "NaN", "2", "", "n/a", "3", "oops", "4"]
    with pytest.raises(DataError) as refused:
        read({"t": np.arange(8.0), "y": y}).numeric(["t", "y"])
    error = refused.value
    assert error.message == "4 of 8 rows of the arrays have no number in y (rows 2, 4, 5 and 7)."
    assert error.excerpt.split("\n") == [
        "row  t       y",
        "  2  1     NaN",
        "  4  3   empty",
        '  5  4   "n/a"',
        '  7  6  "oops"',
    ]
    assert (
        error.remedy
        == 'gradfit drops no rows unasked. To fit the other 4 rows: missing="drop" (--missing drop).'
    )


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({"x": [1, np.inf]}, "1 of 2 rows of the arrays has no finite number in x (row 2)."),
        ({"x": [None, 1, np.nan]}, "2 of 3 rows of the arrays have no number in x (rows 1 and 3)."),
        ({"x": [np.nan, np.nan]}, "All 2 rows of the arrays have no number in x (rows 1 and 2)."),
        ({"x": np.nan}, "The only row of the arrays has no number in x (row 1)."),
        ({"x": ["a", "b", "a"]}, 'x in the arrays is text, such as "a" and "b", not numbers.'),
        ({"y": [1]}, "There is no column x in the arrays."),
        (
            {"x": [np.nan] * 99 + [1]},
            "99 of 100 rows of the arrays have no number in x (rows 1, 2, 3, 4, 5, 6, 7, 8 and 91 more).",
        ),
    ],
)
def test_a_column_without_numbers_is_refused(data, sentence):
    with pytest.raises(DataError) as refused:
        read(data).numeric(["x"])
    assert refused.value.message == sentence
    assert refused.value.remedy
    assert len(refused.value.excerpt.split("\n")) <= 6


def test_dropped_rows_are_counted_and_go_from_every_column():
    table = read({
        "x": [1, np.inf, 3, 4, 5],
        "y": ["1", "2", "n/a", "oops", "5"],
        "sigma": [1, 2, 3, 4, np.nan],
        "unused": [np.nan, 1, 1, 1, 1],
    })  # fmt: skip
    kept = table.numeric(["x", "y", "sigma"], missing="drop")
    assert_array_equal(kept.rows, [1])
    assert {name: column.tolist() for name, column in kept.columns.items() if name != "unused"} == {
        "x": [1.0],
        "y": [1.0],
        "sigma": [1.0],
    }
    assert kept.notes == (
        "4 of 5 rows were dropped for want of a finite number in x, y or sigma: 2, 3, 4 and 5",
    )
    with pytest.raises(DataError, match="No row would be left"):
        read({"x": [np.nan, 1], "y": [1, np.nan]}).numeric(["x", "y"], missing="drop")


@hypothesis.given(st.lists(st.tuples(*[st.floats() | st.none()] * 3), min_size=1, max_size=12))
def test_one_mask_for_all_columns(records):
    columns = {name: [record[i] for record in records] for i, name in enumerate(("x", "y", "sigma"))}
    whole = [
        i + 1 for i, record in enumerate(records) if all(v is not None and np.isfinite(v) for v in record)
    ]
    table = read(columns)
    if not whole:
        with pytest.raises(DataError):
            table.numeric(columns, missing="drop")
        return
    kept = table.numeric(columns, missing="drop")
    assert kept.rows.tolist() == whole
    for name in columns:
        assert_array_equal(kept.columns[name], [columns[name][row - 1] for row in whole])


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("tc", "Columns: t_u and t_c. Did you mean t_c?"),
        ("T_U", "Columns: t_u and t_c. Did you mean t_u?"),
        ("q", "Columns: t_u and t_c."),
    ],
)
def test_an_unknown_column_is_answered_with_the_nearest_name(name, remedy):
    table = read({"t_u": [1], "t_c": [2]})
    with pytest.raises(DataError) as refused:
        table.require(["t_u", name])
    assert refused.value.message == f"There is no column {name} in the arrays."
    assert refused.value.remedy == remedy
    table.require(["t_u", name], known=[name])


def test_an_unknown_word_for_missing_is_refused():
    with pytest.raises(OptionError, match="missing='skip' is not an option"):
        read({"x": [1]}).numeric(["x"], missing="skip")


def test_rows_are_kept_with_their_numbers():
    table = read({"x": [1, 2, 3], "g": ["a", None, "c"]})
    kept = table.keep(table.columns["x"] != 1, "where x != 1")
    assert kept.rows.tolist() == [2, 3]
    assert kept.columns["g"].tolist() == [None, "c"]
    assert kept.notes == ("where x != 1",)
    with pytest.raises(DataError, match=r"No row of the arrays is left: where x > 9\."):
        table.keep(table.columns["x"] > 9, "where x > 9")
    with pytest.raises(DataError, match="one truth value for each of 3 rows"):
        table.keep(np.array([1, 0, 1]))


def test_a_column_is_added_or_replaced():
    table = read({"x [s]": [1, 2]}).with_column("w", [3, 4], "kg").with_column("x", ["5", "6"])
    assert table.names == ("x", "w")
    assert table.units == {"w": "kg"}
    assert table.columns["x"].tolist() == ["5", "6"]
    with pytest.raises(DataError, match=r"w has shape \(3,\), where the table has 2 rows\."):
        table.with_column("w", [1, 2, 3])


def test_categories_become_codes_in_sorted_order():
    table = read({"g": ["b", "a", None, "b"], "k": [2, 1, 2, 10]})
    coded = table.coded("g").coded("k")
    assert_array_equal(coded.columns["g"], [1, 0, np.nan, 1])
    assert_array_equal(coded.columns["k"], [1, 0, 1, 2])
    assert coded.categories == {"g": ("a", "b"), "k": ("1", "2", "10")}
    assert coded.coded("g") is coded
    again = read({"g": ["b"]}).coded("g", levels=coded.categories["g"])
    assert_array_equal(again.columns["g"], [1.0])
    with pytest.raises(DataError, match='g holds "c", which is not one of its levels'):
        read({"g": ["b", "c"]}).coded("g", levels=coded.categories["g"])
    with pytest.raises(DataError, match=r"row +g +k\n +3 +empty"):
        coded.numeric(["g"])


def test_a_table_of_arrays_needs_no_other_library(tmp_path):
    script = tmp_path / "small.py"
    script.write_text(
        "import sys, numpy as np\n"
        "from gradfit.table import read\n"
        "table = read({'x': np.arange(3.0), 'y [s]': [1, 2, 3]}).numeric(('x', 'y'))\n"
        "print(sorted({'torch', 'polars', 'narwhals', 'scipy', 'pandas', 'matplotlib'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


_HELD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.complex_numbers() | st.text() | st.binary()
    | st.dates() | st.datetimes() | st.times() | st.timedeltas() | st.decimals() | st.fractions(),
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@hypothesis.given(
    st.dictionaries(st.text(max_size=4), _HELD, max_size=3)
    | _HELD.filter(lambda held: not isinstance(held, str))
)
def test_anything_in_memory_is_a_table_or_refused_by_a_sentence(held):
    with contextlib.suppress(GradfitError):
        table = read(held)
        assert table.n > 0
        for name in table.names:
            table.coded(name)
            assert np.isfinite(table.numeric([name], missing="drop").columns[name]).all()
