"""AUC of a cell's classifiers on the test images of another dataset, for the findings that both label. No torch.

Datasets name findings in their own way and some split one in two. A finding is a list of classes in each of them: an image has
it where it has any of these, and its score is their highest. Three test sets are compared, each with a set of classifiers:

- external: the classifiers of the cell on the test images of the other dataset;
- own: the same classifiers on the test images of their own;
- other: the classifiers that were trained on the other dataset, on the images of `external`.

All are of the first split of their dataset. The mean is over the findings that have both labels in each of the sets.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refers.columns import LABEL, SCORE
from refers.errors import UserError
from refers.evaluation.measures import averaged, of_runs
from refers.evaluation.metrics import auc
from refers.evaluation.predictions import SplitPredictions
from refers.evaluation.statistics import Bootstrap, standard_error
from refers.files import read_parquet
from refers.provenance.ties import record_of

RERUN = "delete it and rerun predict.py"


def of_findings(
    test: SplitPredictions,
    classes: Sequence[str],
    scored: Sequence[str],
    findings: Sequence[tuple[list, list]],
) -> SplitPredictions:
    """Labels and scores of findings instead of classes.

    Args:
        test: labels (N, C) of `classes`, scores (N, D) of `scored`.
        findings: of each, the classes that its labels are of, and those that its scores are of.
    """

    def highest(values: np.ndarray, names: Sequence[str], place: int) -> np.ndarray:
        of = [[names.index(name) for name in finding[place]] for finding in findings]
        return np.stack([values[:, columns].max(axis=1) for columns in of], axis=1)

    scores = [highest(one, scored, 1) for one in test.scores]
    return SplitPredictions(test.ids, test.patients, highest(test.labels, classes, 0), scores)


def read_external(
    paths: Sequence[Path], own: Sequence[Path], classes: Sequence[str]
) -> tuple[SplitPredictions, list[str]]:
    """Predictions of another dataset's test images by the classifiers of a split, and the classes of their labels.

    Args:
        paths: on_{other}.parquet, one per seed.
        own: predictions.parquet of the same runs.
        classes: those of the classifiers.

    Raises:
        UserError: a file is damaged, is of other images than the first, or was made by another classifier than that whose
            predictions are beside it.
    """
    found: SplitPredictions | None = None
    labelled: list[str] = []
    for path, beside in zip(paths, own, strict=True):
        record = record_of(path, "predictions", path.with_suffix(".json"))
        made, kept = record.get("inputs", {}), record_of(beside, "predictions").get("outputs", {})
        for name in ("classifier", "predictions"):
            if None not in (made.get(name), kept.get(name)) and made[name] != kept[name]:
                raise UserError(f"{path}: made with another {name} than that of {beside.parent}; {RERUN}")
        frame = read_parquet(path, "external predictions", ("image_id", "patient_id"), rest=True)
        labels = [name.removeprefix(LABEL) for name in frame.columns if name.startswith(LABEL)]
        scored = [name.removeprefix(SCORE) for name in frame.columns if name.startswith(SCORE)]
        if not labels or scored != list(classes):
            raise UserError(
                f"{path}: has scores of {', '.join(scored)}, not of {', '.join(classes)}; {RERUN}"
            )
        frame = frame.sort_values("image_id", ignore_index=True)
        ids, patients = (frame[name].to_numpy(str) for name in ("image_id", "patient_id"))
        patients = np.where(patients == "", ids, patients)
        truth = frame[[LABEL + name for name in labels]].to_numpy(float)
        scores = frame[[SCORE + name for name in scored]].to_numpy(float)
        if len(np.unique(ids)) < len(ids) or not np.isin(truth, (0, 1)).all():
            raise UserError(f"{path}: an image is there twice, or a label is not 0 or 1; {RERUN}")
        if not ((scores >= 0) & (scores <= 1)).all():
            raise UserError(f"{path}: a score is not a number in [0, 1]; {RERUN}")
        each = SplitPredictions(ids, patients, truth.astype(np.int8), [scores])
        if found is None:
            found, labelled = each, labels
        elif labels != labelled or not _same_images(found, each):
            raise UserError(
                f"{path}: of other images or labels than {paths[0]}; delete both and rerun predict.py"
            )
        else:
            found.scores += each.scores
    assert found is not None
    return found, labelled


def _same_images(one: SplitPredictions, two: SplitPredictions) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(two, name)) for name in ("ids", "patients", "labels")
    )


def expect_same_images(external: SplitPredictions, other: SplitPredictions, path: Path) -> None:
    """Raise a UserError unless the classifiers of both datasets were tested on the same images, patients and labels."""
    if not _same_images(external, other):
        raise UserError(
            f"{path}: of other test images or labels than the external predictions; rerun the older of the two"
        )


def summarise_external(
    sets: dict[str, SplitPredictions], findings: list[str], resamples: int, seed: int
) -> dict[str, Any]:
    """AUC of each finding in each test set, and their mean over those that every set defines.

    Args:
        sets: external, own and, where there are such classifiers, other; with the findings in their columns.
        resamples, seed: of the bootstrap. Sets of the same images have the same resamples.

    Returns:
        findings: those that the mean is over; tests: by set images, patients, bootstrap, mean (the runs' values as `of_runs`,
        se, positives, negatives) and per_finding, which has the same but for se.
    """
    values = {
        name: np.stack([auc(each.labels, one) for one in each.scores])[None] for name, each in sets.items()
    }
    defined = np.logical_and.reduce([~np.isnan(each).any(axis=(0, 1)) for each in values.values()])
    tests = {}
    for name, each in sets.items():
        bootstrap = Bootstrap([each.patients], resamples, seed)
        drawn = bootstrap.resample([each]).auc
        positives = each.labels.sum(axis=0, dtype=int)
        means, over = averaged(values[name], defined), averaged(drawn, defined)
        mean = of_runs(means, over) | {"se": standard_error(means, over, bootstrap.about["units"])}
        total = {"positives": int(positives[defined].sum())}
        total["negatives"] = int(defined.sum() * len(each.ids) - total["positives"])
        tests[name] = {
            "images": len(each.ids),
            "patients": len(np.unique(each.patients)),
            "bootstrap": bootstrap.about,
            "mean": mean | total,
            "per_finding": {
                finding: of_runs(values[name][..., place], drawn[..., place])
                | {
                    "positives": int(positives[place]),
                    "negatives": int(len(each.ids) - positives[place]),
                }
                for place, finding in enumerate(findings)
            },
        }
    return {
        "findings": [finding for finding, there in zip(findings, defined, strict=True) if there],
        "tests": tests,
    }
