"""Units and Markdown tables."""

import pytest
from refers.formatting import column_widths, gib, markdown_table, names_text, size, span


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2.54e6, "2.5 MB"), (3e12, "3000.0 GB")]
)
def test_bytes(count, text):
    assert size(count) == text


@pytest.mark.parametrize(("mib", "text"), [(None, ""), (0, ""), (1536, "1.5 GiB")])
def test_memory(mib, text):
    assert gib(mib) == text


@pytest.mark.parametrize(
    ("hours", "text"),
    [
        (None, ""),
        (1 / 120, "30 s"),
        (1 / 60, "1.0 min"),
        (0.5, "30.0 min"),
        (1, "1.0 h"),
        (72, "3.0 d"),
        (96_000, "4,000.0 d"),
    ],
)
def test_hours(hours, text):
    assert span(hours) == text


def test_a_markdown_table_lines_up_and_escapes_bare_pipes_only():
    table = markdown_table(["a", "long head"], [["x|y", "1"], ["x\\|y", ""]])
    assert table.splitlines() == [
        "| a    | long head |",
        "|:-----|:----------|",
        "| x\\|y | 1         |",
        "| x\\|y |           |",
    ]
    assert {len(line) for line in table.splitlines()} == {len(table.splitlines()[0])}
    assert markdown_table(["a"], []) == "| a   |\n|:----|"


def test_tables_below_each_other_line_up():
    grids = [[["a", "b"], ["long cell", ""]], [["c", "d"], ["", "another"]]]
    widths = [max(pair) for pair in zip(*map(column_widths, grids), strict=True)]
    assert widths == [9, 7]
    first, second = (markdown_table(heads, rows, widths).splitlines() for heads, *rows in grids)
    assert {len(line) for line in first + second} == {len("| long cell | another |")}


def test_many_names_are_counted_by_their_first_part():
    assert names_text([]) == "none"
    assert names_text(["head.bias", "head.weight"]) == "head.bias, head.weight"
    many = [f"text.layer.{place}.weight" for place in range(60)] + [f"fusion.fc{place}" for place in range(6)]
    assert names_text(many) == "66 (text 60, fusion 6)"
