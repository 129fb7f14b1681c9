"""Claims: each kind holds, fails or stays open on hand-made numbers; the shipped ones can be checked; bad ones are named."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from made_tables import compare_golden
from refers.errors import UserError
from refers.reporting.claims import check_claims, read_claims, to_csv, to_markdown
from refers.reporting.evaluate_claims import (
    FAILS,
    HOLDS,
    UNJUDGED,
    Number,
    Numbers,
    Overlap,
    evaluate,
    our_numbers,
    paper_numbers,
)
from refers.reporting.published import read_reported
from refers.reporting.table_formats import FIELDS

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "config/claims.yaml"
PAPER = paper_numbers(read_reported(ROOT / "config/reported.csv"))
NUMBERS = {  # row -> column -> printed number
    "refers": {"nih/1": 76.7, "nih/10": 80.9, "nih/100": 84.7, "nih/1/Mass": 80.0, "nih/1/Hernia": 90.0},
    "c2l": {"nih/1": 71.0, "nih/10": 76.6, "nih/100": 82.2, "nih/1/Mass": 70.0, "nih/1/Hernia": 88.0},
    "transvw": {"nih/1": 71.2, "nih/10": 74.3, "nih/100": 81.7, "nih/1/Mass": 71.0, "nih/1/Hernia": 85.0},
    "gone": {"nih/1": None, "nih/10": 60.0},
    "p_value": {"nih/1": 0.004, "nih/10": 0.03, "nih/100": None},
}


OVERLAPS = {
    "boxes": Overlap((0.2, 0.6, 0.51), target="boxes/iou.csv"),
    "half": Overlap((0.2, 0.5, 0.6, 0.9), target="half/iou.csv"),
    "gone": Overlap(status="data absent: no boxes"),
}


def line_of(row, column, value, method=None, table="t"):
    status = "ok" if value is not None else "data absent: no disk"
    known = {"table": table, "row": row, "column": column, "mean": "" if value is None else str(value)}
    known |= {"method": method or ("c2l" if row == "p_value" else row)}
    return dict.fromkeys(FIELDS, "") | known | {"status": status, "target": f"{row}/{column}.json"}


LINES = [line_of(row, column, value) for row, columns in NUMBERS.items() for column, value in columns.items()]


def written(tmp_path, claims):
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump(claims))
    return path


def checked(tmp_path, test, slack=0.0, lines=LINES, **more):
    entry = {"id": "one", "quote": "q", "place": "p", "test": test} | more
    ours = our_numbers(lines, slack, OVERLAPS)
    (line,) = check_claims(read_claims(written(tmp_path, [entry])), PAPER, ours)
    return line["ours"], line["our_numbers"], line["targets"]


def difference(right="c2l", columns="nih/1", **more):
    return {"kind": "difference", "left": "refers", "right": right, "columns": columns} | more


def largest(columns, among, right="c2l"):
    return {"kind": "largest", "left": "refers", "right": right, "columns": columns, "among": among}


def p_value(columns, below=0.01, left="refers", right="c2l", tables="t"):
    return {"kind": "p_value", "tables": tables, "columns": columns, "below": below} | {
        "left": left,
        "right": right,
    }


@pytest.mark.parametrize(
    ("test", "verdict"),
    [
        (difference(more_than=5.6), HOLDS),
        (difference(more_than=5.7), FAILS),  # 76.7 - 71.0 is 5.7 and no more
        (difference(at_least=5.7), HOLDS),
        (difference(at_most=5.7), HOLDS),
        (difference(at_most=5.6), FAILS),
        (difference(about=6, tolerance=0.5), HOLDS),
        (difference(about=5, tolerance=0.5), FAILS),
        (difference(["c2l", "transvw"], ["nih/1", "nih/10"], at_least=4.3), HOLDS),
        (difference(["c2l", "transvw"], ["nih/1", "nih/10"], at_least=4.4), FAILS),  # one of four
        (difference(["c2l", "transvw"], ["nih/1", "nih/10"], over="mean", at_least=5.0), HOLDS),
        (difference(columns="nih/10", against="nih/100", at_least=-1.3), HOLDS),
        (difference(columns="nih/10", against="nih/100", more_than=-1.3), FAILS),
        (difference(columns="nih/1/*", more_than=1.9), HOLDS),
        (difference(columns="nih/1/*", more_than=2), FAILS),  # Hernia
        (difference("gone", more_than=0), UNJUDGED),
        (difference(columns="nih/50", more_than=0), UNJUDGED),
        (difference(columns="nih/10/*", more_than=0), UNJUDGED),  # no class of it is printed
        (difference("gone", ["nih/1", "nih/10"], more_than=30), FAILS),  # one failing number settles it
        (difference("gone", ["nih/1", "nih/10"], over="mean", more_than=30), UNJUDGED),
        (largest("nih/1", ["nih/10", "nih/100"]), HOLDS),
        (largest("nih/100", ["nih/1", "nih/100"]), FAILS),
        (largest("nih/1", "nih/10", "transvw"), FAILS),
        (largest("nih/1", "nih/10", ["c2l", "transvw"]), HOLDS),  # best of the others: 5.5 against 4.3
        (largest("nih/1/Mass", "nih/1/*"), HOLDS),
        (largest("nih/1/Hernia", "nih/1/*"), FAILS),
        (largest("nih/1", "nih/1"), UNJUDGED),  # nothing to compare with
        (largest("nih/1", "nih/10", ["c2l", "gone"]), UNJUDGED),
        (p_value("nih/1"), HOLDS),
        (p_value(["nih/1", "nih/10"]), FAILS),
        (p_value(["nih/1", "nih/100"]), UNJUDGED),
        (p_value("nih/1", left="c2l", right="refers"), FAILS),  # as small, but on the other side
        ({"kind": "overlap", "figures": "boxes", "above": 0.5}, HOLDS),
        ({"kind": "overlap", "figures": ["boxes", "half"], "above": 0.5}, FAILS),  # a half is not most
        ({"kind": "overlap", "figures": ["boxes", "gone"], "above": 0.5}, UNJUDGED),
        ([difference(more_than=5), difference(more_than=6)], FAILS),  # all tests of a claim must hold
        ([difference(more_than=5), difference(more_than=4)], HOLDS),
    ],
)
def test_every_kind_holds_fails_or_stays_open(tmp_path, test, verdict):
    assert checked(tmp_path, test)[0] == verdict


def test_an_outcome_shows_the_numbers_that_decide_and_where_they_come_from(tmp_path):
    _, numbers, targets = checked(tmp_path, difference(["c2l", "transvw"], more_than=5.6))
    assert numbers == "1 of 2 fail: refers 76.7 - transvw 71.2 = 5.5 (nih/1)"
    assert targets == "refers/nih/1.json c2l/nih/1.json transvw/nih/1.json"
    _, numbers, _ = checked(tmp_path, difference("gone", more_than=0))
    assert numbers == "1 of 1 lack a number: gone in nih/1: data absent: no disk"
    _, numbers, _ = checked(tmp_path, largest("nih/1", "nih/10", ["c2l", "transvw"]))
    assert numbers == "gain 5.5 over transvw (nih/1) against 4.3 over c2l (nih/10)"


def test_a_small_p_value_counts_where_the_reference_is_above_what_it_is_tested_against(tmp_path):
    """The row that the table names, be it another than the claim's: here the best is a method of your own."""
    numbers = {"refers": 80, "c2l": 70, "own": 95}
    lines = [line_of(row, "nih/1", mean) for row, mean in numbers.items()]
    verdict, numbers, targets = checked(
        tmp_path, p_value("nih/1"), lines=[*lines, line_of("p_value", "nih/1", 1e-5, "own")]
    )
    assert verdict == FAILS
    assert numbers == "1 of 1 fail: p 1.00e-5, refers 80.0 - own 95.0 = -15.0 (t, nih/1)"
    assert targets == "p_value/nih/1.json refers/nih/1.json own/nih/1.json"
    lines.append(line_of("p_value", "nih/1", 1e-5))
    verdict, numbers, _ = checked(tmp_path, p_value("nih/1"), lines=lines)
    assert (verdict, numbers) == (HOLDS, "p 1.00e-5, refers 80.0 - c2l 70.0 = 10.0 (t, nih/1)")


def test_a_group_s_p_value_is_that_of_the_row_which_prints_the_method(tmp_path):
    lines = [line_of("refers", "nih/1", 80), line_of("lsp_convnet", "nih/1", 81, "lsp_resnet18")]
    lines.append(line_of("p_value", "nih/1", 0.001, "lsp_resnet18"))
    verdict, numbers, _ = checked(tmp_path, p_value("nih/1", right="lsp_convnet"), lines=lines)
    assert (verdict, "lsp_convnet 81.0 = -1.0" in numbers) == (FAILS, True)


def test_nearly_all_is_a_share_of_the_comparisons(tmp_path):
    test = difference(["c2l", "transvw"], ["nih/1", "nih/10"], at_least=4.4)  # three of four
    assert checked(tmp_path, test, share=0.75)[0] == HOLDS
    verdict, numbers, _ = checked(tmp_path, test, share=0.76)
    assert verdict == FAILS
    assert numbers.startswith("1 of 4 fail: refers 80.9 - c2l 76.6 = 4.3 (nih/10)")
    with_gap = difference(
        ["c2l", "gone"], ["nih/1", "nih/10"], at_least=4.4
    )  # two hold, one fails, one is missing
    assert checked(tmp_path, with_gap, share=0.5)[0] == HOLDS
    assert checked(tmp_path, with_gap, share=0.75)[0] == UNJUDGED
    assert checked(tmp_path, with_gap, share=1)[0] == FAILS


@pytest.mark.parametrize(
    ("test", "differences"),
    [
        (difference(["c2l", "transvw"], ["nih/1", "nih/10"], at_least=4.0), ["4.3", "5.5", "5.7"]),
        (difference(["c2l", "transvw"], ["nih/1", "nih/10"], at_most=7), ["6.6", "5.7", "5.5"]),
        (
            difference(["c2l", "transvw"], ["nih/1", "nih/10"], about=5.5, tolerance=1.2),
            ["4.3", "6.6", "5.7"],
        ),
        (difference(["c2l", "transvw"], ["nih/1", "nih/10"], more_than=6), ["4.3", "5.5", "5.7"]),
    ],
)
def test_the_worst_comparisons_are_named_first(tmp_path, test, differences):
    _, numbers, _ = checked(tmp_path, test)
    assert re.findall(r"= (\S+)", numbers) == differences


def test_margins_of_every_kind_are_in_its_own_unit_from_the_bound(tmp_path):
    """5.7 - 5.5 is 0.2, two thirds are a sixth above one half, and 0.01 - 0.004 is 0.006."""
    boxes = {"kind": "overlap", "figures": "boxes", "above": 0.5}
    _, numbers, _ = checked(tmp_path, [difference(more_than=5.5), boxes, p_value("nih/1")])
    first, second, third = numbers.split("; ")
    assert first.startswith("p 4.00e-3")
    assert second.startswith("67 %")
    assert third == "refers 76.7 - c2l 71.0 = 5.7 (nih/1)"
    # A gain of 5.5 against 4.3 is 1.2 larger; a small p-value on the wrong side counts by the difference.
    gain = largest("nih/1", "nih/10", ["c2l", "transvw"])
    _, numbers, _ = checked(tmp_path, [gain, difference(more_than=4.6), difference(more_than=4.4)])
    assert re.findall(r"gain 5.5|= 5.7", numbers) == ["= 5.7", "gain 5.5", "= 5.7"]
    lines = [line for line in LINES if line["column"] == "nih/10"]
    lines += [line_of("refers", "nih/1", 80), line_of("c2l", "nih/1", 70)]
    lines.append(line_of("p_value", "nih/1", 0.004, "refers"))
    tests = [p_value("nih/10"), p_value("nih/1", left="c2l", right="refers")]
    _, numbers, _ = checked(tmp_path, tests, lines=lines)
    assert re.findall(r"p (\S+),", numbers) == ["4.00e-3", "0.030"]


@pytest.mark.parametrize(
    ("overlaps", "verdict"), [((0.6,) * 11 + (0.4,) * 9, HOLDS), ((0.6,) * 9 + (0.4,) * 11, FAILS)]
)
def test_most_findings_are_more_than_half(overlaps, verdict):
    numbers = Numbers({}, "", overlaps={"maps": Overlap(overlaps)})
    test = {"kind": "overlap", "figures": ["maps"], "above": 0.5}
    assert evaluate([test], numbers).verdict == verdict


def test_a_mean_over_one_column_names_the_column(tmp_path):
    assert checked(tmp_path, difference(over="mean", more_than=5))[1].endswith("= 5.7 (nih/1)")
    _, numbers, _ = checked(tmp_path, difference(columns=["nih/1", "nih/10"], over="mean", more_than=4))
    assert numbers.endswith("refers 78.8 - c2l 73.8 = 5.0 (mean of 2 columns)")
    _, numbers, _ = checked(tmp_path, difference(columns="nih/1", against="nih/10", more_than=0))
    assert numbers.endswith("= 0.1 (nih/1 against nih/10)")


def test_a_missing_number_is_not_shown_where_the_others_decide(tmp_path):
    test = difference(["c2l", "gone"], ["nih/1", "nih/10"], at_least=4)
    verdict, numbers, _ = checked(tmp_path, test, share=0.75)
    assert verdict == HOLDS
    assert numbers.startswith("3 of 4 hold, 3 ")
    assert re.findall(r"= (\S+)", numbers) == ["4.3", "5.7", "20.9"]


@pytest.mark.parametrize(
    ("bound", "stated", "paper", "ours"),
    [
        ("about", 5.7, HOLDS, HOLDS),
        ("about", 5.0, FAILS, HOLDS),  # 0.7 off: within the point that ours may miss it by
        ("about", 4.6, FAILS, FAILS),
        ("advantage", 5.7, HOLDS, HOLDS),
        ("advantage", 2.5, FAILS, HOLDS),  # ours is larger than what is stated, so an advantage of that too
        ("advantage", 6.7, FAILS, HOLDS),
        ("advantage", 6.8, FAILS, FAILS),
    ],
)
def test_a_stated_number_binds_the_paper_to_its_rounding_and_ours_to_the_verdict_rule(
    bound, stated, paper, ours
):
    entries = {("t", row, "nih/1"): Number(NUMBERS[row]["nih/1"]) for row in ("refers", "c2l")}
    test = {
        "kind": "difference",
        "left": ["refers"],
        "right": ["c2l"],
        "columns": ["nih/1"],
        "tolerance": 0.05,
    }
    for slack, verdict in ((None, paper), (1.0, ours)):
        assert evaluate([test | {bound: stated}], Numbers(entries, "", slack)).verdict == verdict


def test_the_tolerances_of_both_sides_are_printed(tmp_path):
    claim = {"id": "a", "quote": "q", "place": "p", "test": difference(advantage=2.5, tolerance=0.05)}
    (line,) = check_claims(read_claims(written(tmp_path, [claim])), PAPER, our_numbers(LINES, 1.0))
    assert line["test"] == "refers - c2l an advantage of 2.5 ± 0.05 (ours ≥ 1.5) in nih/1"


GOOD = {"id": "a", "quote": "q", "place": "p", "test": difference(more_than=0)}


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ({}, "must be a list of claims, found dict"),
        (["x"], "claim number 1: must be a map, found 'x'"),
        ([GOOD, GOOD], "claim a: occurs twice"),
        ([{"id": "a", "quote": "q", "test": GOOD["test"]}], "claim a: place is missing"),
        ([GOOD | {"page": 3}], "claim a: unknown key 'page'"),
        ([GOOD | {"quote": 3}], "claim a: quote: .* found 3"),
        ([GOOD | {"test": []}], "claim a: test: must not be empty"),
        (
            [GOOD | {"test": {"kind": "bigger"}}],
            "claim a: test: .* one of difference, .* found {'kind': 'bigger'}",
        ),
        ([GOOD | {"test": difference()}], "claim a: .* one of more_than, .* found none"),
        (
            [GOOD | {"test": difference(more_than=1, at_most=2)}],
            "claim a: .* one of more_than, .* found .*at_most",
        ),
        ([GOOD | {"test": difference(about=1)}], "claim a: tolerance: .* about and advantage"),
        ([GOOD | {"test": difference(advantage=1)}], "claim a: tolerance: .* about and advantage"),
        ([GOOD | {"share": 0}], "claim a: share: .* above 0 and up to 1, found 0"),
        ([GOOD | {"test": p_value("nih/1", left=["refers", "c2l"])}], "claim a: left: must be one row"),
        ([GOOD | {"test": difference(more_than="7")}], "claim a: more_than: must be a number, found '7'"),
        (
            [GOOD | {"test": difference(columns="nih", more_than=7)}],
            "claim a: columns: 'nih' is not a column",
        ),
        (
            [GOOD | {"test": difference(columns=[], more_than=7)}],
            "claim a: columns: must be a name or a list",
        ),
        (
            [GOOD | {"test": difference(against=["nih/1", "nih/10"], more_than=7)}],
            "claim a: against: must have as many",
        ),
        (
            [GOOD | {"test": difference(columns="nih/1/*", against="nih/10/*", more_than=7)}],
            "claim a: against: .* none may end in",
        ),
        (
            [GOOD | {"test": largest("nih/1", "nih/10") | {"more_than": 1}}],
            "claim a: unknown key 'more_than'",
        ),
        (
            [GOOD | {"test": {"kind": "p_value", "columns": "nih/1", "below": 0.1}}],
            "claim a: left, right, tables is missing",
        ),
    ],
)
def test_a_malformed_claim_is_one_line_with_file_and_id(tmp_path, claims, message):
    path = written(tmp_path, claims)
    with pytest.raises(UserError, match=rf"claims.yaml: {message}"):
        read_claims(path)


def test_a_row_or_table_that_no_table_has_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"claim one: right: no 'c3l' in any table; must be one of .*c2l"):
        checked(tmp_path, difference("c3l", more_than=0))
    with pytest.raises(UserError, match="claim one: tables: no 'table9'"):
        checked(tmp_path, p_value("nih/1", tables="table9"))
    with pytest.raises(
        UserError, match="claim one: figures: no 'figure9' with boxes; must be one of boxes, gone"
    ):
        checked(tmp_path, {"kind": "overlap", "figures": "figure9", "above": 0.5})


# ---- the shipped claims


@pytest.fixture(scope="module")
def shipped():
    overlaps = {"figure3_nih": OVERLAPS["boxes"], "figure3_vinbigdata": OVERLAPS["half"]}
    ours = our_numbers(LINES, 1.0, overlaps)
    return {line["id"]: line for line in check_claims(read_claims(SHIPPED), PAPER, ours)}


def test_every_shipped_claim_is_checked_against_the_papers_numbers_or_says_why_not(shipped):
    assert len(shipped) >= 40
    for name, line in shipped.items():
        unprinted = any(
            test["kind"] == "overlap" or any(column.count("/") == 2 for column in test["columns"])
            for claim in read_claims(SHIPPED)
            if claim["id"] == name
            for test in claim["tests"]
        )
        # The text holds no number by class and no overlap; everything else is in Tables 1 to 3.
        assert (line["paper"] == UNJUDGED) == unprinted, name
        assert ("not printed as text" in line["paper_numbers"]) == unprinted, name


def test_claims_that_the_papers_own_tables_contradict_are_found(shipped):
    assert {name for name, line in shipped.items() if line["paper"] == FAILS} == {
        *("nih-gain-greatest-at-1-each", "two-best-everywhere", "imagenet-4-small"),
        *("imagenet-narrows-nih", "imagenet-narrows-vinbigdata"),
        *("lsp-transformer-strongest", "lsp-gain-2.5", "lsp-gain-at-small-ratios"),
        "transformer-better-at-small-ratios",
    }
    line = shipped["lsp-transformer-strongest"]["paper_numbers"]
    assert line == "1 of 9 fail: lsp_transformer 96.4 - lsp_convnet 96.7 = -0.3 (shenzhen/100)"
    assert "83.0 - c2l 75.3 = 7.7" in shipped["vinbigdata-c2l-7"]["paper_numbers"]
    line = shipped["imagenet-4-small"]["paper_numbers"]
    assert line == "1 of 3 fail: refers 98.0 - imagenet 94.5 = 3.5 (shenzhen/100)"
    line = shipped["imagenet-narrows-vinbigdata"]["paper_numbers"]
    assert line.startswith("1 of 2 fail: gain 0.9 over imagenet (vinbigdata/10) against 1.7")
    line = shipped["p-values-below-0.01"]["paper_numbers"]
    assert line.startswith(
        "18 of 18 hold, 17 are asked for, by least: p 9.65e-3, refers 98.0 - lsp_transformer"
    )


def test_the_claim_about_boxes_is_checked_against_the_overlaps_of_figure_3(shipped):
    line = shipped["iou-mostly-above-0.5"]
    assert (line["paper"], line["ours"]) == (UNJUDGED, FAILS)
    assert line["our_numbers"] == "1 of 2 fail: 50 % of 4 findings above 0.5 (figure3_vinbigdata)"
    assert line["targets"] == "boxes/iou.csv half/iou.csv"


def test_shipped_claims_name_columns_and_rows_of_the_shipped_study():
    from refers.study.availability import Availability
    from refers.study.check import check
    from refers.study.specs import Specs

    study = check(yaml.safe_load((ROOT / "config/config.yaml").read_text()))
    specs = [Specs(Availability(study)).table(name) for name in study.config.tables]
    columns = {column["id"] for spec in specs for column in spec["columns"]}
    rows = {row["id"] for spec in specs for row in spec["rows"]}
    for claim in read_claims(SHIPPED):
        for test in claim["tests"]:
            for key in ("columns", "against", "among"):
                for column in test.get(key, []):
                    start = column[:-1] if column.endswith("*") else None
                    found = column in columns or (start and any(each.startswith(start) for each in columns))
                    assert found, f"{claim['id']}: {column}"
            assert {*test.get("left", []), *test.get("right", [])} <= rows, claim["id"]
            maps = {name for name, entry in study.config.figures.items() if entry.kind == "attention"}
            assert {*test.get("figures", [])} <= maps, claim["id"]


# ---- formats and the script


@pytest.mark.parametrize("kind", ["csv", "md"])
def test_each_format_is_as_on_file(tmp_path, kind, request):
    tests = {
        "holds": difference(["c2l", "transvw"], ["nih/1", "nih/10"], at_least=4.3),
        "fails": [difference(advantage=7, tolerance=0.5), p_value(["nih/1", "nih/10"])],
        "open": {"kind": "overlap", "figures": ["boxes", "gone"], "above": 0.5},
        "share": largest(["nih/1", "nih/10"], ["nih/1", "nih/10", "nih/100"], ["c2l", "transvw"]),
    }
    entries = [
        {
            "id": name,
            "quote": f"a *quote* | {name}",
            "place": "Results, NIH",
            "note": "As read.",
            "test": test,
        }
        for name, test in tests.items()
    ]
    entries[-1]["share"] = 0.6
    claims = read_claims(written(tmp_path, entries))
    lines = check_claims(claims, PAPER, our_numbers(LINES, 1.0, OVERLAPS))
    text = to_csv(lines) if kind == "csv" else to_markdown(lines, "A demo.")
    compare_golden(f"claims.{kind}", text, request)


def test_the_script_writes_both_files_and_names_a_bad_claim(tmp_path):
    with open(tmp_path / "t.csv", "w", newline="") as opened:
        writer = csv.DictWriter(opened, FIELDS)
        writer.writeheader()
        writer.writerows(LINES)

    overlap = tmp_path / "figure3_nih/iou.csv"
    overlap.parent.mkdir()
    overlap.write_text("image_id,class,score,iou\na,Mass,0.9,0.6\na,Hernia,0.1,0.4\nb,Mass,0.2,0.7\n")
    absent = json.dumps({"figure3_vinbigdata": "data absent: no such disk"})

    def call(claims):
        outs = ["--out-csv", tmp_path / "claims.csv", "--out-md", tmp_path / "claims.md"]
        given = ["--tables", tmp_path / "t.csv", "--reported", ROOT / "config/reported.csv"]
        given += ["--overlaps", overlap, "--absent", absent, "--within-points", 1]
        command = [sys.executable, ROOT / "workflow/scripts/claims.py", "--claims", claims, *given, *outs]
        return subprocess.run(list(map(str, command)), capture_output=True, text=True)

    bad = call(written(tmp_path, [GOOD | {"test": difference("c3l", more_than=0)}]))
    assert (bad.returncode, bad.stderr.count("\n")) == (1, 1)
    assert "claims.yaml: claim a: right: no 'c3l'" in bad.stderr
    assert not (tmp_path / "claims.csv").exists()
    done = call(SHIPPED)
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "claims.csv", newline="") as opened:
        lines = {line["id"]: line for line in csv.DictReader(opened)}
    assert lines["two-best-by-4"]["paper"] == HOLDS
    assert lines["two-best-by-4"]["ours"] == UNJUDGED  # no VinBigData in these tables
    assert done.stdout.strip() == (tmp_path / "claims.md").read_text().strip()
    boxes = lines["iou-mostly-above-0.5"]
    assert boxes["ours"] == UNJUDGED
    assert (
        boxes["our_numbers"] == "1 of 2 lack a number: IoU of figure3_vinbigdata: data absent: no such disk"
    )
    overlap.write_text("image_id,class,score,iou\n")
    assert call(SHIPPED).returncode == 0
    assert "no test image has a radiologist's box" in (tmp_path / "claims.csv").read_text()
    overlap.write_text("image_id,class,score,iou\na,Mass,0.9,1.6\n")
    bad = call(SHIPPED)
    assert (bad.returncode, bad.stderr.count("\n")) == (1, 1)
    assert f"{overlap}: expected columns image_id,class,score,iou and IoU from 0 to 1" in bad.stderr
