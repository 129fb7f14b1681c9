"""The audit of released prediction files, on files generated in the released layout; run without torch."""

import csv
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from refers.similarity import compare_files
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

REAL = Path(__file__).parents[2] / "shared/data/refers-released/Results_of_fine-tuning.tar.xz"
IMAGES = 300
CLASSES = ["Mass", "Pleural_Thickening"]
METHODS = {"OURS": "refers", "A": "imagenet", "B": "c2l", "C": "transvw"}
SPEC = {
    "cells": [
        {"folder": "NIH ChestX-ray/data1", "dataset": "nih", "ratio": 1, "classes": CLASSES},
        {"folder": "COVID/covid_others", "dataset": "covid_t1", "ratio": 100, "classes": ["COVID-19"]},
    ],
    "methods": METHODS,
    "table": "table1",
    "reference": "refers",
}
REPORTED = "table,row,column,quantity,value\ntable1,refers,nih/1,auc,{}\ntable1,c2l,covid_t1/100,auc,12.3\n"


def write(path, labels, scores):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "".join(f"{label:.1f} {score:.3f}\n" for label, score in zip(labels, scores, strict=True))
    )


@pytest.fixture
def results(tmp_path):
    """Released files: in NIH, B has A's positives and other negatives, C is A's square; OURS is on its own."""
    folder = tmp_path / "Results"
    rng = np.random.default_rng(0)
    for place, (name, rate) in enumerate([("Mass", 0.1), ("Pleural_Thickening", 0.4)]):
        labels = np.random.default_rng(place).random(IMAGES) < rate
        ours, a, other = (
            np.clip(0.3 + 0.1 * labels + 0.15 * rng.normal(size=IMAGES), 0.01, 1) for _ in range(3)
        )
        ours = np.clip(ours + 0.2 * labels, 0, 1)
        for method, scores in (("OURS", ours), ("A", a), ("B", np.where(labels, a, 0.9 * a)), ("C", a**2)):
            write(folder / f"NIH ChestX-ray/data1/{method}/{name}.txt", labels, scores)
        write(folder / f"COVID/covid_others/{'AB'[place]}/covid_others.txt", labels, other)
    (folder / "NIH ChestX-ray/plots.ipynb").write_text("{}")
    return folder


@pytest.fixture
def audit(results, call, tmp_path):
    """Runs audit_released.py; returns the finished process, the rows of both tables and the text."""

    def run(source=results, spec=SPEC, printed="70.0"):
        (tmp_path / "reported.csv").write_text(REPORTED.format(printed))
        out = tmp_path / "audit"
        given = [
            "--released",
            source,
            "--reported",
            tmp_path / "reported.csv",
            "--resamples",
            200,
            "--out",
            out,
        ]
        done = call("audit_released", "--spec", json.dumps(spec), *given)
        if done.returncode:
            assert not out.exists()
            return done, None, None, None
        tables = [list(csv.DictReader((out / f"{name}.csv").open())) for name in ("auc", "pairs")]
        return done, *tables, (out / "audit.md").read_text()

    return run


def row_of(rows, **wanted):
    found = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
    assert len(found) == 1
    return found[0]


def test_aucs_counts_and_intervals(audit, results):
    _, rows, _, _ = audit()
    measured = [row for row in rows if row["status"] == "ok" and row["class"] != "mean"]
    assert len(measured) == 4 * 2 + 2
    for row in measured:
        labels, scores = np.loadtxt(results / row["file"]).T
        assert float(row["auc"]) == pytest.approx(100 * roc_auc_score(labels, scores), abs=1e-9)
        assert (int(row["positives"]), int(row["negatives"])) == ((labels == 1).sum(), (labels == 0).sum())
        assert float(row["low"]) < float(row["auc"]) < float(row["high"])
    each = [float(row["auc"]) for row in measured if (row["cell"], row["method"]) == ("nih/1", "refers")]
    mean = row_of(rows, cell="nih/1", method="refers", **{"class": "mean"})
    assert float(mean["auc"]) == pytest.approx(np.mean(each))
    spread = float(mean["high"]) - float(mean["low"])
    assert spread < max(float(row["high"]) - float(row["low"]) for row in measured)


def test_every_method_is_compared_with_the_best_baseline(audit):
    """B is A with lower negatives, so it is the best baseline whatever the reference has; the difference is paired."""
    _, rows, _, _ = audit()
    means = {row["method"]: row for row in rows if (row["cell"], row["class"]) == ("nih/1", "mean")}
    assert {name: row["baseline"] for name, row in means.items()} == {
        "refers": "c2l",
        "imagenet": "c2l",
        "transvw": "c2l",
        "c2l": "",
    }
    for name in ("refers", "imagenet"):
        expected = float(means[name]["auc"]) - float(means["c2l"]["auc"])
        assert float(means[name]["minus_baseline"]) == pytest.approx(expected)
        low, high = float(means[name]["minus_baseline_low"]), float(means[name]["minus_baseline_high"])
        assert low < expected < high
    paired = float(means["imagenet"]["minus_baseline_high"]) - float(means["imagenet"]["minus_baseline_low"])
    assert paired < (float(means["imagenet"]["high"]) - float(means["imagenet"]["low"])) / 2


@pytest.mark.parametrize(("shift", "verdict"), [(0, "yes"), (1.0, "no")])
def test_the_mean_beside_the_printed_number(audit, shift, verdict):
    _, rows, _, _ = audit()
    mean = float(row_of(rows, cell="nih/1", method="refers", **{"class": "mean"})["auc"])
    printed = f"{mean + shift:.1f}"
    _, rows, _, text = audit(printed=printed)
    row = row_of(rows, cell="nih/1", method="refers", **{"class": "mean"})
    assert (row["printed"], row["rounds_to_printed"]) == (printed, verdict)
    assert float(row["minus_printed"]) == pytest.approx(mean - float(printed))
    assert f"| nih/1 | refers | {mean:.2f} |" in text


@pytest.mark.parametrize(
    ("first", "second", "relation", "identical"),
    [
        ("A", "B", "monotone map by label", 1),
        ("A", "C", "one monotone map", None),
        ("B", "C", "monotone map by label", None),
        ("OURS", "A", "none", None),
    ],
)
def test_pairs_of_files(audit, results, first, second, relation, identical):
    _, _, pairs, text = audit()
    assert len(pairs) == 2 * 6  # the two COVID files have different labels
    for name in CLASSES:
        paths = [f"NIH ChestX-ray/data1/{method}/{name}.txt" for method in (first, second)]
        row = row_of(pairs, first=paths[0], second=paths[1])
        assert row["relation"] == relation
        (labels, one), (_, two) = (np.loadtxt(results / path).T for path in paths)
        for half, mask in (("positives", labels == 1), ("negatives", labels == 0)):
            assert float(row[f"identical_{half}"]) == pytest.approx((one[mask] == two[mask]).mean())
            expected = np.mean(one[mask][:, None] == two[mask])
            assert float(row[f"expected_{half}"]) == pytest.approx(expected)
            assert float(row[f"correlation_{half}"]) == pytest.approx(spearmanr(one[mask], two[mask])[0])
        if identical:
            assert float(row["identical_positives"]) == identical > float(row["identical_negatives"])
        assert (f"| {name} | {paths[0]} | {paths[1]} | {relation} |" in text) == (relation != "none")


def test_pairs_know_no_method(audit, results):
    """Other folder names, other methods behind them: the same measures."""
    _, _, before, _ = audit()
    for name in ("NIH ChestX-ray/data1", "COVID/covid_others"):
        for method in METHODS:
            if (results / name / method).exists():
                (results / name / method).rename(results / name / f"X{method}")
    spec = SPEC | {"methods": {f"X{name}": "refers" if name == "A" else "c2l" for name in METHODS}}
    _, _, after, _ = audit(spec=spec)

    def measures(pairs):
        return sorted(
            tuple(value for key, value in row.items() if key not in ("first", "second")) for row in pairs
        )

    assert measures(after) == measures(before)


@given(
    arrays(np.bool_, 8),
    arrays(np.int64, (8, 2), elements=st.integers(0, 3)),
)
def test_monotone_means_no_two_images_in_opposite_order(labels, scores):
    ((_, _, found),) = compare_files(labels, scores)
    for name, rows in (("_positives", labels), ("_negatives", ~labels), ("", np.ones(8, bool))):
        some = scores[rows].astype(float)
        opposite = [(a[0] - b[0]) * (a[1] - b[1]) < 0 for a in some for b in some]
        assert found[f"monotone{name}"] == (not any(opposite))


@pytest.mark.parametrize(
    ("second", "relation"),
    [
        (lambda labels, a: a, "identical"),
        (lambda labels, a: a > 0.5, "too few distinct scores"),
        (lambda labels, a: np.where(labels, a, 1 - a), "none"),
        (lambda labels, a: np.where(labels, np.exp(a), a / 3), "monotone map by label"),
    ],
)
def test_relation_of_made_scores(second, relation):
    rng = np.random.default_rng(1)
    labels, a = rng.random(100) < 0.4, rng.random(100)
    ((_, _, found),) = compare_files(labels, np.column_stack([a, second(labels, a)]).astype(float))
    assert found["relation"] == relation


def test_a_constant_file_has_no_rank_correlation():
    labels = np.arange(20) < 10
    ((_, _, found),) = compare_files(labels, np.column_stack([np.arange(20.0), np.zeros(20)]))
    assert found["correlation_positives"] is None
    assert found["relation"] == "too few distinct scores"


def test_missing_and_unknown_files_are_listed(audit, results):
    (results / "NIH ChestX-ray/data1/B/Mass.txt").unlink()
    write(results / "NIH ChestX-ray/data1/B/Masses.txt", [0, 1], [0.1, 0.2])
    done, rows, _, text = audit()
    assert "3 missing, 1 unread" in done.stdout
    assert row_of(rows, cell="nih/1", method="c2l", **{"class": "Mass"})["status"] == "missing"
    mean = row_of(rows, cell="nih/1", method="c2l", **{"class": "mean"})
    assert (mean["status"], mean["auc"], mean["baseline"]) == ("missing: Mass", "", "")
    assert row_of(rows, cell="nih/1", method="refers", **{"class": "mean"})["baseline"] == "imagenet"
    assert "- missing: NIH ChestX-ray/data1/B/Mass.txt" in text
    assert "- missing: COVID/covid_others/C/ (all 1)" in text
    assert "config has it: NIH ChestX-ray/data1/B/Masses.txt" in text


def test_methods_on_other_labels_are_not_compared(audit):
    _, rows, pairs, _ = audit()
    means = [row for row in rows if (row["cell"], row["class"]) == ("covid_t1/100", "mean")]
    assert sorted(row["baseline"] for row in means) == ["", ""]
    assert sum("labels differ from those of" in row["status"] for row in means) == 1
    assert {row["dataset"] for row in pairs} == {"nih"}


def test_a_class_with_one_label_is_undefined(audit, results):
    for method in METHODS:
        path = results / f"NIH ChestX-ray/data1/{method}/Mass.txt"
        path.write_text(path.read_text().replace("1.0 ", "0.0 "))
    _, rows, pairs, text = audit()
    row = row_of(rows, cell="nih/1", method="refers", **{"class": "Mass"})
    assert (row["status"], row["auc"], row["positives"]) == ("undefined: one label only", "", "0")
    mean = row_of(rows, cell="nih/1", method="refers", **{"class": "mean"})
    other = row_of(rows, cell="nih/1", method="refers", **{"class": "Pleural_Thickening"})
    assert (mean["status"], mean["auc"]) == ("undefined: Mass", other["auc"])
    assert "(undefined: Mass)" in text
    assert {row["correlation_positives"] for row in pairs if row["class"] == "Mass"} == {""}


def test_an_archive_reads_like_the_folder(audit, results, tmp_path):
    path = tmp_path / "Results.tar.xz"
    with tarfile.open(path, "w:xz") as archive:
        archive.add(results, "clone/Results")
    assert audit(path)[1:] == audit(results)[1:]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1.0 none", "row 3: '1.0 none'"),
        ("1.0", "row 3: '1.0'"),
        ("1.0 0.5 0.2", "row 3: '1.0 0.5 0.2'"),
        ("2.0 0.5", "row 3: '2.0 0.5'"),
        ("1.0 nan", "row 3: '1.0 nan'"),
        ("0.5\t0.5", "row 3: '0.5"),
        ("# 1.0 0.5", "row 3: '# 1.0 0.5'"),
    ],
)
def test_a_malformed_line_is_named(audit, results, line, message):
    path = results / "NIH ChestX-ray/data1/A/Mass.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], line, *lines[3:]]))
    done, *_ = audit()
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"error: NIH ChestX-ray/data1/A/Mass.txt: {message}" in done.stderr


@pytest.mark.parametrize(("text", "message"), [("", "no row"), ("1.0 0.5\n0.0 0.1\n", "2 rows, but")])
def test_an_incomplete_file_is_named(audit, results, text, message):
    (results / "NIH ChestX-ray/data1/A/Pleural_Thickening.txt").write_text(text)
    done, *_ = audit()
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"error: NIH ChestX-ray/data1/A/Pleural_Thickening.txt: {message}" in done.stderr


def test_a_source_without_any_expected_file_is_one_line(audit, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "Results.tar").write_text("not a tar")
    for source, message in ((tmp_path / "empty", "no file of"), (tmp_path / "Results.tar", "tar archive")):
        done, *_ = audit(source)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert message in done.stderr


def test_without_the_clone_one_line_says_what_to_clone(snakemake, tmp_path):
    found = snakemake("-n", "audit", "--cores", 1, "--config", f"data_root={tmp_path}")
    assert found.code != 0
    assert f"{tmp_path}/REFERS/Results_of_fine-tuning not found; git clone https://github.com" in found.output
    assert "Traceback (most recent" not in found.output


@pytest.mark.skipif(not REAL.exists(), reason="the authors' released prediction files are absent")
def test_the_released_covid_files(audit):
    """What these bytes measure, whoever measures them."""
    folder = "COVID-19 Image Data Collection/covid_others"
    spec = SPEC | {
        "cells": [SPEC["cells"][1] | {"folder": folder}],
        "methods": {"REFERS": "refers", "C2L": "c2l", "ImageNet": "imagenet"},
    }
    _, rows, pairs, _ = audit(REAL, spec)
    means = {row["method"]: float(row["auc"]) for row in rows if row["class"] == "mean"}
    assert means == pytest.approx({"refers": 82.15, "c2l": 77.73, "imagenet": 75.33}, abs=0.005)
    assert sorted(row["relation"] for row in pairs) == ["monotone map by label", "none", "none"]
