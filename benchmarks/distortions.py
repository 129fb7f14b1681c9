"""Distortions of the restoration methods against the forward pass that they feed, side by side in one run.

Shapes are the paper's: ViT-B/16, 224 x 224 pixels. A ratio below 1 means that distorting a batch takes less time than the encoder's
forward pass of it.

    python benchmarks/distortions.py                       # auto: a GPU where there is one
    python benchmarks/distortions.py --images 96 --device cuda
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))

from refers import config
from refers.methods import context_restoration, model_genesis, transvw
from refers.model.encoders import build_encoder
from refers.training.precision import Precision
from refers.training.runtime import choose_device

SIDE = 224


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--device", default="auto")
    return parser.parse_args()


def seconds(device: torch.device, work) -> float:
    """Time of `work`, the device's queue drained."""
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


@torch.no_grad()
def main() -> None:
    args = parse_args()
    device = choose_device(args.device)
    torch.manual_seed(0)
    encoder = build_encoder(config.Transformer()).to(device).train()
    images = torch.rand(args.images, 1, SIDE, SIDE, device=device)
    smallest, largest = (round(share * SIDE) for share in context_restoration.Settings().patch)
    distortions = {
        "model_genesis": lambda: model_genesis.distort(images, model_genesis.Settings()),
        "context_restoration": lambda: context_restoration.swap_patches(
            images, context_restoration.Settings().swaps, smallest, largest
        ),
        "transvw": lambda: transvw.distort(images, transvw.Settings()),
    }

    def forward() -> None:
        with Precision(args.precision, device).autocast():
            encoder(images * 2 - 1)

    seconds(device, forward)
    print(f"{args.images} images on {device}, {torch.get_num_threads()} threads, {args.precision}")
    for name, distort in distortions.items():
        seconds(device, distort)
        pairs = [(seconds(device, distort), seconds(device, forward)) for _ in range(args.repeats)]
        ratio = statistics.median(distorted / passed for distorted, passed in pairs)
        each = 1000 * statistics.median(distorted for distorted, _ in pairs) / args.images
        print(f"{name:20} {each:7.2f} ms an image, {ratio:.3f} of the forward pass")


if __name__ == "__main__":
    main()
