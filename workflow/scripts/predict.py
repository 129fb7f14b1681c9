"""Predict the test images of another dataset with the classifiers that a fine-tune kept; nothing is trained or chosen by them.

In: classifier.safetensors and predictions.parquet of each seed on a split; split.parquet and images.npy of the other dataset.
Out: on_{other}.parquet in the folder of each seed, with the labels of the other dataset and a score for every class of the
classifier, and on_{other}.json, its run record.
"""

import argparse
import time
from pathlib import Path

import pandas as pd
import torch
from refers import config
from refers.arguments import SEED, Arguments
from refers.columns import LABEL, SCORE
from refers.data.splits import read_split
from refers.data.store import index_of, open_store
from refers.errors import UserError, run
from refers.evaluation.predictions import read_seeds
from refers.files import write_json, write_parquet
from refers.model.classifier import load_classifier, probabilities
from refers.provenance import run_record
from refers.provenance.ties import digest_of
from refers.training.finetuning import LabelledImages, predict
from refers.training.precision import Precision
from refers.training.runtime import choose_device, oom_as_user_error


def parse_args() -> argparse.Namespace:
    parser = Arguments(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True, help="settings of the fine-tune as JSON")
    parser.add_argument("--classifiers", type=Path, nargs="+", required=True, help="one per seed")
    parser.add_argument("--predictions", type=Path, nargs="+", required=True, help="of the same runs")
    parser.add_argument("--seeds", type=SEED, nargs="+", required=True, help="of each classifier")
    run_record.add_cell_option(parser)
    parser.add_argument("--other", required=True, help="name of the other dataset")
    parser.add_argument("--store", type=Path, required=True, help="of the other dataset, as --split")
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--device", choices=["auto", "cuda", "cpu"], default="auto")
    parser.add_argument("--out", type=Path, required=True, help="folder of the cell's runs on its split")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    settings = config.load(config.Finetune, config.parse_json(args.config, "finetune"), "finetune")
    if not len(args.classifiers) == len(args.predictions) == len(args.seeds):
        raise UserError("--classifiers, --predictions and --seeds: give one of each for every run")
    device = choose_device(args.device)
    store = open_store(args.store, index_of(args.split))
    frame = read_split(args.split, len(store))
    labels = [name.removeprefix(LABEL) for name in frame.columns if name.startswith(LABEL)]
    images = LabelledImages(store, frame[frame["split"] == "test"], labels)
    manifest = args.store.with_suffix(".json")
    files = {"split": args.split} | ({"manifest": manifest} if manifest.exists() else {})
    shared = {name: run_record.file_digest(path) for name, path in files.items()}
    classes = read_seeds(args.predictions).classes
    for seed, source, made in zip(args.seeds, args.classifiers, args.predictions, strict=True):
        started = time.monotonic()
        inputs = shared | {
            "classifier": digest_of(source, "classifier"),
            "predictions": digest_of(made, "predictions"),
        }
        model = load_classifier(source).to(device)
        if model.classes != len(classes):
            raise UserError(
                f"{source}: of {model.classes} classes, but {made} has {len(classes)}; rerun finetune.py"
            )
        size, memory = model.settings.image_size, oom_as_user_error("in prediction", "lower evaluation_batch")
        with torch.no_grad(), Precision(settings.training.precision, device).autocast(), memory:
            logits = predict(model, images, settings, size, device)
        scores = pd.DataFrame(probabilities(logits, len(classes)), columns=[SCORE + name for name in classes])
        known = images.frame[["image_id", "patient_id", *(LABEL + name for name in labels)]]
        folder = args.out / f"seed{seed}"
        outputs = {"predictions": folder / f"on_{args.other}.parquet"}
        write_parquet(outputs["predictions"], pd.concat([known, scores], axis=1))
        facts = run_record.cell_of(args) | {"tested_on": args.other, "images": {"test": len(images)}}
        plain = config.to_dict(settings)
        record = run_record.run_record(plain, seed, inputs, outputs, device, started, **facts)
        write_json(folder / f"on_{args.other}.json", record)
    print(f"{len(images)} test images of {args.other} predicted by {len(args.seeds)} classifiers")


if __name__ == "__main__":
    run(main)
