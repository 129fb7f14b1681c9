"""Cells and t-tests: numbers against scipy and scikit-learn, undefined cases, and what the scripts refuse."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from refers.statistics import compare, mean_sd
from scipy.stats import ttest_ind
from sklearn.metrics import roc_auc_score

SCRIPTS = Path(__file__).parents[1] / "workflow/scripts"
CLASSES = ["Mass", "Pleural_Thickening", "Hernia"]


def call(script, *args):
    command = [sys.executable, str(SCRIPTS / f"{script}.py"), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True)


def predictions(seed, images=60):
    """Predictions of one seed: labels are the same for every seed, Hernia has no test positive."""
    labels = np.random.default_rng(7).integers(0, 2, (images, 3)).astype(np.int8)
    frame = pd.DataFrame({"split": np.where(np.arange(images) % 3, "test", "val")})
    frame["image_id"] = [f"i{place:03d}" for place in range(images)]
    frame["patient_id"] = frame["image_id"]
    rng = np.random.default_rng(seed)
    for place, name in enumerate(CLASSES):
        frame[f"label:{name}"] = labels[:, place]
    frame.loc[frame["split"] == "test", "label:Hernia"] = np.int8(0)
    for place, name in enumerate(CLASSES):
        frame[f"score:{name}"] = np.clip(0.3 * labels[:, place] + 0.7 * rng.random(images), 0, 1)
    return frame


@pytest.fixture
def cell(tmp_path):
    """Writes the given frames and runs cell.py on them; returns the finished process and the path of auc.json."""

    def run(frames, method="refers", seeds=None):
        paths = [tmp_path / f"{method}{place}.parquet" for place in range(len(frames))]
        for path, frame in zip(paths, frames, strict=True):
            frame.to_parquet(path, index=False)
        out = tmp_path / method / "auc.json"
        about = ["--method", method, "--dataset", "nih", "--ratio", 10, "--out", out]
        seeds = range(len(frames)) if seeds is None else seeds
        return call("cell", "--predictions", *paths, "--seeds", *seeds, *about), out

    return run


def test_cell_summarises_seeds(cell):
    frames = [predictions(seed) for seed in range(3)]
    done, path = cell([frames[0], frames[1].sample(frac=1, random_state=0), frames[2]])
    assert done.returncode == 0, done.stderr
    found = json.loads(path.read_text())
    tests = [frame[frame["split"] == "test"] for frame in frames]
    expected = [
        [roc_auc_score(test[f"label:{name}"], test[f"score:{name}"]) for test in tests]
        for name in CLASSES[:2]
    ]
    mass = found["test"]["per_class"]["Mass"]
    assert mass["auc"] == pytest.approx(expected[0], abs=1e-12)
    assert mass["sd"] == pytest.approx(np.std(expected[0], ddof=1))
    assert mass["positives"] == tests[0]["label:Mass"].sum()
    assert found["test"]["mean_auc"] == pytest.approx(np.mean(expected, axis=0))
    assert found["test"]["undefined"] == ["Hernia"]
    assert "undefined: Hernia" in done.stdout
    assert found["test"]["per_class"]["Hernia"] | {"negatives": 0} == {
        "auc": [None] * 3,
        "mean": None,
        "sd": None,
        "positives": 0,
        "negatives": 0,
    }
    assert found["validation"]["images"] == 20
    assert found["validation"]["undefined"] == []


def test_cell_without_any_defined_class(cell):
    frame = predictions(0)
    frame[[f"label:{name}" for name in CLASSES]] = np.int8(0)
    done, path = cell([frame])
    test = json.loads(path.read_text())["test"]
    assert done.returncode == 0
    assert (test["mean"], test["sd"], test["mean_auc"], test["undefined"]) == (None, None, [None], CLASSES)


def changed(column, value, row=1):
    frame = predictions(1)
    frame[column] = frame[column].astype(object if isinstance(value, str) else float)
    frame.loc[row, column] = value
    return frame


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (lambda: changed("score:Mass", np.nan), "row 1 (image i001): score of Mass is nan"),
        (lambda: changed("score:Mass", 1.5), "score of Mass is 1.5"),
        (lambda: changed("label:Mass", -1), "row 1 (image i001): label of Mass is -1"),
        (lambda: changed("label:Mass", 1 - predictions(1).loc[1, "label:Mass"]), "labels of test image i001"),
        (lambda: changed("image_id", "other"), "test image i001 is in this file or in"),
        (lambda: changed("image_id", "i002"), "test image i002 occurs twice"),
        (lambda: changed("split", "train"), "split 'train'"),
        (lambda: predictions(1).query("split == 'test'"), "no val image"),
        (
            lambda: predictions(1).rename(columns={"score:Mass": "score:Masses"}),
            "a score: column for every class",
        ),
        (
            lambda: predictions(1).drop(columns=["label:Hernia", "score:Hernia"]),
            "classes Mass, Pleural_Thickening",
        ),
    ],
)
def test_cell_refuses_seeds_that_do_not_belong_together(cell, second, message):
    done, path = cell([predictions(0), second()])
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert "refers1.parquet" in done.stderr
    assert message in done.stderr
    assert not path.exists()


@pytest.mark.parametrize("seeds", [[0], [3, 3]])
def test_cell_wants_one_file_a_seed(cell, seeds):
    done, _ = cell([predictions(0), predictions(1)], seeds=seeds)
    assert done.returncode == 1
    assert "one file for every seed" in done.stderr


def test_cell_names_a_file_that_is_no_parquet(tmp_path):
    path = tmp_path / "predictions.parquet"
    path.write_text("half a file")
    about = ["--method", "refers", "--dataset", "nih", "--ratio", 1, "--out", tmp_path / "auc.json"]
    done = call("cell", "--predictions", path, "--seeds", 0, *about)
    assert done.stderr.startswith(f"error: {path}: cannot be read as Parquet")
    assert done.stderr.count("\n") == 1


@pytest.mark.filterwarnings("ignore:Precision loss")  # scipy, on the sample without variance
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([0.80, 0.81, 0.79], [0.70, 0.74, 0.71]),
        ([0.80, 0.81, 0.79, 0.85], [0.80, 0.90]),
        ([0.5, 0.5, 0.5], [0.70, 0.75, 0.71]),
        ([0.701, 0.702, 0.7], [0.9, 0.901, 0.9015]),
    ],
)
def test_tests_equal_scipy(first, second):
    found = compare(first, second)
    for name, equal in (("student", True), ("welch", False)):
        expected = ttest_ind(first, second, equal_var=equal)
        values = (found[name]["t"], found[name]["p"], found[name]["df"])
        assert values == pytest.approx((expected.statistic, expected.pvalue, expected.df), rel=1e-9)
    assert found["difference"] == pytest.approx(np.mean(first) - np.mean(second))
    assert found["undefined"] is None


@pytest.mark.parametrize(
    ("first", "second", "reason", "difference"),
    [
        ([0.8], [0.7, 0.71], "two seeds", 0.095),
        ([0.8, 0.81], [0.7], "two seeds", 0.105),
        ([0.8, 0.8], [0.7, 0.7], "zero variance", 0.1),
        ([0.1 + 0.2, 0.3], [0.7, 0.7], "zero variance", -0.4),
        ([None, None], [0.7, 0.71], "reference is undefined", None),
        ([0.8, 0.81], [None, None], "baseline is undefined", None),
        ([], [], "no seed", None),
    ],
)
def test_no_test_has_a_reason(first, second, reason, difference):
    found = compare(first, second)
    assert reason in found["undefined"]
    assert found["student"] == found["welch"] == {"t": None, "p": None, "df": None}
    assert found["difference"] == (None if difference is None else pytest.approx(difference))


def test_mean_sd_of_one_seed_has_no_sd():
    assert mean_sd([0.5]) == (0.5, None)
    assert mean_sd([0.5, None]) == (None, None)


def test_ttest_script(cell, tmp_path):
    paths = [
        cell([predictions(seed) for seed in seeds], name)[1]
        for name, seeds in (("refers", (0, 1, 2)), ("c2l", (3, 4, 5)))
    ]
    out = tmp_path / "refers_vs_c2l.json"
    done = call("ttest", "--reference", paths[0], "--baseline", paths[1], "--out", out)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert (found["reference"], found["baseline"], found["dataset"], found["ratio"]) == (
        "refers",
        "c2l",
        "nih",
        10,
    )
    assert found["student"]["p"] == pytest.approx(
        ttest_ind(found["reference_auc"], found["baseline_auc"]).pvalue
    )

    _, other = cell([predictions(0, images=63)], "transvw")
    done = call("ttest", "--reference", paths[0], "--baseline", other, "--out", tmp_path / "x.json")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "test images differ" in done.stderr
