"""``enlace seed``: what is read of a CSV file, and what is said of the rest."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.cli.seed import Row, read_rows
from agent.core.errors import ConfigError


def read(text: str) -> tuple[list[Row], list[str]]:
    return read_rows(io.StringIO(text, newline=""), "stations.csv")


def test_each_row_is_a_station_in_either_language() -> None:
    rows, bad = read("name,location,max_kw,status\nA,North,22,activo\nB,,7.4,INACTIVE\nC,South,,\n\n , , ,\n")
    assert bad == []
    assert rows == [Row(2, "A", "North", 22, "on"), Row(3, "B", "", 7.4, "off"), Row(4, "C", "South", None, "on")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NAME;Max_kW\nA;22,5\n", [Row(2, "A", "", 22.5, "on")]),
        ("status,name\ninactivo,A\n", [Row(2, "A", "", None, "off")]),
        ("name\r\nA\r\nB\r\n", [Row(2, "A", "", None, "on"), Row(3, "B", "", None, "on")]),
        ('name,location\n"A, the first","by ""the"" gate"\n', [Row(2, "A, the first", 'by "the" gate', None, "on")]),
        ("name,location,max_kw,status\nA\n", [Row(2, "A", "", None, "on")]),
        ("name\n", []),
    ],
)
def test_columns_come_in_any_order_and_as_spreadsheets_write_them(text: str, expected: list[Row]) -> None:
    assert read(text) == (expected, [])


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (",North,22,activo", "name"),
        ("A,North,much,activo", "'much' is no number"),
        ("A,North,nan,activo", "max_kw"),
        ("A,North,-1,activo", "max_kw: must be above 0"),
        ("A,North,22,broken", "status: must be one of"),
        ("A,North,22,activo,more", "5 fields, the first line has 4"),
        ('"A\nB",North,22,activo', "name: one line of text"),
        (f"{'A' * 101},North,22,activo", "name: must have at most 100 characters"),
    ],
)
def test_a_bad_row_is_named_by_its_line_and_spoils_no_other(row: str, words: str) -> None:
    rows, bad = read(f"name,location,max_kw,status\nfirst,,,\n{row}\nlast,,,\n")
    assert [one.name for one in rows] == ["first", "last"]
    (text,) = bad
    assert text.partition(": ")[0] == ("4" if "\n" in row else "3")  # where its record ends
    assert words in text


@pytest.mark.parametrize("head", ["", "A,B", "name,price", "location,max_kw", "name,name", "\ufeff"])
def test_a_first_line_that_names_no_columns_is_refused(head: str) -> None:
    with pytest.raises(ConfigError, match="name,location,max_kw,status"):
        read(f"{head}\nA,B\n")


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_whatever_stands_there_is_a_row_or_is_named(text: str) -> None:
    """Nothing is lost in silence but empty lines, and a bad line is a line of the file."""
    try:
        rows, bad = read(f"name,location\n{text}")
    except ConfigError:
        return
    lines = len(io.StringIO(f"name,location\n{text}", newline="").readlines())
    for said in [*(one.line for one in rows), *(int(one.partition(":")[0]) for one in bad)]:
        assert 2 <= said <= max(lines, 2)
    try:
        found = [one for one in csv.reader(io.StringIO(text, newline=""), strict=True) if any(map(str.strip, one))]
    except csv.Error:
        return
    assert len(rows) + len(bad) == len(found)
