"""The audit of released prediction files, on files generated in the released layout; run without torch."""

import csv
import json
import re
import shutil
import tarfile
import zipfile
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers import expect_golden
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from refers import config
from refers.audit.released import MethodScores, ReleasedFiles, ResultFolder
from refers.audit.report import to_markdown
from refers.audit.rows import AUC_FIELDS, GAMMAS, SHARES
from refers.audit.similarity import compare_files
from refers.config.read import read_files
from refers.errors import UserError
from refers.evaluation.statistics import Bootstrap
from refers.study.availability import Availability
from refers.study.check import check
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

ROOT = Path(__file__).parents[1]
REAL = ROOT.parent / "shared/data/refers-released/Results_of_fine-tuning.tar.xz"
IMAGES = 300
ALIKE = {"gamma": 0.9, "kappa": 0.3}
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
    "folders": ["Results", "Lists"],
    "lists": {"nih": {"list": "NIH/test.txt", "patient": r"^\d+", "classes": len(CLASSES)}},
    "alike": ALIKE,
}
REPORTED = (
    "source,protocol,table,row,column,quantity,value\npaper,finetune,table1,refers,nih/1,auc,{}\n"
    "paper,finetune,table1,c2l,covid_t1/100,auc,12.3\nbenchx,finetune,,refers,nih/1,auc,99\n"
)


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

    def run(source=results, spec=SPEC, printed="70.0", lists=None):
        (tmp_path / "reported.csv").write_text(REPORTED.format(printed))
        out = tmp_path / "audit"
        shutil.rmtree(out, ignore_errors=True)
        given = [
            "--released",
            source,
            "--reported",
            tmp_path / "reported.csv",
            "--resamples",
            200,
            "--out",
            out,
            *(["--lists", lists] if lists else []),
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
    _, rows, _, _ = audit(printed=printed)
    row = row_of(rows, cell="nih/1", method="refers", **{"class": "mean"})
    assert (row["printed"], row["rounds_to_printed"]) == (printed, verdict)
    assert float(row["minus_printed"]) == pytest.approx(mean - float(printed))


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
    _, _, pairs, _ = audit()
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
def test_gamma_counts_the_pairs_of_images_by_their_order(labels, scores):
    ((_, _, found),) = compare_files(labels, scores, **ALIKE)
    orders = {"positives": [], "negatives": [], "between": []}
    for one, other in combinations(range(8), 2):
        kind = "between" if labels[one] != labels[other] else "positives" if labels[one] else "negatives"
        orders[kind].append(np.sign(np.prod(scores[one] - scores[other])))
    for kind, signs in orders.items():
        untied = [sign for sign in signs if sign]
        assert found[f"gamma_{kind}"] == (sum(untied) / len(untied) if untied else None)


@pytest.mark.parametrize(
    ("second", "relation"),
    [
        (lambda labels, a: a, "identical"),
        (lambda labels, a: a > 0.5, "too few distinct scores"),
        (lambda labels, a: 1 - a, "one monotone map"),
        (lambda labels, a: np.where(labels, np.exp(a), a / 3), "monotone map by label"),
        (lambda labels, a: np.where(labels, 1 - a, a), "monotone map by label"),
        (lambda labels, a: np.where(np.arange(100) == 7, 0.5, a), "nearly a monotone map by label"),
        (lambda labels, a: np.where(labels, 1 - a, a + 0.03 * noise(9)), "nearly a monotone map by label"),
        (lambda labels, a: np.where(noise(9) < 0.5, a, noise(8)), "many identical scores"),
        (lambda labels, a: np.where(labels, a, noise(8)), "many identical scores"),
        (lambda labels, a: noise(9), "none"),
        (lambda labels, a: a + 0.6 * noise(9), "none"),
    ],
)
def test_relation_of_made_scores(second, relation):
    a = noise(1)
    labels = noise(0) < 0.4
    ((_, _, found),) = compare_files(labels, np.column_stack([a, second(labels, a)]).astype(float), **ALIKE)
    assert found["relation"] == relation


def noise(seed):
    return np.random.default_rng(seed).random(100)


def test_gamma_has_the_direction_of_the_map():
    a, labels = noise(1), noise(0) < 0.4
    files = np.column_stack([a, 1 - a, np.where(labels, a, -a)])
    found = {pair[:2]: pair[2] for pair in compare_files(labels, files, **ALIKE)}
    directions = {
        pair: (each["gamma_positives"], each["gamma_negatives"], each["gamma_between"] in (1, -1))
        for pair, each in found.items()
    }
    assert directions == {(0, 1): (-1, -1, True), (0, 2): (1, -1, False), (1, 2): (-1, 1, False)}


def test_a_constant_file_has_no_rank_correlation():
    labels = np.arange(20) < 10
    files = np.column_stack([np.arange(20.0), np.zeros(20)])
    ((_, _, found),) = compare_files(labels, files, **ALIKE)
    assert found["correlation_positives"] is found["gamma_positives"] is None
    assert found["relation"] == "too few distinct scores"


def test_missing_and_unknown_files_are_listed(audit, results):
    (results / "NIH ChestX-ray/data1/B/Mass.txt").unlink()
    write(results / "NIH ChestX-ray/data1/B/Masses.txt", [0, 1], [0.1, 0.2])
    done, rows, _, text = audit()
    assert "3 missing, 1 unread" in done.stdout
    missing = {row["file"] for row in rows if row["status"] == "missing"}
    assert missing == {
        "NIH ChestX-ray/data1/B/Mass.txt",
        "COVID/covid_others/OURS/COVID-19.txt",
        "COVID/covid_others/C/COVID-19.txt",
    }
    mean = row_of(rows, cell="nih/1", method="c2l", **{"class": "mean"})
    assert (mean["status"], mean["auc"], mean["baseline"]) == ("missing: Mass", "", "")
    assert row_of(rows, cell="nih/1", method="refers", **{"class": "mean"})["baseline"] == "imagenet"
    for path in ("NIH ChestX-ray/data1/B/Mass.txt", "NIH ChestX-ray/data1/B/Masses.txt"):
        assert sum(line.endswith(f": {path}") for line in text.splitlines()) == 1


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
    _, rows, pairs, _ = audit()
    row = row_of(rows, cell="nih/1", method="refers", **{"class": "Mass"})
    assert (row["status"], row["auc"], row["positives"]) == ("undefined: one label only", "", "0")
    mean = row_of(rows, cell="nih/1", method="refers", **{"class": "mean"})
    other = row_of(rows, cell="nih/1", method="refers", **{"class": "Pleural_Thickening"})
    assert (mean["status"], mean["auc"]) == ("undefined: Mass", other["auc"])
    assert {row["correlation_positives"] for row in pairs if row["class"] == "Mass"} == {""}


def write_list(results, folder, images=2):
    """A released test list with the labels of the files, `images` of each patient."""
    columns = [np.loadtxt(results / f"NIH ChestX-ray/data1/A/{name}.txt")[:, 0] for name in CLASSES]
    folder.mkdir(parents=True)
    (folder / "test.txt").write_text(
        "".join(
            f"images_001/{row // images:08}_{row % images:03}.png {one:.0f} {other:.0f}\n"
            for row, (one, other) in enumerate(zip(*columns, strict=True))
        )
    )


def test_patients_of_a_list_with_the_same_labels_are_resampled(audit, results, tmp_path):
    """A list of other labels, as of a cell without one, leaves images."""
    write_list(results, tmp_path / "Lists/NIH", images=3)
    _, rows, _, _ = audit(lists=tmp_path / "Lists")
    units = {(row["cell"], row["unit"], row["units"]) for row in rows if row["status"] == "ok"}
    assert units == {("nih/1", "patient", "100"), ("covid_t1/100", "image", "300")}
    about = {"cell": "nih/1", "method": "imagenet"}
    labels, scores = np.loadtxt(results / "NIH ChestX-ray/data1/A/Mass.txt").T[:, :, None]
    drawn = Bootstrap([np.arange(IMAGES) // 3], 200, 0).auc([labels], [scores])[0]
    row = row_of(rows, **about, **{"class": "Mass"})
    assert [float(row["low"]), float(row["high"])] == pytest.approx(100 * np.percentile(drawn, [2.5, 97.5]))

    path = tmp_path / "Lists/NIH/test.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[1:], lines[0]]))
    _, rows, _, _ = audit(lists=tmp_path / "Lists")
    assert {row["unit"] for row in rows if row["status"] == "ok"} == {"image"}


@pytest.mark.parametrize("path", ["NIH/Test.txt", "nih/test.txt", "NIH/test.TXT"])
def test_a_list_in_another_spelling_is_found_and_said(audit, results, tmp_path, path):
    write_list(results, tmp_path / "Lists/NIH")
    _, wanted, _, plain = audit(lists=tmp_path / "Lists")
    (tmp_path / f"Others/{path}").parent.mkdir(parents=True)
    (tmp_path / "Lists/NIH/test.txt").rename(tmp_path / f"Others/{path}")
    done, rows, _, text = audit(lists=tmp_path / "Others")
    assert rows == wanted
    assert {row["unit"] for row in rows if row["cell"] == "nih/1" and row["status"] == "ok"} == {"patient"}
    assert f"- read as NIH/test.txt: {path}" in text
    assert "read as" not in plain
    assert "1 under another spelling" in done.stdout
    write_list(results, tmp_path / "Others/N-I-H")
    done, *_ = audit(lists=tmp_path / "Others")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "N-I-H/test.txt" in done.stderr


def test_a_list_without_patients_is_one_line(audit, results, tmp_path):
    write_list(results, tmp_path / "Lists/NIH")
    spec = SPEC | {"lists": {"nih": SPEC["lists"]["nih"] | {"patient": "p[0-9]+"}}}
    done, *_ = audit(spec=spec, lists=tmp_path / "Lists")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert re.search(r"NIH/test\.txt: entry 1: .*'00000000_000\.png'", done.stderr)
    assert "audit.patients.nih" in done.stderr


@pytest.fixture
def repository(results, tmp_path):
    """A clone: results and lists."""
    clone = tmp_path / "REFERS-master"
    write_list(results, clone / "Lists/NIH")
    shutil.copytree(results, clone / "Results")
    (clone / "README.txt").write_text("not a result")
    return clone


@pytest.mark.parametrize("kind", ["zip", "tar", "gztar", "xztar"])
def test_an_archive_of_the_repository_reads_like_the_clone(audit, repository, tmp_path, kind):
    path = Path(shutil.make_archive(tmp_path / "download", kind, tmp_path, repository.name))
    expected = audit(repository / "Results", lists=repository / "Lists")[1:]
    assert audit(path, lists=path)[1:] == expected


def test_an_archive_of_the_results_alone_reads_like_the_folder(audit, results, tmp_path):
    path = tmp_path / "Results.tar.xz"
    with tarfile.open(path, "w:xz") as archive:
        archive.add(results, "Results")
    assert audit(path)[1:] == audit(results)[1:]


def test_an_archive_writes_nothing_beside_the_audit(audit, results, tmp_path):
    """Whatever the names in it are."""
    path = tmp_path / "inner/download.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("../Results/x.txt", "/Results/y.txt", "Results/../../z.txt"):
            archive.writestr(name, "1.0 0.5\n")
        for file in results.rglob("*.txt"):
            archive.write(file, f"../Results/{file.relative_to(results)}")
    before = set(tmp_path.rglob("*"))
    done, *_ = audit(path)
    assert "3 unread" in done.stdout
    assert {found.name for found in set(tmp_path.rglob("*")) - before} == {
        "reported.csv",
        "audit",
        "auc.csv",
        "pairs.csv",
        "audit.md",
    }


def test_an_archive_that_holds_a_file_twice_is_one_line(audit, results, tmp_path):
    path = tmp_path / "two.tar"
    with tarfile.open(path, "w") as archive:
        for clone in ("one", "two"):
            archive.add(results, f"{clone}/Results")
    done, *_ = audit(path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "Results/COVID/covid_others/A/covid_others.txt twice" in done.stderr


def released_below(folder):
    """The published study with the authors' repository at folder/REFERS."""
    change = {"data_root": str(folder), "released_lists": "REFERS/Lists", "audit": {"results": "Results"}}
    return check(config.merge(read_files([ROOT / "config/config.yaml"]), change))


@pytest.mark.parametrize(
    ("names", "expected", "lists"),
    [
        (["REFERS/Results/", "REFERS/Results.zip", "REFERS/Lists/"], "REFERS/Results", "REFERS/Lists"),
        (["REFERS/Results.tar.xz", "REFERS.zip", "REFERS/Lists/"], "REFERS/Results.tar.xz", "REFERS/Lists"),
        (["REFERS/Results.zip"], "REFERS/Results.zip", None),
        (["REFERS.zip"], "REFERS.zip", "REFERS.zip"),
        (["REFERS-master.zip", "REFERS2.zip", "REFERS.txt"], "REFERS-master.zip", "REFERS-master.zip"),
        (["REFERS-df7e83e.tar.gz", "REFERS/Lists/"], "REFERS-df7e83e.tar.gz", "REFERS/Lists"),
    ],
)
def test_where_the_released_files_are_looked_for(tmp_path, names, expected, lists):
    study = released_below(tmp_path)
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).mkdir() if name.endswith("/") else (tmp_path / name).touch()
    assert Availability(study).released_results() == tmp_path / expected
    assert Availability(study).released_test_lists() == (lists and tmp_path / lists)


def test_two_archives_of_the_repository_are_one_line(tmp_path):
    study = released_below(tmp_path)
    for name in ("REFERS-main.zip", "REFERS.tar.gz"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"REFERS-main\.zip and REFERS\.tar\.gz: keep one"):
        Availability(study).released_results()


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


@pytest.mark.parametrize(("text", "message"), [("", "no rows"), ("1.0 0.5\n0.0 0.1\n", "2 rows, but")])
def test_an_incomplete_file_is_named(audit, results, text, message):
    (results / "NIH ChestX-ray/data1/A/Pleural_Thickening.txt").write_text(text)
    done, *_ = audit()
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"error: NIH ChestX-ray/data1/A/Pleural_Thickening.txt: {message}" in done.stderr


def test_a_source_without_any_expected_file_is_one_line(audit, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "Results.tar").write_text("no archive")
    (tmp_path / "Results.zip").write_text("no archive")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("other/Mass.txt", "1.0 0.5\n")
    for name, message in (
        ("empty", "no file of"),
        ("other.zip", "no file of"),
        ("Results.tar", "cannot be read as an archive"),
        ("Results.zip", "cannot be read as an archive"),
        ("absent.zip", "cannot be read as an archive"),
    ):
        source = tmp_path / name
        done, *_ = audit(source)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert message in done.stderr


def test_without_the_clone_one_line_says_what_to_clone(snakemake, tmp_path):
    found = snakemake("-n", "audit", "--cores", 1, "--config", f"data_root={tmp_path}")
    assert found.code != 0
    assert f"{tmp_path}/REFERS/Results_of_fine-tuning not found; git clone https://github.com" in found.output
    assert "Traceback (most recent" not in found.output


@pytest.mark.skipif(not REAL.exists(), reason="the authors' released prediction files are absent")
def test_the_released_files(audit):
    """What these bytes measure, whoever measures them."""
    classes = yaml.safe_load((ROOT / "config/config.yaml").read_text())["datasets"]["nih"]["classes"]
    spec = SPEC | {
        "folders": [REAL.name.partition(".")[0], "DataProcessed"],
        "cells": [
            SPEC["cells"][0] | {"classes": classes},
            SPEC["cells"][1] | {"folder": "COVID-19 Image Data Collection/covid_others"},
        ],
        "methods": {"CR": "context_restoration", "C2L": "c2l", "MG": "model_genesis"},
        "lists": {"nih": {"list": "NIH_ChestX-ray/test.txt", "patient": r"^\d+", "classes": len(classes)}},
    }
    _, rows, pairs, _ = audit(REAL, spec, lists=REAL.with_name("DataProcessed"))
    means = {(row["cell"], row["method"]): float(row["auc"]) for row in rows if row["class"] == "mean"}
    assert means == pytest.approx(
        {
            ("nih/1", "context_restoration"): 67.73,
            ("nih/1", "c2l"): 71.09,
            ("nih/1", "model_genesis"): 70.30,
            ("covid_t1/100", "context_restoration"): 74.56,
            ("covid_t1/100", "c2l"): 77.73,
            ("covid_t1/100", "model_genesis"): 76.01,
        },
        abs=0.005,
    )
    assert {(row["cell"], row["unit"], row["units"]) for row in rows} == {
        ("nih/1", "patient", "6187"),
        ("covid_t1/100", "image", "172"),
    }
    relations = Counter((row["dataset"], row["relation"]) for row in pairs)
    assert relations == {
        ("nih", "nearly a monotone map by label"): 14,
        ("nih", "none"): 28,
        ("covid_t1", "monotone map by label"): 1,
        ("covid_t1", "none"): 2,
    }
    nearly = {
        (row["first"].split("/")[2], row["second"].split("/")[2])
        for row in pairs
        if row["relation"].startswith("nearly")
    }
    assert nearly == {("CR", "MG")}


def test_the_text_of_the_audit(request):
    """Every kind of line; the only test of the wording as a whole."""
    nih = ResultFolder("NIH/data1", "nih", 1, ("Mass", "Hernia"))
    covid = ResultFolder("COVID", "covid_t1", 100, ("COVID-19",))
    labels, scores = np.eye(4, 2, dtype=bool), np.zeros((4, 2))
    files = {name: f"NIH/data1/A/{name}.txt" for name in nih.classes}
    released = ReleasedFiles(
        methods=[MethodScores(nih, "refers", "NIH/data1/A", files, labels, scores, None)],
        missing=[(nih, "c2l", "NIH/data1/B/Hernia.txt"), (covid, "c2l", "COVID/B/COVID-19.txt")],
        unread=["NIH/data1/B/Notes.txt"],
    )
    mean = dict.fromkeys(AUC_FIELDS, "") | {"class": "mean", "cell": "nih/1", "unit": "patient", "units": 100}
    compared = {
        "baseline": "imagenet",
        "minus_baseline": 3.25,
        "minus_baseline_low": -0.5,
        "minus_baseline_high": 7,
    }
    rows = [
        mean | compared | {"method": "refers", "status": "ok", "auc": 76.684, "low": 74, "high": 79.126, "printed": "76.7", "minus_printed": -0.016, "rounds_to_printed": "yes"},
        mean | {"method": "imagenet", "status": "undefined: Hernia", "auc": 73.434, "low": "", "high": "", "printed": "75.0", "minus_printed": -1.566, "rounds_to_printed": "no"},
        mean | {"method": "c2l", "status": "missing: Hernia"},
    ]  # fmt: skip
    measures = dict.fromkeys((*SHARES, *GAMMAS), 0.25) | {"dataset": "nih", "class": "Mass"}
    related = measures | {"first": "NIH/data1/A/Mass.txt", "relation": "identical", "gamma_between": 0.9999}
    pairs = [
        related | {"second": "NIH/data1/B/Mass.txt", "identical_positives": 1.0},
        related | {"second": "NIH/data1/B/Hernia.txt", "class": "Hernia", "correlation_negatives": None},
        measures | {"first": "NIH/data1/A/Mass.txt", "second": "NIH/data1/C/Mass.txt", "relation": "none"},
    ]
    expect_golden(request, "audit.md", to_markdown(rows, pairs, released, 1000, 0.9, 0.3))


@pytest.mark.parametrize(
    "name", ["pleural thickening.TXT", "PleuralThickening.txt", "Pleural-Thickening.txt"]
)
def test_a_released_name_in_another_spelling_is_found_and_said(audit, results, name):
    first, before, pairs, _ = audit()
    assert first.stdout.startswith("10 files, 2 missing, ")
    folder = results / "NIH ChestX-ray/data1/A"
    (folder / "Pleural_Thickening.txt").rename(folder / name)
    (folder / "._Mass.txt").write_bytes(b"\0\1")
    folder.rename(folder.with_name("a"))
    done, rows, same, text = audit()
    assert done.stdout.startswith("10 files, 2 under another spelling, 2 missing, ")
    assert len(same) == len(pairs)
    for row, old in zip(rows, before, strict=True):
        assert [row[key] for key in ("cell", "method", "class", "auc", "status")] == [
            old[key] for key in ("cell", "method", "class", "auc", "status")
        ]
    wanted = "NIH ChestX-ray/data1"
    assert f"- read as {wanted}/A/Pleural_Thickening.txt: {wanted}/a/{name}" in text
    (folder.with_name("a") / "Pleural_Thickening.txt").write_text("1 0.5\n0 0.5\n")
    done, *_ = audit()
    assert "a second file of Pleural_Thickening" in done.stderr
