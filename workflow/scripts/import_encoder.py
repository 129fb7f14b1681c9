"""Make a method's encoder from a checkpoint on disk instead of pre-training it (ImageNet's, paper §4, baselines).

In: a ViT checkpoint (Google's npz or timm's safetensors) at a local path; nothing is downloaded.
Out: encoder.safetensors and run.json with the key report.
"""

import argparse
from pathlib import Path

from refers import config, provenance
from refers.checkpoint import load_strictly, save_encoder
from refers.encoders import build_encoder
from refers.errors import run
from refers.files import write_json
from refers.imagenet import read_checkpoint, to_radiograph_transformer


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--method", required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--config", required=True, help="architecture as JSON (refers.config.Transformer)")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    settings = config.load_json(config.Transformer, args.config, f"{args.method}.model")
    tensors = read_checkpoint(args.checkpoint)
    encoder = build_encoder(settings)
    state = to_radiograph_transformer(tensors, settings, str(args.checkpoint))
    load_strictly(encoder, state, str(args.checkpoint))
    report = {"read": len(tensors), "loaded": len(state), "missing": 0, "unexpected": 0}
    print(
        f"{args.checkpoint}: {len(tensors)} tensors read, {len(state)} loaded, none missing, none unexpected"
    )
    inputs = {"checkpoint": provenance.file_digest(args.checkpoint)}
    save_encoder(args.out, encoder, {"method": args.method, "checkpoint_sha256": inputs["checkpoint"]})
    record = provenance.run_record(config.to_dict(settings), inputs, "cpu", method=args.method, keys=report)
    write_json(args.out.with_name("run.json"), record)


if __name__ == "__main__":
    run(main)
