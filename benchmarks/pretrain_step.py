"""How close a REFERS pre-training step at the paper's shapes comes to the machine's matrix-multiply ceiling.

ViT-B/16 with recurrent concatenation, BERT-base, the base report decoder, 3 views of 224 x 224 and 100 tokens a study;
weights are random. The matrix products of a step are counted (a multiply-add is 2 FLOP), the step is timed, and
their rate is printed as a share of a 2048^3 product's rate, timed in turn with the steps in the same process.

    python benchmarks/pretrain_step.py                       # fp32 and bf16, 4 studies
    python benchmarks/pretrain_step.py --precision bf16 --studies 8 --steps 10
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))

from refers import config
from refers.methods import Context, build_objective
from refers.model.encoders import build_encoder
from refers.training import optim
from refers.training.precision import Precision
from refers.training.runtime import choose_device
from refers.training.step import train_step
from refers.training.task import Task

VOCABULARY, TOKENS, SIDE = 30522, 100, 2048


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--studies", type=int, default=4)
    parser.add_argument("--steps", type=int, default=6, help="timed steps")
    parser.add_argument("--device", default="auto")
    return parser.parse_args()


def objective_at_paper_shapes(folder: Path) -> torch.nn.Module:
    """REFERS as configured for the paper, on a random BERT-base written to `folder`."""
    from transformers import BertConfig, BertModel

    BertModel(BertConfig(vocab_size=VOCABULARY)).save_pretrained(folder)
    context = Context(text_encoder=folder, vocabulary=VOCABULARY, max_length=TOKENS, label_names=())
    return build_objective("refers", build_encoder(config.Transformer()), {}, context)


def waited(device: torch.device, work) -> float:
    """Seconds of `work`, the device's queue drained."""
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def main() -> None:
    args = parse_args()
    device = choose_device(args.device)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        objective = objective_at_paper_shapes(Path(folder)).to(device).train()
    batch = {
        "images": torch.randn(args.studies, 3, 1, 224, 224, device=device),
        "tokens": torch.randint(1, VOCABULARY, (args.studies, TOKENS), device=device),
    }
    counter = FlopCounterMode(display=False)
    with counter:
        objective(batch)["loss"].backward()
    objective.zero_grad(set_to_none=True)
    flops = counter.get_total_flops()
    parameters = sum(tensor.numel() for tensor in objective.parameters())
    print(f"{args.studies} studies, {parameters / 1e6:.1f} M parameters, {flops / 1e9:.0f} GFLOP a step")
    print(f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}")

    settings = config.Training()
    task = Task(module=objective, keep=objective, load=None, loss=objective, validate=None, epoch_steps=1)
    for name in args.precision:
        precision = Precision(name, device)
        optimiser = optim.build(objective, settings.optimiser, objective.lr_overrides(settings.optimiser))
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]
        left, right = (torch.randn(SIDE, SIDE, device=device, dtype=dtype) for _ in range(2))

        def step(precision=precision, optimiser=optimiser) -> None:
            train_step(task, batch, precision, optimiser, settings.optimiser.clip_norm)

        def product(left=left, right=right) -> None:
            for _ in range(8):
                left @ right

        waited(device, step), waited(device, step), waited(device, product)
        shares, seconds, ceilings = [], [], []
        for _ in range(args.steps):
            ceiling = 8 * 2 * SIDE**3 / waited(device, product)
            taken = waited(device, step)
            ceilings.append(ceiling), seconds.append(taken), shares.append(flops / taken / ceiling)
        print(
            f"{name}: {statistics.median(seconds):.2f} s a step (min {min(seconds):.2f}), "
            f"{args.studies * 3 / statistics.median(seconds):.1f} images/s, "
            f"{SIDE}^3 product {statistics.median(ceilings) / 1e9:.0f} GFLOP/s, "
            f"share of the ceiling {100 * statistics.median(shares):.0f} % (max {100 * max(shares):.0f} %)"
        )


if __name__ == "__main__":
    main()
