"""Pre-train one encoder with one objective, on MIMIC-CXR-JPG (paper §4) or on a pool of other images.

In: index.parquet, images.npy and images.json of either; of MIMIC also tokens.npz and the text encoder's folder; optionally an encoder to
start from, and the pilot that chose optimiser and rate.
Out: encoder.safetensors, run.json and metrics.jsonl beside it; and resume.pt while the run lasts.
"""

import argparse
from pathlib import Path

import torch
from refers import config
from refers.arguments import Arguments, whole
from refers.errors import UserError, run
from refers.files import write_json
from refers.methods.common.pilot import choice_of
from refers.methods.common.pretraining import Inputs, task_of
from refers.model.encoder_file import save_encoder
from refers.provenance import run_record
from refers.training import distributed
from refers.training.pretraining import check_batch_size
from refers.training.resume import clear_resume
from refers.training.runtime import choose_device
from refers.training.trainer import fit


def parse_args() -> argparse.Namespace:
    parser = Arguments(description=__doc__.splitlines()[0])
    parser.add_argument("--method", required=True)
    parser.add_argument("--config", required=True, help="settings as JSON (refers.config.Pretrain)")
    Inputs.add_options(parser)
    parser.add_argument("--pilot", type=Path, help="JSON of pilot.py, where settings say `rate: pilot`")
    parser.add_argument("--device", choices=["auto", "cuda", "cpu"], default="auto")
    parser.add_argument(
        "--processes",
        type=whole(1, 1024),
        default=1,
        help="one per GPU, started by torchrun; they share a batch",
    )
    parser.add_argument(
        "--nodes",
        type=whole(1, 1024),
        default=1,
        help="machines that share the processes; in a Slurm job all start",
    )
    parser.add_argument("--rendezvous", help="outside Slurm: HOST:PORT, a free port of the first node")
    parser.add_argument("--node-rank", type=whole(0, 1023), help="outside Slurm: number of this node, from 0")
    parser.add_argument("--out", type=Path, required=True, help="encoder.safetensors")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    settings = config.load_json(config.Pretrain, args.config, args.method)
    check_batch_size(settings.training.batch_size, args.processes)
    distributed.launch(args.processes, args.device, args.nodes, args.node_rank, args.rendezvous)
    device = choose_device(args.device)
    with distributed.until_left():
        train(args, settings, distributed.join(device))


def train(args: argparse.Namespace, settings: config.Pretrain, device: torch.device) -> None:
    inputs = Inputs.of(args)
    data, digests = inputs.studies(settings.reports), inputs.digests()
    if args.pilot:
        settings = settings.at(choice_of(args.pilot, args.method, settings, digests))
        digests["pilot"] = run_record.file_digest(args.pilot)
    elif settings.rate == "pilot":
        raise UserError(f"{args.method}: rate is pilot, but no --pilot names its result")
    task = task_of(settings, inputs, data, device)
    encoder, objective = task.keep, task.module

    plain = config.to_dict(settings)
    outcome = fit(task, settings.training, device, args.out.parent, run_record.digest([plain, digests]))
    if not distributed.is_main_process():
        return
    facts = {
        "method": args.method,
        "processes": distributed.world_size(),
        "nodes": distributed.nodes(),
        "parameters": sum(tensor.numel() for tensor in objective.parameters()),
        "encoder_parameters": sum(tensor.numel() for tensor in encoder.parameters()),
        "studies": {name: len(members) for name, members in data.splits.items()},
        "threads": torch.get_num_threads(),
        "quarantined_images": len(data.quarantined),
        **outcome,
    }
    save_encoder(args.out, encoder, {"method": args.method, "settings_sha256": run_record.digest(plain)})
    outputs = {"encoder": args.out, "metrics": args.out.with_name("metrics.jsonl")}
    record = run_record.run_record(plain, settings.training.seed, digests, outputs, device, **facts)
    write_json(args.out.with_name("run.json"), record)
    clear_resume(args.out.parent)


if __name__ == "__main__":
    run(main)
