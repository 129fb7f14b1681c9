"""Import a method's encoder from a checkpoint instead of pre-training it (ImageNet's, paper §4, baselines; or your own).

In: a checkpoint at a local path, or `timm:NAME`, which downloads timm's weights. Out: encoder.safetensors and run.json
with the key report and the input that the weights were trained with.
"""

import argparse
from pathlib import Path

from refers import config
from refers.arguments import Arguments
from refers.errors import run
from refers.files import write_json
from refers.formatting import input_text, names_text
from refers.model.encoder_file import save_encoder
from refers.model.import_checkpoint import import_encoder
from refers.provenance import run_record
from refers.training.runtime import seed_torch

SEED = 0  # of the weights where the checkpoint is `random`


def parse_args() -> argparse.Namespace:
    parser = Arguments(description=__doc__.splitlines()[0])
    parser.add_argument("--method", required=True)
    parser.add_argument("--checkpoint", required=True, help="path, timm:NAME or random")
    parser.add_argument("--key", help="where the network stands in a file that has several")
    parser.add_argument("--config", required=True, help="architecture as JSON (refers.config.Model)")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    where = f"{args.method}.model"
    settings = config.load_model(config.parse_json(args.config, where), where)
    seed_torch(SEED)
    encoder, report = import_encoder(settings, args.checkpoint, args.key)
    facts = report.pop("input")
    print(f"{args.checkpoint}: {report['read']} tensors read, {report['loaded']} loaded")
    print(f"left out: {names_text(report['left_out'])}; {args.out.with_name('run.json')} names them")
    if "stripped" in report:
        print(f"stripped from the names: {', '.join(report['stripped'])}")
    if "others" in report:
        print(f"other networks in the file: {', '.join(report['others'])}; checkpoint_key chooses")
    print(f"input: {input_text(facts)}")
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
