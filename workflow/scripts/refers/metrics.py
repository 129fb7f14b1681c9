"""Area under the ROC curve by ranks, for all classes at once; numpy only."""

import numpy as np

from refers.errors import UserError


def auc(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """AUC of every class: how often a positive outranks a negative, ties counting half (Mann-Whitney).

    Args:
        labels: (N, C), 1 present and 0 absent.
        scores: (N, C), any finite numbers; only their order within a class matters.

    Returns:
        (C,) float64 in [0, 1]; NaN for a class in which one label only occurs.

    Raises:
        UserError: shapes differ, a label is neither 0 nor 1, or a score is NaN or infinite.
    """
    labels, scores = np.asarray(labels), np.asarray(scores)
    if labels.ndim != 2 or labels.shape != scores.shape:
        raise UserError(
            f"labels {labels.shape} and scores {scores.shape}: both must be (images, classes); pass the same images and classes"
        )
    _refuse(
        ~((labels == 0) | (labels == 1)), labels, "label", "0 or 1 is expected; leave out uncertain images"
    )
    _refuse(
        ~np.isfinite(scores),
        scores,
        "score",
        "a finite number is expected; training diverged, fine-tune again",
    )
    images = len(labels)
    if images == 0:
        return np.full(labels.shape[1], np.nan)
    order = np.argsort(scores, axis=0)
    ranks = _midranks(np.take_along_axis(scores, order, axis=0))
    present = np.take_along_axis(labels, order, axis=0) == 1
    positives = present.sum(axis=0)
    pairs = positives * (images - positives)
    # Sums of half-integers below 2**53 are exact, so the only rounding is the division.
    outranked = (ranks * present).sum(axis=0) - positives * (positives + 1) / 2
    return np.divide(outranked, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)


def _midranks(ordered: np.ndarray) -> np.ndarray:
    """Ranks 1..N of ascending columns (N, C); equal values share the mean of their ranks."""
    place = np.broadcast_to(np.arange(len(ordered))[:, None], ordered.shape)
    edge = np.ones((1, ordered.shape[1]), bool)
    changes = ordered[1:] != ordered[:-1]
    first = np.maximum.accumulate(np.where(np.vstack([edge, changes]), place, 0), axis=0)
    last = np.where(np.vstack([changes, edge]), place, len(ordered) - 1)
    last = np.minimum.accumulate(last[::-1], axis=0)[::-1]
    return (first + last) / 2 + 1


def _refuse(bad: np.ndarray, values: np.ndarray, name: str, expected: str) -> None:
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise UserError(
            f"{name} of image {row}, class {column} is {values[row, column]} ({int(bad.sum())} such in all): {expected}"
        )
