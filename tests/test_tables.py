"""Tables: the numbers, which method is chosen, the reasons of missing numbers, and the targets behind them."""

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from made_tables import (
    C2L,
    CLASSES,
    COLUMNS,
    COUNTS,
    REFERS,
    REPORTED,
    ROWS,
    RULE,
    auc_of,
    compare_golden,
    compiled,
    table_of,
    ttest_of,
)
from refers.errors import UserError
from refers.evaluation.statistics import compare, holm, implied_sd
from refers.evaluation.verdict import difference_interval, judge
from refers.reporting.published import read_reported
from refers.reporting.table import format_p
from refers.reporting.table_formats import FIELDS, to_csv, to_html, to_latex, to_markdown
from scipy.stats import t as student
from scipy.stats import ttest_ind

ROOT = Path(__file__).parents[1]


def lines_of(table):
    """The csv by (row, column)."""
    return {
        (row["row"], row["column"]): row for row in csv.DictReader(io.StringIO(to_csv(table), newline=""))
    }


def numbers_of(line, *names):
    return [float(line[name]) if line[name] else None for name in names]


IMAGENET = auc_of("imagenet", "nih/1", [0.75, 0.74, 0.76])


def test_the_csv_holds_everything_about_a_number():
    line = lines_of(table_of([REFERS, C2L, IMAGENET]))["refers", "nih/1"]
    assert line == dict.fromkeys(FIELDS, "") | {
        **{"table": "t", "row": "refers", "title": "Our REFERS", "method": "refers"},
        **{"column": "nih/1", "dataset": "nih", "ratio": "1", "mean": "81", "sd": "1"},
        **{"printed": "81.0 ± 1.0", "splits": "1", "seeds": "3", "positives": "71", "negatives": "229"},
        **{"reported": "76.7", "difference": "4.3", "verdict": "different", "status": "ok"},
        "target": "cells/0.json",
        **{name: line[name] for name in ("se", "difference_low", "difference_high")},
    }
    assert float(line["se"]) == pytest.approx(np.hypot(1 / np.sqrt(3), 0.1))
    low, high = numbers_of(line, "difference_low", "difference_high")
    assert (low + high) / 2 == pytest.approx(4.3)
    assert 0.5 < low < 1.0


def test_the_best_is_decided_by_what_is_printed_and_needs_a_rival():
    cells = [
        auc_of("refers", "nih/1", [0.81001]),
        auc_of("c2l", "nih/1", [0.81004]),
        auc_of("imagenet", "nih/1", [0.8]),
        auc_of("refers", "nih/100", [0.8]),
    ]
    entries = table_of(cells).entries
    assert {key for key, entry in entries.items() if entry.best} == {("refers", "nih/1"), ("c2l", "nih/1")}


def test_of_several_methods_validation_chooses():
    cells = [
        REFERS,
        auc_of("lsp_resnet18", "nih/1", [0.60, 0.61], validation=0.9),
        auc_of("lsp_resnet50", "nih/1", [0.78, 0.79], validation=0.8),
        auc_of("lsp_resnet18", "nih/100", [0.60, 0.61], validation=None),
        auc_of("lsp_resnet50", "nih/100", [0.62, 0.63], validation=0.4),
    ]
    table = table_of(cells, baseline="lsp_convnet")
    line = lines_of(table)
    assert line["lsp_convnet", "nih/1"]["method"] == "lsp_resnet18"
    assert line["lsp_convnet", "nih/1"]["printed"] == "60.5 ± 0.7"
    assert line["lsp_convnet", "nih/100"]["method"] == "lsp_resnet50"
    assert line["p_value", "nih/1"]["method"] == "lsp_resnet18"
    assert table.marker(table.rows[3]["note"]) == "a"
    assert "lsp_resnet18 in NIH 1%; lsp_resnet50 in NIH 100%" in table.footnotes[0]


def test_a_method_of_a_group_that_did_not_run_is_named():
    table = table_of([auc_of("lsp_resnet18", "nih/1", [0.6])], status={"lsp_resnet50": "not run: no time"})
    assert "lsp_resnet50 (not run: no time)" in table.footnotes[0]


def test_p_value_is_against_the_best_other_row():
    table = table_of([REFERS, C2L, IMAGENET])
    expected = ttest_of(REFERS, IMAGENET)["student"]["p"]
    line = lines_of(table)["p_value", "nih/1"]
    assert float(line["mean"]) == pytest.approx(expected)
    assert (line["method"], line["target"]) == ("imagenet", "ttests/1.json")
    assert (line["printed"], line["reported"]) == (format_p(expected), "8.35e-4")
    assert "ImageNet Pre-training in NIH 1%" in table.notes[-1]
    named = table_of([REFERS, C2L, IMAGENET], baseline="c2l")
    assert lines_of(named)["p_value", "nih/1"]["method"] == "c2l"
    assert "ImageNet" not in named.notes[-1]


def test_holm_adjusts_over_the_columns_and_welch_stands_beside_it():
    pairs = {
        "nih/1": ([0.80, 0.81, 0.82], [0.77, 0.74, 0.76]),
        "nih/100": ([0.80, 0.81, 0.82], [0.79, 0.81, 0.80]),
        "shenzhen/100": ([0.9, 0.9, 0.9], [0.8, 0.8, 0.8]),  # no variance, no test: not of the family
    }
    cells = [
        auc_of(method, column, values)
        for column, both in pairs.items()
        for method, values in zip(("refers", "c2l"), both, strict=True)
    ]
    lines = lines_of(table_of(cells))
    small, large = (compare(*pairs[column]) for column in ("nih/1", "nih/100"))
    assert small["student"]["p"] < large["student"]["p"]
    found = {key: float(line["mean"]) for key, line in lines.items() if line["mean"]}
    assert found["p_value_holm", "nih/1"] == pytest.approx(2 * small["student"]["p"])
    assert found["p_value_holm", "nih/100"] == pytest.approx(large["student"]["p"])
    assert found["p_value_welch", "nih/1"] == pytest.approx(small["welch"]["p"])
    for row in ("p_value", "p_value_welch", "p_value_holm"):
        assert lines[row, "shenzhen/100"]["printed"] == "undefined"
        assert lines[row, "nih/1"]["target"] == "ttests/0.json"
    assert lines["p_value", "nih/1"]["reported"] == "8.35e-4"
    assert lines["p_value_holm", "nih/1"]["reported"] == "", "the paper prints none"


def test_a_number_carries_its_bootstrap_interval():
    ours = auc_of("refers", "nih/1", [0.8, 0.81], per_class={"Mass": [0.7, 0.71]})
    drawn = {"resamples": 1000, "undefined_resamples": 50, "mean": [0.78, 0.83]}
    ours["test"]["bootstrap"] = drawn
    ours["test"]["per_class"]["Mass"] |= {"interval": [0.6, 0.805], "undefined_resamples": 12}
    names = ("low", "high", "resamples", "undefined_resamples")
    line = lines_of(table_of([ours]))["refers", "nih/1"]
    assert [line[name] for name in names] == ["78", "83", "1000", "50"]
    line = lines_of(table_of([ours], columns=BY_CLASS[:1]))["refers", "nih/1/Mass"]
    assert [line[name] for name in names] == ["60", "80.5", "1000", "12"]
    drawn["undefined_resamples"] = 51  # more than a twentieth: what is left says little of the tails
    line = lines_of(table_of([ours]))["refers", "nih/1"]
    assert [line[name] for name in names] == ["", "", "1000", "51"]


def test_the_paired_bootstrap_stands_below_the_t_tests():
    table = table_of([REFERS, C2L])
    lines = lines_of(table)
    about = lines["paired_difference", "nih/1"]
    assert numbers_of(about, "mean", "low", "high") == pytest.approx([10, -1.2, 10])
    assert about["printed"] == "+10.0 [−1.2, +10.0]"
    assert (about["method"], about["target"], about["difference"]) == ("c2l", "ttests/0.json", "")
    p = lines["p_value_paired", "nih/1"]
    assert (numbers_of(p, "mean", "low", "high"), p["printed"]) == ([0.04, None, None], "0.040")
    assert [row["title"] for row in table.printed_rows[-5:]] == [
        *("p-value", "Welch", "Holm", "Paired difference", "Paired p")
    ]


@pytest.mark.parametrize(
    ("undefined", "difference", "p", "status"),
    [
        (0, "+10.0 [−1.2, +10.0]", "0.040", "ok"),
        (37, "+10.0 [−1.2, +10.0]", "0.040", "ok: without the 37 of 1,000 resamples"),
        (50, "+10.0 [−1.2, +10.0]", "0.040", "ok: without the 50 of 1,000 resamples"),
        (151, "+10.0 [undefined]", "undefined", "undefined: 151 of 1,000 resamples"),
    ],
)
def test_a_paired_interval_says_how_many_resamples_it_leaves_out(undefined, difference, p, status):
    table = table_of([REFERS, C2L], tests=[ttest_of(REFERS, C2L, undefined)])
    lines = lines_of(table)
    interval, test = lines["paired_difference", "nih/1"], lines["p_value_paired", "nih/1"]
    assert (interval["printed"], test["printed"]) == (difference, p)
    assert test["status"].startswith(status)
    assert interval["undefined_resamples"] == test["undefined_resamples"] == str(undefined)
    assert test["verdict"] == ("undefined" if p == "undefined" else "")
    notes = {table.entries[row, "nih/1"].note for row in ("paired_difference", "p_value_paired")}
    assert notes == ({table.footnotes[0]} if undefined else {""})
    assert all(f"{undefined} of 1,000" in note for note in table.footnotes)
    assert ("5 %" in test["status"]) == (undefined > 50), "the limit"


def test_one_seed_has_a_paired_difference_and_no_t_test():
    single = [auc_of("refers", "nih/1", [0.8]), auc_of("c2l", "nih/1", [0.7])]
    table = table_of(single)
    lines = lines_of(table)
    p = lines["p_value", "nih/1"]
    assert (p["printed"], p["reported"], p["mean"]) == ("undefined", "8.35e-4", "")
    assert "two seeds" in p["status"]
    assert table.footnotes == [p["status"]]
    assert lines["paired_difference", "nih/1"]["printed"] == "+10.0 [−1.2, +10.0]"


def test_p_value_without_a_test_says_why():
    assert lines_of(table_of([REFERS]))["p_value", "nih/1"]["printed"] == "not run"
    absent = table_of([C2L], status={"refers": "not run: no time"})
    assert lines_of(absent)["p_value", "nih/1"]["status"] == "not run: no time"
    missing = table_of([REFERS, C2L], tests=[])
    names = "p-value, Welch, Holm, Paired difference, Paired p"
    assert f"{names}: not run: its t-test was not given" in missing.missing


def test_a_stale_t_test_is_refused():
    old = ttest_of(REFERS, auc_of("c2l", "nih/1", [0.5, 0.6, 0.7]))
    with pytest.raises(UserError, match=r"ttests/0.json: its baseline AUCs .* cells/1.json"):
        table_of([REFERS, C2L], tests=[old])


def test_missing_cells_say_why():
    status = {
        "c2l": "not run: objective c2l is not built yet",
        "imagenet": "not run: objective c2l is not built yet",
        "shenzhen": "data absent: data/shenzhen not found",
    }
    table = table_of([REFERS], status=status)
    lines = lines_of(table)
    line = lines["c2l", "nih/1"]
    assert (line["printed"], line["reported"], line["target"]) == ("not run", "71.0", "")
    assert line["status"] == status["c2l"]
    assert lines["refers", "shenzhen/100"]["printed"] == "data absent"
    assert lines["refers", "nih/100"]["printed"] == "not run"
    assert table.missing[:3] == [
        f"C2L, ImageNet Pre-training: {status['c2l']}",
        "LSP (ConvNet), Our REFERS: not run: its auc.json was not given",
        f"SZ: {status['shenzhen']}",
    ]


def test_undefined_classes_are_footnoted():
    partly = [auc_of(method, "nih/1", [0.8, 0.81], undefined=["Hernia"]) for method in ("refers", "c2l")]
    wholly = auc_of("refers", "shenzhen/100", [None, None], undefined=["Mass", "Nodule", "Hernia"])
    table = table_of([*partly, wholly])
    lines = lines_of(table)
    for row in ("refers", "c2l"):
        line = lines[row, "nih/1"]
        assert (line["printed"], line["positives"], line["negatives"]) == ("80.5 ± 0.7", "70", "130")
        assert line["status"] == "ok: mean over 2 of 3 classes; undefined: Hernia"
        assert table.marker(table.entries[row, "nih/1"].note) == "a"
    line = lines["refers", "shenzhen/100"]
    assert (line["mean"], line["printed"], line["verdict"]) == ("", "undefined", "undefined")
    assert table.marker(table.entries["refers", "shenzhen/100"].note) == "b"
    assert "Mass, Nodule, Hernia" in table.footnotes[1]


def test_marks_are_leading_columns_and_no_tests_where_none_are_asked():
    rows = [
        ROWS[0] | {"marks": ["ViT", "Fusion", "Task1"]},  # the headings' order is the first row's
        ROWS[1] | {"marks": ["ViT"]},
    ]
    table = table_of([REFERS, C2L], rows=rows, reference=None, baseline=None)
    assert {row for row, _ in lines_of(table)} == {"refers", "c2l"}
    assert table.marks == ["ViT", "Fusion", "Task1"]
    figure = ElementTree.fromstring(to_html(table))
    assert [head.text for head in figure.findall(".//thead/tr")[-1]][:4] == [
        "Method",
        "ViT",
        "Fusion",
        "Task1",
    ]
    grid = [["".join(cell.itertext()) for cell in row][:4] for row in figure.findall(".//tbody/tr")]
    assert grid == [["Our REFERS", "✓", "✓", "✓"], ["C2L", "✓", "", ""]]
    assert "$\\surd$ & $\\surd$ & $\\surd$ &" in to_latex(table)


def test_wide_tables_go_on_in_aligned_panels():
    columns = [
        COLUMNS[0] | {"id": f"nih/{n}", "group": f"Group {n // 3}", "ratio": n, "title": f"{n}%"}
        for n in range(18)
    ]
    cells = [C2L | {"ratio": n} for n in range(18)]
    text = to_markdown(table_of(cells, columns=columns, reference=None))
    grid = [line for line in text.splitlines() if line.startswith("|")]
    panels = [line for line in grid if line.startswith("| Method")]
    assert len(panels) == 2
    assert {len(line) for line in grid} == {len(line) for line in panels}
    assert max(map(len, panels)) <= 200
    for n in range(0, 18, 3):  # a group stays together
        assert (
            sum(f"Group {n // 3} {n}%" in line and f"Group {n // 3} {n + 2}%" in line for line in panels) == 1
        )


NASTY = {
    "title": "A & B_c 100% #1 {x} ~ ^ \\ $5",
    "note": "a < b ± c × d",
    "status": {"shenzhen": "data absent: data/a_b & c"},
}


@pytest.mark.parametrize("spec", [{}, NASTY, {"rows": [row | {"marks": ["A_1"]} for row in ROWS]}])
def test_latex_has_as_many_cells_in_every_row(spec):
    text = to_latex(table_of([REFERS, C2L, IMAGENET], **spec))
    leading = 2 if "rows" in spec else 1
    rows = [line for line in text.splitlines() if line.endswith(r" \\") and "multicolumn" not in line]
    assert {line.replace(r"\&", "").count("&") for line in rows} == {leading + len(COLUMNS) - 1}
    assert (
        rf"\cmidrule(lr){{{leading + 1}-{leading + 2}}} \cmidrule(lr){{{leading + 3}-{leading + 3}}}" in text
    )
    assert r"\shortstack{\textbf{81.0} $\pm$ 1.0\\$\neq$ (76.7)}" in text
    assert text.count("\\midrule") == 2, "one below the heads, one above all tests"


# ---- golden texts


def table_by_method():
    """Every kind of entry: best, a group, undefined classes, an interval with lost resamples, and what is missing."""
    cells = [
        *(REFERS, C2L, auc_of("refers", "nih/100", [0.84, 0.85, 0.86], undefined=["Hernia"])),
        *(
            auc_of("lsp_resnet18", "nih/1", [0.6, 0.61, 0.64]),
            auc_of("lsp_resnet50", "nih/1", [0.7, 0.7, 0.7]),
        ),
        auc_of("c2l", "nih/100", [0.82, 0.84, 0.83], undefined=["Hernia"]),
    ]
    cells[3]["validation"]["mean"] = 0.7
    status = {"imagenet": "not run: no weights", "shenzhen": "data absent: data/shenzhen not found"}
    tests = [ttest_of(cells[0], cells[1]), ttest_of(cells[2], cells[5], undefined=37)]
    return table_of(cells, tests, title="A comparison", label="Table 1", note="Made up.", status=status)


@pytest.mark.parametrize("kind", ["csv", "md", "tex", "html"])
@pytest.mark.parametrize("name", ["table", "table_by_class"])
def test_each_format_is_as_on_file(name, kind, request):
    write = {"csv": to_csv, "md": to_markdown, "tex": to_latex, "html": to_html}[kind]
    table = table_by_method() if name == "table" else table_by_class(undefined=20, title="By class")
    compare_golden(f"{name}.{kind}", write(table), request)


# ---- the verdict


def test_a_table_that_the_paper_does_not_have_is_compared_with_nothing():
    table = table_of([REFERS, C2L], comparable=False)
    found = table.entries["refers", "nih/1"]
    assert (found.reported, found.verdict, found.difference) == ("76.7", "not comparable", None)
    assert "≠" not in " ".join(table.notes)


def made_error(seeds, images, splits=None):
    """A standard error over three seeds with the given standard deviations in points."""
    found = {"seeds": {"sd": seeds / 100, "se": seeds / 100 / np.sqrt(3), "df": 2}, "splits": splits}
    found["images"] = {"sd": images / 100, "se": images / 100, "df": 500}
    return found | {"total": 0.01, "df": 2}


def test_the_interval_of_the_difference_by_hand():
    error, previous = made_error(0.4, 0.3), 0.0
    for same, images in ((True, 0.3**2), (False, 2 * 0.3**2)):
        low, high = difference_interval(85.0, error, "84.7", 0.95, same)
        seeds, rounding = 0.4**2 * (1 / 3 + 1 / 3), 0.1**2 / 12
        variance = seeds + images + rounding
        df = variance**2 / (seeds**2 / 2 + images**2 / 500)
        # where they differ, the paper's images are another draw, of as many
        assert high - low > previous
        previous = high - low
        assert (low + high) / 2 == pytest.approx(0.3)
        assert (high - low) / 2 == pytest.approx(student.ppf(0.975, df) * np.sqrt(variance))
    splits = error | {"splits": {"sd": 0.02, "se": 0.01, "df": 3}}
    for same in (
        True,
        False,
    ):  # with released lists splits are label subsets, of which the paper's is one more
        low, high = difference_interval(85.0, splits, "84.7", 0.95, same)
        assert (high - low) / 2 > student.ppf(0.975, 9) * np.hypot(2, 1)
    assert difference_interval(85.0, error | {"total": None}, "84.7", 0.95, True) is None


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-0.2, 0.9, "consistent"),
        (0.2, 0.9, "consistent"),  # not zero, and no difference worth the name
        (-1.0, 1.0, "consistent"),
        (-0.1, 1.1, "too noisy to tell"),
        (-9.0, 2.0, "too noisy to tell"),
        (0.0, 3.0, "too noisy to tell"),
        (0.2, 1.1, "different"),
        (-4.0, -2.0, "different"),
    ],
)
def test_verdict(low, high, expected):
    assert judge(low, high, 1.0) == expected
    assert judge(-high, -low, 1.0) == expected
    assert judge(low, high, 10.0) == "consistent"


def sign_before(mean, sd, reported):
    """The former rule: within one standard deviation over seeds, within one point, else outside."""
    distance = abs(mean - reported)
    return "=" if distance <= sd else "≈" if distance <= 1 else "≠"


@pytest.mark.parametrize(
    ("means", "images", "reported", "before", "after"),
    [
        # A spread of 5 points proves no agreement, one of 2 with few test patients no difference.
        ([0.846, 0.897, 0.948], 0.012, "94.5", "=", "?"),
        ([0.843, 0.862, 0.881], 0.068, "80.4", "≠", "?"),
        ([0.8465, 0.847, 0.8475], 0.002, "84.7", "=", "="),
        ([0.800, 0.801, 0.802], 0.002, "84.7", "≠", "≠"),
    ],
)
def test_signs_before_and_after_noise_was_judged(monkeypatch, means, images, reported, before, after):
    monkeypatch.setitem(REPORTED, ("t", "refers", "shenzhen/100"), reported)
    random = [COLUMNS[2] | {"same_images": False}]
    table = table_of([auc_of("refers", "shenzhen/100", means, images=images)], columns=random)
    entry = table.entries["refers", "shenzhen/100"]
    assert sign_before(entry.mean, entry.sd, float(reported)) == before
    assert f"{entry.printed} {after} ({reported})" in to_markdown(table)
    line = lines_of(table)["refers", "shenzhen/100"]
    low, high = numbers_of(line, "difference_low", "difference_high")
    assert low < float(line["difference"]) < high
    notes = " ".join(table.notes)
    assert "= consistent, within ±1 point; ≠ different, without 0; ? too noisy to tell" in notes
    assert "random split would change is not in the interval, with one split of SZ" in notes


def test_one_run_has_no_verdict_and_says_so():
    table = table_of([auc_of("refers", "nih/1", [0.9])])
    line = lines_of(table)["refers", "nih/1"]
    names = ("verdict", "printed", "sd", "se", "difference_low")
    assert [line[name] for name in names] == ["undefined", "90.0", "", "", ""]
    assert "90.0** (76.7)" in to_markdown(table) or "90.0 (76.7)" in to_markdown(table)
    assert "No sign: one run" in " ".join(table.notes)


def test_too_few_resamples_with_both_labels_have_no_verdict():
    ours = auc_of("refers", "nih/1", [0.8, 0.81])
    ours["test"]["bootstrap"] = {"resamples": 1000, "undefined_resamples": 51, "mean": [0.78, 0.83]}
    table = table_of([ours])
    assert lines_of(table)["refers", "nih/1"]["verdict"] == "undefined"
    assert "too few resamples" in " ".join(table.notes)


def test_other_data_than_the_papers_have_no_verdict():
    apart = [column | {"comparable": False} for column in COLUMNS]
    for columns, text in ((apart, "No verdicts: the"), ([apart[0], COLUMNS[2]], "No verdicts on NIH: the")):
        table = table_of([REFERS, C2L], columns=columns)
        line = lines_of(table)["refers", "nih/1"]
        names = ("reported", "verdict", "difference", "difference_low")
        assert [line[name] for name in names] == ["76.7", "not comparable", "", ""]
        notes = " ".join(table.notes)
        assert text + " test images are not the paper's." in notes
        assert ("Signs" in notes, "imply" in notes) == (False, False)
        for text in (to_markdown(table), to_latex(table), to_html(table)):
            assert not re.search(r"[=≠?] \(76\.7", re.sub(r"<[^>]*>", "", text))
            assert "neq" not in text


def test_both_spreads_are_printed_where_there_are_several_splits():
    means = [0.80, 0.82, 0.85, 0.87]
    table = table_of([auc_of("refers", "shenzhen/100", means, splits=2), REFERS])
    line = lines_of(table)["refers", "shenzhen/100"]
    assert line["printed"] == "83.5 ± 1.4 ± 3.5"
    assert (line["splits"], line["seeds"]) == ("2", "2")
    assert numbers_of(line, "sd", "sd_splits") == pytest.approx([np.sqrt(2), np.sqrt(12.5)])
    assert (
        "± standard deviation over 2 to 3 seeds ± that over 2 splits, where there are several"
        in table.notes[0]
    )
    assert r"83.5 $\pm$ 1.4 $\pm$ 3.5" in to_latex(table)
    single = auc_of("refers", "shenzhen/100", [0.80, 0.85], splits=2)
    assert lines_of(table_of([single]))["refers", "shenzhen/100"]["printed"] == "82.5 ± – ± 3.5"


def test_the_t_test_over_several_splits_is_of_the_seeds_means():
    ours = auc_of("refers", "shenzhen/100", [0.80, 0.82, 0.85, 0.87], splits=2)
    other = auc_of("c2l", "shenzhen/100", [0.70, 0.73, 0.75, 0.77], splits=2)
    line = lines_of(table_of([ours, other]))["p_value", "shenzhen/100"]
    assert float(line["mean"]) == pytest.approx(ttest_ind([0.825, 0.845], [0.725, 0.75]).pvalue)


@pytest.mark.parametrize(
    ("p", "undefined", "printed"),
    [(2 / 1001, 0, "≤ 2.00e-3"), (2 / 1001, 40, "≤ 2.00e-3"), (4 / 1001, 0, "4.00e-3")],
)
def test_the_smallest_p_of_a_bootstrap_is_a_bound(p, undefined, printed):
    test = ttest_of(REFERS, C2L, undefined)
    test["bootstrap"]["p"] = p
    table = table_of([REFERS, C2L], [test])
    assert lines_of(table)["p_value_paired", "nih/1"]["printed"] == printed
    bound = printed.startswith("≤")
    assert ("$\\leq$ 2.00e-3" in to_latex(table)) == bound
    for text in (to_markdown(table), to_html(table)):
        assert printed in text
    assert ("≤: the smallest p that the resamples can show." in " ".join(table.notes)) == bound


def test_notes_say_what_runs_share_and_what_selected_them():
    table = table_of([REFERS, C2L])
    notes = " ".join(table.notes)
    assert "The best is chosen by its test AUC, as in the paper." in notes
    assert "test labels: NIH 71 / 229." in notes
    assert "Seeds share one encoder and one label subset: their spread is that of fine-tuning alone." in notes
    assert "validation set selects the weights (images: NIH 10,815)" in notes
    own = " ".join(table_of([REFERS, C2L], per_seed=True).notes)
    assert "Seeds share one encoder: their spread is that of fine-tuning and of the subset alone." in own
    whole = [auc_of(method, "nih/100", [0.8, 0.81]) for method in ("refers", "c2l")]
    whole = " ".join(table_of(whole, baseline="c2l").notes)
    assert "Seeds share one encoder: their spread is that of fine-tuning alone." in whole
    assert "selects the weights" not in whole
    assert "chosen by its test AUC" not in whole
    assert "Seeds share" not in " ".join(table_of([auc_of("refers", "nih/1", [0.8])]).notes)


def test_the_papers_p_values_imply_a_spread_that_stands_beside_ours():
    """Table 1 prints 84.7 against 82.2 with p 1.94e-3 over three runs each."""
    reported = read_reported(ROOT / "config/reported.csv")
    implied = _implied(reported, "table1")
    assert implied["nih/100"] == pytest.approx(0.4226, abs=1e-3)
    assert (min(implied.values()), max(implied.values())) == pytest.approx((0.411, 0.808), abs=1e-3)
    expected = implied_sd(76.7 - 71.0, 8.35e-4, 3)
    assert f"imply a standard deviation of {expected:.2f} points over 3 seeds; ours: 1.00." in " ".join(
        table_of([REFERS, C2L]).notes
    )


def _implied(reported, name):
    """Standard deviations by column that a table's p-values imply."""
    found = {}
    for (table, row, column), p in reported.items():
        if (table, row) == (name, "p_value"):
            printed = {
                each: float(value)
                for (of, each, where), value in reported.items()
                if (of, where) == (table, column)
            }
            rivals = [value for each, value in printed.items() if each not in ("refers", "p_value")]
            found[column] = implied_sd(printed["refers"] - max(rivals), float(p), 3)
    return found


def test_every_row_has_a_verdict_and_only_auc_is_compared():
    wholly = auc_of("refers", "shenzhen/100", [None, None], undefined=CLASSES)
    line = lines_of(table_of([REFERS, C2L, wholly], status={"imagenet": "data absent: gone"}))
    assert line["refers", "nih/1"]["verdict"] == "different"
    assert line["c2l", "nih/1"]["verdict"] == "too noisy to tell"
    assert line["refers", "shenzhen/100"]["verdict"] == "undefined"
    assert line["imagenet", "nih/1"]["verdict"] == "not run"
    assert line["p_value", "nih/1"]["verdict"] == ""
    assert line["p_value", "nih/100"]["verdict"] == "not run"


# ---- by class

BY_CLASS = [
    COLUMNS[0] | {"id": f"nih/1/{name}", "group": "NIH 1%", "title": name, "class": name} for name in CLASSES
]
OURS_BY_CLASS = {"Mass": [0.80, 0.81, 0.82], "Nodule": [0.7, 0.71, 0.72], "Hernia": [None] * 3}
C2L_BY_CLASS = {"Mass": [0.70, 0.72, 0.71], "Nodule": [0.8, 0.81, 0.84], "Hernia": [None] * 3}


def table_by_class(undefined=0, **spec):
    cells = [
        auc_of("refers", "nih/1", [0.75] * 3, undefined=["Hernia"], per_class=OURS_BY_CLASS),
        auc_of("c2l", "nih/1", [0.76] * 3, undefined=["Hernia"], per_class=C2L_BY_CLASS),
    ]
    test = ttest_of(*cells, undefined)
    nothing = {"difference": None, "interval": None, "delong": {"z": None, "p": None}}
    test["per_class"] |= {"Hernia": nothing | {"undefined_resamples": 1000}}
    return table_of(cells, tests=[test], columns=BY_CLASS, **spec)


def test_a_table_by_class_has_counts_tests_and_a_best_of_every_class():
    table = table_by_class()
    lines = lines_of(table)
    assert [row["title"] for row in table.printed_rows[-4:]] == ["p-value", "Welch", "Holm", "DeLong"]
    mass, nodule, hernia = (
        [lines[row["id"], column["id"]]["printed"] for row in table.printed_rows] for column in BY_CLASS
    )
    tests = [compare(OURS_BY_CLASS[name], C2L_BY_CLASS[name]) for name in ("Mass", "Nodule")]
    students = [test["student"]["p"] for test in tests]
    p_values = [
        [format_p(p) for p in (student, test["welch"]["p"], adjusted)]
        for student, test, adjusted in zip(students, tests, holm(students), strict=True)
    ]
    none = ["not run", "not run"]  # ImageNet and LSP
    assert mass == ["81.0 ± 1.0", "71.0 ± 1.0", *none, *p_values[0], "0.045"]
    assert nodule == ["71.0 ± 1.0", "81.7 ± 2.1", *none, *p_values[1], "0.045"]
    assert hernia == ["undefined", "undefined", *none, *["undefined"] * 4]
    best = {key for key, entry in table.entries.items() if entry.best}
    assert best == {("refers", "nih/1/Mass"), ("c2l", "nih/1/Nodule")}
    assert table.footnotes == ["undefined: the test set holds one label only"]
    page = ElementTree.fromstring(to_html(table))
    assert [head.text for head in page.find(".//thead/tr")][:5] == ["NIH 1%", "n+", "n-", "Our REFERS", "C2L"]
    counts = [[cell.text for cell in row][:3] for row in page.findall(".//tbody/tr")]
    assert counts == [["Mass", "30", "70"], ["Nodule", "40", "60"], ["Hernia", "1", "99"]]


def test_a_number_of_a_class_comes_from_its_cell_and_its_p_value_from_two():
    line = lines_of(table_by_class())
    about = line["refers", "nih/1/Mass"]
    assert (about["class"], about["target"], about["positives"], about["negatives"]) == (
        *("Mass", "cells/0.json"),
        *("30", "70"),
    )
    assert line["p_value", "nih/1/Mass"]["target"] == "cells/0.json cells/1.json"
    assert line["p_value", "nih/1/Mass"]["method"] == "c2l"
    assert line["p_value_delong", "nih/1/Mass"]["target"] == "ttests/0.json"
    assert line["refers", "nih/1/Hernia"]["verdict"] == "undefined"


def test_the_csv_has_the_paired_difference_of_a_class_which_no_page_has_room_for():
    table = table_by_class(undefined=20)
    line = lines_of(table)["paired_difference", "nih/1/Mass"]
    names = ("mean", "low", "high", "resamples", "undefined_resamples")
    assert [float(line[name]) for name in names] == [5, -1, 11, 1000, 20]
    assert line["status"].startswith("ok: interval without the 20 of 1,000 resamples")
    for text in (to_markdown(table), to_html(table), to_latex(table)):
        assert "Paired" not in text
        assert "20 of 1,000" not in text, "no footnote without its number"


def test_a_class_without_a_file_of_tests_has_its_t_test_and_says_what_it_lacks():
    cells = [
        auc_of("refers", "nih/1", [0.75] * 3, per_class=OURS_BY_CLASS),
        auc_of("c2l", "nih/1", [0.76] * 3, per_class=C2L_BY_CLASS),
    ]
    line = lines_of(table_of(cells, tests=[], columns=BY_CLASS[:1]))
    assert line["p_value", "nih/1/Mass"]["mean"]
    assert line["p_value_delong", "nih/1/Mass"]["printed"] == "not run"
    assert "no t-test of refers against c2l" in line["p_value_delong", "nih/1/Mass"]["status"]


def test_the_papers_number_of_a_class_has_a_verdict_too(monkeypatch):
    monkeypatch.setitem(REPORTED, ("t", "refers", "nih/1/Mass"), "81.5")
    line = lines_of(table_by_class())["refers", "nih/1/Mass"]
    assert (line["reported"], line["difference"], line["verdict"]) == ("81.5", "-0.5", "too noisy to tell")


def test_cells_of_two_test_sets_are_refused():
    other = auc_of("c2l", "nih/1", [0.7], counts=COUNTS | {"Mass": (31, 69)})
    with pytest.raises(UserError, match=r"cells/1.json: its test labels .* cells/0.json"):
        table_of([REFERS, other])


def test_the_shipped_study_describes_the_extended_tables():
    from refers.study.availability import Availability
    from refers.study.check import check
    from refers.study.specs import Specs

    study = check(yaml.safe_load((ROOT / "config/config.yaml").read_text()))
    for name, dataset, rows in (
        *(("extended1", "nih", 6), ("extended2", "vinbigdata", 6)),
        *(("extended3", "nih", 3), ("extended4", "vinbigdata", 3)),
    ):
        spec = Specs(Availability(study)).table(name)
        classes = study.dataset(dataset).classes
        assert [column["id"] for column in spec["columns"]] == [
            f"{dataset}/{ratio}/{name}" for ratio in (1, 10, 100) for name in classes
        ]
        assert len(spec["rows"]) == rows


# ---- LaTeX and HTML


@pytest.mark.tool("pdflatex")
@pytest.mark.parametrize("make", [lambda **spec: table_of([REFERS, C2L], **spec), table_by_class])
def test_latex_compiles(tmp_path, make):
    assert "Overfull" not in compiled(tmp_path, to_latex(make(**NASTY)))


@pytest.mark.tool("pdflatex")
def test_the_widest_table_by_class_fits_on_a_page(tmp_path):
    titles = ("Our REFERS", "Model Genesis", "C2L", "Context Restoration", "TransVW", "ImageNet Pre-training")
    rows = [{"id": name, "title": name, "methods": [name], "note": ""} for name in titles]
    rows[-1]["note"] = "a footnote"
    cells = [auc_of(name, "nih/1", [0.75] * 3, per_class=C2L_BY_CLASS) for name in titles[1:]]
    cells.append(auc_of(titles[0], "nih/1", [0.75] * 3, per_class=OURS_BY_CLASS))
    columns = [column | {"title": "Pleural Thickening"} for column in BY_CLASS]
    text = to_latex(table_of(cells, tests=[], rows=rows, columns=columns, reference=titles[0]))
    # What stands in a box of 590 pt, of the 614 of a page, and is wider is reported.
    boxed = text.replace("\\makebox[\\textwidth][c]{", "\\makebox[\\textwidth][c]{\\hbox to 590pt{")
    boxed = boxed.replace("\\end{tabular}}", "\\end{tabular}}}")
    assert boxed.count("590pt") == 1
    assert "Overfull" not in compiled(tmp_path, boxed)


def test_latex_escapes_what_tex_reads_as_commands():
    text = to_latex(table_of([REFERS], **NASTY))
    assert (
        r"\caption{A \& B\_c 100\% \#1 \{x\} \textasciitilde{} \textasciicircum{} \textbackslash{} \$5}"
        in text
    )
    assert r"a $<$ b $\pm$ c $\times$ d" in text


@pytest.mark.parametrize("make", [lambda **spec: table_of([REFERS, C2L], **spec), table_by_class])
def test_html_is_one_well_formed_escaped_element(make):
    title = '<script>alert("x")</script> & more'
    text = to_html(make(title=title, note='5 < 6 & "so"'))
    figure = ElementTree.fromstring(text)
    assert (figure.tag, figure.attrib["id"]) == ("figure", "t")
    assert figure.findtext("figcaption") == title
    assert "<script" not in text
    assert 'so"' in "".join(figure.find("p").itertext())
    for row in figure.iter("tr"):
        assert sum(int(cell.get("colspan", "1")) for cell in row) == len(figure.findall(".//thead/tr")[-1])
    numbers = [cell for cell in figure.iter("td") if cell.get("data-mean")]
    best = next(cell for cell in numbers if cell.get("data-row") == "refers")
    assert (best.get("data-target"), best.get("data-seeds")) == ("cells/0.json", "3")
    assert best.findtext("strong") == "81.0 ± 1.0"


@pytest.mark.parametrize("make", [lambda: table_of([REFERS, C2L]), table_by_class])
def test_html_holds_every_number_of_the_csv(make):
    table = make()
    cells = ElementTree.fromstring(to_html(table)).findall(".//td[@data-row]")
    without = {key for key in lines_of(table) if key[0] == "paired_difference" and table.by_class}
    assert {(cell.get("data-row"), cell.get("data-column")) for cell in cells} == set(
        lines_of(table)
    ) - without


@pytest.mark.parametrize(
    ("p", "text"), [(0.5, "0.500"), (0.01, "0.010"), (0.000835, "8.35e-4"), (1e-12, "1.00e-12")]
)
def test_format_p(p, text):
    assert format_p(p) == text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"baseline": "nobody"}, "baseline 'nobody'"),
        ({"baseline": "refers"}, "baseline 'refers'"),
        ({"rows": [{"id": "refers", "title": "x"}]}, "'methods'"),
    ],
)
def test_a_bad_spec_is_one_line(change, message):
    with pytest.raises(UserError, match=message):
        table_of([REFERS], tests=[], **change)


def test_two_files_of_one_cell_are_refused():
    with pytest.raises(UserError, match=r"cells/1.json: refers/nih/1 is also in cells/0.json"):
        table_of([REFERS, REFERS])
    with pytest.raises(UserError, match=r"cells/0.json: .* method, dataset, ratio"):
        table_of([{"dataset": "nih"}], tests=[])


# ---- the scripts


def call(script, *args):
    command = [sys.executable, str(ROOT / f"workflow/scripts/{script}.py"), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True)


def test_table_and_cell_index_scripts(tmp_path):
    contents = {
        "refers.json": REFERS,
        "c2l.json": C2L,
        "test.json": ttest_of(REFERS, C2L),
        "far.json": C2L | {"ratio": 7},
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(json.dumps(content))
    spec = {
        "name": "t",
        "title": "A",
        "reference": "refers",
        "baseline": "best",
        "rows": ROWS,
        "columns": COLUMNS,
        "verdict": RULE,
        "undefined_resamples": 0.05,
        "per_seed": False,
    }
    outs = [
        item for kind in ("csv", "md", "tex", "html") for item in (f"--out-{kind}", tmp_path / f"t.{kind}")
    ]
    given = ["--reported", ROOT / "config/reported.csv", *outs]
    cells = [tmp_path / name for name in ("refers.json", "c2l.json", "far.json")]
    done = call(
        "table", "--spec", json.dumps(spec), "--cells", *cells, "--ttests", tmp_path / "test.json", *given
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == (tmp_path / "t.md").read_text().strip()
    assert "1 of 3 cells belong to no row or column" in done.stderr

    assert call("cell_index", "--tables", tmp_path / "t.csv", "--out", tmp_path / "cells.csv").returncode == 0
    with open(tmp_path / "cells.csv", newline="") as opened:
        found = {
            (row["row"], row["column"]): (row["printed"], row["target"]) for row in csv.DictReader(opened)
        }
    test, target = contents["test.json"], str(tmp_path / "test.json")
    assert found == {
        ("refers", "nih/1"): ("81.0 ± 1.0", str(tmp_path / "refers.json")),
        ("c2l", "nih/1"): ("71.0 ± 1.0", str(tmp_path / "c2l.json")),
        ("p_value", "nih/1"): (format_p(test["student"]["p"]), target),
        ("p_value_welch", "nih/1"): (format_p(test["welch"]["p"]), target),
        ("p_value_holm", "nih/1"): (format_p(test["student"]["p"]), target),  # a family of one
        ("paired_difference", "nih/1"): ("+10.0 [−1.2, +10.0]", target),
        ("p_value_paired", "nih/1"): ("0.040", target),
    }

    nothing = call("table", "--spec", json.dumps(spec), "--cells", "--ttests", *given)
    assert nothing.returncode == 0, nothing.stderr
    with open(tmp_path / "t.csv", newline="") as opened:
        assert {row["printed"] for row in csv.DictReader(opened)} == {"not run"}
    broken = call("table", "--spec", "{", *given)
    assert (broken.returncode, broken.stderr.count("\n")) == (1, 1)
