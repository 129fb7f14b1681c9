"""Augmentation of a batch against its bilinear sampling alone and against an image-by-image loader, side by side in one run.

Shapes and ranges are the paper's: 224 of 256 pixels, flips, rotation by 10 degrees, brightness and contrast. The loader is a
usual one: torchvision's transforms on one PIL image after the other, without the time to decode it. Processor seconds.

    python benchmarks/augmentation.py                    # one thread
    python benchmarks/augmentation.py --threads 8 --images 256
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch.nn import functional as F
from torchvision import transforms

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))

from refers import config
from refers.model.layers import MEAN, STD
from refers.training import augment

STORED, SIZE = 256, 224


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    return parser.parse_args()


def seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    settings = config.Augment()
    images = torch.randint(0, 256, (args.images, STORED, STORED), dtype=torch.uint8)
    device = images.device
    whole = torch.eye(2, 3).expand(args.images, 2, 3)
    grid = F.affine_grid(whole, [args.images, 1, SIZE, SIZE], align_corners=False)
    pixels = images[:, None].float()
    pictures = [Image.fromarray(image) for image in images.numpy()]
    one_by_one = transforms.Compose(
        [
            transforms.RandomRotation(settings.rotation, transforms.InterpolationMode.BILINEAR),
            transforms.RandomCrop(SIZE),
            transforms.RandomHorizontalFlip(settings.flip),
            transforms.RandomApply(
                [transforms.ColorJitter(settings.brightness, settings.contrast)], settings.jitter_probability
            ),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )

    def ours() -> torch.Tensor:
        params = augment.sample_params(settings, args.images, STORED, SIZE, device)
        return augment.apply(params, images, SIZE)

    works = {
        "ours": ours,
        "sampling alone": lambda: F.grid_sample(pixels, grid, align_corners=False),
        "image by image": lambda: torch.stack([one_by_one(picture) for picture in pictures]),
    }
    best = {name: min(seconds(work) for _ in range(args.repeats)) for name, work in works.items()}
    print(f"{'':16} {'images/s':>9} {'of ours':>8}")
    for name, taken in best.items():
        print(f"{name:16} {args.images / taken:9.0f} {best['ours'] / taken:8.2f}")


if __name__ == "__main__":
    main()
