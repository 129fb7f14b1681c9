"""Cells and tests: numbers against scipy and scikit-learn, undefined cases, what the scripts refuse; all without torch."""

import json

import numpy as np
import pandas as pd
import pytest
from refers.evaluation.metrics import auc
from refers.evaluation.statistics import (
    Bootstrap,
    bootstrap_p,
    compare,
    compare_paired,
    delong,
    holm,
    interval,
    mean_sd,
    summarise,
)
from scipy.stats import ttest_ind
from sklearn.metrics import roc_auc_score

CLASSES = ["Mass", "Pleural_Thickening", "Hernia"]


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
def cell(tmp_path, call):
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
        "interval": None,
        "undefined_resamples": 1000,
        "delong_se": None,
    }
    drawn = found["test"]["bootstrap"]
    assert (drawn["resamples"], drawn["unit"], drawn["units"]) == (1000, "image", 40)
    for value, (low, high) in zip(found["test"]["mean_auc"], drawn["mean_auc"], strict=True):
        assert 0 < low < value < high < 1
    assert drawn["mean"][0] < found["test"]["mean"] < drawn["mean"][1]
    assert mass["interval"][0] < mass["mean"] < mass["interval"][1]
    assert "bootstrap" not in found["validation"]
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
        (lambda: changed("patient_id", "other"), "patient of test image i001 differ"),
        (lambda: changed("image_id", "other"), "test image i001 is only in one of this file and"),
        (lambda: changed("image_id", "i002"), "test image i002 is duplicated"),
        (lambda: changed("split", "train"), "split 'train'"),
        (lambda: predictions(1).query("split == 'test'"), "no val image"),
        (
            lambda: predictions(1).rename(columns={"score:Mass": "score:Masses"}),
            "for every class a label: and a score: column",
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
    assert "one file per seed" in done.stderr


def test_cell_names_a_file_that_is_no_parquet(tmp_path, call):
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
        ([], [], "no seeds", None),
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


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.04, 0.03, None, 0.01], [0.06, 0.06, None, 0.03]),
        ([0.9, 0.8, float("nan")], [1, 1, None]),
        ([0.02, 0.02], [0.04, 0.04]),
        ([None], [None]),
        ([], []),
    ],
)
def test_holm_by_hand(given, expected):
    found = holm(given)
    assert [None if p is None else pytest.approx(p) for p in expected] == found


def test_delong_by_hand():
    """Sun and Xu's structural components of a small case, written out."""
    labels = np.array([[1], [1], [0], [0], [0]])
    scores = np.array([[0.8], [0.3], [0.1], [0.3], [0.5]])
    of_positives, of_negatives = [1, 1.5 / 3], [1, 0.75, 0.5]
    value, variance = delong(labels, [scores])
    assert value[0] == pytest.approx(0.75)
    assert variance[0] == pytest.approx(np.var(of_positives, ddof=1) / 2 + np.var(of_negatives, ddof=1) / 3)


def sample(images=600, classes=3, seed=0):
    """Labels (N, C) and scores of two methods, two seeds each."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((images, classes)) < 0.3).astype(np.int8)
    signal = labels + rng.normal(0, 1, labels.shape)
    return labels, *([signal + rng.normal(0, noise, labels.shape) for _ in range(2)] for noise in (0.5, 1.5))


def test_delong_and_the_bootstrap_agree():
    labels, first, second = sample()
    bootstrap = Bootstrap(np.arange(len(labels)), 2000, 0)
    drawn = np.mean(
        [bootstrap.auc(labels, a) - bootstrap.auc(labels, b) for a, b in zip(first, second, strict=True)],
        axis=0,
    )
    value, variance = delong(labels, first, second)
    expected = np.mean([auc(labels, a) - auc(labels, b) for a, b in zip(first, second, strict=True)], axis=0)
    np.testing.assert_allclose(value, expected, atol=1e-12)
    np.testing.assert_allclose(drawn.std(axis=0), np.sqrt(variance), rtol=0.08)


def test_delong_is_undefined_where_a_label_is_missing_or_alone():
    labels = np.array([[0, 1], [0, 0], [0, 0]])
    value, variance = delong(labels, [np.array([[0.1, 0.9], [0.2, 0.1], [0.3, 0.2]])])
    np.testing.assert_array_equal(value, [np.nan, 1])
    np.testing.assert_array_equal(variance, [np.nan, np.nan])


def test_paired_comparison_sees_what_unpaired_intervals_do_not():
    """A small difference between methods that err on the same images."""
    labels, first, _ = sample()
    second = [scores - 0.05 * labels for scores in first]
    found = compare_paired(labels, first, second, ["a", "b", "c"], Bootstrap(np.arange(600), 500, 0))
    assert found["bootstrap"]["interval"][0] > 0
    assert found["bootstrap"]["p"] == pytest.approx(2 / 501)
    assert found["per_class"]["a"]["delong"]["p"] < 1e-6
    spread = interval(Bootstrap(np.arange(600), 500, 0).auc(labels, first[0]).mean(axis=1))
    assert found["bootstrap"]["interval"][1] < spread[1] - spread[0]


def test_equal_predictions_differ_by_nothing():
    labels, first, _ = sample()
    found = compare_paired(labels, first, first, ["a", "b", "c"], Bootstrap(np.arange(600), 100, 0))
    assert found["bootstrap"]["interval"] == [0, 0]
    assert found["bootstrap"]["p"] == 1
    alike = {"difference": 0, "interval": [0, 0], "undefined_resamples": 0}
    assert found["per_class"]["b"] == alike | {"delong": {"z": None, "p": None}}


def test_patients_are_drawn_whole():
    patients = np.repeat(["p1", "p0", "p2"], [4, 1, 2])
    bootstrap = Bootstrap(patients, 300, 1)
    counts = np.hstack(list(bootstrap.counts()))
    assert counts.shape == (7, 300)
    for name, size in (("p1", 4), ("p2", 2)):
        assert (counts[patients == name] == counts[patients == name][0]).all()
        assert (patients == name).sum() == size
    assert (counts[[0, 4, 5]].sum(axis=0) == 3).all()
    assert bootstrap.about["unit"] == "patient"
    assert bootstrap.about["units"] == 3


def test_images_of_one_patient_widen_the_interval():
    rng = np.random.default_rng(3)
    labels = np.repeat((rng.random(60) < 0.5).astype(int), 10)[:, None]
    scores = labels + np.repeat(rng.normal(0, 1, 60), 10)[:, None]
    widths = [
        np.ptp(interval(Bootstrap(units, 400, 0).auc(labels, scores)[:, 0]))
        for units in (np.arange(600), np.arange(600) // 10)
    ]
    assert widths[1] > 2 * widths[0]


def test_resamples_that_lose_a_class_are_counted_and_left_out():
    labels = np.zeros((30, 2), int)
    labels[0, 0] = 1
    labels[::2, 1] = 1
    bootstrap = Bootstrap(np.arange(30), 1000, 0)
    scores = [np.tile(np.linspace(1, 0, 30)[:, None], 2)]
    paired = compare_paired(labels, scores, scores, ["a", "b"], bootstrap)
    assert 300 < paired["bootstrap"]["undefined_resamples"] < 440  # (1 - 1/30)^30 of 1000 is 362
    assert paired["bootstrap"]["interval"] == [0, 0]
    summary = summarise(labels, scores, ["a", "b"], bootstrap)
    lost = summary["bootstrap"]["undefined_resamples"]
    assert lost == paired["bootstrap"]["undefined_resamples"], "the same resamples"
    for found in (paired, summary):  # a class loses its own resamples alone
        assert [found["per_class"][name]["undefined_resamples"] for name in "ab"] == [lost, 0]


def test_intervals_of_nothing():
    assert interval(np.full(3, np.nan)) is None
    assert bootstrap_p(np.full(3, np.nan)) is None
    assert interval(np.arange(101.0)) == pytest.approx([2.5, 97.5])


def test_ttest_script(cell, call, tmp_path):
    folds = {"refers": (0, 1, 2), "c2l": (3, 4, 5)}
    paths = [cell([predictions(seed) for seed in seeds], name)[1] for name, seeds in folds.items()]
    files = [[tmp_path / f"{name}{place}.parquet" for place in range(3)] for name in folds]
    given = ["--reference", paths[0], "--reference-predictions", *files[0]]
    out = tmp_path / "refers_vs_c2l.json"
    done = call("ttest", *given, "--baseline", paths[1], "--baseline-predictions", *files[1], "--out", out)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    about = (found["reference"], found["baseline"], found["dataset"], found["ratio"])
    assert about == ("refers", "c2l", "nih", 10)
    expected = ttest_ind(found["reference_auc"], found["baseline_auc"])
    assert found["student"]["p"] == pytest.approx(expected.pvalue)
    low, high = found["bootstrap"]["interval"]
    assert low < found["difference"] < high
    assert found["bootstrap"]["unit"] == "image"
    assert found["per_class"]["Hernia"] == {
        "difference": None,
        "interval": None,
        "undefined_resamples": 1000,
        "delong": {"z": None, "p": None},
    }
    classes = [found["per_class"][name]["difference"] for name in CLASSES[:2]]
    assert np.mean(classes) == pytest.approx(found["difference"])

    done, other = cell([predictions(0, images=63)], "transvw")
    files = ["--baseline-predictions", tmp_path / "transvw0.parquet", "--out", tmp_path / "x.json"]
    done = call("ttest", *given, "--baseline", other, *files)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "test images differ" in done.stderr

    done = call("ttest", *given, "--baseline", paths[1], *files)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "test image i061 is only in one of this file and" in done.stderr


@pytest.mark.parametrize("script", ["cell", "ttest", "table", "cell_index", "audit_released"])
def test_scripts_behind_the_predictions_start_without_torch(script, call):
    done = call(script, "--help")
    assert done.returncode == 0, done.stderr
