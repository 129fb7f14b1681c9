"""The rules of a study and what each reads, as Snakemake has them for this config and the available data.

In: the resolved config; the rules' files, whose names are the stages. Out: csv, one row per rule.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from refers.arguments import Arguments
from refers.errors import UserError, run
from refers.files import write_text
from refers.reporting.rule_graph import read_dot, stages, to_csv

PATHVARS = ("results", "store", "interim", "logs", "benchmarks")


def parse_args() -> argparse.Namespace:
    parser = Arguments(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True, help="the study's config as JSON")
    parser.add_argument("--targets", nargs="+", required=True, help="targets of the graph")
    parser.add_argument("--rules", type=Path, nargs="+", required=True, help="rules/*.smk")
    parser.add_argument("--out", type=Path, required=True, help="csv")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    try:
        study = json.loads(args.config)
    except ValueError as error:
        raise UserError(f"--config: not JSON ({error})") from None
    with tempfile.TemporaryDirectory() as folder:
        # Empty folders, since files of the study come and go while other jobs run.
        study["pathvars"] = {name: f"{folder}/{name}" for name in PATHVARS}
        config = Path(folder) / "config.json"
        config.write_text(json.dumps(study), encoding="utf-8")
        # Without profiles: the settings of a study are all in its config.
        options = ["--profile", "none", "--workflow-profile", "none", "--configfile", str(config)]
        command = [sys.executable, "-m", "snakemake", *args.targets, "--rulegraph", "dot", *options]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise UserError(f"snakemake --rulegraph: {lines[-1]}")
    graph, stage = read_dot(done.stdout), stages(args.rules)
    write_text(args.out, to_csv(graph, stage))
    print(f"{len(graph.keys() & stage.keys())} rules lead to {' '.join(args.targets)}")


if __name__ == "__main__":
    run(main)
