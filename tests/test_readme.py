"""Every command that the README shows parses, and dry-runs where it is Snakemake's."""

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
COMMANDS = [
    line.split(" #")[0].strip()
    for block in BLOCKS
    for line in block.splitlines()
    if line.split("#")[0].strip()
]
PROMISED = [
    "snakemake --cores 8 --resources=gpu=1 tables",
    "snakemake results/cells/refers/nih/1pct/auc.json --cores 8 --resources gpu=1",
    "snakemake tables --cores 8 --sdm conda",
    "make demo",
    "make test",
]


@pytest.mark.parametrize("command", PROMISED)
def test_the_readme_shows_the_commands_that_users_type(command):
    assert command in COMMANDS


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("snakemake")])
def test_a_snakemake_command_dry_runs(command, snakemake, downloads):
    arguments = shlex.split(command)[1:]
    if "conda" in arguments:  # a dry run with conda asks the conda command, which need not be here
        place = arguments.index("--sdm")
        del arguments[place : place + 2]
    if "profiles/slurm" in arguments:  # its executor is not in this environment, see test_slurm.py
        place = arguments.index("--workflow-profile")
        arguments[place : place + 2] = ["--cores", "1"]
    if "--report" in arguments:  # it wants the finished results, see test_report.py
        place = arguments.index("--report")
        del arguments[place : place + 2]
    extra = [] if "--config" in arguments else downloads
    done = snakemake("-n", "--quiet=rules", *arguments, *extra)
    assert done.code == 0, done.output


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("make")])
def test_a_make_command_names_a_target(command):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert shlex.split(command)[1] in targets


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.name
)
def test_every_row_of_a_table_has_a_cell_for_every_head(path):
    """A renderer drops the cells that a row has too many, the last ones, without a word."""
    heads = 0
    for number, line in enumerate(path.read_text().splitlines(), 1):
        cells = len(re.findall(r"(?<!\\)\|", line)) - 1 if line.startswith("|") else 0
        assert not cells or not heads or cells == heads, (
            f"{path.name}:{number}: {cells} cells under {heads} heads"
        )
        heads = cells


@pytest.mark.parametrize(
    "path", ["docs/deviations.md", "docs/data.md", "docs/cost.md", "docs/faults.md", "docs/scaling.md"]
)
def test_files_that_the_readme_links_exist(path):
    assert path in (ROOT / "README.md").read_text()
    assert (ROOT / path).exists()
