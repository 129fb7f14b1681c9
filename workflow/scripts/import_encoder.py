"""Import a method's encoder from a checkpoint instead of pre-training it (ImageNet's, paper §4, baselines; or your own).

In: a checkpoint at a local path, or `timm:NAME`, which downloads timm's weights. Out: encoder.safetensors and run.json
with the key report and the input that the weights were trained with.
"""

import argparse
from pathlib import Path

from refers import config
from refers.errors import run
from refers.files import write_json
from refers.formatting import input_text
from refers.model.encoder_file import save_encoder
from refers.model.import_checkpoint import import_encoder
from refers.provenance import run_record
from refers.training.runtime import seed_torch

SEED = 0  # of the weights where the checkpoint is `random`


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--method", required=True)
    parser.add_argument("--checkpoint", required=True, help="path, timm:NAME or random")
    parser.add_argument("--config", required=True, help="architecture as JSON (refers.config.Model)")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def by_part(names: list[str]) -> str:
    """Names of tensors in short: where several share what stands before the first dot, that and their number."""
    parts: dict[str, list[str]] = {}
    for name in names:
        parts.setdefault(name.split(".")[0], []).append(name)
    texts = (found[0] if len(found) == 1 else f"{part}.* ({len(found)})" for part, found in parts.items())
    return f"{len(names)}, {', '.join(texts)}; run.json lists them" if names else "none"


def main() -> None:
    args = parse_args()
    where = f"{args.method}.model"
    settings = config.load_model(config.parse_json(args.config, where), where)
    seed_torch(SEED)
    encoder, report = import_encoder(settings, args.checkpoint)
    left_out, facts = by_part(report["left_out"]), report.pop("input")
    print(
        f"{args.checkpoint}: {report['read']} tensors read, {report['loaded']} loaded, left out: {left_out};"
        f" input: {input_text(facts)}"
    )
    is_file = Path(args.checkpoint).is_file()
    origin = run_record.file_digest(Path(args.checkpoint)) if is_file else args.checkpoint
    save_encoder(args.out, encoder, {"method": args.method, "checkpoint": origin, "input": facts})
    record = run_record.run_record(
        # as the config has them; what is applied at the input is in the encoder's file
        config.to_dict(encoder.settings.replace(input=settings.input)),
        SEED,
        {"checkpoint": origin},
        {"encoder": args.out},
        "cpu",
        method=args.method,
        keys=report,
        input=facts,
    )
    write_json(args.out.with_name("run.json"), record)


if __name__ == "__main__":
    run(main)
