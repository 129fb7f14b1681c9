"""Fine-tune one encoder on one dataset, label ratio and seed, and predict its validation and test sets (paper §4).

In: encoder.safetensors; split.parquet, the ratio's subset list and images.npy of the dataset.
Out: predictions.parquet and run.json beside it. Weights are not kept; resume.pt lies there while the run lasts.
"""

import argparse
from pathlib import Path

import pandas as pd
import torch
from refers import config, provenance
from refers.encoders import load_encoder
from refers.engine import clear_resume, fit
from refers.errors import UserError, run
from refers.files import write_json, write_parquet
from refers.finetuning import Classifier, LabelledImages, finetuning_task, predict, prediction_frame
from refers.precision import Precision
from refers.runtime import choose_device, seed_torch, spare_compiler
from refers.schema import LABEL
from refers.store import open_store


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True, help="settings as JSON (refers.config.Finetune)")
    parser.add_argument("--encoder", type=Path, required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--subset", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--device", choices=["auto", "cuda", "cpu"], default="auto")
    parser.add_argument("--out", type=Path, required=True, help="predictions.parquet")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    values = config.merge(config.parse_json(args.config, "finetune"), {"training": {"seed": args.seed}})
    settings = config.load(config.Finetune, values, "finetune")
    device = choose_device(args.device)
    if not settings.training.compile:
        spare_compiler()
    frame = pd.read_parquet(args.split)
    classes = [name.removeprefix(LABEL) for name in frame.columns if name.startswith(LABEL)]
    subset = pd.read_csv(args.subset)["image_id"].astype(str)
    if unknown := set(subset) - set(frame.loc[frame["split"] == "train", "image_id"]):
        raise UserError(
            f"{args.subset}: {min(unknown)} is no training image of {args.split}; remake the subset"
        )
    store = open_store(args.store)
    parts = {name: LabelledImages(store, frame[frame["split"] == name], classes) for name in ("val", "test")}
    train = LabelledImages(store, frame[frame["image_id"].isin(subset)], classes)

    seed_torch(args.seed)
    encoder, about = load_encoder(args.encoder)
    model = Classifier(encoder, len(classes), settings.dropout)
    size = encoder.settings.image_size
    task = finetuning_task(model, train, parts["val"], settings, size, device)
    inputs = {name: provenance.file_digest(getattr(args, name)) for name in ("encoder", "split", "subset")}
    plain = config.to_dict(settings)
    outcome = fit(task, settings.training, device, args.out.parent, provenance.digest([plain, inputs]))

    with Precision(settings.training.precision, device).autocast():
        frames = [
            prediction_frame(part, predict(model, part, settings, size, device), name)
            for name, part in parts.items()
        ]
    write_parquet(args.out, pd.concat(frames, ignore_index=True))
    facts = {
        "encoder": about,
        "images": {"train": len(train)} | {name: len(part) for name, part in parts.items()},
        "threads": torch.get_num_threads(),
        **outcome,
    }
    write_json(args.out.with_name("run.json"), provenance.run_record(plain, inputs, device, **facts))
    clear_resume(args.out.parent)


if __name__ == "__main__":
    run(main)
