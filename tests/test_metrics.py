"""AUC by ranks: against scikit-learn, on ties and gaps, and on the authors' released prediction files."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from refers.errors import UserError
from refers.metrics import auc
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


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([[0.0], [1.0]], [[0.1], [np.nan]], "score of image 1, class 0 is nan"),
        ([[0.0], [1.0]], [[-np.inf], [0.2]], "score of image 0, class 0 is -inf"),
        ([[0.0], [-1.0]], [[0.1], [0.2]], r"label of image 1, class 0 is -1"),
        ([[np.nan], [1.0]], [[0.1], [0.2]], "label of image 0, class 0 is nan"),
        ([[0, 1]], [[0.1]], "same images and classes"),
        ([0, 1], [0.1, 0.2], "same images and classes"),
    ],
)
def test_bad_input_is_named(labels, scores, message):
    with pytest.raises(UserError, match=message):
        auc(np.array(labels), np.array(scores))


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
