"""How long a training loop waits for its resume state: written in the loop, and written beside it.

Tensors of the given size, the pre-training of REFERS by default (2.3 GB: weights, momentum and the best encoder), are saved in
turn by `save_state`, for which a loop would wait, and by `StateWriter.write`, which copies them and returns. The first
copy also fetches the memory for all later ones. Steps go on while the writer's thread works: the rate of a matrix product
meanwhile is printed as a share of its rate alone.

    python benchmarks/resume_state.py
    python benchmarks/resume_state.py --gigabytes 0.5 --device cpu --folder /scratch
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))

from refers.training.resume import StateWriter, save_state
from refers.training.runtime import choose_device

TENSOR = 4 << 20  # bytes, the size of a matrix of ViT-B/16
SIDE = 1024


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=2.28)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--folder", type=Path, help="where states are written; a temporary folder by default")
    return parser.parse_args()


def seconds(work: Callable[[], object], device: torch.device) -> float:
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def main() -> None:
    args = parse_args()
    device = choose_device(args.device)
    count = max(1, round(args.gigabytes * 1e9 / TENSOR))
    tensors = {str(number): torch.randn(TENSOR // 4, device=device) for number in range(count)}
    matrix = torch.randn(SIDE, SIDE, device=device)
    print(f"{count * TENSOR / 1e9:.2f} GB on {device.type}")
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        target = Path(folder) / "resume.pt"
        in_loop = [seconds(lambda: save_state(target, "x", {"module": tensors}), device) for _ in range(2)]
        product = statistics.median(seconds(lambda: matrix @ matrix, device) for _ in range(50))
        beside, meanwhile = [], []
        with StateWriter(target, "x") as writer:
            for _ in range(3):
                beside.append(seconds(lambda: writer.write({"module": tensors}, {}), device))
                while writer.pending and not writer.pending.done():
                    meanwhile.append(seconds(lambda: matrix @ matrix, device))
    print(f"written in the loop  {min(in_loop):6.2f} s")
    print(f"beside it, first     {beside[0]:6.2f} s")
    print(f"beside it, later     {min(beside[1:]):6.2f} s  {min(beside[1:]) / min(in_loop):.2f} of the above")
    print(f"products meanwhile   {product / statistics.median(meanwhile):6.2f} of their rate alone")


if __name__ == "__main__":
    main()
