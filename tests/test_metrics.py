"""AUC by ranks: against scikit-learn, on ties and gaps, and on the authors' released prediction files."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from refers.errors import UserError
from refers.evaluation.metrics import ResampledAuc, auc, midranks, outranked
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

RELEASED = Path(__file__).parents[2] / "shared/data/refers-released/Results_of_fine-tuning.tar.xz"


@pytest.mark.parametrize("decimals", [1, 3, 12])
def test_equals_scikit_learn(decimals):
    """Few decimals mean many ties; rare classes mean few positives."""
    rng = np.random.default_rng(decimals)
    labels = (rng.random((3000, 14)) < np.linspace(0.005, 0.6, 14)).astype(np.int8)
    scores = np.round(rng.random(labels.shape) * 0.8 + 0.2 * labels, decimals)
    expected = [roc_auc_score(labels[:, place], scores[:, place]) for place in range(14)]
    np.testing.assert_allclose(auc(labels, scores), expected, atol=1e-12, rtol=0)


@given(
    arrays(np.int8, (12, 3), elements=st.integers(0, 1)),
    arrays(np.int64, (12, 3), elements=st.integers(0, 4)),
)
def test_is_the_share_of_pairs_in_order(labels, scores):
    found = auc(labels, scores)
    for place in range(3):
        ones, zeros = (scores[labels[:, place] == value, place] for value in (1, 0))
        pairs = [(a > b) + (a == b) / 2 for a in ones for b in zeros]
        assert found[place] == pytest.approx(np.mean(pairs)) if pairs else np.isnan(found[place])


def test_constant_scores_are_chance_and_one_label_is_undefined():
    labels = np.array([[0, 1, 0], [1, 1, 0], [0, 1, 0]])
    np.testing.assert_array_equal(auc(labels, np.zeros((3, 3))), [0.5, np.nan, np.nan])
    np.testing.assert_array_equal(auc(np.zeros((0, 2)), np.zeros((0, 2))), [np.nan, np.nan])


@pytest.mark.parametrize("decimals", [1, 12])
def test_resamples_equal_scikit_learn_on_the_drawn_images(decimals):
    """Rare, even and frequent labels, with and without ties; each resample repeats its images as drawn."""
    rng = np.random.default_rng(decimals)
    labels = (rng.random((400, 5)) < [0.02, 0.3, 0.5, 0.7, 0.98]).astype(np.int8)
    scores = np.round(rng.random(labels.shape) * 0.8 + 0.2 * labels, decimals)
    drawn = rng.integers(0, 400, (30, 400))
    counts = np.stack([np.bincount(rows, minlength=400) for rows in drawn], axis=1)
    found = ResampledAuc(labels, scores)(counts)
    assert found.shape == (30, 5)
    for values, rows in zip(found, drawn, strict=True):
        for place in range(5):
            truth, predicted = labels[rows, place], scores[rows, place]
            expected = roc_auc_score(truth, predicted) if 0 < truth.sum() < 400 else np.nan
            assert values[place] == pytest.approx(expected, abs=1e-12, nan_ok=True)


@given(
    arrays(np.int8, (9, 2), elements=st.integers(0, 1)),
    arrays(np.int64, (9, 2), elements=st.integers(0, 3)),
    arrays(np.int64, (9, 4), elements=st.integers(0, 3)),
)
def test_a_resample_is_the_sample_with_rows_repeated(labels, scores, counts):
    found = ResampledAuc(labels, scores)(counts)
    for place, times in enumerate(counts.T):
        rows = np.repeat(np.arange(9), times)
        np.testing.assert_allclose(found[place], auc(labels[rows], scores[rows]), atol=1e-12)


def test_resamples_that_count_beyond_16_bits():
    """Images that stand for many: sums of counts no longer fit the narrow type."""
    labels, scores = np.array([[0], [1], [0], [1]]), np.array([[0.1], [0.2], [0.3], [0.3]])
    counts = np.array([[40_000, 1], [50_000, 1], [60_000, 1], [30_000, 1]])
    won = 40_000 * (50_000 + 30_000) + 60_000 * 30_000 / 2
    found = ResampledAuc(labels, scores)(counts)
    np.testing.assert_allclose(found[:, 0], [won / (100_000 * 80_000), 0.625], atol=1e-12)


def test_undefined_classes_are_undefined_in_every_resample():
    labels = np.array([[0, 1, 0], [0, 1, 1]])
    found = ResampledAuc(labels, np.zeros((2, 3)))(np.array([[1, 2], [1, 0]]))
    np.testing.assert_array_equal(found, [[np.nan, np.nan, 0.5], [np.nan, np.nan, np.nan]])


def test_outranked_by_hand():
    labels = np.array([[1], [0], [1], [0], [0]])
    scores = np.array([[0.5], [0.5], [0.1], [0.2], [0.9]])
    np.testing.assert_array_equal(outranked(labels, scores)[:, 0], [1.5, 1.5, 0, 1, 2])


@given(arrays(np.int64, (7, 2), elements=st.integers(0, 3)))
def test_midranks_equal_scipy(values):
    np.testing.assert_array_equal(midranks(values), rankdata(values, axis=0))


@pytest.mark.parametrize("measure", [auc, ResampledAuc, outranked])
@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([[0.0], [1.0]], [[0.1], [np.nan]], "score of image 1, class 0 is nan"),
        ([[0.0], [1.0]], [[-np.inf], [0.2]], "score of image 0, class 0 is -inf"),
        ([[0.0], [-1.0]], [[0.1], [0.2]], r"label of image 1, class 0 is -1"),
        ([[np.nan], [1.0]], [[0.1], [0.2]], "label of image 0, class 0 is nan"),
        ([[0, 1]], [[0.1]], r"same \(images, classes\)"),
        ([0, 1], [0.1, 0.2], r"same \(images, classes\)"),
    ],
)
def test_bad_input_is_named(measure, labels, scores, message):
    with pytest.raises(UserError, match=message):
        measure(np.array(labels), np.array(scores))


@pytest.mark.skipif(not RELEASED.exists(), reason="the authors' released prediction files are absent")
def test_released_prediction_files():
    """An arithmetic oracle: these bytes have these AUCs, whoever computes them."""
    means = {}
    with tarfile.open(RELEASED) as archive:
        tables: dict[str, list[np.ndarray]] = {}
        for member in archive:
            folder = member.name.rpartition("/")[0]
            if member.isfile() and folder.endswith(("/REFERS", "bacterial_viral/C2L")):
                tables.setdefault(folder, []).append(np.loadtxt(archive.extractfile(member)))
    for folder, files in tables.items():
        labels = np.column_stack([table[:, 0] for table in files])
        scores = np.column_stack([table[:, 1] for table in files])
        found = auc(labels, scores)
        for place in (0, len(files) // 2):
            assert found[place] == pytest.approx(roc_auc_score(labels[:, place], scores[:, place]), abs=1e-9)
        _, dataset, task, method = folder.split("/")
        means[dataset.split()[0], task, method] = round(100 * found.mean(), 2)
    assert means["NIH", "data1", "REFERS"] == 76.68
    assert means["NIH", "data10", "REFERS"] == 80.93
    assert means["NIH", "data100", "REFERS"] == 84.41
    assert means["COVID-19", "covid_others", "REFERS"] == 82.15
