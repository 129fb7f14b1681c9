"""Linear probe of a frozen encoder: logistic regression per class on its features; no torch.

The penalty is s/2 |w|^2 beside the mean logistic loss, without the intercept. All strengths s of a grid are fitted, from
the strongest on, each from the solution of the one before; of every class the validation set chooses one. Alain & Bengio
(2016) introduced probes; the choice by validation is that of Kornblith et al. (CVPR 2019).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from refers.array_files import open_npy
from refers.config import ProbeRule
from refers.errors import UserError
from refers.evaluation.metrics import auc


@dataclass
class LinearProbe:
    """A fitted probe of D features and C classes.

    mean, scale: (D,) of the training images; weights: (D + 1, C), the intercepts last, for standardised features.
    strengths: of every class; None where its training labels are all the same, and its score is a constant.
    fits: what L-BFGS did for every strength.
    """

    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    strengths: list[float | None]
    fits: list[dict[str, Any]]

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Probabilities (N, C) in float64, so that confident ones keep their order."""
        return _sigmoid(_logits(standardised(features, self.mean, self.scale), self.weights))


def fit(
    features: np.ndarray,
    labels: np.ndarray,
    val_features: np.ndarray,
    val_labels: np.ndarray,
    settings: ProbeRule,
) -> LinearProbe:
    """Fit a probe on the training images and let the validation images choose each class's strength.

    Args:
        features: (N, D) float32; val_features likewise.
        labels: (N, C) of 0 and 1; val_labels likewise.
    """
    mean = features.mean(0, dtype=np.float64).astype(np.float32)
    train = features - mean
    spread = np.sqrt(np.einsum("nd,nd->d", train, train, dtype=np.float64) / len(train))
    # a feature that does not vary stays at 0
    scale = np.where(spread > 0, spread, 1).astype(np.float32)
    train /= scale
    val = standardised(val_features, mean, scale)
    share = labels.mean(0, dtype=np.float64)
    varied = np.flatnonzero((share > 0) & (share < 1))
    weights = np.zeros((features.shape[1] + 1, labels.shape[1]))
    # where all labels are the same the score is a constant: nothing can be learnt, and the intercept has no optimum
    weights[-1] = np.log(np.clip(share, 1e-6, 1 - 1e-6) / np.clip(1 - share, 1e-6, 1 - 1e-6))
    strengths: list[float | None] = [None] * labels.shape[1]
    best = np.full((2, labels.shape[1]), -np.inf)
    turned, axes, variances = _rotated(train)
    start, fits = np.vstack([np.zeros((len(variances), len(varied))), weights[-1:, varied]]), []
    for strength in sorted(settings.strengths, reverse=True) if len(varied) else ():
        start, about = _minimise(turned, labels[:, varied], variances, strength, start, settings.iterations)
        fits.append({"strength": strength, **about})
        fitted = np.vstack([axes @ start[:-1], start[-1:]])
        logits = _logits(val, fitted)
        found = np.stack(
            [_defined(auc(val_labels[:, varied], logits)), -_loss(logits, val_labels[:, varied])]
        )
        for place, column in enumerate(varied):
            if tuple(found[:, place]) > tuple(best[:, column]):
                best[:, column], weights[:, column] = found[:, place], fitted[:, place]
                strengths[column] = strength
    return LinearProbe(mean, scale, weights, strengths, fits)


def open_features(path: Path) -> np.memmap:
    """Features (N, D) float32 of extract_features.py, read-only and memory-mapped; row i is row i of the store.

    Raises:
        UserError: the file is missing or holds something else.
    """
    remedy = "delete it and rerun extract_features.py"
    found = open_npy(path, "not features", remedy)
    if not isinstance(found, np.memmap) or found.dtype != np.float32 or found.ndim != 2:
        raise UserError(f"{path}: does not hold float32 features, one row per image; {remedy}")
    return found


def standardised(features: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Features (N, D) in units of the training images' deviation from their mean, in float32."""
    found = features - mean
    found /= scale
    return found


def _rotated(features: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Standardised features (N, D) along their R principal axes (N, R), the axes (D, R), and the variances along them (R,).

    A rotation leaves the penalty as it is, and there are no more axes than images, so that small training sets stay small.
    Axes with less than a millionth of the largest variance are noise of float32 and are left out.
    """
    wide = features.shape[1] > len(features)
    products = features @ features.T if wide else features.T @ features
    values, vectors = np.linalg.eigh(products.astype(np.float64))
    kept = values > 1e-6 * values[-1]
    values, vectors = values[kept], vectors[:, kept].astype(np.float32)
    axes = features.T @ (vectors / np.sqrt(values).astype(np.float32)) if wide else vectors
    return features @ axes, axes, values / len(features)


def _minimise(
    features: np.ndarray,
    labels: np.ndarray,
    variances: np.ndarray,
    strength: float,
    start: np.ndarray,
    iterations: int,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Weights (R + 1, C) that minimise the sum of the classes' penalised losses, and what L-BFGS did.

    Each weight is sought in units of its curvature where the score is the class's share, p (1 - p) times the variance
    plus the penalty: in these the problem is nearly round, and tens of iterations are enough.
    """
    from scipy.optimize import minimize

    target = labels.astype(np.float64)
    share = target.mean(0)
    curvature = share * (1 - share) * np.append(variances, 1)[:, None]
    curvature[:-1] += strength
    unit = 1 / np.sqrt(curvature)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(start.shape) * unit
        logits = _logits(features, weights)
        errors = (_sigmoid(logits) - target) / len(target)
        slopes = np.vstack([features.T @ errors.astype(np.float32), errors.sum(0)]).astype(np.float64)
        slopes[:-1] += strength * weights[:-1]
        value = _loss(logits, target).sum() + strength / 2 * (weights[:-1] ** 2).sum()
        return value, (slopes * unit).ravel()

    # products are of float32: below this change the value is noise
    options = {"maxiter": iterations, "maxfun": 2 * iterations, "ftol": 1e-9, "gtol": 1e-6}
    found = minimize(objective, (start / unit).ravel(), jac=True, method="L-BFGS-B", options=options)
    about = {
        "iterations": int(found.nit),
        "loss": float(found.fun),
        "converged": bool(found.nit < iterations),
    }
    return found.x.reshape(start.shape) * unit, about


def _logits(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return (features @ weights[:-1].astype(np.float32)).astype(np.float64) + weights[-1]


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    # of the side that cannot overflow
    small = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1, small) / (1 + small)


def _loss(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mean logistic loss of each class."""
    return (np.logaddexp(0, logits) - labels * logits).mean(0)


def _defined(values: np.ndarray) -> np.ndarray:
    """AUCs, with -1 for a class without both labels, which the loss alone then decides."""
    return np.nan_to_num(values, nan=-1.0)
