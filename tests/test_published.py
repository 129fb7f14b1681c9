"""config/reported.csv: the paper's numbers, and those that others report, which tables print and nothing judges."""

import csv
import io
from pathlib import Path

import pytest
import yaml
from made_tables import C2L, REFERS, ROWS, compiled, table_of, ttest_of
from refers.config.read import read_files
from refers.errors import UserError
from refers.evaluation.verdict import difference_interval, judge
from refers.reporting.published import Independent, read_independent, read_reported
from refers.reporting.table_formats import to_csv, to_html, to_latex, to_markdown
from refers.study.availability import AssumeAvailable, Availability
from refers.study.check import check
from refers.study.specs import Specs

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "config/reported.csv"
HEADER = "source,protocol,table,row,column,quantity,value\n"
ABOUT = {
    "benchx": {"title": "BenchX", "citation": "arXiv:2410.21969", "differs": "own pre-training"},
    "nobody": {"title": "Nobody", "citation": "nowhere", "differs": "everything"},
}
OTHERS = {
    "benchx": {
        ("refers", "nih/1"): Independent(76.4),
        ("refers", "shenzhen/100"): Independent(97.3, 94.9, 99.2),
        ("unknown", "nih/1"): Independent(1.0),
    },
    "nobody": {("refers", "elsewhere/1"): Independent(50.0)},
}


def config(*overlays):
    return check(
        read_files([ROOT / "config/config.yaml", *(ROOT / f"config/{name}.yaml" for name in overlays)])
    )


# ---- reading


def test_reported_numbers_are_all_there_and_agree():
    found = read_reported(SHIPPED)
    columns = "nih/1 nih/10 nih/100 vinbigdata/1 vinbigdata/10 vinbigdata/100 shenzhen/100 covid_t1/100 covid_t2/100"
    assert len(found) == 7 * 9 + 4 * 9 + 7
    for column in columns.split():
        ours = float(found["table1", "refers", column])
        others = [
            float(value)
            for key, value in found.items()
            if key[2] == column and key[1] not in ("refers", "p_value")
        ]
        assert found["table2", "refers", column] == found["table1", "refers", column]
        assert max(others) < ours < 100
        assert all(float(found[table, "p_value", column]) < 0.01 for table in ("table1", "table2"))
    assert found["table3", "refers", "covid_t2/100"] == found["table1", "refers", "covid_t2/100"]
    assert (
        found["table3", "lsp_transformer", "covid_t2/100"]
        == found["table2", "lsp_transformer", "covid_t2/100"]
    )


def test_independent_numbers_are_those_of_their_publications():
    sources = config().config.reported
    tuned = read_independent(SHIPPED, "finetune", sources)
    assert {key: each.auc for key, each in tuned["benchx"].items()} == {
        **{("refers", "nih/1"): 76.4, ("refers", "nih/10"): 81.3, ("refers", "nih/100"): 83.7},
        **{("refers", "vinbigdata/1"): 87.1, ("refers", "vinbigdata/10"): 89.4},
        ("refers", "vinbigdata/100"): 90.0,
    }
    assert tuned["cxrlearn"]["refers", "shenzhen/100"] == Independent(97.3, 94.9, 99.2)
    assert tuned["cxrlearn"]["refers", "nih/100"] == Independent(79.8)
    probed = read_independent(SHIPPED, "probe", sources)
    assert {key: each.auc for key, each in probed["cxrlearn"].items()} == {
        **{("refers", "nih/100"): 79.7, ("refers", "vinbigdata/100"): 87.8, ("refers", "shenzhen/100"): 93.3},
    }
    assert probed.keys() == {"cxrlearn"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("table,row,column,quantity,value\n", "row 1: the header must be source,protocol,table"),
        ("", "row 1: the header"),
        (
            HEADER + "paper,finetune,t,r,c,auc,high\n",
            "row 2: 'paper,finetune,t,r,c,auc,high': must be 7 fields",
        ),
        (HEADER + "paper,finetune,t,r,c,auc,nan\n", "row 2: .* the last a number"),
        (HEADER + "paper,t,r,c,auc,1\n", "row 2: .* must be 7 fields"),
        (HEADER + "paper,finetune,t,r,c,auc,1\n" * 2, "row 3: paper, finetune, t, r, c, auc occurs twice"),
        (HEADER + "benchx,finetune,,r,c,auc,1\n" * 2, "row 3: benchx, finetune, r, c, auc occurs twice"),
        (
            HEADER + "paper,finetune,,r,c,auc,1\n",
            "row 2: .* the source is paper where, and only where, a table",
        ),
        (
            HEADER + "papr,finetune,t,r,c,auc,1\n",
            "row 2: .* the source is paper where, and only where, a table",
        ),
        (HEADER + "paper,linear,t,r,c,auc,1\n", "row 2: protocol 'linear' must be one of finetune, probe"),
        (HEADER + "paper,finetune,t,r,c,f1,1\n", "row 2: quantity 'f1' must be one of auc"),
        (HEADER + "paper,finetune,t,p_value,c,auc,1\n", "row 2: .* auc is no quantity of this row"),
        (HEADER + "paper,finetune,t,r,c,low,1\n", "row 2: .* low is no quantity of this row"),
    ],
)
def test_bad_reported_numbers_are_named(tmp_path, text, message):
    path = tmp_path / "reported.csv"
    path.write_text(text)
    for read in (read_reported, lambda path: read_independent(path, "finetune", ["benchx", "papr"])):
        with pytest.raises(UserError, match=f"reported.csv: {message}") as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_a_source_without_an_entry_and_an_interval_without_an_auc_are_named(tmp_path):
    path = tmp_path / "reported.csv"
    path.write_text(HEADER + "paper,finetune,t,r,c,auc,1\nbenchy,probe,,r,c,auc,1\n")
    with pytest.raises(UserError, match="row 3: source 'benchy' must be one of paper, benchx"):
        read_independent(path, "finetune", ["benchx"])
    path.write_text(HEADER + "benchx,finetune,,r,c,low,1\n")
    with pytest.raises(UserError, match="benchx, r, c: an interval without an auc"):
        read_independent(path, "finetune", ["benchx"])


# ---- in tables


def test_independent_numbers_have_a_row_that_nothing_judges():
    table = table_of([REFERS, C2L], reports=OTHERS, independent=ABOUT)
    assert [row["id"] for row in table.rows][:6] == [
        *("refers", "c2l", "imagenet", "lsp_convnet", "refers@benchx", "p_value"),
    ]
    lines = {(line["row"], line["column"]): line for line in csv.DictReader(io.StringIO(to_csv(table)))}
    line = lines["refers@benchx", "shenzhen/100"]
    assert (line["mean"], line["low"], line["high"], line["printed"]) == (
        *("97.3", "94.9", "99.2", "97.3 [94.9, 99.2]"),
    )
    assert (line["status"], line["verdict"], line["target"], line["reported"]) == ("independent", "", "", "")
    assert lines["refers@benchx", "nih/100"]["printed"] == ""
    # 97.3 is more than any of ours, and neither best nor tested.
    plain = {
        (line["row"], line["column"]): line
        for line in csv.DictReader(io.StringIO(to_csv(table_of([REFERS, C2L]))))
    }
    assert {key: line for key, line in lines.items() if "@" not in key[0]} == plain
    note = "Reported by others, not judged. BenchX (arXiv:2410.21969): own pre-training."
    assert table.notes[-1] == note, "a source without a number in this table is not named"
    assert table_of([REFERS, C2L], independent=ABOUT).notes[-1] != note


@pytest.mark.tool("pdflatex")
def test_every_format_prints_them_below_the_methods(tmp_path):
    table = table_of([REFERS, C2L], reports=OTHERS, independent=ABOUT)
    markdown = to_markdown(table)
    (line,) = [line for line in markdown.splitlines() if line.startswith("| Our REFERS (BenchX)")]
    assert [cell.strip() for cell in line.split("|")[2:-1]] == ["76.4", "", "97.3 [94.9, 99.2]"]
    html = to_html(table)
    body, foot = html.split("</tbody>")
    assert "BenchX" not in body
    assert 'data-row="refers@benchx"' in foot
    latex = to_latex(table)
    assert r"Our REFERS (BenchX) & 76.4 &  & \shortstack{97.3\\{[}94.9, 99.2]}" in latex
    compiled(tmp_path, latex)


def test_the_shipped_study_asks_for_them_in_table_1_and_overlays_without_the_papers_data_do_not():
    for overlays, shown in (((), True), (("code",), True), (("demo",), False), (("trial",), False)):
        specs = Specs(Availability(config(*overlays), AssumeAvailable()))
        asked = {name for name in specs.study.config.tables if specs.table(name)["independent"]}
        assert asked == ({"table1"} if shown else set()), overlays
        if shown:
            assert specs.table("table1")["independent"]["cxrlearn"]["title"] == "cxrlearn"
            assert specs.study.incomparable().get("") is None
        else:
            assert "the data are not the paper's" in specs.study.incomparable()[""]


def test_a_dataset_may_have_another_test_set_than_the_paper():
    values = read_files([ROOT / "config/config.yaml"])
    values["datasets"]["nih"]["comparable"] = False
    assert check(values).incomparable()["nih"].endswith("(datasets.nih.comparable: false)")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"tables": {"cells": {"title": "A", "rows": ["refers"]}}},
            "config.tables.cells: cells.csv .* rename",
        ),
        ({"reported": {"paper": ABOUT["benchx"]}}, "config.reported.paper: .* rename the source"),
        ({"reported": {"other": {"title": "A", "citation": "B"}}}, r"config.reported.other.*differs"),
    ],
)
def test_a_table_or_source_with_a_taken_name_is_one_line(tmp_path, change, message):
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(yaml.safe_dump(change))
    with pytest.raises(UserError, match=message) as caught:
        check(read_files([ROOT / "config/config.yaml", overlay]))
    assert "\n" not in str(caught.value)


# ---- numbers of others for the same test images


def number(row="refers", column="nih/1", auc=80.9, **more):
    return {"title": "their net", "row": row, "column": column, "auc": auc, "runs": 1} | more


def same_images(*numbers):
    about = {"title": "Course", "citation": "a report", "differs": "smaller images", "listed": False}
    return {"course": about | {"numbers": list(numbers)}}


def test_a_number_of_the_same_test_images_is_judged_against_our_row():
    table = table_of([REFERS, C2L], tests=[], independent=same_images(number()))
    entry = table.entries["refers@course0", "nih/1"]
    ours = table.entries["refers", "nih/1"]
    assert entry.mean == 80.9
    assert entry.gap == pytest.approx(ours.mean - 80.9)
    low, high = difference_interval(ours.mean, ours.error, "80.9", 0.95, True, runs=1)
    assert (entry.difference_low, entry.difference_high) == (low, high)
    assert entry.verdict == judge(low, high, 1.0)
    assert table.entries["refers@course0", "nih/100"].printed == ""
    assert any("a report" in note and "smaller images" in note for note in table.notes)


@pytest.mark.parametrize(
    ("auc", "verdict"), [(81.0, "too noisy to tell"), (95.0, "different"), (60.0, "different")]
)
def test_the_verdict_on_the_same_test_images_is_that_of_the_interval(auc, verdict):
    table = table_of([REFERS, C2L], tests=[], independent=same_images(number(auc=auc)))
    assert table.entries["refers@course0", "nih/1"].verdict == verdict


def test_each_title_is_a_row_and_a_row_without_ours_is_not_judged():
    numbers = [number(), number(auc=79.0, title="another net"), number("imagenet", title="")]
    table = table_of([REFERS, C2L], tests=[], independent=same_images(*numbers))
    added = [row["id"] for row in table.rows if row.get("source") == "course"]
    assert added == ["refers@course0", "refers@course1", "imagenet@course2"]
    assert table.entries["imagenet@course2", "nih/1"].gap is None
    assert table.entries["imagenet@course2", "nih/1"].mean == 80.9


def test_fewer_runs_behind_a_number_widen_the_interval():
    ours = table_of([REFERS], tests=[]).entries["refers", "nih/1"]
    one, three = (
        difference_interval(ours.mean, ours.error, "80.9", 0.95, True, runs=runs) for runs in (1, 3)
    )
    assert one[0] < three[0] < three[1] < one[1]


# ---- differences to one row


def against(cells, tests, **spec):
    other = {"id": "c2l", "title": "C2L", "status": ""}
    rows = [row for row in ROWS if row["id"] in ("refers", "imagenet")]
    return table_of(cells, tests, against=other, reference=None, baseline=None, rows=rows, **spec)


def test_a_row_is_printed_as_its_difference_to_another():
    table = against([REFERS, C2L], [ttest_of(REFERS, C2L) | {"difference": 0.1}])
    entry = table.entries["refers", "nih/1"]
    assert (entry.mean, entry.low, entry.high) == (10.0, pytest.approx(-1.2), pytest.approx(10.0))
    assert entry.printed.startswith("+10.0 [")
    assert not entry.best
    assert "No interval is above zero." in table.notes[-1]
    assert table.entries["imagenet", "nih/1"].mean is None


def test_an_interval_above_zero_is_named():
    test = ttest_of(REFERS, C2L) | {"difference": 0.1}
    test["bootstrap"] = test["bootstrap"] | {"interval": [0.05, 0.15]}
    table = against([REFERS, C2L], [test])
    assert table.entries["refers", "nih/1"].best
    assert "NIH 1%: Our REFERS" in table.notes[-1]


def test_a_difference_without_a_test_says_why():
    table = against([REFERS, C2L], [])
    assert table.entries["refers", "nih/1"].mean is None
    assert table.missing
