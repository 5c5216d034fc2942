"""Files of every format as tables: what is found out from text, and what is refused with which sentence."""

import contextlib
import datetime
import gzip
import io
import pathlib
import sys

import numpy as np
import polars
import pytest
import xlsxwriter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from gradfit.errors import DataError, GradfitError
from gradfit.table import read

NAN = np.nan


def written(folder, content, name="data.csv", encoding="utf-8"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def saved(save):
    """Return the bytes that a library writes."""
    buffer = io.BytesIO()
    save(buffer)
    return buffer.getvalue()


def workbook(**sheets):
    """Return an Excel file; each sheet is a list of rows."""

    def save(buffer):
        book = xlsxwriter.Workbook(buffer, {"default_date_format": "yyyy-mm-dd"})
        for name, rows in sheets.items():
            sheet = book.add_worksheet(name)
            for i, row in enumerate(rows):
                for j, value in enumerate(row):
                    if value is not None:
                        sheet.write(i, j, value)
        book.close()

    return saved(save)


def listed(table):
    return {name: column.tolist() for name, column in table.columns.items()}


LAYOUTS = {
    "comma": "x,y\n1.5,2\n3,-4e-3\n",
    "comma and blank": "x, y\n1.5, 2\n3, -4e-3\n",
    "semicolon": "x;y\n1.5;2\n3;-4e-3\n",
    "tab": "x\ty\n1.5\t2\n3\t-4e-3\n",
    "bar": "x|y\n1.5|2\n3|-4e-3\n",
    "blank": "x y\n1.5 2\n3 -4e-3\n",
    "columns of blanks": "  x     y\n  1.5   2\n  3    -4e-3\n\n",
    "blanks and tabs": "x \t y\n1.5 \t 2\n3 \t -4e-3\n",
    "decimal comma": "x;y\n1,5;2\n3;-4e-3\n",
    "decimal comma, tab": "x\ty\n1,5\t2\n3\t-4e-3\n",
    "decimal comma, blank": "x y\n1,5 2\n3 -4e-3\n",
    "decimal comma, quoted": 'x,y\n"1,5","2"\n"3","-4e-3"\n',
    "quoted": '"x","y"\n"1.5","2"\n"3","-4e-3"\n',
    "quoted by blanks": '"x" "y"\n"1.5" "2"\n"3" "-4e-3"\n',
    "no last line end": "x,y\n1.5,2\n3,-4e-3",
    "Windows": "x,y\r\n1.5,2\r\n3,-4e-3\r\n",
    "old Macintosh": "x,y\r1.5,2\r3,-4e-3\r",
    "blank lines": "\n\nx,y\n\n1.5,2\n   \n3,-4e-3\n\n",
    "comments": "# a\n% b\nx,y\n1.5,2\n# c\n3,-4e-3\n# d\n",
    "comment before a quote": '# "unfinished\nx,y\n1.5,2\n3,-4e-3\n',
    "delimiter at the end of rows": "x,y\n1.5,2,\n3,-4e-3,\n",
    "delimiter at the end of lines": "x,y,\n1.5,2,\n3,-4e-3,\n",
    "savetxt": "# x y\n1.5 2\n3 -4e-3\n",
    "percent header": "% some device\n%x,y\n1.5,2\n3,-4e-3\n",
    "true minus": "x,y\n1.5,2\n3,−4e-3\n",
    "Fortran": "x y\n1.5D+00 2\n3 -4d-3\n",
    "a long comment": "# about it\n" * 9000 + "x,y\n1.5,2\n3,-4e-3\n",
    "DOS end of file": "x,y\n1.5,2\n3,-4e-3\n\x1a",
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layout_of_text_is_found_out(tmp_path, layout, encoding):
    table = read(written(tmp_path, LAYOUTS[layout], encoding=encoding))
    assert listed(table) == {"x": [1.5, 3.0], "y": [2.0, -4e-3]}
    assert table.rows.tolist() == [1, 2]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252"])
def test_units_in_any_encoding(tmp_path, encoding):
    table = read(written(tmp_path, "t_u [°F],t_c (°C),my col\n1,2,3\n", encoding=encoding))
    assert table.names == ("t_u", "t_c", "my col")
    assert table.units == {"t_u": "°F", "t_c": "°C"}


@pytest.mark.parametrize(
    ("content", "columns", "notes"),
    [
        ("x,y\n1,2\n", {"x": [1], "y": [2]}, ()),
        ("x;y\n1,5;2\n", {"x": [1.5], "y": [2]}, ("; between columns and the decimal comma were found",)),
        ("x\n1,5\n2,25\n", {"x": [1.5, 2.25]}, ("the decimal comma was found",)),
        ("x;y\n1.234,5;2\n", {"x": [1234.5], "y": [2]}, ("; between columns and the decimal comma were found", "x was read with marks between thousands")),
        ("x;y\n1,234;2\n", {"x": [1.234], "y": [2]}, ("; between columns and the decimal comma were found",)),
        ('x,y\n"1,234.5",2\n"12,000",3\n', {"x": [1234.5, 12000], "y": [2, 3]}, ("x was read with marks between thousands",)),
        ("x;y\n1 234,5;2\n", {"x": [1234.5], "y": [2]}, ("; between columns and the decimal comma were found", "x was read with marks between thousands")),
        ("1,2\n3,4\n", {"c0": [1, 3], "c1": [2, 4]}, ("there is no header, the columns are called c0 and c1",)),
        ("treated,1\ncontrol,2\n", {"c0": ["treated", "control"], "c1": [1, 2]}, ("there is no header, the columns are called c0 and c1",)),
        ("2020-01-01 1\n2020-01-04 2\n", {"c0": [0, 3], "c1": [1, 2]}, ("there is no header, the columns are called c0 and c1", "c0 became days since 2020-01-01")),
        ("sample,400,500,600\nA,.1,.2,.3\n", {"sample": ["A"], "400": [0.1], "500": [0.2], "600": [0.3]}, ()),
        (",x\n0,5\n1,6\n", {"c0": [0, 1], "x": [5, 6]}, ()),
        ("# x, y\n1,2\n", {"x": [1], "y": [2]}, ("the names of the columns were taken from the comment above them",)),
        ("x,y\n1,2\n# pause\n3,4\n", {"x": [1, 3], "y": [2, 4]}, ("1 comment line between the rows was skipped",)),
        ("x,y\n1,true\n2,False\n3,\n", {"x": [1, 2, 3], "y": [1, 0, NAN]}, ()),
        ("who,x\nJoe Doe,1\n\" Ann, Lee \",2\n,3\n", {"who": ["Joe Doe", "Ann, Lee", None], "x": [1, 2, 3]}, ()),
        ('pipe,x\n5" steel,1\n6" steel,2\n', {"pipe": ['5" steel', '6" steel'], "x": [1, 2]}, ()),
        ('x,text\n1,"two\nlines"\n2,\n', {"x": [1, 2], "text": ["two\nlines", None]}, ()),
        ("x,y\n1e300,1e-300\n1e400,-inf\n", {"x": [1e300, np.inf], "y": [1e-300, -np.inf]}, ()),
        ("x,y\n9007199254740993,0.1\n", {"x": [2.0**53], "y": [0.1]}, ("x holds whole numbers above 2^53, rounded to the nearest float64",)),
        ("d;y\n01.02.2020 10:00;1,5\n01.02.2020 10:01;2,5\n", {"d": [0, 60], "y": [1.5, 2.5]}, ("; between columns and the decimal comma were found", "d became seconds since 2020-02-01 10:00")),
        ("caf\xe9,y\n1,2\n".encode("latin-1"), {"café": [1], "y": [2]}, ("it is not UTF-8 and was read as Windows-1252 (Latin-1)",)),
        ("x,y\n" + "1,2\n" * 200 + "3,n/a\n", {"x": [1.0] * 200 + [3], "y": [2.0] * 200 + [NAN]}, ()),
        ("x,y\n" + "1,2\n" * 200 + '3,"2,5"\n', {"x": [1.0] * 200 + [3], "y": [2.0] * 200 + [2.5]}, ("y was read with a decimal comma",)),
    ],
)  # fmt: skip
def test_what_text_says_and_what_is_noted(tmp_path, content, columns, notes):
    table = read(written(tmp_path, content))
    assert table.names == tuple(columns)
    for name, values in columns.items():
        if table.columns[name].dtype == object:
            assert table.columns[name].tolist() == values
        else:
            assert_array_equal(table.columns[name], values)
    assert table.notes == notes


@pytest.mark.parametrize(
    "marker", ["", "NA", "n/a", "N/A", "NaN", "nan", "null", "None", "-", "--", "?", "#N/A", "#DIV/0!", " "]
)
@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_marks_of_missing_values_do_not_make_a_column_text(tmp_path, marker, delimiter):
    table = read(written(tmp_path, f"x,y,z\n1,2,3\n4,{marker},6\n7,8,{marker}\n".replace(",", delimiter)))
    assert_array_equal(table.columns["y"], [2, NAN, 8])
    assert_array_equal(table.columns["z"], [3, 6, NAN])
    with pytest.raises(DataError) as refused:
        table.numeric(["y"])
    seen = {"": "empty", "nan": "nan", "NaN": "NaN", "None": "None"}.get(marker.strip(), f'"{marker}"')
    assert refused.value.excerpt.split("\n")[1].split() == ["2", "4", *seen.split(), "6"]


def test_bad_cells_are_shown_as_they_stand_in_the_file(tmp_path):
    path = written(
        tmp_path,
        "t,y\n" + "".join(f"{i},{i * 2}\n" for i in range(1, 17)) + "17,oops\n18,\n19,1e999\n20,<3\n",
    )
    with pytest.raises(DataError) as refused:
        read(path).numeric(["t", "y"])
    assert (
        refused.value.message
        == f"4 of 20 rows of {path} have no finite number in y (rows 17, 18, 19 and 20)."
    )
    assert refused.value.excerpt.split("\n") == [
        "row   t       y",
        " 17  17  \"oops\"",
        " 18  18   empty",
        " 19  19     inf",
        " 20  20    \"<3\"",
    ]  # fmt: skip


REFUSED = {
    "empty": ("data.csv", b"", "{path} is empty."),
    "blank": ("data.csv", b" \n\n", "{path} is empty."),
    "only a mark of the encoding": ("data.csv", b"\xef\xbb\xbf", "{path} is empty."),
    "comments": ("data.csv", b"# x,y\n# 1,2\n", "{path} holds only comments."),
    "header": ("data.csv", b"x,y\n", "{path} has a header (x and y) but no rows."),
    "header and comments": ("data.csv", b"id,y\n#1,2\n#2,3\n", "{path} has a header (id and y) but no rows."),
    "twice": ("data.csv", b"x,y,x\n1,2,3\n", "2 columns of {path} have the name x (columns 1 and 3)."),
    "short row": ("data.csv", b"x,y\n# c\n1,2\n3\n4,5\n", "Line 4 of {path} has 1 cell, the lines above it 2."),
    "long row": ("data.csv", b"x,y\n1,2\n3,4,5\n", "Line 3 of {path} has 3 cells, the lines above it 2."),
    "short row of blanks": ("data.txt", b"x y z\n1 2 3\n4  5\n", "Line 3 of {path} has 2 cells, the lines above it 3."),
    "short row, quotes": ("data.csv", b'x,y\n"1",2\n"3"\n', "Line 3 of {path} has 1 cell, the lines above it 2."),
    "a short row far down": ("data.csv", b"x,y\n" + b"1,2\n" * 30_000 + b"3\n", "Line 30002 of {path} has 1 cell, the lines above it 2."),
    "zeros": ("data.csv", b"x,y\n1,2\n\0\0", "{path} holds binary data, not text."),
    "noise": ("data.csv", bytes(range(256)), "{path} holds binary data, not text."),
    "Excel called CSV": ("data.csv", b"PK\x03\x04 and so on", "{path} holds a zip archive, as Excel writes, not text."),
    "Parquet called text": ("data.txt", b"PAR1 and so on", "{path} holds Parquet, not text."),
    "ending": ("data.docx", b"x", '{path} ends in ".docx", a format that gradfit does not read.'),
    "text called Excel": ("data.xlsx", b"x,y\n1,2\n", "{path} cannot be read as Excel: it is cut short, damaged or of another format"),
    "text called Parquet": ("data.parquet", b"x,y\n1,2\n", "{path} cannot be read as Parquet: it is cut short, damaged or of another format"),
    "text called Arrow": ("data.arrow", b"x,y\n1,2\n", "{path} cannot be read as Arrow: it is cut short, damaged or of another format"),
    "text called NumPy": ("data.npy", b"x,y\n1,2\n", "{path} cannot be read as NumPy's .npy or .npz: it is cut short, damaged or of another format (it begins otherwise)."),
    "text called JSON": ("data.json", b"x,y\n1,2\n", "Line 1 of {path} is not JSON: Expecting value at character 1."),
    "bytes called JSON": ("data.json", b"\xff\xfe", "{path} cannot be read as JSON: it is cut short, damaged or of another format"),
    "deep JSON": ("data.json", b"[" * 100_000, "{path} cannot be read as JSON: it is cut short, damaged or of another format"),
    "JSON lines": ("data.jsonl", b'{"x": 1}\n\n{"x": 2\n{"x": 3}', "Line 3 of {path} is not JSON: Expecting ',' delimiter at character 8."),
    "JSON twice": ("data.json", b'{"x": [1], "x": [2]}', "{path} has the name x 2 times in one object."),
    "JSON number": ("data.json", b"5", "{path} holds no columns."),
    "JSON without rows": ("data.json", b"[]", "{path} holds no columns."),
    "JSON unequal": ("data.json", b'{"x": [1, 2], "y": [1]}', "Columns of {path} differ in length: x has 2 and y has 1."),
    "JSON nested": ("data.json", b'[{"x": {"a": 1}}]', "x holds dict objects, where a column holds real numbers."),
    "gzip cut short": ("data.csv.gz", gzip.compress(b"x,y\n1,2\n", mtime=0)[:20], "{path} cannot be unpacked: Compressed file ended before"),
    "Parquet cut short": ("data.parquet", saved(polars.DataFrame({"x": [1]}).write_parquet)[:-20], "{path} cannot be read as Parquet"),
    "Arrow cut short": ("data.feather", saved(polars.DataFrame({"x": [1]}).write_ipc)[:-20], "{path} cannot be read as Arrow"),
    "Excel cut short": ("data.xlsx", workbook(a=[["x"], [1]])[:-40], "{path} cannot be read as Excel"),
    "npy cut short": ("data.npy", saved(lambda file: np.save(file, np.eye(2)))[:-1], "{path} cannot be read as NumPy's .npy or .npz"),
    "npz cut short": ("data.npz", saved(lambda file: np.savez(file, x=np.eye(2)))[:-30], "{path} cannot be read as NumPy's .npy or .npz"),
    "npy of objects": ("data.npy", saved(lambda file: np.save(file, np.array([{}]))), "{path} holds Python objects, which are not read because they can run code."),
    "npz of objects": ("data.npz", saved(lambda file: np.savez(file, x=np.array([{}]))), "{path} holds Python objects, which are not read because they can run code."),
    "npy with three axes": ("data.npy", saved(lambda file: np.save(file, np.zeros((2, 2, 2)))), "{path} holds an array of shape (2, 2, 2), where columns need one or two axes."),
    "npy without rows": ("data.npy", saved(lambda file: np.save(file, np.zeros((0, 2)))), "There are no rows in {path} (columns c0)."),
    "Excel twice": ("data.xlsx", workbook(a=[["x", "x"], [1, 2]]), "2 columns of {path} have the name x (columns 1 and 2)."),
    "Excel header": ("data.xlsx", workbook(a=[["x", "y"]]), "{path} has a header (x and y) but no rows."),
    "Excel empty": ("data.xlsx", workbook(a=[]), "{path} is empty."),
    "Parquet without rows": ("data.parquet", saved(polars.DataFrame({"x": []}).write_parquet), "There are no rows in {path} (columns x)."),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_is_no_table_is_refused_in_one_sentence(tmp_path, case):
    name, content, sentence = REFUSED[case]
    path = written(tmp_path, content, name)
    with pytest.raises(DataError) as refused:
        read(path)
    assert refused.value.message.startswith(sentence.format(path=path))
    assert refused.value.message.endswith(".")
    assert "\n" not in refused.value.message
    assert refused.value.remedy


@pytest.mark.parametrize(
    ("name", "sentence", "remedy"),
    [
        ("wels.csv", "There is no file {folder}/wels.csv.", "Did you mean {folder}/wells.csv?"),
        ("zzz", "There is no file {folder}/zzz.", "The folder is {folder}."),
        ("no/wells.csv", "There is no file {folder}/no/wells.csv.", "There is no folder {folder}/no."),
        (".", "{folder} is a folder, not a file.", "Name a file in it: wells.csv."),
    ],
)
def test_a_missing_file_is_answered_with_the_nearest_name(tmp_path, name, sentence, remedy):
    written(tmp_path, "x\n1\n", "wells.csv")
    (tmp_path / "notes.docx").touch()
    with pytest.raises(DataError) as refused:
        read(str(tmp_path / name))
    assert refused.value.message == sentence.format(folder=tmp_path)
    assert refused.value.remedy == remedy.format(folder=tmp_path)


@pytest.mark.parametrize("name", ["\0", "x" * 5000, "x,y\n1,2\n"])
def test_a_name_that_no_file_can_have_is_refused_in_one_sentence(name):
    with pytest.raises(DataError) as refused:
        read(name)
    assert len(refused.value.message) < 200
    assert "\n" not in refused.value.message


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(pathlib.Path, "read_bytes", refuse)  # root, who runs some tests, may read everything
    with pytest.raises(DataError, match="cannot be opened: Permission denied"):
        read(tmp_path / "data.csv")


FRAME = polars.DataFrame({
    "t [s]": [1, None, 3],
    "y": [1.5, 2e-300, 3e300],
    "g": ["a", None, "c"],
    "on": [True, None, False],
    "d": [datetime.date(2020, 1, 1), datetime.date(2020, 2, 1), None],
})  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.parquet", saved(FRAME.write_parquet)),
        ("a.arrow", saved(FRAME.write_ipc)),
        ("a.arrow", saved(FRAME.write_ipc_stream)),
        ("a.feather", saved(FRAME.write_ipc)),
        ("a.csv", saved(FRAME.write_csv)),
        ("A.CSV.GZ", gzip.compress(saved(FRAME.write_csv), mtime=0)),
        ("a.tsv", saved(lambda file: FRAME.write_csv(file, separator="\t"))),
        ("a.json", saved(FRAME.write_json)),
        ("a.jsonl", saved(FRAME.write_ndjson)),
        ("a.ndjson", saved(FRAME.write_ndjson)),
        ("a.json", FRAME.with_columns(polars.col("d").cast(polars.String)).to_pandas().to_json().encode()),
        ("a.xlsx", workbook(only=[FRAME.columns, *FRAME.rows()])),
    ],
)
def test_every_format_gives_the_same_table(tmp_path, name, content):
    table = read(written(tmp_path, content, name))
    assert table.names == ("t", "y", "g", "on", "d")
    assert table.units == {"t": "s", "d": "days"}
    assert table.notes == ("d became days since 2020-01-01",)
    assert_array_equal(table.columns["t"], [1, NAN, 3])
    assert_array_equal(table.columns["y"], [1.5, 2e-300, 3e300])
    assert_array_equal(table.columns["on"], [1, NAN, 0])
    assert_array_equal(table.columns["d"], [0, 31, NAN])
    assert table.columns["g"].tolist() == ["a", None, "c"]


@pytest.mark.parametrize(
    ("name", "save", "columns"),
    [
        ("a.npy", lambda file: np.save(file, np.array([[1, 2], [3, 4]])), {"c0": [1, 3], "c1": [2, 4]}),
        ("a.npy", lambda file: np.save(file, np.array([1, 2], dtype="f4")), {"c0": [1, 2]}),
        ("a.npy", lambda file: np.save(file, np.array([(1, 2.5)], dtype=[("x", "i4"), ("y", "f8")])), {"x": [1], "y": [2.5]}),
        ("a.npz", lambda file: np.savez(file, x=[1, 2], y=[[3], [4]]), {"x": [1, 2], "y": [3, 4]}),
        ("a.npz", lambda file: np.savez_compressed(file, x=np.eye(2), y=np.eye(2)), {"x": [1, 0, 0, 1], "y": [1, 0, 0, 1]}),
    ],
)  # fmt: skip
def test_numpy_files(tmp_path, name, save, columns):
    assert listed(read(written(tmp_path, saved(save), name))) == columns


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        ('{"x": [1, 2], "y": [3, NaN]}', {"x": [1, 2], "y": [3, NAN]}),
        ('[{"x": 1}, {"x": 2, "y": 3}]', {"x": [1, 2], "y": [NAN, 3]}),
        ('{"x": 1, "y": 2}', {"x": [1], "y": [2]}),
        ('{"x": ["1", "n/a"], "y": [2.5, "3"]}', {"x": [1, NAN], "y": [2.5, 3]}),
        ("[[1, 2], [3, 4]]", {"c0": [1, 3], "c1": [2, 4]}),
        ('{"z": [[1, 2], [3, 4]]}', {"z": [1, 2, 3, 4]}),
    ],
)
def test_json(tmp_path, content, columns):
    table = read(written(tmp_path, content, "a.json"))
    assert table.names == tuple(columns)
    for name, values in columns.items():
        assert_array_equal(table.columns[name], values)


def test_sheets(tmp_path):
    rows = [["x", "y", None], [1e-12, "n/a", None], [], [0.1, 5, None], ["2,5", "6", "hot"]]
    path = written(tmp_path, workbook(first=rows, second=[["q"], [4]]), "a.xlsx")
    table = read(path)
    assert_array_equal(table.columns["y"], [NAN, 5, 6])
    assert table.columns["x"].tolist() == ["1e-12", "0.1", "2,5"]
    assert table.columns["c2"].tolist() == [None, None, "hot"]
    assert table.notes == ("the sheet first was read, the first of 2",)
    second = read(path, sheet="second")
    assert listed(second) == {"q": [4.0]}
    assert (second.source, second.notes) == (str(path), ("the sheet second was read",))
    with pytest.raises(DataError, match=r"There is no sheet secnd in .*\n.*Did you mean second\?"):
        read(path, sheet="secnd")
    with pytest.raises(DataError, match="has no sheets"):
        read(written(tmp_path, "x\n1\n"), sheet="first")
    with pytest.raises(DataError, match="sheet= is for Excel files"):
        read({"x": [1]}, sheet="first")


@pytest.mark.parametrize(
    "content",
    [b"x y\n1 2\n", b'{"x": 1, "y": 2}\n', b'[{"x": 1, "y": 2}]', gzip.compress(b"x,y\n1,2\n", mtime=0)],
)
def test_standard_input(monkeypatch, content):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    table = read("-")
    assert listed(table) == {"x": [1.0], "y": [2.0]}
    assert table.source == "<stdin>"


@pytest.mark.parametrize("name", ["a", "run.001", "a.dat", "a.asc", "v1.2 data"])
def test_text_of_any_name(tmp_path, name):
    path = written(tmp_path, "x y\n1 2\n", name)
    assert listed(read(path)) == listed(read(str(path))) == {"x": [1.0], "y": [2.0]}
    assert read(path).source == str(path)


# Laws

_WORDS = {"nan", "na", "inf", "null", "none", "nil", "nat", "missing", "infinity", "true", "false"}
_NAMES = st.from_regex(r"[a-z][a-z_]{0,5}", fullmatch=True).filter(lambda name: name not in _WORDS)


@st.composite
def tables(draw):
    names = draw(st.lists(_NAMES, min_size=1, max_size=4, unique=True))
    rows = draw(st.integers(1, 12))
    floats = st.floats(allow_nan=False) | st.integers(-(2**53) + 1, 2**53 - 1).map(float) | st.just(NAN)
    return {name: draw(st.lists(floats, min_size=rows, max_size=rows)) for name in names}


@given(
    tables(),
    st.sampled_from(",;\t| "),
    st.sampled_from(".,"),
    st.sampled_from(["NA", "n/a", "-"]),
    st.booleans(),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_table_survives_text_with_any_delimiter_and_decimal_mark(
    tmp_path, columns, delimiter, decimal, missing, quoted
):
    def cell(value):
        text = missing if np.isnan(value) else repr(value).replace(".", decimal)
        return f'"{text}"' if quoted or delimiter == decimal else text

    lines = [delimiter.join(columns)] + [
        delimiter.join(map(cell, row)) for row in zip(*columns.values(), strict=True)
    ]
    table = read(written(tmp_path, "\n".join(lines)))
    assert table.names == tuple(columns)
    for name, values in columns.items():
        assert_array_equal(table.columns[name], values)


_WRITTEN = (
    st.floats(allow_nan=False, allow_infinity=False).map(repr)
    | st.floats(-1e6, 1e6).map("{:.3e}".format)
    | st.integers(-(10**18), 10**18).map(str)
    | st.sampled_from(
        ["-0", "007", "1.", ".5", "+1", " 2", "2 ", "1E5", "1e999", "1e-999", "NA", "", "1_0", "0x1"]
    )
)


@given(st.lists(st.tuples(_WRITTEN, _WRITTEN), min_size=1, max_size=6))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_numbers_are_read_the_same_beside_text(tmp_path, rows):
    both = [
        read(written(tmp_path, "\n".join([f"a,b{header}", *(f"{a},{b}{cell}" for a, b in rows)])))
        for header, cell in (("", ""), (",c", ",word"))
    ]
    for name in ("a", "b"):
        assert_array_equal(both[0].columns[name], both[1].columns[name])
        assert both[0].columns[name].dtype == both[1].columns[name].dtype
    assert both[0].notes == both[1].notes


SEEDS = {
    ".csv": "t [°C];y\n1,5;2020-01-01\n# c\n\n3,4;\"a\"\n".encode(),
    ".tsv": "x\ty\n1\t2\n".encode("utf-16"),
    "": b"1 2\n3 4\n",
    ".json": b'[{"x": 1, "y": "n/a"}, {"x": 2.5, "z": [1]}]',
    ".jsonl": b'{"x": 1}\n{"x": 2}\n',
    ".csv.gz": gzip.compress(b"x,y\n1,2\n3,4\n", mtime=0),
    ".npy": saved(lambda file: np.save(file, np.eye(2))),
    ".npz": saved(lambda file: np.savez(file, x=np.eye(2), y=np.eye(2))),
    ".xlsx": workbook(a=[["x", "y"], [1, 2], [3, "a"]]),
}  # fmt: skip
CUT = SEEDS | {".parquet": saved(FRAME.write_parquet), ".arrow": saved(FRAME.write_ipc)}
_SCRAPS = st.sampled_from(
    [*"0123456789.,;\t\n\r\"'#%-+eE :/|\0é", "nan", "x", "2020-01-02", "1e5", "\n1,2", '"a\nb"']
)


def attempt(path):
    """Read a file and use every column: a table, or a sentence, and never another exception."""
    with contextlib.suppress(GradfitError):
        table = read(path)
        assert table.n > 0
        for name in table.names:
            table.coded(name)
            with contextlib.suppress(GradfitError):
                assert np.isfinite(table.numeric([name], missing="drop").columns[name]).all()


@given(st.lists(_SCRAPS, max_size=30).map("".join), st.sampled_from(["utf-8", "utf-16", "cp1252"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
def test_any_text_is_a_table_or_refused(tmp_path, text, encoding):
    attempt(written(tmp_path, text.encode(encoding, "replace"), "a.txt"))


@given(st.sampled_from([*CUT]), st.binary(max_size=80))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_bytes_are_a_table_or_refused(tmp_path, ending, content):
    attempt(written(tmp_path, content, f"a{ending}"))


@given(st.sampled_from([*CUT]), st.floats(0, 1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_file_cut_short_is_a_table_or_refused(tmp_path, ending, share):
    attempt(written(tmp_path, CUT[ending][: int(share * len(CUT[ending]))], f"a{ending}"))


@given(st.sampled_from([*SEEDS]), st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)
def test_a_damaged_file_is_a_table_or_refused(tmp_path, ending, changes):
    content = bytearray(SEEDS[ending])
    for place, byte in changes:
        content[int(place * len(content))] = byte
    attempt(written(tmp_path, bytes(content), f"a{ending}"))
