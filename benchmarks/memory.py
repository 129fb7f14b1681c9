"""Peak GPU memory of one training step at the paper's shapes, estimated from its tensors (`refers.planning.step_costs`); no GPU is needed.

python benchmarks/memory.py                    # every method of the published study, pre-training and fine-tuning
python benchmarks/memory.py refers c2l --precision fp16
"""

import argparse
import sys
import tempfile
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))

from refers.config.read import read_files
from refers.planning.step_costs import context_of, cost_of_finetuning, cost_of_pretraining
from refers.study.check import check

ROOT = Path(__file__).parents[1]
GIB = 1 << 30


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("methods", nargs="*", help="default: every method that is pre-trained")
    parser.add_argument("--precision", choices=["bf16", "fp16", "fp32"], default="bf16")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    warnings.filterwarnings("ignore")
    study = check(read_files([ROOT / "config/config.yaml"]))
    methods = args.methods or [name for name in study.methods if not study.is_imported(name)]
    print(f"{'method':24} {'pre-training':>14} {'fine-tuning':>12}   GiB, {args.precision}")
    with tempfile.TemporaryDirectory() as folder:
        for name in methods:
            settings = study.pretrain_settings(name)
            tuning = study.finetune_settings(name, "nih", 100)
            context = context_of(Path(folder), study.config.text, settings.words.count)
            before = settings.training.replace(precision=args.precision)
            after = tuning.training.replace(precision=args.precision)
            costs = (
                cost_of_pretraining(settings.replace(training=before), context),
                cost_of_finetuning(settings.model, after),
            )
            print(
                f"{name:24} {costs[0]['gpu_bytes'] / GIB:14.1f} {costs[1]['gpu_bytes'] / GIB:12.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
