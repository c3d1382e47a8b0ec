"""Detection of separators, decimal marks, headers and row labels, with warnings about guesses."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest

from fastmlp._common.errors import DataError, DataWarning
from fastmlp.datasets import apply_preprocessing, load
from fastmlp.datasets.dialect import UNKNOWN_FORMAT, TextFormat, is_number
from fastmlp.datasets.table_files import TextFile, read_numbers

pandas = pytest.importorskip("pandas")

RNG = np.random.default_rng(7)
ROWS = 200
A, B = RNG.normal(size=(2, ROWS))
K = (A + B > 0).astype(int)
FRAME = pandas.DataFrame({"a": A, "b": B, "label": np.where(K, "yes", "no")})
NUMBERS = pandas.DataFrame({"a": A, "b": B, "k": K})
COUNTS = pandas.DataFrame(RNG.integers(0, 1000, (ROWS, 4)))
LETTERS = pandas.DataFrame(RNG.choice(list("abcde"), (ROWS, 5)))
GAP = NUMBERS.astype({"a": object})
GAP.loc[0, "a"] = None

# A frame, how to write it, whether its first line names the columns, and whether that is said.
HEADERS = {
    "names": (FRAME, {}, True, False),
    "names above gaps": (GAP, {}, True, False),
    "numbers": (NUMBERS, {"header": False}, False, False),
    "counts": (COUNTS, {"header": False}, False, False),
    "text label in the first row": (FRAME, {"header": False}, False, True),
    "gap in the first row": (GAP, {"header": False}, False, True),
    "pandas' numbers": (NUMBERS, {"header": [0, 1, 2]}, True, True),
    "pandas' numbers above counts": (COUNTS, {"header": [0, 1, 2, 3]}, True, True),
    "pandas' numbers and a label": (COUNTS, {"header": ["label", 0, 1, 2]}, True, False),
    "years above measurements": (NUMBERS, {"header": [2019, 2020, 2021]}, True, True),
    "years above counts": (COUNTS, {"header": [2019, 2020, 2021, 2022]}, True, True),
    "underscores": (NUMBERS, {"header": ["1_1", "1_2", "1_3"]}, True, False),
    "letters": (LETTERS, {"header": False}, False, True),
    "names above letters": (LETTERS, {"header": ["class", "shape", "color", "odor", "size"]}, True, False),
    "names that are letters too": (LETTERS, {"header": ["a", "shape", "color", "odor", "size"]}, True, True),
    "question marks": (COUNTS.replace({0: {COUNTS.loc[0, 0]: "?"}}), {"header": False}, False, True),
    "a row of text and one more": (pandas.DataFrame({"city": ["Oslo"]}), {}, True, True),
}


def opened(path, given=UNKNOWN_FORMAT, likely=UNKNOWN_FORMAT):
    """(the file, what is said of it)."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        file = TextFile(path, given, likely)
        file.report()
    return file, [str(warning.message) for warning in caught]


def write(folder, frame, **options):
    path = folder / options.pop("name", "t.csv")
    frame.to_csv(path, **{"index": False, **options})
    return path


@pytest.mark.parametrize("frame, options, named, said", HEADERS.values(), ids=HEADERS)
def test_whether_the_first_line_names_the_columns(tmp_path, frame, options, named, said):
    path = write(tmp_path, frame, **options)
    file, notes = opened(path)
    assert file.format == TextFormat(named, ",", ".") and len(notes) == said
    other = "header=False reads it as a row" if named else "header=True reads it as column names"
    assert not said or other in notes[0] and str(path) in notes[0]
    assert len(file.read().frame) == len(frame) if not said else True
    for chosen in (True, False):  # a choice is followed, and nothing is said
        if chosen and len({*frame.iloc[0]}) < len(frame.columns) and not named:
            continue  # two columns would have one name
        file, notes = opened(path, TextFormat(header=chosen))
        assert file.format.header is chosen and not notes
        assert len(file.read().frame) == len(frame) + named - chosen
        assert opened(path, likely=TextFormat(header=chosen))[0].format.header is chosen


@pytest.mark.parametrize("separator", [";", "\t", "|", ","])
@pytest.mark.parametrize("decimal", [".", ","])
@pytest.mark.parametrize("name", ["t.csv", "t.tsv"])
@pytest.mark.parametrize("header", [True, False])
def test_separators_and_decimal_marks(tmp_path, separator, decimal, name, header):
    if separator == decimal:  # numbers in quotes
        path = write(tmp_path, NUMBERS, sep=separator, decimal=decimal, name=name, header=header, quoting=1)
        given = TextFormat(decimal=",", header=header)
    else:
        path = write(tmp_path, NUMBERS, sep=separator, decimal=decimal, name=name, header=header)
        given = UNKNOWN_FORMAT
    file, notes = opened(path, given)
    assert file.format == TextFormat(header, separator, decimal)
    usual = separator == ("," if name == "t.csv" else "\t")
    assert [text for text in ("separator=", "decimal=") if notes and text in notes[0]] == (
        ["separator="] * (not usual) + ["decimal="] * (decimal == "," != separator)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        np.testing.assert_array_equal(file.read().frame.to_numpy(float), NUMBERS.to_numpy())
    assert not opened(path, file.format)[1]  # nothing was guessed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a,b,tags\n1,2,x;y\n3,4,z;w\n", TextFormat(True, ",", ".")),
        ("1,2,x;y\n3,4,z;w\n", TextFormat(True, ",", ".")),
        ('a;b;c\n"x;y";1,5;0\n"z";2,5;1\n', TextFormat(True, ";", ",")),
        ("1,5;2,5;0\n2,5;3,5;1\n", TextFormat(False, ";", ",")),
        ("a;b\n1;2\n3;4\n", TextFormat(True, ";", ".")),
        ("x\n1.5\n2.5\n", TextFormat(True, ",", ".")),
    ],
)
def test_formats_of_few_lines(tmp_path, text, expected):
    (tmp_path / "t.csv").write_text(text)
    assert opened(tmp_path / "t.csv")[0].format == expected


def test_the_training_files_format_decides_where_two_are_possible(tmp_path):
    (tmp_path / "t.csv").write_text("x\n1\n2\n")
    likely = TextFormat(True, ";", ",")
    file, notes = opened(tmp_path / "t.csv", likely=likely)
    assert file.format.header and file.format.decimal == "." and not notes
    (tmp_path / "t.csv").write_text("x;y\n1;2\n")
    assert opened(tmp_path / "t.csv", likely=likely)[0].format == likely


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"header": "yes"}, "header is 'yes'; expected True, False or None"),
        ({"separator": ""}, "separator is ''; expected one character"),
        ({"separator": ";;"}, "separator is ';;'"),
        ({"separator": '"'}, "separator is '\"'"),
        ({"decimal": ";"}, r"decimal is ';'; expected '\.' or ','"),
    ],
)
def test_formats_that_do_not_fit(tmp_path, options, words):
    path = write(tmp_path, FRAME)
    with pytest.raises(DataError, match=words):
        load(path, **options)
    data = load(path)
    with pytest.raises(DataError, match=words):
        apply_preprocessing(path, data.preprocessing, **options)


@pytest.mark.parametrize("option", [{"header": True}, {"separator": ","}, {"decimal": "."}])
def test_only_text_has_a_format(tmp_path, option):
    ((name, value),) = option.items()
    np.savez(tmp_path / "t.npz", X=A[:, None], y=K)
    data = load(tmp_path / "t.npz")
    for call in (
        lambda: load(tmp_path / "t.npz", **option),
        lambda: apply_preprocessing(tmp_path / "t.npz", data.preprocessing, **option),
    ):
        with pytest.raises(DataError, match=f"{name}={value!r} is for text tables"):
            call()
    with pytest.raises(DataError, match="are for text files"):
        apply_preprocessing(A[:, None], data.preprocessing, **option)


def test_a_ragged_file_names_its_separator(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n3\n")
    with pytest.raises(DataError, match="line 3: 1 fields, expected 2 as in the first line, separated by ','"):
        load(tmp_path / "t.csv")


def test_guesses_are_part_of_the_record(tmp_path):
    """New files of the same kind are read alike, whatever their first lines look like; a choice overrules that."""
    path = write(tmp_path, FRAME, sep=";", decimal=",", header=False)
    with pytest.warns(DataWarning, match="separated by ';'.*decimal comma.*taken for a row"):
        data = load(path)
    record = data.preprocessing
    assert (record["header"], record["separator"], record["decimal"]) == (False, ";", ",")
    ref = np.c_[A, B][:1].astype(np.float32)
    new = write(tmp_path, FRAME[:1].drop(columns="label"), sep=";", decimal=",", header=False, name="new.csv")
    np.testing.assert_array_equal(apply_preprocessing(new, record), ref)
    named = write(tmp_path, FRAME[:1], name="named.csv")
    with pytest.raises(DataError, match="'column_0' holds 'a', expected numbers .*; header=True reads the first line"):
        apply_preprocessing(named, record)
    np.testing.assert_array_equal(apply_preprocessing(named, record, header=True), ref)


def test_a_headerless_file_for_a_record_with_names(tmp_path):
    record = load(write(tmp_path, FRAME)).preprocessing
    bare = write(tmp_path, FRAME[:5], header=False, name="bare.csv")
    with pytest.raises(DataError, match=r"lacks the column 'a'; it has .*; header=False reads its first line as a row"):
        apply_preprocessing(bare, record)
    ref = np.c_[A, B][:5].astype(np.float32)
    np.testing.assert_array_equal(apply_preprocessing(bare, record, header=False), ref)
    np.testing.assert_array_equal(apply_preprocessing(np.c_[A, B][:5], record), ref)


def test_row_labels_are_left_out(tmp_path):
    """What pandas writes by default above its index is an empty name, and reads back as "Unnamed: 0"."""
    for number, options in enumerate(({"index": True}, {"index": True, "index_label": "Unnamed: 0"})):
        path = write(tmp_path, FRAME, name=f"{number}.csv", **options)
        with pytest.warns(DataWarning, match=r"first column has no name and is left out.*index=False keeps it"):
            data = load(path)
        first = data.preprocessing["all_columns"][0]
        assert data.feature_names == ("a", "b")
        assert load(path, index=False).feature_names == (first, "a", "b")
        for options in ({"index": True}, {"drop": [0]}, {"drop": 0}, {"drop": first}):
            assert load(path, **options).feature_names == ("a", "b")
        with pytest.warns(DataWarning, match="first column"):
            assert load(path, drop="a").feature_names == ("b",)
        assert load(path, target=0, task="regression").feature_names == ("a", "b", "label=no", "label=yes")
        # New rows need no labels.
        plain = write(tmp_path, FRAME, name="plain.csv")
        np.testing.assert_array_equal(
            apply_preprocessing(plain, data.preprocessing), apply_preprocessing(path, data.preprocessing)
        )
    assert load(write(tmp_path, FRAME), index=True).feature_names == ("b",)
    for options in ({"index": True, "target": 0}, {"index": False, "drop": ["label"]}):
        with pytest.raises(DataError, match="is the target and is dropped"):
            load(path, **options)


def test_numbers_as_python_does_not_write_them():
    for text in ("1", "-1.5", "+.5", "1.", "1e5", "1E-5", " 2 ", "inf", "-Infinity"):
        assert is_number(text)
    for text in ("1_1", "", "nan", "1,5", "0x10", "one", "1 2", "--1", "١", "1e", "."):
        assert not is_number(text)
    for text in ("1,5", ",5", "1", "1,5e3"):
        assert is_number(text, ",")
    assert not is_number("1.5", ",")


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("1,2\n3,4\n", [[1, 2], [3, 4]]),
        ("a,b\n3,4\n", [[3, 4]]),
        ("a;b\n3,5;4\n", [[3.5, 4]]),
        ("0,1\n0.5,1.5\n" + "0.5,1.5\n" * 5, [[0.5, 1.5]] * 6),
    ],
)
@pytest.mark.filterwarnings("ignore::fastmlp.DataWarning")
def test_numbers_without_pandas(tmp_path, monkeypatch, text, rows):
    monkeypatch.setitem(sys.modules, "pandas", None)
    (tmp_path / "t.csv").write_text(text)
    np.testing.assert_array_equal(read_numbers(tmp_path / "t.csv", UNKNOWN_FORMAT, 2), rows)


@pytest.mark.parametrize("place", [0, 1, 4])
@pytest.mark.filterwarnings("ignore::fastmlp.DataWarning")
def test_a_gap_is_an_error_in_any_row(tmp_path, place):
    rows = [["1.5", "2.5", "3.5"] for _ in range(5)]
    rows[place][1] = ""
    (tmp_path / "t.csv").write_text("\n".join(map(",".join, rows)) + "\n")
    with pytest.raises(DataError, match=rf"t\.csv, line {place + 1}: '' is not a number"):
        read_numbers(tmp_path / "t.csv", UNKNOWN_FORMAT, 3)


def test_a_note_points_at_the_callers_line(tmp_path):
    path = write(tmp_path, FRAME, sep=";")
    with pytest.warns(DataWarning) as caught:
        load(path)
    assert caught[0].filename == __file__
