"""Linear probe of a frozen encoder on one dataset, label ratio and split: a second protocol beside fine-tuning. No torch.

In: features of the encoder; split.parquet and the ratio's subset list of the dataset. Out: predictions.parquet, in the
format of a fine-tune, and run.json. It is deterministic; its seed 0 permutes the labels of a control.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from refers import config
from refers.arguments import Arguments
from refers.columns import LABEL
from refers.data.splits import read_split, read_subset, shuffle_labels
from refers.data.store import index_of
from refers.errors import UserError, run
from refers.evaluation.predictions import frame_of
from refers.evaluation.probe import fit, open_features
from refers.files import large_file_digest, write_json, write_parquet
from refers.provenance import run_record
from refers.provenance.ties import record_of

SEED = 0


def parse_args() -> argparse.Namespace:
    parser = Arguments(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True, help="settings as JSON (refers.config.Probe)")
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--subset", type=Path, required=True)
    run_record.add_cell_option(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder of predictions.parquet and run.json")
    return parser.parse_args()


def main() -> None:
    started = time.monotonic()
    args = parse_args()
    settings = config.load_json(config.Probe, args.config, "probe")
    features = open_features(args.features)
    of_features = record_of(args.features, "features", args.features.with_suffix(".json"), large_file_digest)
    made_from = of_features.get("inputs", {})
    if len({made_from.get("index"), index_of(args.split)} - {None}) > 1:
        raise UserError(
            f"{args.features}: of the images of another index than {args.split}; delete both and rerun extract_features.py and"
            " split_dataset.py"
        )
    split = read_split(args.split, len(features))
    classes = [name.removeprefix(LABEL) for name in split.columns if name.startswith(LABEL)]
    sets = {name: split[split["split"] == name] for name in ("val", "test")}
    learnt = {"train": read_subset(args.subset, split, args.split), "val": sets["val"]}
    if settings.labels == "shuffled":
        learnt = {name: shuffle_labels(rows, SEED) for name, rows in learnt.items()}
    # the test set is read once, after everything is chosen
    given = [part for rows in learnt.values() for part in arrays(features, rows, classes)]
    probe = fit(*given, settings)
    frames = [
        frame_of(rows, classes, probe.scores(features[rows["row"].to_numpy()]), name)
        for name, rows in sets.items()
    ]
    predictions = args.out / "predictions.parquet"
    write_parquet(predictions, pd.concat(frames, ignore_index=True))
    inputs = {"features": large_file_digest(args.features)}
    inputs |= {name: run_record.file_digest(getattr(args, name)) for name in ("split", "subset")}
    # Of the encoder and the store, features are known by their record.
    inputs |= {name: made_from[name] for name in ("encoder", "manifest") if name in made_from}
    facts = run_record.cell_of(args) | {
        "images": {name: len(rows) for name, rows in (sets | learnt).items()},
        "strengths": dict(zip(classes, probe.strengths, strict=True)),
        "fits": probe.fits,
    }
    record = run_record.run_record(
        config.to_dict(settings), SEED, inputs, {"predictions": predictions}, "cpu", started, **facts
    )
    write_json(args.out / "run.json", record)


def arrays(features: np.ndarray, rows: pd.DataFrame, classes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, D) and labels (N, C) of some rows of a split."""
    return features[rows["row"].to_numpy()], rows[[LABEL + name for name in classes]].to_numpy(np.float64)


if __name__ == "__main__":
    run(main)
