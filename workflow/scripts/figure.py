"""Draw one figure of the study: rules, AUC against label share (Figure 2), class activation maps (3), ROC, calibration, training.

In: by the figure's kind, auc.json, predictions.parquet or metrics.jsonl in the order of the spec's `sources`; maps.npz and
iou.csv; or rules.csv.
Out: the figure as PDF and PNG. Does not need torch.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from refers.arguments import Arguments
from refers.errors import UserError, run
from refers.evaluation import localisation
from refers.evaluation.cell_file import read_cell
from refers.evaluation.measures import Settings, measure, reliability
from refers.evaluation.metrics import auc
from refers.evaluation.predictions import read_seeds
from refers.measure_names import MEASURES
from refers.provenance.run_files import read_metrics
from refers.provenance.ties import check_runs, record_of
from refers.reporting import figures, rule_graph


def parse_args() -> argparse.Namespace:
    parser = Arguments(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--spec", type=json.loads, required=True, help="refers.study.study.Study.figure as JSON"
    )
    parser.add_argument(
        "--inputs", type=Path, nargs="*", default=[], help="in the order of the spec's sources"
    )
    parser.add_argument("--out", type=Path, required=True, help="figure.pdf; figure.png is written beside it")
    return parser.parse_args()


def draw(spec: dict, inputs: list[Path]):
    """The figure of `spec`, drawn from `inputs`."""
    if not inputs:
        return figures.absent_figure(spec)
    if spec["kind"] == "rules":
        return figures.rules_figure(spec, *rule_graph.read_csv(inputs[0]))
    if spec["kind"] == "ratios":
        return figures.ratio_figure(spec, [read_cell(path) for path in inputs])
    if spec["kind"] == "attention":
        ious = localisation.read_overlap(inputs[1])["iou"].to_numpy()
        if not len(ious):
            return figures.absent_figure(spec | {"methods": [{"status": localisation.NO_BOX}]})
        return figures.attention_figure(spec, localisation.read_maps(*inputs), ious)
    if spec["kind"] == "curves":
        records = {method: curve(method, path) for method, path in zip(spec["sources"], inputs, strict=True)}
        return figures.curves_figure(spec, records)
    return of_predictions(spec, inputs)


def of_predictions(spec: dict, inputs: list[Path]):
    """ROC curves, or reliability curves: those of the seeds averaged, or of their predictions together."""
    curves, numbers, classes, images = {}, {}, [], 0
    for method in dict.fromkeys(spec["sources"]):
        files = [path for of, path in zip(spec["sources"], inputs, strict=True) if of == method]
        found = read_seeds(files)
        # A figure shows the first split.
        if seeds := spec.get("seeds"):
            check_runs(files, [0] * len(files), seeds, {"method": method} | spec["cell"])
        classes, images = found.classes, len(found.test.labels)
        labels, runs = found.test.labels, found.test.scores
        if spec["kind"] == "roc":
            curves[method] = np.mean([_curves(labels, scores) for scores in runs], axis=0)
            numbers[method] = np.mean([auc(labels, scores) for scores in runs], axis=0)
        else:
            settings, error = Settings(**spec["measures"]), MEASURES.index("calibration_error")
            columns = zip(np.tile(labels, (len(runs), 1)).T, np.concatenate(runs).T, strict=True)
            curves[method] = [reliability(*column, settings.bins) for column in columns]
            numbers[method] = np.mean(
                [measure(labels, scores, settings)[:, error] for scores in runs], axis=0
            )
    if spec["kind"] == "roc":
        return figures.roc_figure(spec, classes, curves, numbers)
    return figures.reliability_figure(spec, classes, curves, numbers, images)


def curve(method: str, path: Path) -> list[dict]:
    """Lines of the metrics.jsonl of a method's pre-training."""
    record = record_of(path, "metrics")
    if record.get("method", method) != method:
        raise UserError(
            f"{path}: of the training of {record['method']}, not of {method}; put the right files there"
        )
    return read_metrics(path)


def _curves(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    return np.stack([figures.roc_curve(*columns) for columns in zip(labels.T, scores.T, strict=True)])


def note(spec: dict) -> str:
    """The methods that are missing and why, and the study's note."""
    absent: dict[str, list[str]] = {}
    for entry in spec["methods"]:
        if entry["status"]:
            absent.setdefault(entry["status"], []).append(entry["title"])
    missing = [f"{', '.join(titles)}: {reason}" for reason, titles in absent.items()]
    return "; ".join(filter(None, [*missing, spec["note"]]))


def main() -> None:
    args = parse_args()
    with figures.plt.rc_context(figures.STYLE):
        figures.save(draw(args.spec, args.inputs), args.out, note(args.spec))


if __name__ == "__main__":
    run(main)
