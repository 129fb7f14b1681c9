"""Average precision, Brier score, calibration error and sensitivity: known values, ties, resamples, and the file of a cell."""

import json

import numpy as np
import pandas as pd
import pytest
from refers.errors import UserError
from refers.evaluation.measures import (
    ResampledMeasures,
    Settings,
    measure,
    reliability,
    summarise_measures,
)
from refers.evaluation.metrics import auc
from refers.evaluation.predictions import SplitPredictions, frame_of
from refers.evaluation.statistics import Bootstrap
from refers.measure_names import MEASURES
from sklearn.metrics import average_precision_score, brier_score_loss, roc_curve

AT_90 = Settings(10, 90)


def value(name, labels, scores, settings=AT_90):
    """A measure of one class."""
    return measure(np.array(labels)[:, None], np.array(scores, float)[:, None], settings)[
        0, MEASURES.index(name)
    ]


def made_up(seed, images, digits=2):
    """Labels and scores (images, 3); of few digits, so that many scores are equal."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((images, 3)) < [0.5, 0.2, 0.8]).astype(int)
    labels[0], labels[1] = 0, 1
    return labels, np.round(rng.random((images, 3)), digits)


@pytest.mark.parametrize(("images", "digits"), [(2, 1), (30, 1), (200, 2), (500, 8)])
def test_measures_are_those_of_scikit_learn(images, digits):
    labels, scores = made_up(images, images, digits)
    for of, one, found in zip(labels.T, scores.T, measure(labels, scores, AT_90), strict=True):
        false, true, _ = roc_curve(of, one, drop_intermediate=False)
        assert found[0] == pytest.approx(average_precision_score(of, one), abs=1e-12)
        assert found[1] == pytest.approx(brier_score_loss(of, one), abs=1e-12)
        assert found[3] == pytest.approx(true[false <= 0.1 + 1e-9].max(), abs=1e-12)


def test_calibration_error_by_hand():
    # [0.1, 0.2): mean score 0.15, no positive; [0.9, 1]: mean score 0.95, half positive; weights 1/2 each
    assert value("calibration_error", [0, 0, 1, 0], [0.1, 0.2 - 1e-9, 0.9, 1.0]) == pytest.approx(
        (0.15 + 0.45) / 2
    )
    assert value("calibration_error", [1, 0, 1, 0], [0.5] * 4) == 0
    # on an edge a score is in the upper bin: apart, both are 0.5 off; in one bin they would cancel out
    assert value("calibration_error", [1, 0], [0.5, 0.5 - 1e-9], Settings(2, 90)) == pytest.approx(0.5)
    assert value("calibration_error", [1, 0], [0.6, 0.5], Settings(2, 90)) == pytest.approx(0.05)


def test_reliability_has_a_point_for_every_bin():
    found = reliability(np.array([0, 1, 1]), np.array([0.1, 0.2, 1.0]), 2)
    assert found["images"] == [2, 1]
    assert found["mean_score"] == pytest.approx([0.15, 1.0])
    assert found["positive"] == [0.5, 1.0]
    assert reliability(np.array([0]), np.array([0.1]), 2)["positive"] == [0.0, None]


def test_sensitivity_is_a_point_of_the_curve_and_nothing_is_interpolated():
    labels = [0] * 10 + [1] * 4
    negatives = [*np.linspace(0.1, 0.5, 9), 0.9]
    # at 90 % specificity one of ten negatives may be above the threshold
    assert value("sensitivity", labels, [*negatives, 0.95, 0.8, 0.6, 0.3]) == 0.75
    # at more than that none, so that only the positive above 0.9 counts
    assert value("sensitivity", labels, [*negatives, 0.95, 0.8, 0.6, 0.3], Settings(10, 91)) == 0.25
    # a positive with the score of two negatives cannot be had without both
    assert value("sensitivity", labels, [*negatives[:8], 0.7, 0.7, 0.7, 0.7, 0.1, 0.1]) == 0
    assert value("sensitivity", labels, [*negatives, 0, 0, 0, 0], Settings(10, 0)) == 1


def test_a_class_with_one_label_has_no_measure():
    labels, scores = np.array([[0, 1, 1], [0, 1, 0]]), np.full((2, 3), 0.5)
    found = measure(labels, scores, AT_90)
    assert np.isnan(found[:2]).all()
    assert not np.isnan(found[2]).any()
    with pytest.raises(UserError, match="finite"):
        measure(labels, np.full((2, 3), np.nan), AT_90)


def test_a_resample_is_the_images_that_it_contains():
    labels, scores = made_up(4, 40, 1)
    rng = np.random.default_rng(0)
    counts = np.stack([np.bincount(rng.integers(0, 40, 40), minlength=40) for _ in range(20)], axis=1)
    found = ResampledMeasures(labels, scores, AT_90)(counts)
    for column, drawn in zip(counts.T, found, strict=True):
        again = np.repeat(np.arange(40), column)
        np.testing.assert_allclose(drawn, measure(labels[again], scores[again], AT_90), atol=1e-12)


def sets_of(seeds=2, images=60):
    labels, _ = made_up(1, images)
    ids = np.array([f"i{n:03d}" for n in range(images)])
    patients = np.array([f"p{n // 2:03d}" for n in range(images)])
    scores = [np.clip(0.5 * labels + 0.6 * made_up(seed + 5, images)[1], 0, 1) for seed in range(seeds)]
    return [SplitPredictions(ids, patients, labels, scores)]


def test_a_cell_is_averaged_and_resampled_as_its_auc_is():
    sets = sets_of()
    sets[0].labels[:, 1] = 0
    bootstrap = Bootstrap([sets[0].patients], 200, 0)
    found = summarise_measures(sets, ["a", "b", "c"], AT_90, bootstrap)
    assert found["undefined"] == ["b"]
    for place, name in enumerate(MEASURES):
        about = found["measures"][name]
        each = [measure(sets[0].labels, one, AT_90)[[0, 2], place].mean() for one in sets[0].scores]
        assert about["values"] == pytest.approx(each)
        assert about["mean"] == pytest.approx(np.mean(each))
        assert about["interval"][0] < about["interval"][1]
        assert about["per_class"]["b"]["mean"] is None
        assert about["per_class"]["b"]["interval"] is None
    # the same draws: the measures of a resample are of the images whose AUC is in the same row
    drawn = bootstrap.measure_runs(lambda *given: ResampledMeasures(*given, AT_90), sets)
    counts = next(bootstrap.counts())[0]
    again = np.repeat(np.arange(60), counts[:, 3])
    expected = auc(sets[0].labels[again], sets[0].scores[1][again])
    np.testing.assert_allclose(bootstrap.resample(sets).auc[3, 0, 1], expected)
    expected = measure(sets[0].labels[again], sets[0].scores[1][again], AT_90)
    np.testing.assert_allclose(drawn[3, 0, 1, [0, 2]], expected[[0, 2]])


def test_one_patient_shows_no_variance():
    sets = sets_of()
    sets[0].patients[:] = "p"
    found = summarise_measures(sets, ["a", "b", "c"], AT_90, Bootstrap([sets[0].patients], 100, 0))
    assert found["measures"]["brier"]["mean"] is not None
    assert found["measures"]["brier"]["interval"] is None
    assert found["bootstrap"]["units"] == 1


def test_measures_script(tmp_path, call):
    labels, scores = made_up(3, 50)
    rows = pd.DataFrame(
        {"image_id": [f"i{n}" for n in range(50)], "patient_id": [f"p{n}" for n in range(50)]}
    )
    rows[[f"label:{name}" for name in "abc"]] = labels
    frames = [frame_of(rows, [*"abc"], scores, part) for part in ("val", "test")]
    path, out = tmp_path / "predictions.parquet", tmp_path / "measures.json"
    pd.concat(frames).to_parquet(path, index=False)
    about = [
        "--method",
        "refers",
        "--dataset",
        "nih",
        "--ratio",
        10,
        "--splits",
        0,
        "--seeds",
        0,
        "--out",
        out,
    ]
    done = call("measures", "--predictions", path, *about, "--bins", 5, "--specificity", 80)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    expected = measure(labels, scores, Settings(5, 80)).mean(axis=0)
    assert [found["measures"][name]["mean"] for name in MEASURES] == pytest.approx(expected.tolist())
    assert sum(found["per_class"]["a"]["reliability"][0]["images"]) == 50
    assert len(found["per_class"]["a"]["reliability"][0]["images"]) == 5
    done = call("measures", "--predictions", path, *about, "--bins", 1, "--specificity", 80)
    assert (done.returncode, "from 2 to 1000" in done.stderr) == (1, True)
