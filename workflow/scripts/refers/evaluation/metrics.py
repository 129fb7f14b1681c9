"""Area under the ROC curve (AUC) by ranks, vectorised over classes and bootstrap resamples; no torch."""

import numpy as np

from refers.errors import UserError


def auc(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """AUC of every class: the share of pairs in which the positive has the higher score, ties counting half (Mann-Whitney).

    Args:
        labels: (N, C), 1 present and 0 absent.
        scores: (N, C), any finite numbers; only their order within a class matters.

    Returns:
        (C,) float64 in [0, 1]; NaN for a class with a single label.

    Raises:
        UserError: the shapes differ, a label is neither 0 nor 1, or a score is non-finite (NaN or Inf).
    """
    present = is_present(labels, scores)
    positives = present.sum(axis=0)
    pairs = positives * (len(present) - positives)
    # Sums of half-integers below 2**53 are exact, so the only rounding is the division.
    won = np.where(present, outranked(labels, scores), 0).sum(axis=0)
    return np.divide(won, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)


def outranked(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """For each image, the number of images with the other label and a lower score, ties counting half; (N, C) float64.

    Arguments and errors as for `auc`.
    """
    present, scores = is_present(labels, scores), np.asarray(scores)
    order = np.argsort(scores, axis=0)
    first, last = _ties(np.take_along_axis(scores, order, axis=0))
    absent = ~np.take_along_axis(present, order, axis=0)
    below = np.zeros((len(present) + 1, present.shape[1]), np.int64)
    np.cumsum(absent, axis=0, out=below[1:])
    negatives = np.take_along_axis(below, first, axis=0) + np.take_along_axis(below, last + 1, axis=0)
    found = np.empty(present.shape)
    np.put_along_axis(found, order, np.where(absent, first + last + 1 - negatives, negatives) / 2, axis=0)
    return found


def midranks(values: np.ndarray) -> np.ndarray:
    """Ranks 1..N within each column of (N, C); equal values have the mean of their ranks."""
    order = np.argsort(values, axis=0)
    first, last = _ties(np.take_along_axis(values, order, axis=0))
    ranks = np.empty(values.shape)
    np.put_along_axis(ranks, order, (first + last) / 2 + 1, axis=0)
    return ranks


class ResampledAuc:
    """AUC of every class on many resamples of the same images, which are ranked only once.

    The positives of a class divide the sorted scores into segments. The number of negatives of a resample in each segment
    is one sparse product, (segments x images) times (images x resamples); cumulative sums at the positives give the rank
    statistic. The rarer label takes the role of the positives.

    Arguments and errors as for `auc`.
    """

    def __init__(self, labels: np.ndarray, scores: np.ndarray) -> None:
        present, scores = is_present(labels, scores), np.asarray(scores)
        self._images = len(present)
        self._flipped = 2 * present.sum(axis=0) > len(present)
        self._columns = [
            segments(present[:, place] ^ flip, scores[:, place]) for place, flip in enumerate(self._flipped)
        ]

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        """AUCs of resamples.

        Args:
            counts: (N, R) integers, how often each resample contains each image.

        Returns:
            (R, C) float64; NaN where a resample contains a single label of a class.
        """
        counts, totals = narrowed(counts)
        found = np.full((counts.shape[1], len(self._columns)), np.nan)
        for place, (rare, common) in enumerate(self._columns):
            rare, common = (selection(part, self._images, counts.dtype) @ counts for part in (rare, common))
            below = np.cumsum(common, axis=0, dtype=np.int64 if counts.dtype == np.uint32 else np.int32)
            # Rows alternate between "between two positive scores" and "at a positive score": twice the lower ones plus ties.
            doubled = below[:-1:2] + below[1::2]
            won = np.einsum("kr,kr->r", rare.astype(np.float64), doubled.astype(np.float64)) / 2
            positives = rare.sum(axis=0, dtype=np.int64)
            pairs = positives * (totals - positives)
            won = pairs - won if self._flipped[place] else won
            np.divide(won, pairs, out=found[:, place], where=pairs > 0)
        return found


def narrowed(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts (N, R) of the images in each resample, contiguous, and their sums (R,).

    In the narrowest type that holds the count of any segment: memory limits the speed of the products.
    """
    totals = counts.sum(axis=0, dtype=np.int64)
    return np.ascontiguousarray(counts, np.uint16 if totals.max(initial=0) < 2**16 else np.uint32), totals


def segments(present: np.ndarray, scores: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """For the positives, then the negatives: images (n,) sorted by segment, and the start of each segment."""
    at = np.unique(scores[present])
    segment = np.searchsorted(at, scores, "left") + np.searchsorted(at, scores, "right")
    parts = []
    for members, places, size in ((present, segment // 2, len(at)), (~present, segment, 2 * len(at) + 1)):
        images = np.flatnonzero(members)
        order = np.argsort(places[images], kind="stable")
        starts = np.cumsum([0, *np.bincount(places[images], minlength=size)])
        parts.append((images[order].astype(np.int32), starts.astype(np.int32)))
    return tuple(parts)


def selection(part: tuple[np.ndarray, np.ndarray], images: int, dtype: np.dtype):
    """Sparse (segments, images) of ones: its product with counts (images, R) gives those of every segment."""
    from scipy.sparse import csr_array

    members, starts = part
    return csr_array((np.ones(len(members), dtype), members, starts), shape=(len(starts) - 1, images))


def _ties(ordered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last position (from 0) of the run of equal values around each value of ascending columns (N, C)."""
    place = np.broadcast_to(np.arange(len(ordered))[:, None], ordered.shape)
    edge = np.ones((min(1, len(ordered)), ordered.shape[1]), bool)
    changes = ordered[1:] != ordered[:-1]
    first = np.maximum.accumulate(np.where(np.vstack([edge, changes]), place, 0), axis=0)
    last = np.where(np.vstack([changes, edge]), place, len(ordered) - 1)
    return first, np.minimum.accumulate(last[::-1], axis=0)[::-1]


def is_present(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Labels as (N, C) bool, after labels and scores were checked as `auc` documents."""
    labels, scores = np.asarray(labels), np.asarray(scores)
    if labels.ndim != 2 or labels.shape != scores.shape:
        raise UserError(
            f"labels {labels.shape} and scores {scores.shape}: expected the same (images, classes) for both"
        )
    valid = (labels == 0) | (labels == 1)
    _expect(valid, labels, "label", "0 or 1; leave out uncertain images")
    _expect(np.isfinite(scores), scores, "score", "a finite number; training diverged, rerun the fine-tune")
    return labels == 1


def _expect(good: np.ndarray, values: np.ndarray, name: str, expected: str) -> None:
    if not good.all():
        row, column = np.argwhere(~good)[0]
        found = f"{values[row, column]} ({int((~good).sum())} such values)"
        raise UserError(f"{name} of image {row}, class {column} is {found}, expected {expected}")
