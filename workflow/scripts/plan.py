"""Plan a study before its first GPU hour: jobs, hours, memory and disk by tier, and the least time on some GPUs.

In: the study's config, steps.json of calibrate.py, gpu_check.json where there is one, and the benchmark files of jobs that ran. Out: plan.json with every
target, plan.csv and plan.md, also printed. Needs no data and no torch.
"""

import argparse
import csv
import io
import json
from functools import partial
from pathlib import Path
from typing import Any

from refers.arguments import Arguments
from refers.errors import UserError, run
from refers.files import read_object, write_json, write_text
from refers.planning.jobs import read_studies
from refers.planning.plan import report, to_markdown


def parse_args() -> argparse.Namespace:
    parser = Arguments(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True, help="the study's config as JSON")
    parser.add_argument("--demo", type=Path, nargs="+", default=[], help="config files of the demo, in order")
    parser.add_argument("--steps", type=Path, required=True, help="steps.json")
    parser.add_argument("--gpu-check", type=Path, help="gpu_check.json; it need not exist")
    parser.add_argument(
        "--resources", type=json.loads, default={}, help="threads and mem_mb by rule, as JSON"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="plan.json; plan.csv and plan.md are written beside it"
    )
    return parser.parse_args()


def read_measured(steps: Path, gpu_check: Path | None) -> dict[str, Any]:
    """Content of steps.json, with that of gpu_check.json under `gpu_check` where there is one.

    Raises:
        UserError: one of them is damaged.
    """
    measured = read_object(steps, "step costs", ("steps", "speeds"))
    for name, keys in (("steps", ()), ("speeds", ("kind", "device", "threads"))):
        if not isinstance(measured[name], dict) or not all(map(partial(_has, keys), measured[name].values())):
            raise UserError(
                f"{steps}: {name} are not costs by kind of step; delete it and rerun calibrate.py"
            )
    if gpu_check and gpu_check.exists():
        measured["gpu_check"] = found = read_object(gpu_check, "GPU check", ("kind", "device", "rows"))
        if not isinstance(found["rows"], list) or not all(
            map(partial(_has, ("key", "compile")), found["rows"])
        ):
            raise UserError(f"{gpu_check}: rows are not those of steps; delete it and rerun gpu_check.py")
    return measured


def _has(keys: tuple[str, ...], entry: object) -> bool:
    return isinstance(entry, dict) and all(key in entry for key in keys)


def main() -> None:
    args = parse_args()
    measured = read_measured(args.steps, args.gpu_check)
    plan = report(read_studies(args.config, args.demo), measured, args.resources)
    text, lines = to_markdown(plan), io.StringIO()
    rows = [target | {"needs": " ".join(target["needs"])} for target in plan["targets"]]
    writer = csv.DictWriter(lines, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(args.out.with_suffix(".csv"), lines.getvalue())
    write_text(args.out.with_suffix(".md"), text)
    write_json(args.out, plan)
    print(text)


if __name__ == "__main__":
    run(main)
