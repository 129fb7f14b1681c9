"""Choose optimiser and peak learning rate of a method's pre-training by short runs (`pilots` in the config).

In: what pretrain.py reads. Out: a JSON file with the held-out loss of every candidate, that of a predictor which ignores
its input, and the choice, which pretrain.py reads; while the runs last, a folder of the same name with their states.
"""

import argparse
import shutil
from pathlib import Path

from refers import config
from refers.arguments import Arguments
from refers.errors import run
from refers.files import write_json
from refers.methods.common.pilot import choose, try_candidates
from refers.methods.common.pretraining import Inputs, task_of
from refers.provenance import run_record
from refers.training.runtime import choose_device


def parse_args() -> argparse.Namespace:
    parser = Arguments(description=__doc__.splitlines()[0])
    parser.add_argument("--method", required=True)
    parser.add_argument("--config", required=True, help="settings as JSON (refers.config.Pretrain)")
    parser.add_argument("--pilots", required=True, help="settings as JSON (refers.config.Pilots)")
    Inputs.add_options(parser)
    parser.add_argument("--device", choices=["auto", "cuda", "cpu"], default="auto")
    parser.add_argument("--out", type=Path, required=True, help="METHOD.json")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    settings = config.load_json(config.Pretrain, args.config, args.method)
    pilots = config.load_json(config.Pilots, args.pilots, "pilots")
    device, inputs = choose_device(args.device), Inputs.of(args)
    data, digests = inputs.studies(settings.reports), inputs.digests()
    plain = {"pretrain": config.to_dict(settings), "pilots": config.to_dict(pilots)}
    folder = args.out.with_suffix("")
    tried = try_candidates(
        settings,
        pilots,
        lambda candidate: task_of(candidate, inputs, data, device),
        device,
        folder,
        run_record.digest([plain, digests]),
    )
    short, earlier = pilots.shortened(settings.training), sum(each.pop("earlier") for each in tried)
    # the same for all; a diverged candidate has none
    trivial = max((loss for each in tried if (loss := each.pop("trivial")) is not None), default=None)
    found = {
        "method": args.method,
        "steps": short.steps,
        "warmup_steps": short.warmup_steps,
        "batch_size": short.batch_size,
        "trivial": trivial,
        "candidates": tried,
        **choose(tried),
        "settings": plain,
        "settings_sha256": run_record.digest(plain),
        "inputs": digests,
        "resumed_at": earlier,
        **run_record.process_record(device),
    }
    write_json(args.out, found)
    shutil.rmtree(folder)
    print(f"chosen: {found['chosen']['name']} {found['chosen']['lr']:g}", flush=True)


if __name__ == "__main__":
    run(main)
