"""Fine-tune one encoder on one split and label ratio of a dataset, seed after seed, and predict validation and test sets (paper §4).

In: encoder.safetensors; split.parquet, the ratio's subset list and images.npy of the dataset.
Out: predictions.parquet, run.json and metrics.jsonl in a folder seed{n} per seed, and with --keep the classifiers of some.
resume.pt stays there until the last seed is done, so that a killed job repeats none of them.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from refers import config
from refers.arguments import SEED, Arguments
from refers.columns import LABEL
from refers.data.splits import read_split, read_subset
from refers.data.store import index_of, open_store
from refers.errors import run
from refers.files import write_json, write_parquet
from refers.model.classifier import Classifier
from refers.model.encoder_file import read_encoder, save_encoder
from refers.model.encoders import load_encoder
from refers.provenance import run_record
from refers.provenance.ties import digest_of
from refers.training.finetuning import LabelledImages, finetuning_task, predict, prediction_frame
from refers.training.precision import Precision
from refers.training.resume import clear_resume
from refers.training.runtime import choose_device, oom_as_user_error, seed_torch, skip_dynamo_import
from refers.training.trainer import fit


def parse_args() -> argparse.Namespace:
    parser = Arguments(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True, help="settings as JSON (refers.config.Finetune)")
    parser.add_argument("--encoder", type=Path, required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--subset", type=Path, required=True)
    parser.add_argument("--seeds", type=SEED, nargs="+", required=True)
    parser.add_argument(
        "--keep",
        type=SEED,
        nargs="+",
        default=[],
        help="seeds whose classifiers are kept, for class activation maps and tests on another dataset",
    )
    run_record.add_cell_option(parser)
    parser.add_argument("--device", choices=["auto", "cuda", "cpu"], default="auto")
    parser.add_argument("--out", type=Path, required=True, help="folder of the cell's runs on this split")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    values = config.parse_json(args.config, "finetune")
    device = choose_device(args.device)
    compiled = config.load(config.Finetune, values, "finetune").training.compile
    if not compiled and read_encoder(args.encoder)[1].get("architecture") == "transformer":
        # not for the other encoders: torchvision and timm need it
        skip_dynamo_import()
    store = open_store(args.store, index_of(args.split))
    frame = read_split(args.split, len(store))
    classes = [name.removeprefix(LABEL) for name in frame.columns if name.startswith(LABEL)]
    splits = {name: LabelledImages(store, frame[frame["split"] == name], classes) for name in ("val", "test")}
    subsets = {seed: read_subset(args.subset, frame, args.split, seed) for seed in args.seeds}
    files = {name: getattr(args, name) for name in ("split", "subset")}
    # The manifest has the digest of the store, which `open_store` compared.
    manifest = args.store.with_suffix(".json")
    files |= {"manifest": manifest} if manifest.exists() else {}
    inputs = {name: run_record.file_digest(path) for name, path in files.items()}
    inputs["encoder"] = digest_of(args.encoder, "encoder")
    cell = run_record.cell_of(args)
    for seed in args.seeds:
        seeded = config.merge(values, {"training": {"seed": seed}})
        settings = config.load(config.Finetune, seeded, "finetune")
        folder = args.out / f"seed{seed}"
        splits["train"] = LabelledImages(store, subsets[seed], classes)
        finetune(settings, args.encoder, splits, inputs, device, folder, seed in args.keep, **cell)
    for seed in args.seeds:
        clear_resume(args.out / f"seed{seed}")


def finetune(
    settings: config.Finetune,
    source: Path,
    splits: dict[str, LabelledImages],
    inputs: dict[str, str],
    device: torch.device,
    folder: Path,
    keep: bool,
    **facts: Any,
) -> None:
    """Train with the seed in `settings` from the encoder at `source`; write predictions and record to `folder`.

    keep: write the classifier too; facts: more to record.
    """
    started = time.monotonic()
    seed_torch(settings.training.seed)
    encoder, about = load_encoder(source)
    classes, logits = len(splits["train"].classes), settings.binary_logits
    model = Classifier(encoder, classes, settings.dropout, logits)
    size = encoder.settings.image_size
    train, val = splits["train"], splits["val"]
    if settings.labels == "shuffled":
        train, val = (part.with_shuffled_labels(settings.training.seed) for part in (train, val))
    task = finetuning_task(model, train, val, settings, size, device)
    plain = config.to_dict(settings)
    outcome = fit(task, settings.training, device, folder, run_record.digest([plain, inputs]), started)
    memory = oom_as_user_error("in prediction", "lower evaluation_batch")
    with torch.no_grad(), Precision(settings.training.precision, device).autocast(), memory:
        frames = [
            prediction_frame(splits[name], predict(model, splits[name], settings, size, device), name)
            for name in ("val", "test")
        ]
    outputs = {"predictions": folder / "predictions.parquet", "metrics": folder / "metrics.jsonl"}
    write_parquet(outputs["predictions"], pd.concat(frames, ignore_index=True))
    if keep:
        outputs["classifier"] = folder / "classifier.safetensors"
        about_classifier = {"classes": classes, "seed": settings.training.seed}
        save_encoder(outputs["classifier"], model, about_classifier)
    facts |= {
        "encoder": about,
        "images": {name: len(splits[name]) for name in ("train", "val", "test")},
        "threads": torch.get_num_threads(),
        **outcome,
    }
    record = run_record.run_record(plain, settings.training.seed, inputs, outputs, device, started, **facts)
    write_json(folder / "run.json", record)


if __name__ == "__main__":
    run(main)
