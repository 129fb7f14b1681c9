"""The rules of a study and what each needs, as Snakemake sees them with this config and the data that are here (Figure 1).

In: the resolved config; the rules' files, which say the stage of each rule. Out: a csv, a line a rule.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from refers.errors import UserError, run
from refers.files import write_text
from refers.reporting.rule_graph import read_dot, stages, to_csv

PATHVARS = ("results", "store", "interim", "logs", "benchmarks")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True, help="the study's config as JSON")
    parser.add_argument("--targets", nargs="+", required=True, help="what the graph leads to")
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
        # Where nothing was made yet: files of the study come and go while other jobs run.
        study["pathvars"] = {name: f"{folder}/{name}" for name in PATHVARS}
        config = Path(folder) / "config.json"
        config.write_text(json.dumps(study), encoding="utf-8")
        # No profile: a study's settings are all in its config, and the graph runs nothing.
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
