"""Processor seconds of `snakemake -n tables`, beside a bare Snakefile with as many rules and jobs.

Every download seems to be there. The first run reads the library's source files, the later ones remember what they say. The
bare workflow has the same number of rules, one job each but for the last, whose jobs make up the number; nothing is
computed in it.

    python benchmarks/dry_run.py
"""

import os
import re
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.extend(str(Path(__file__).parents[1] / folder) for folder in ("workflow/scripts", "tests"))

from helpers import ROOT, touch_downloads

RUNS = 3


def seconds(arguments: list[str], folder: Path) -> tuple[float, str]:
    """Processor seconds of a dry run, and what it printed."""
    command = [Path(sys.executable).with_name("snakemake"), "-n", *arguments, "--cores", "8"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, env=os.environ)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used, done.stdout + done.stderr


def bare(rules: int, jobs: int) -> str:
    """A Snakefile of so many rules and jobs."""
    names = [f"a{number}" for number in range(rules - 2)]
    parts = [f"rule {name}:\n    output: '{name}'\n    shell: 'touch {{output}}'\n" for name in names]
    parts.append("rule many:\n    input: 'a0'\n    output: 'many/{n}'\n    shell: 'touch {output}'\n")
    rest = jobs - len(names) - 1
    wanted = f"{names} + [f'many/{{n}}' for n in range({rest})]"
    return "\n".join([f"rule all:\n    input: {wanted}\n", *parts])


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "downloads").mkdir()
        options = ["tables", *touch_downloads(folder / "downloads")]
        moved = ", ".join(
            f"{each}: {folder / each}" for each in ("results", "store", "interim", "logs", "benchmarks")
        )
        options.append(f"pathvars={{{moved}}}")
        (ROOT / ".snakemake/code_digests.json").unlink(missing_ok=True)
        first, printed = seconds(options, ROOT)
        jobs = int(re.findall(r"^total +(\d+)$", printed, re.MULTILINE)[-1])
        rules = sum(
            len(re.findall(r"^rule \w+:", path.read_text(), re.MULTILINE))
            for path in ROOT.glob("rules/*.smk")
        )
        (folder / "Snakefile").write_text(bare(rules, jobs))
        later = min(seconds(options, ROOT)[0] for _ in range(RUNS))
        floor = min(seconds([], folder)[0] for _ in range(RUNS))
    print(f"{rules} rules, {jobs} jobs")
    for what, used in (("first run", first), ("later runs", later), ("a bare Snakefile", floor)):
        print(f"{what:17} {used:5.2f} s  {used / floor:4.2f}")


if __name__ == "__main__":
    main()
