"""Pre-train one encoder on MIMIC-CXR-JPG with one objective (paper §4).

In: index.parquet, images.npy, images.json and tokens.npz of MIMIC; the text encoder's folder; optionally an encoder to start from.
Out: encoder.safetensors, run.json and metrics.jsonl beside it; and resume.pt while the run lasts.
"""

import argparse
from pathlib import Path

import torch
from refers import config
from refers.data.mimic_studies import MimicStudies
from refers.errors import run
from refers.files import write_json
from refers.methods import Context, build_objective
from refers.model.encoder_file import load_start, save_encoder
from refers.model.encoders import build_encoder
from refers.provenance import run_record
from refers.training import distributed
from refers.training.pretraining import pretraining_task
from refers.training.resume import clear_resume
from refers.training.runtime import choose_device, seed_torch
from refers.training.trainer import fit


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--method", required=True)
    parser.add_argument("--config", required=True, help="settings as JSON (refers.config.Pretrain)")
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument(
        "--manifest", type=Path, required=True, help="images.json, which names unreadable images"
    )
    parser.add_argument("--tokens", type=Path, required=True)
    parser.add_argument("--text-encoder", type=Path, required=True)
    parser.add_argument("--words", type=Path, help="words.csv, for objectives that learn from crops")
    parser.add_argument("--init", type=Path, help="encoder to start from")
    parser.add_argument("--device", choices=["auto", "cuda", "cpu"], default="auto")
    parser.add_argument(
        "--processes", type=int, default=1, help="one per GPU, started by torchrun; they share a batch"
    )
    parser.add_argument("--out", type=Path, required=True, help="encoder.safetensors")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    distributed.launch(args.processes, args.device)
    settings = config.load_json(config.Pretrain, args.config, args.method)
    device = distributed.join(choose_device(args.device))
    data = MimicStudies(args.index, args.store, args.tokens, args.manifest, args.words, settings.reports)
    if data.quarantined:
        print(f"{len(data.quarantined)} unreadable images left out; {args.manifest} names their rows")
    seed_torch(settings.training.seed)
    encoder = build_encoder(settings.model)
    if args.init:
        load_start(encoder, args.init)
    context = Context(
        text_encoder=args.text_encoder,
        vocabulary=data.vocabulary,
        max_length=data.max_length,
        label_names=data.label_names,
        words=data.words,
    )
    objective = build_objective(settings.objective, encoder, settings.settings, context)
    task = pretraining_task(data, objective, settings.training, settings.model.image_size, device)

    inputs = {
        name: run_record.file_digest(getattr(args, name))
        for name in ("index", "manifest", "tokens", "init", "words")
        if getattr(args, name)
    }
    text = args.text_encoder / "model.safetensors"
    inputs |= {"text_encoder": run_record.file_digest(text)} if text.exists() else {}
    plain = config.to_dict(settings)
    outcome = fit(task, settings.training, device, args.out.parent, run_record.digest([plain, inputs]))
    if not distributed.is_main_process():
        return
    facts = {
        "method": args.method,
        "processes": distributed.world_size(),
        "parameters": sum(tensor.numel() for tensor in objective.parameters()),
        "encoder_parameters": sum(tensor.numel() for tensor in encoder.parameters()),
        "studies": {name: len(members) for name, members in data.splits.items()},
        "threads": torch.get_num_threads(),
        "quarantined_images": len(data.quarantined),
        **outcome,
    }
    save_encoder(args.out, encoder, {"method": args.method, "settings_sha256": run_record.digest(plain)})
    record = run_record.run_record(
        plain, settings.training.seed, inputs, {"encoder": args.out}, device, **facts
    )
    write_json(args.out.with_name("run.json"), record)
    clear_resume(args.out.parent)


if __name__ == "__main__":
    run(main)
