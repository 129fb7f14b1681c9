"""One table cell: AUC per class and seed, mean and standard deviation over seeds, test and validation set (paper §4).

In: predictions.parquet of every seed. Out: auc.json. Needs no torch.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from refers.errors import UserError, run
from refers.files import write_json
from refers.schema import LABEL, SCORE
from refers.statistics import summarise


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--predictions", type=Path, nargs="+", required=True, help="one file a seed")
    parser.add_argument("--seeds", type=int, nargs="+", required=True, help="in the order of the files")
    parser.add_argument("--method", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--ratio", type=int, required=True, help="percent of the training labels")
    parser.add_argument("--out", type=Path, required=True, help="auc.json")
    return parser.parse_args()


def read_predictions(path: Path) -> tuple[list[str], dict[str, Any]]:
    """Classes, and for "val" and "test" the image ids (N,), labels (N, C) and scores (N, C), sorted by image id."""
    import pyarrow.parquet as parquet

    try:
        with parquet.ParquetFile(path) as opened:
            table = opened.read()
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise UserError(f"{path}: cannot be read as Parquet ({reason}); fine-tune this seed again") from None
    names = table.column_names
    classes = [name.removeprefix(LABEL) for name in names if name.startswith(LABEL)]
    scored = [name.removeprefix(SCORE) for name in names if name.startswith(SCORE)]
    if not classes or set(classes) != set(scored) or not {"split", "image_id"} <= set(names):
        raise UserError(
            f"{path}: columns {', '.join(names)}; split, image_id and a {LABEL} and a {SCORE} column for every class are expected"
        )
    split, ids = table["split"].to_numpy(), table["image_id"].to_numpy().astype(str)
    labels = np.column_stack([table[LABEL + name].to_numpy() for name in classes])
    scores = np.column_stack([table[SCORE + name].to_numpy() for name in classes])
    _check_values(path, ids, classes, labels, scores)
    if unknown := set(split) - {"val", "test"}:
        raise UserError(f"{path}: split {min(unknown, key=str)!r}; val and test are expected")
    parts = {}
    for name in ("test", "val"):
        rows = np.flatnonzero(split == name)
        if not len(rows):
            raise UserError(f"{path}: no {name} image; remake the split, then fine-tune this seed again")
        rows = rows[np.argsort(ids[rows], kind="stable")]
        if (twice := ids[rows][1:] == ids[rows][:-1]).any():
            raise UserError(
                f"{path}: {name} image {ids[rows][1:][twice][0]} occurs twice; fine-tune this seed again"
            )
        parts[name] = {"ids": ids[rows], "labels": labels[rows], "scores": scores[rows]}
    return classes, parts


def _check_values(
    path: Path, ids: np.ndarray, classes: list[str], labels: np.ndarray, scores: np.ndarray
) -> None:
    checks = [
        ("label", labels, (labels == 0) | (labels == 1), "0 or 1"),
        ("score", scores, (scores >= 0) & (scores <= 1), "a number in [0, 1]"),
    ]
    for kind, values, good, expected in checks:
        if not good.all():
            row, column = np.argwhere(~good)[0]
            raise UserError(
                f"{path}: row {row} (image {ids[row]}): {kind} of {classes[column]} is {values[row, column]}, {expected} is expected;"
                " fine-tune this seed again"
            )


def read_seeds(paths: list[Path]) -> tuple[list[str], dict[str, Any]]:
    """As `read_predictions`, with the scores of all seeds in a list; they must hold the same images and labels."""
    classes, parts = read_predictions(paths[0])
    for part in parts.values():
        part["scores"] = [part["scores"]]
    for path in paths[1:]:
        names, others = read_predictions(path)
        again = "predictions of one cell come from one split; fine-tune the older seed again"
        if names != classes:
            raise UserError(
                f"{path}: classes {', '.join(names)}, but {paths[0]} has {', '.join(classes)}; {again}"
            )
        for name, part in parts.items():
            other = others[name]
            if odd := set(part["ids"]) ^ set(other["ids"]):
                raise UserError(
                    f"{path}: {name} image {min(odd)} is in this file or in {paths[0]} only ({len(odd)} such); {again}"
                )
            if (differ := (part["labels"] != other["labels"]).any(axis=1)).any():
                raise UserError(
                    f"{path}: labels of {name} image {part['ids'][differ][0]} differ from {paths[0]}; {again}"
                )
            part["scores"].append(other["scores"])
    return classes, parts


def main() -> None:
    args = parse_args()
    if len(args.predictions) != len(args.seeds) or len(set(args.seeds)) != len(args.seeds):
        raise UserError(
            f"{len(args.predictions)} files of predictions and seeds {args.seeds}; give one file for every seed, each seed once"
        )
    classes, parts = read_seeds(args.predictions)
    halves = {name: summarise(part["labels"], part["scores"], classes) for name, part in parts.items()}
    about = {"method": args.method, "dataset": args.dataset, "ratio": args.ratio}
    content = about | {"classes": classes, "seeds": args.seeds}
    write_json(args.out, content | {"test": halves["test"], "validation": halves["val"]})
    test = halves["test"]
    mean = "undefined" if test["mean"] is None else f"{100 * test['mean']:.2f}"
    missing = f"; undefined: {', '.join(test['undefined'])}" if test["undefined"] else ""
    print(
        f"{args.method} {args.dataset} {args.ratio}%: test AUC {mean}, {test['images']} images, {len(args.seeds)} seeds{missing}"
    )


if __name__ == "__main__":
    run(main)
