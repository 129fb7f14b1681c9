"""Share of a fine-tune that its validations take, beside a run that validates whenever it is due, by column of the config.

Counted in FLOPs of a method's encoder, so the shares hold for any machine; nothing is trained. Sizes of the datasets are those
that the plan takes.

    python benchmarks/validations.py
    python benchmarks/validations.py --config config/config.yaml config/code.yaml
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))

from refers.config.read import read_files
from refers.planning.costs import CostModel
from refers.planning.jobs import finetune_key
from refers.planning.step_costs import cost_of_finetuning
from refers.study.check import check


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, nargs="+", default=[Path("config/config.yaml")])
    parser.add_argument("--method", default="refers")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    study = check(read_files(args.config))
    model, steps = CostModel(study, {"steps": {}, "speeds": {}}, {}), {}
    sums = [[0.0, 0.0], [0.0, 0.0]]
    print(f"{'column':18} {'validations':>11} {'if all':>7} {'share':>7} {'if all':>7}")
    for dataset, ratio in study.cells:
        training = study.finetune_settings(args.method, dataset, ratio).training
        key = finetune_key(study, args.method, dataset, ratio)
        if key not in steps:
            steps[key] = cost_of_finetuning(study.model_settings(args.method), training)
        sizes = model.sizes(dataset)
        train = max(1, round(sizes["train"] * ratio / 100))
        counts, shares = [], []
        for each, total in zip((training, training.replace(validations=0)), sums, strict=True):
            flops, validation = model.training_flops(each, steps[key], train, sizes["val"])
            counts.append(model.validations(each, train))
            shares.append(validation / flops)
            total[:] = total[0] + validation, total[1] + flops
        print(f"{f'{dataset}/{ratio}':18} {counts[0]:11} {counts[1]:7} {shares[0]:7.1%} {shares[1]:7.1%}")
    ours, every = (validation / flops for validation, flops in sums)
    print(f"{'all':18} {'':11} {'':7} {ours:7.1%} {every:7.1%}")


if __name__ == "__main__":
    main()
