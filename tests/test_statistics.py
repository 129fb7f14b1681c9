"""Cells and tests: numbers against scipy and scikit-learn, undefined cases, what the scripts refuse; all without torch."""

import json

import numpy as np
import pandas as pd
import pytest
from refers.evaluation.metrics import auc
from refers.evaluation.predictions import SplitPredictions
from refers.evaluation.statistics import (
    Bootstrap,
    bootstrap_p,
    combine,
    compare,
    compare_paired,
    delong,
    holm,
    implied_sd,
    interval,
    over_splits,
    spread,
    standard_error,
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

    def run(frames, method="refers", seeds=None, splits=None):
        paths = [tmp_path / f"{method}{place}.parquet" for place in range(len(frames))]
        for path, frame in zip(paths, frames, strict=True):
            frame.to_parquet(path, index=False)
        out = tmp_path / method / "auc.json"
        about = ["--method", method, "--dataset", "nih", "--ratio", 10, "--out", out]
        seeds = range(len(frames)) if seeds is None else seeds
        splits = [0] * len(paths) if splits is None else splits
        return call("cell", "--predictions", *paths, "--splits", *splits, "--seeds", *seeds, *about), out

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
        "sd_splits": None,
        "positives": 0,
        "negatives": 0,
        "interval": None,
        "undefined_resamples": 1000,
        "se": None,
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
    assert (test["se"]["total"], test["se"]["undefined"]) == (None, ["seeds", "splits", "images"])


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


@pytest.mark.parametrize(
    ("seeds", "splits"), [([0], None), ([3, 3], None), ([0, 1], [0, 1]), ([0, 1], [0]), ([0, 0], [1, 1])]
)
def test_cell_wants_every_seed_of_every_split_once(cell, seeds, splits):
    done, path = cell([predictions(0), predictions(1)], seeds=seeds, splits=splits)
    assert (done.returncode, done.stderr.count("\n"), path.exists()) == (1, 1, False)
    assert "one file per seed of every split" in done.stderr


def test_cell_names_a_file_that_is_no_parquet(tmp_path, call):
    path = tmp_path / "predictions.parquet"
    path.write_text("half a file")
    about = ["--method", "refers", "--dataset", "nih", "--ratio", 1, "--out", tmp_path / "auc.json"]
    done = call("cell", "--predictions", path, "--splits", 0, "--seeds", 0, *about)
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


def test_spreads_over_seeds_and_splits():
    values = np.array([[0.5, 0.7], [0.6, 0.9]])
    sd = np.sqrt((np.var([0.5, 0.7], ddof=1) + np.var([0.6, 0.9], ddof=1)) / 2)
    expected = {"mean": 0.675, "sd": sd, "sd_splits": np.std([0.6, 0.75], ddof=1)}
    assert spread(values) == pytest.approx(expected)
    assert spread(values[:1]) == pytest.approx(
        {"mean": 0.6, "sd": np.std([0.5, 0.7], ddof=1), "sd_splits": None}
    )
    assert spread(values[:1, :1]) == {"mean": 0.5, "sd": None, "sd_splits": None}
    assert set(spread(np.array([[0.5, np.nan]])).values()) == {None}
    assert over_splits([0.5, 0.7, 0.6, 0.9], [4, 2, 4, 2]) == pytest.approx([0.55, 0.8])
    assert over_splits([0.5, 0.7, None, 0.9], [0, 1, 0, 1]) == [None, pytest.approx(0.8)]


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
    value, variance = delong([on_images(labels, [scores])])
    assert value[0] == pytest.approx(0.75)
    assert variance[0] == pytest.approx(np.var(of_positives, ddof=1) / 2 + np.var(of_negatives, ddof=1) / 3)


def on_images(labels, scores, patients=None):
    """The test set of one split; every image has a patient of its own unless they are given."""
    ids = np.arange(len(labels)).astype(str)
    return SplitPredictions(ids, ids if patients is None else patients, labels, list(scores))


def sample(images=600, classes=3, seed=0):
    """Labels (N, C) and scores of two methods, two seeds each."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((images, classes)) < 0.3).astype(np.int8)
    signal = labels + rng.normal(0, 1, labels.shape)
    return labels, *([signal + rng.normal(0, noise, labels.shape) for _ in range(2)] for noise in (0.5, 1.5))


def clustered_by_hand(patients, labels, scores):
    """Obuchowski's variance of one AUC, as equations 3 to 5 of the publication spell it."""
    pairs = (scores[labels == 1][:, None] > scores[labels == 0]) + 0.5 * (
        scores[labels == 1][:, None] == scores[labels == 0]
    )
    area, (m, n) = pairs.mean(), pairs.shape
    of_positives, of_negatives = pairs.mean(axis=1), pairs.mean(axis=0)
    holders = [patients[labels == value] for value in (1, 0)]
    sums = np.array(
        [
            [(values - area)[held == patient].sum() for patient in np.unique(patients)]
            for values, held in zip((of_positives, of_negatives), holders, strict=True)
        ]
    )
    i10, i01, i = (len(np.unique(each)) for each in (*holders, patients))
    s10, s01 = i10 / ((i10 - 1) * m) * (sums[0] ** 2).sum(), i01 / ((i01 - 1) * n) * (sums[1] ** 2).sum()
    return s10 / m + s01 / n + 2 / (m * n) * i / (i - 1) * (sums[0] * sums[1]).sum()


def repeated(patients=150, images=4, seed=5):
    """Patients with several images, whose labels and scores are alike: (patients, labels, scores of two methods)."""
    rng = np.random.default_rng(seed)
    of = np.repeat(np.arange(patients), rng.integers(1, 2 * images, patients))
    labels = (rng.random(patients)[of] + 0.3 * rng.random(len(of)) < 0.5).astype(np.int8)[:, None]
    common = rng.normal(0, 1, patients)[of, None] + labels
    return of.astype(str), labels, *(np.round(common + rng.normal(0, 0.5, labels.shape), 1) for _ in range(2))


def test_delong_by_patient_is_obuchowskis_and_the_bootstraps():
    patients, labels, first, second = repeated()
    _, variance = delong([on_images(labels, [first], patients)])
    assert variance[0] == pytest.approx(clustered_by_hand(patients, labels[:, 0], first[:, 0]), rel=1e-12)
    _, plain = delong([on_images(labels, [first])])
    assert variance[0] > 2 * plain[0], "images of a patient say less than as many patients"
    bootstrap = Bootstrap([patients], 2000, 0)
    for sets in (([first],), ([first], [second])):  # one method, and the difference of two
        given = [on_images(labels, each, patients) for each in sets]
        _, variance = delong(given[:1], given[1:])
        drawn = [bootstrap.resample([each]).auc[:, 0, 0, 0] for each in given]
        assert np.sqrt(variance[0]) / np.std(drawn[0] - sum(drawn[1:])) == pytest.approx(1, abs=0.05)


def test_delong_by_patient_is_delongs_where_every_patient_has_one_image():
    labels, first, second = sample()
    names = np.random.default_rng(0).permutation(600).astype(str)
    for baseline in ([], second):
        by_patient = delong(
            [on_images(labels, first, names)], [on_images(labels, baseline, names)] if baseline else ()
        )
        places = sum(_shares(labels, scores) for scores in first) / len(first)
        if baseline:
            places = places - sum(_shares(labels, scores) for scores in baseline) / len(baseline)
        expected = [
            np.var(place[label == 1], ddof=1) / (label == 1).sum()
            + np.var(place[label == 0], ddof=1) / (label == 0).sum()
            for label, place in zip(labels.T, places.T, strict=True)
        ]
        np.testing.assert_allclose(by_patient[1], expected, rtol=1e-10)


def _shares(labels, scores):
    """DeLong's placement values, pair by pair."""
    above = (scores[:, None] > scores) + 0.5 * (scores[:, None] == scores)
    other = labels[:, None] != labels
    below = (above * other).sum(axis=1) / other.sum(axis=1)
    return np.where(labels == 1, below, 1 - below)


def several_splits(splits=3, seeds=2, patients=200, tested_share=0.4):
    """Test sets of random splits of one pool of patients with two images each; two classes."""
    rng = np.random.default_rng(11)
    of = np.repeat(np.arange(patients), 2)
    labels = (rng.random((patients, 2)) < 0.4).astype(np.int8)[of]
    signal = labels + rng.normal(0, 1, (patients, 2))[of]
    sets = []
    for _ in range(splits):
        chosen = np.isin(of, rng.choice(patients, int(tested_share * patients), replace=False))
        scores = [signal[chosen] + rng.normal(0, 0.5, signal[chosen].shape) for _ in range(seeds)]
        ids = np.flatnonzero(chosen).astype(str)
        sets.append(SplitPredictions(ids, of[chosen].astype(str), labels[chosen], scores))
    return sets


def test_a_patient_of_several_splits_is_drawn_into_all_of_them():
    sets = several_splits()
    bootstrap = Bootstrap([each.patients for each in sets], 50, 0)
    union = set(np.concatenate([each.patients for each in sets]))
    assert (bootstrap.about["units"], bootstrap.about["unit"]) == (len(union), "patient")
    for counts in bootstrap.counts():
        drawn = [dict(zip(each.patients, part, strict=True)) for each, part in zip(sets, counts, strict=True)]
        shared = set(drawn[0]) & set(drawn[1])
        assert len(shared) > 10
        assert all((drawn[0][name] == drawn[1][name]).all() for name in shared)
    resampled = bootstrap.resample(sets).auc
    assert resampled.shape == (50, 3, 2, 2)
    alone = Bootstrap([sets[1].patients], 50, 0).resample(sets[1:2]).auc
    assert resampled[:, 1].std() == pytest.approx(alone.std(), rel=0.3)


def test_delong_and_the_bootstrap_agree_over_splits_with_common_patients():
    sets = several_splits()
    drawn = Bootstrap([each.patients for each in sets], 2000, 0).resample(sets).auc.mean(axis=(1, 2))
    value, variance = delong(sets)
    expected = np.mean([[auc(each.labels, scores) for scores in each.scores] for each in sets], axis=(0, 1))
    np.testing.assert_allclose(value, expected)
    np.testing.assert_allclose(drawn.std(axis=0), np.sqrt(variance), rtol=0.1)


def test_the_standard_error_of_one_split_adds_seeds_and_images():
    rng = np.random.default_rng(0)
    values = np.array([[0.80, 0.83, 0.85]])
    samples = values + rng.normal(0, 0.02, (4000, 1, 1))
    found = standard_error(values, samples, 101)
    sd, of_images = values.std(ddof=1), samples.mean(axis=(1, 2)).std(ddof=1)
    assert found["seeds"] == pytest.approx({"sd": sd, "se": sd / np.sqrt(3), "df": 2})
    assert found["images"] == pytest.approx({"sd": of_images, "se": of_images, "df": 100})
    assert (found["splits"], found["undefined"]) == (None, ["splits"])
    assert found["total"] ** 2 == pytest.approx(sd**2 / 3 + of_images**2)
    parts = sd**2 / 3, of_images**2
    assert found["df"] == pytest.approx(sum(parts) ** 2 / (parts[0] ** 2 / 2 + parts[1] ** 2 / 100))
    lost = np.concatenate([samples, np.full((100, 1, 3), np.nan)])
    assert standard_error(values, lost, 101) == found, "resamples that lose a class are left out"


def test_what_one_run_cannot_show_is_undefined_not_zero():
    one = standard_error(np.array([[0.8]]), np.random.default_rng(0).normal(0.8, 0.01, (100, 1, 1)), 50)
    assert (one["total"], one["df"], one["undefined"]) == (None, None, ["seeds", "splits"])
    assert one["images"]["se"] == pytest.approx(0.01, rel=0.2)
    nothing = standard_error(np.array([[0.8, 0.9]]), np.full((100, 1, 2), np.nan), 50)
    assert (nothing["total"], nothing["undefined"]) == (None, ["splits", "images"])


def test_the_standard_error_over_splits_is_the_spread_of_many_repetitions():
    """Every part is drawn anew in each repetition: the mean of the estimated variances is that of the means."""
    rng = np.random.default_rng(2)
    of_split, of_seed, of_images, splits, seeds = 0.08, 0.02, 0.025, 3, 3
    means, totals, sources = [], [], []
    for _ in range(1500):
        values = 0.8 + rng.normal(0, of_seed, (splits, seeds))
        values += rng.normal(0, of_split, (splits, 1)) + rng.normal(0, of_images, (splits, 1))
        samples = values + rng.normal(0, of_images, (100, splits, 1))
        found = standard_error(values, samples, 500)
        means.append(values.mean())
        totals.append(found["total"] ** 2)
        sources.append([found[name]["sd"] ** 2 for name in ("seeds", "images")])
    assert np.mean(totals) == pytest.approx(np.var(means), rel=0.1)
    assert np.sqrt(np.mean(sources, axis=0)) == pytest.approx([of_seed, of_images], rel=0.05)


def test_one_seed_per_split_has_its_spread_in_the_splits():
    values = np.array([[0.7], [0.8], [0.9]])
    found = standard_error(values, values + np.zeros((100, 3, 1)), 50)
    assert (found["seeds"], found["undefined"]) == (None, ["seeds"])
    assert found["splits"]["sd"] == pytest.approx(0.1)
    assert found["total"] == pytest.approx(0.1 / np.sqrt(3))


def test_combine_by_hand():
    assert combine([(4.0, 10), (0.0, 2)]) == pytest.approx((2.0, 10))
    assert combine([(1.0, 2), (1.0, 2)]) == pytest.approx((np.sqrt(2), 4))
    assert combine([(0.0, 2), (0.0, 9)]) == (0.0, 2)


def test_the_spread_that_a_p_value_implies():
    first, second = [0.80, 0.82, 0.84], [0.75, 0.77, 0.79]
    test = compare(first, second)
    assert implied_sd(test["difference"], test["student"]["p"], 3) == pytest.approx(0.02)


def test_delong_and_the_bootstrap_agree():
    labels, first, second = sample()
    bootstrap = Bootstrap([np.arange(len(labels))], 2000, 0)
    sets = [on_images(labels, scores) for scores in (first, second)]
    drawn = np.subtract(*(bootstrap.resample([each]).auc.mean(axis=(1, 2)) for each in sets))
    value, variance = delong(sets[:1], sets[1:])
    expected = np.mean([auc(labels, a) - auc(labels, b) for a, b in zip(first, second, strict=True)], axis=0)
    np.testing.assert_allclose(value, expected, atol=1e-12)
    np.testing.assert_allclose(drawn.std(axis=0), np.sqrt(variance), rtol=0.08)


def test_delong_is_undefined_where_a_label_is_missing_or_alone():
    labels = np.array([[0, 1], [0, 0], [0, 0]])
    value, variance = delong([on_images(labels, [np.array([[0.1, 0.9], [0.2, 0.1], [0.3, 0.2]])])])
    np.testing.assert_array_equal(value, [np.nan, 1])
    np.testing.assert_array_equal(variance, [np.nan, np.nan])


def test_paired_comparison_sees_what_unpaired_intervals_do_not():
    """A small difference between methods that err on the same images."""
    labels, first, _ = sample()
    second = [scores - 0.05 * labels for scores in first]
    bootstrap = Bootstrap([np.arange(600)], 500, 0)
    sets = [on_images(labels, first)], [on_images(labels, second)]
    found = compare_paired(*sets, ["a", "b", "c"], bootstrap)
    assert found["bootstrap"]["interval"][0] > 0
    assert found["bootstrap"]["p"] == pytest.approx(2 / 501)
    assert found["per_class"]["a"]["delong"]["p"] < 1e-6
    single = interval(bootstrap.auc([labels], [first[0]])[0].mean(axis=1))
    assert found["bootstrap"]["interval"][1] < single[1] - single[0]


def test_equal_predictions_differ_by_nothing():
    labels, first, _ = sample()
    sets = [on_images(labels, first)]
    found = compare_paired(sets, sets, ["a", "b", "c"], Bootstrap([np.arange(600)], 100, 0))
    assert found["bootstrap"]["interval"] == [0, 0]
    assert found["bootstrap"]["p"] == 1
    alike = {"difference": 0, "interval": [0, 0], "undefined_resamples": 0}
    assert found["per_class"]["b"] == alike | {"delong": {"z": None, "p": None}}


def test_patients_are_drawn_whole():
    patients = np.repeat(["p1", "p0", "p2"], [4, 1, 2])
    bootstrap = Bootstrap([patients], 300, 1)
    counts = np.hstack([counts for (counts,) in bootstrap.counts()])
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
        np.ptp(interval(Bootstrap([units], 400, 0).auc([labels], [scores])[0][:, 0]))
        for units in (np.arange(600), np.arange(600) // 10)
    ]
    assert widths[1] > 2 * widths[0]


def test_resamples_that_lose_a_class_are_counted_and_left_out():
    labels = np.zeros((30, 2), int)
    labels[:2, 0] = 1
    labels[::2, 1] = 1
    bootstrap = Bootstrap([np.arange(30)], 1000, 0)
    sets = [on_images(labels, [np.tile(np.linspace(1, 0, 30)[:, None], 2)])]
    paired = compare_paired(sets, sets, ["a", "b"], bootstrap)
    assert 90 < paired["bootstrap"]["undefined_resamples"] < 165  # (1 - 2/30)^30 of 1000 is 126
    assert paired["bootstrap"]["interval"] == [0, 0]
    summary = summarise(sets, ["a", "b"], bootstrap.resample(sets))
    lost = summary["bootstrap"]["undefined_resamples"]
    assert lost == paired["bootstrap"]["undefined_resamples"], "the same resamples"
    for found in (paired, summary):  # a class loses its own resamples alone
        assert [found["per_class"][name]["undefined_resamples"] for name in "ab"] == [lost, 0]


def test_intervals_of_nothing():
    assert interval(np.full(3, np.nan)) is None
    assert bootstrap_p(np.full(3, np.nan)) is None
    assert interval(np.arange(101.0)) == pytest.approx([2.5, 97.5])


def test_one_patient_alone_has_no_interval_and_no_p():
    labels, scores = np.array([[0], [1], [0], [1]]), np.array([[0.1], [0.9], [0.6], [0.4]])
    one, two = (
        SplitPredictions(np.array([*"abcd"]), np.array(patients), labels, [scores, scores**2])
        for patients in (["p"] * 4, ["p", "p", "q", "q"])
    )
    for each, known in ((one, False), (two, True)):
        bootstrap = Bootstrap([each.patients], 200, 0)
        found = summarise([each], ["A"], bootstrap.resample([each]))
        assert (found["bootstrap"]["mean"] is not None) == known
        assert (found["per_class"]["A"]["interval"] is not None) == known
        assert (found["se"]["images"] is not None) == known
        other = SplitPredictions(each.ids, each.patients, labels, [1 - scores] * 2)
        paired = compare_paired([each], [other], ["A"], bootstrap)
        assert (paired["bootstrap"]["interval"] is not None) == known
        assert (paired["bootstrap"]["p"] is not None) == known
        assert (paired["per_class"]["A"]["interval"] is not None) == known
        assert found["mean"] is not None


@pytest.mark.parametrize(
    ("patients", "known"), [("ppppqqqq", False), ("ppppqrst", False), ("pqrstttt", False), ("ppqqppqq", True)]
)
def test_a_class_needs_two_patients_with_it_and_two_without_it(patients, known):
    """Undefined where DeLong's variance is, and with the class the mean that it is a part of; another class stays."""
    labels = np.array([[1, 1, 1, 1, 0, 0, 0, 0], [1, 0] * 4]).T
    rng = np.random.default_rng(0)
    sets = [[on_images(labels, rng.random((2, 8, 2)), np.array([*patients]))] for _ in range(2)]
    bootstrap = Bootstrap([sets[0][0].patients], 200, 0)
    found = summarise(sets[0], ["A", "B"], bootstrap.resample(sets[0]))
    paired = compare_paired(*sets, ["A", "B"], bootstrap)
    for each in (found, paired):
        assert [each["per_class"][name]["interval"] is not None for name in "AB"] == [known, True]
    assert [found["per_class"][name]["delong_se"] is not None for name in "AB"] == [known, True]
    assert [found["per_class"][name]["se"]["images"] is not None for name in "AB"] == [known, True]
    assert paired["per_class"]["A"]["delong"]["p"] is None or known
    assert [paired["bootstrap"][name] is not None for name in ("interval", "p")] == [known] * 2
    assert [found["bootstrap"]["mean"] is not None, found["se"]["images"] is not None] == [known] * 2
    assert found["mean"] is not None


@pytest.mark.parametrize("options", [["--resamples", 0], ["--resamples", -5], ["--bootstrap-seed", -1]])
def test_a_bootstrap_of_nothing_is_refused(call, tmp_path, options):
    predictions(0).to_parquet(tmp_path / "a.parquet", index=False)
    about = ["--method", "a", "--dataset", "nih", "--ratio", 10, "--splits", 0, "--seeds", 0]
    done = call(
        "cell", "--predictions", tmp_path / "a.parquet", *about, *options, "--out", tmp_path / "auc.json"
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert str(options[1]) in done.stderr
    assert not (tmp_path / "auc.json").exists()


@pytest.mark.parametrize(
    "spoil", [{"mean_auc": None}, {"mean_auc": [0.5]}, {"mean_auc": ["a", "b", "c"]}, None]
)
def test_a_ttest_of_something_else_than_a_cell_is_refused(cell, call, tmp_path, spoil):
    done, path = cell([predictions(seed) for seed in range(3)])
    content = json.loads(path.read_text())
    if spoil is None:
        del content["test"]["mean_auc"]
    else:
        content["test"] |= spoil
    path.write_text(json.dumps(content))
    files = [tmp_path / f"refers{place}.parquet" for place in range(3)]
    given = [
        "--reference",
        path,
        "--baseline",
        path,
        "--reference-predictions",
        *files,
        "--baseline-predictions",
        *files,
    ]
    done = call("ttest", *given, "--splits", 0, 0, 0, "--seeds", 0, 1, 2, "--out", tmp_path / "out.json")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "auc.json" in done.stderr


def test_ttest_script(cell, call, tmp_path):
    folds = {"refers": (0, 1, 2), "c2l": (3, 4, 5)}
    paths = [cell([predictions(seed) for seed in seeds], name)[1] for name, seeds in folds.items()]
    files = [[tmp_path / f"{name}{place}.parquet" for place in range(3)] for name in folds]
    given = [
        "--reference",
        paths[0],
        "--reference-predictions",
        *files[0],
        "--splits",
        0,
        0,
        0,
        "--seeds",
        0,
        1,
        2,
    ]
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

    done, other = cell([predictions(seed, images=63) for seed in range(3)], "transvw")
    files = ["--baseline-predictions", *(tmp_path / f"transvw{place}.parquet" for place in range(3))]
    files += ["--out", tmp_path / "x.json"]
    done = call("ttest", *given, "--baseline", other, *files)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "test images differ" in done.stderr

    done = call("ttest", *given, "--baseline", paths[1], *files)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "test image i061 is only in one of this file and" in done.stderr


def test_a_cell_of_several_splits_has_both_spreads_and_paired_resamples(cell, call, tmp_path):
    """Two splits of 60 images each that share half of their test images."""
    frames = {name: [] for name in ("refers", "c2l")}
    drawn = np.random.default_rng(4).integers(0, 2, (3, 80)).astype(np.int8)
    truth = dict(zip(CLASSES, drawn, strict=True)) | {"Hernia": 0 * drawn[2]}
    for method, first in (("refers", 0), ("c2l", 50)):
        for split in range(2):
            for seed in range(2):
                frame = predictions(first + 10 * split + seed)
                number = np.arange(len(frame)) + 20 * split
                frame["image_id"] = [f"i{place:03d}" for place in number]
                frame["patient_id"] = frame["image_id"]
                for name in CLASSES:
                    frame[f"label:{name}"] = truth[name][number]
                frames[method].append(frame)
    runs = {"splits": [0, 0, 1, 1], "seeds": [5, 7, 5, 7]}
    cells = {}
    for method in frames:
        done, cells[method] = cell(frames[method], method, **runs)
        assert done.returncode == 0, done.stderr
        assert "2 splits of 2 seeds" in done.stdout
    found = json.loads(cells["refers"].read_text())
    assert (found["splits"], found["seeds"]) == (runs["splits"], runs["seeds"])
    test, auc_of_runs = found["test"], np.array(found["test"]["mean_auc"]).reshape(2, 2)
    assert test["mean"] == pytest.approx(auc_of_runs.mean())
    assert test["sd"] == pytest.approx(np.sqrt(auc_of_runs.var(axis=1, ddof=1).mean()))
    assert test["sd_splits"] == pytest.approx(auc_of_runs.mean(axis=1).std(ddof=1))
    parts = [test["se"][name]["se"] for name in ("seeds", "splits", "images")]
    assert test["se"]["total"] == pytest.approx(np.sqrt(np.square(parts).sum()))
    sizes = [(frame["split"] == "test").sum() for frame in frames["refers"][::2]]
    assert test["images_per_split"] == sizes
    ids = {name for frame in frames["refers"] for name in frame.loc[frame["split"] == "test", "image_id"]}
    assert test["images"] == test["bootstrap"]["units"] == len(ids) < sum(sizes)
    tables = [pd.read_parquet(path.with_name("resamples.parquet")) for path in cells.values()]
    assert [list(table.columns) for table in tables] == [["mean", *CLASSES]] * 2
    assert [len(table) for table in tables] == [1000] * 2
    assert tables[0]["Hernia"].isna().all()
    np.testing.assert_allclose(tables[0][CLASSES[:2]].mean(axis=1), tables[0]["mean"])
    assert np.percentile(tables[0]["mean"], [2.5, 97.5]) == pytest.approx(test["bootstrap"]["mean"])

    files = [[tmp_path / f"{name}{place}.parquet" for place in range(4)] for name in frames]
    out = tmp_path / "test.json"
    given = ["--reference", cells["refers"], "--baseline", cells["c2l"], "--reference-predictions", *files[0]]
    given += ["--baseline-predictions", *files[1], "--splits", *runs["splits"], "--out", out]
    done = call("ttest", *given, "--seeds", *runs["seeds"])
    assert done.returncode == 0, done.stderr
    paired = json.loads(out.read_text())
    low, high = np.percentile(tables[0]["mean"] - tables[1]["mean"], [2.5, 97.5])
    assert paired["bootstrap"]["interval"] == pytest.approx([low, high])
    per_seed = [np.reshape(paired[f"{side}_auc"], (2, 2)).mean(axis=0) for side in ("reference", "baseline")]
    assert paired["student"]["p"] == pytest.approx(ttest_ind(*per_seed).pvalue)
    done = call("ttest", *given, "--seeds", 5, 8, 5, 8)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "not of splits [0, 0, 1, 1] and seeds [5, 8, 5, 8]" in done.stderr

    replaced = predictions(99).assign(
        image_id=frames["c2l"][3]["image_id"], patient_id=frames["c2l"][3]["patient_id"]
    )
    for name in CLASSES:
        replaced[f"label:{name}"] = frames["c2l"][3][f"label:{name}"]
    replaced.to_parquet(files[1][3], index=False)
    done = call("ttest", *given, "--seeds", *runs["seeds"])
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "made from other predictions" in done.stderr


def test_splits_of_a_cell_agree_on_every_image(cell):
    frames = [predictions(seed) for seed in range(2)]
    frames[1].loc[5, "label:Mass"] = 1 - frames[1].loc[5, "label:Mass"]
    frames[1]["label:Mass"] = frames[1]["label:Mass"].astype(np.int8)
    done, path = cell(frames, splits=[0, 1], seeds=[0, 0])
    assert (done.returncode, done.stderr.count("\n"), path.exists()) == (1, 1, False)
    assert "labels or patient of image i005 differ" in done.stderr


def test_a_test_set_of_one_label_is_undefined_for_several_seeds(cell):
    frames = [predictions(seed) for seed in range(3)]
    for frame in frames:
        frame.loc[frame["split"] == "test", [f"label:{name}" for name in CLASSES]] = 0
        frame[[f"label:{name}" for name in CLASSES]] = frame[[f"label:{name}" for name in CLASSES]].astype(
            np.int8
        )
    done, path = cell(frames)
    assert done.returncode == 0, done.stderr
    test = json.loads(path.read_text())["test"]
    assert (test["mean"], test["undefined"], test["se"]["total"]) == (None, CLASSES, None)


@pytest.mark.parametrize("script", ["cell", "ttest", "table", "cell_index", "audit_released"])
def test_scripts_behind_the_predictions_start_without_torch(script, call):
    done = call(script, "--help")
    assert done.returncode == 0, done.stderr
