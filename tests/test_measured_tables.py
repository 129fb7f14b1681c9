"""Tables of measures and of subgroups: what they print, what they mark, and what they say where something is missing."""

import json
from pathlib import Path

import pytest
from made_measures import group, groups_of, measures_of, of_groups, of_measures, summary, table_of
from refers.config.read import read_files
from refers.errors import UserError
from refers.evaluation.cell_file import read_measured
from refers.measure_names import MEASURES
from refers.reporting.table_formats import to_csv, to_html, to_latex, to_markdown
from refers.study.availability import AssumeAvailable, Availability, OnDisk
from refers.study.check import check
from refers.study.specs import Specs

CONFIG = Path(__file__).parents[1] / "config/config.yaml"


def test_measures_are_printed_with_their_interval_and_errors_are_best_small():
    cells = [measures_of("refers", 0.5, 0.1, 0.2, 0.6), measures_of("c2l", 0.4, 0.2, 0.1, 0.61)]
    table = table_of(of_measures(), cells)
    ours = [table.entries["refers", f"nih/1/{name}"] for name in MEASURES]
    assert [entry.printed for entry in ours] == [
        *("50.0 [48.0, 52.0]", "10.0 [8.0, 12.0]", "20.0 [18.0, 22.0]", "60.0 [58.0, 62.0]")
    ]
    assert [entry.best for entry in ours] == [True, True, False, False]
    assert {entry.target for entry in ours} == {"refers/measured.json"}
    assert all("mean over 2 of 3 classes; undefined: Hernia" in entry.status for entry in ours)
    text = to_markdown(table)
    assert "n+" in text
    assert "10 bins" in text
    assert "95 % specificity" in text
    for form in (to_csv, to_html, to_latex):
        assert "50.0 [48.0, 52.0]" in form(table)


def test_a_table_without_any_number_says_so():
    table = table_of(of_measures(), [], status={"nih": "data absent: x"})
    assert table.notes == ["None of our cells is available yet."]
    assert table.entries["refers", "nih/1/brier"].printed == "not run"


def test_an_interval_of_too_few_resamples_is_undefined():
    table = table_of(of_measures(), [measures_of("refers", 0.5, 0.1, 0.2, 0.6, lost=51)], ["refers"])
    assert table.entries["refers", "nih/1/brier"].printed == "10.0 [undefined]"


def test_measures_of_other_predictions_are_refused():
    other = measures_of("refers", 0.5, 0.1, 0.2, 0.6) | {"predictions_sha256": ["2"]}
    with pytest.raises(UserError, match=r"refers/measured.json: of other predictions than refers/auc.json"):
        table_of(of_measures(), [other])


def test_groups_gaps_and_what_is_missing_are_stated():
    gap = {"largest": "male", "smallest": "female", "difference": 0.05, "undefined": None}
    gap |= {"interval": [-0.01, 0.11], "undefined_resamples": 0}
    sex = {
        "unknown": 7,
        "classes": ["Mass"],
        "groups": {"female": group(0.7), "male": group(0.75)},
        "gap": gap,
    }
    none = {"undefined": "undefined: fewer than two groups have an AUC"}
    empty = {
        "images": 0,
        "patients": 0,
        "positives": 0,
        "negatives": 0,
        "undefined": "undefined: no test image",
    }
    view = {"unknown": 0, "classes": [], "groups": {"PA": empty, "AP": empty}, "gap": none}
    columns = of_groups("sex", "female", "male", "gap") + of_groups("projection", "PA", "gap")
    columns += of_groups("age", "0-39", "gap")
    table = table_of(
        columns,
        [groups_of("refers", sex=sex, projection=view)],
        absent={"nih": "data absent: x"},
        without=["VBD"],
    )
    printed = {
        column: table.entries["refers", f"nih/1/{column}"].printed for column in ("sex/male", "sex/gap")
    }
    assert printed == {"sex/male": "75.0 [65.0, 85.0]", "sex/gap": "5.0 [−1.0, 11.0]"}
    assert (
        table.entries["refers", "nih/1/sex/gap"].status == "ok: male minus female; over 1 of 2 classes: Mass"
    )
    assert not table.entries["refers", "nih/1/sex/gap"].best
    assert table.entries["refers", "nih/1/projection/PA"].note == "undefined: no test image"
    assert table.entries["refers", "nih/1/age/0-39"].note == "undefined: the download's table has no age"
    assert table.entries["c2l", "nih/1/sex/male"].status == "data absent: x"
    text = to_markdown(table)
    assert "NIH sex of 7 of 107 test images" in text
    assert "Without sex, age and projection in their tables: VBD." in text
    assert "NIH: data absent: x" in text
    assert "| Images | Patients |" in text


def test_tables_of_the_published_study():
    specs = Specs(Availability(check(read_files([CONFIG])), AssumeAvailable()))
    measures, groups = specs.table("measures"), specs.table("subgroups")
    assert not measures["comparable"]
    assert [each["id"] for each in measures["columns"][:4]] == [f"nih/1/{name}" for name in MEASURES]
    ids = [each["id"] for each in groups["columns"] if each["dataset"] == "shenzhen"]
    assert ids == [
        f"shenzhen/100/{name}"
        for name in (
            *("sex/female", "sex/male", "sex/gap"),
            *("age/0-17", "age/18-39", "age/40-59", "age/60+", "age/gap"),
        )
    ]
    assert groups["without"] == ["VBD"]
    assert not specs.study.judged_tables.count("measures")


def test_without_downloads_a_kept_file_of_characteristics_is_enough(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = read_files([CONFIG])
    specs = Specs(Availability(check(values | {"claims": None}), OnDisk()))
    reason = specs.table("subgroups")["absent"]["nih"]
    assert "copy results/characteristics/nih.parquet" in reason
    (tmp_path / "results/characteristics").mkdir(parents=True)
    (tmp_path / "results/characteristics/nih.parquet").write_text("")
    assert "nih" not in specs.table("subgroups")["absent"]
    assert "shenzhen" in specs.table("subgroups")["absent"]


def test_own_datasets_without_characteristics_have_measures_and_no_table_of_subgroups():
    study = check(read_files([CONFIG, CONFIG.with_name("real.yaml")]))
    assert "subgroups" not in study.config.tables
    columns = Specs(Availability(study, AssumeAvailable())).table("measures")["columns"]
    assert {each["dataset"] for each in columns} == {"pneumonia", "viral"}


@pytest.mark.parametrize(
    "key", [{"reference": "refers", "baseline": "best"}, {"per_class": "nih"}, {"protocol": "probe"}]
)
def test_other_numbers_have_no_tests_and_no_classes(key):
    values = read_files([CONFIG])
    values["tables"] = json.loads(json.dumps(values["tables"]))
    values["tables"]["measures"] |= key
    with pytest.raises(UserError, match="shows measures is of fine-tuned rows alone"):
        check(values)


def test_ages_ascend():
    with pytest.raises(UserError, match=r"ages: \[60, 18\] must ascend"):
        check(read_files([CONFIG]) | {"subgroups": {"ages": [60, 18]}})


WHOLE = measures_of("refers", 0.5, 0.1, 0.2, 0.6)
SEX = {
    "unknown": 0,
    "classes": ["Mass"],
    "groups": {"female": group(0.7)},
    "gap": {"undefined": "undefined: x"},
}


@pytest.mark.parametrize(
    ("content", "shows"),
    [
        (WHOLE | {"measures": {}}, "measures"),
        (WHOLE | {"measures": WHOLE["measures"] | {"brier": summary("x", 0.1, 0.2)}}, "measures"),
        (WHOLE | {"measures": WHOLE["measures"] | {"brier": summary(7, 0.1, 0.2)}}, "measures"),
        (WHOLE | {"measures": WHOLE["measures"] | {"brier": summary(0.1, None, 0.2)}}, "measures"),
        (WHOLE | {"settings": {}}, "measures"),
        (WHOLE, "subgroups"),
        (groups_of("refers", sex={}), "subgroups"),
        (groups_of("refers", sex=SEX | {"groups": {"female": group(0.7, "many")}}), "subgroups"),
        (groups_of("refers", sex=SEX | {"gap": {"undefined": None}}), "subgroups"),
    ],
)
def test_a_file_of_something_else_is_one_line(content, shows, tmp_path):
    path = tmp_path / f"{shows}.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=rf"{path}.*rerun {shows}.py"):
        read_measured(path, shows)


def test_whole_files_are_read(tmp_path):
    for content, shows in ((WHOLE, "measures"), (groups_of("refers", sex=SEX), "subgroups")):
        (tmp_path / "x.json").write_text(json.dumps(content))
        assert read_measured(tmp_path / "x.json", shows) == content
