"""Seconds that the plan expects of each rule's jobs, beside those that the benchmark files of a finished study hold.

Training and what needs a count of its steps is left out: its speed is measured, not assumed. A job of the plan that has no
benchmark file is not compared. `pack_images` is priced for files of the published sizes: the demo's have 96 pixels a side.

    python benchmarks/plan_minutes.py                                             # of `make demo`
    python benchmarks/plan_minutes.py --config config/config.yaml config/real.yaml
"""

import argparse
import statistics
import sys
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))

from refers.config.read import read_files
from refers.planning.costs import GPU_RULES, CostModel
from refers.planning.jobs import jobs_of
from refers.study.check import check

DEMO = [Path("config/config.yaml"), Path("config/demo.yaml")]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, nargs="+", default=DEMO)
    return parser.parse_args()


def main() -> None:
    study = check(read_files(parse_args().config))
    model, found = CostModel(study, {"steps": {}, "speeds": {}}, {}), defaultdict(list)
    for job in jobs_of(study).values():
        taken = model.benchmark(job)[0]
        if taken is not None and job.rule not in {*GPU_RULES, "import_encoder"}:
            found[job.rule].append((model.expected(job).seconds, taken))
    print(f"{'rule':22} {'jobs':>5} {'planned s':>10} {'taken s':>10} {'ratio':>6}")
    for rule, pairs in sorted(found.items()):
        planned, taken = (statistics.fmean(column) for column in zip(*pairs, strict=True))
        print(f"{rule:22} {len(pairs):5} {planned:10.1f} {taken:10.1f} {planned / taken:6.2f}")


if __name__ == "__main__":
    main()
