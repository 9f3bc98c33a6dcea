"""Nothing that is printed is cut or taken for markup, however narrow the place."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.terminal.console import say, say_list, say_table
from stages.reports.wording import Table, count

WIDE = Table(["row", "preservation (dB)", "tracked end (px)"], [["plus", "41.5", "-1.25"]])


def test_text_is_printed_as_it_is(capsys):
    text = f"[bold]a[/] :cat: {'long ' * 60}"
    say(text)
    say_list("Title", [text])
    say_list("Nothing", [])
    assert capsys.readouterr().out == f"{text}\nTitle:\n  {text}\n"


def test_a_table_in_a_pipe_has_a_line_for_each_row(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    say_table(Table(["name", "value"], [["a" * 100, "1"], ["b", ""]]))
    heads, first, second = capsys.readouterr().out.splitlines()
    assert heads == "name" + " " * 98 + "value"
    assert first == "a" * 100 + "  1"
    assert second == "b"


def test_a_table_that_does_not_fit_becomes_blocks(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    say_table(WIDE)
    assert capsys.readouterr().out.splitlines() == [
        "row: plus",
        "  preservation (dB): 41.5",
        "  tracked end (px): -1.25",
    ]


def test_a_sentence_in_the_last_column_goes_on_below_it(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    table = Table(["stage", "why"], [["build_mask", "one two three four five six"], ["x", "seven"]])
    say_table(table)
    assert capsys.readouterr().out.splitlines() == [
        "stage       why",
        "build_mask  one two three four five six",
        "x           seven",
    ]
    monkeypatch.setenv("COLUMNS", "36")
    say_table(table)
    assert capsys.readouterr().out.splitlines() == [
        "stage       why",
        "build_mask  one two three four five",
        "            six",
        "x           seven",
    ]
    monkeypatch.setenv("COLUMNS", "35")
    say_table(table)
    assert capsys.readouterr().out.splitlines()[0] == "stage: build_mask"


cells = st.text(st.characters(categories=("L", "N", "P", "S")), max_size=30)
tables = st.integers(1, 5).flatmap(
    lambda width: st.builds(
        Table,
        st.lists(cells, min_size=width, max_size=width),
        st.lists(st.lists(cells, min_size=width, max_size=width), max_size=4),
    )
)


@given(tables, st.sampled_from(["20", "40", "80", "200"]))
def test_no_cell_is_cut_at_any_width(table, columns):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", columns)
        printed = []
        patch.setattr(sys, "stdout", _Recorder(printed))
        say_table(table)
    text = "".join(printed)
    assert all(cell in text for row in table.rows for cell in row)


class _Recorder:
    encoding = "utf-8"

    def __init__(self, printed: list[str]) -> None:
        self.write = printed.append

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return False


def test_a_count_agrees_with_its_noun():
    assert [count(number, "flow run") for number in (0, 1, 2)] == [
        "0 flow runs",
        "1 flow run",
        "2 flow runs",
    ]
