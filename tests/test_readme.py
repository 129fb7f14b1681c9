"""The documents are true: commands parse and dry-run, linked files exist, packages import what CONTRIBUTING.md says."""

import ast
import re
import shlex
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "workflow/scripts/refers"
DOCUMENTS = [ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")]
DOCUMENTS += sorted((ROOT / "docs").glob("*.md"))
SHOWN = "".join((ROOT / name).read_text() for name in ("README.md", "docs/usage.md", "docs/artifact.md"))
BLOCKS = re.findall(r"^```sh\n(.*?)^```", SHOWN, re.MULTILINE | re.DOTALL)
COMMANDS = [
    line.split(" #")[0].strip()
    for block in BLOCKS
    for line in block.splitlines()
    if line.split("#")[0].strip()
]
RULES = [ROOT / "Snakefile", *sorted((ROOT / "rules").glob("*.smk"))]
PROMISED = [
    "snakemake --cores 8",
    "snakemake results/cells/refers/nih/1pct/auc.json --cores 8",
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
    if "crate" in arguments:  # it wants to know who publishes
        extra = [*extra, "publication={name: A study, license: MIT}"]
    done = snakemake("-n", "--quiet=rules", *arguments, *extra)
    assert done.code == 0, done.output


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("make")])
def test_a_make_command_names_a_target(command):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert shlex.split(command)[1] in targets


def test_the_appendix_for_reviewers_names_commands_and_files_that_exist():
    text = (ROOT / "docs/artifact.md").read_text()
    rules = set(re.findall(r"^rule (\w+):", "".join(path.read_text() for path in RULES), re.MULTILINE))
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = re.findall(r"`(snakemake|make) ([^`]*)`", text)
    assert len(named) > 10
    for program, rest in named:
        asked = next(word for word in rest.split() if not word.startswith("-"))
        assert asked in (rules if program == "snakemake" else targets) or asked.startswith("results/"), asked
    for path in re.findall(r"`((?:config|workflow|envs|docs)/[\w./]+\w)`", text):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_row_of_a_table_has_a_cell_for_every_head(path):
    """A renderer drops the cells that a row has too many, the last ones, without a word."""
    heads = 0
    for number, line in enumerate(path.read_text().splitlines(), 1):
        cells = len(re.findall(r"(?<!\\)\|", line)) - 1 if line.startswith("|") else 0
        assert not cells or not heads or cells == heads, (
            f"{path.name}:{number}: {cells} cells under {heads} heads"
        )
        heads = cells


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_files_and_headings_that_a_document_links_exist(path):
    for target, heading in re.findall(r"\]\((?!http)([^)#]*)(?:#([^)]*))?\)", path.read_text()):
        linked = path.parent / target if target else path
        assert linked.exists(), f"{path.name}: {target}"
        headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE) if heading else []
        anchors = [re.sub(r"[^\w\s-]", "", each.lower()).replace(" ", "-") for each in headings]
        assert not heading or heading in anchors


def test_the_readme_links_every_document():
    linked = {target for target in re.findall(r"\]\(([^):#]*)", (ROOT / "README.md").read_text()) if target}
    assert {path.relative_to(ROOT).as_posix() for path in DOCUMENTS} - linked == {"README.md"}


def test_the_readme_can_be_read_in_one_sitting():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 220
    headings = [line[3:] for line in lines if line.startswith("## ")]
    assert headings[:6] == ["Installation", "Usage", "Data", "Results", "Extending", "Limitations"]


def test_the_readme_names_the_pythons_of_the_lock():
    required = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    low, high = map(int, re.findall(r"3\.(\d+)", required))
    assert f"3.{low} to 3.{high - 1}" in (ROOT / "README.md").read_text()


def packages():
    return {path.name for path in LIBRARY.iterdir() if (path / "__init__.py").exists()}


def imports_between_packages():
    """Package -> the other packages whose modules it imports."""
    found = {name: set() for name in packages()}
    for name in found:
        for path in (LIBRARY / name).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and node.module == "refers":
                    found[name] |= {alias.name for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module.startswith("refers."):
                    found[name].add(node.module.split(".")[1])
    return {name: imported & found.keys() - {name} for name, imported in found.items()}


def test_packages_import_what_the_guide_says_and_in_no_circle():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|.*\|(.*)\|$", text, re.MULTILINE)
    guide = {name: set(re.findall(r"`(\w+)`", imported)) for name, imported in rows}
    imports = imports_between_packages()
    assert guide.keys() == imports.keys()
    for name, imported in imports.items():
        assert imported <= guide[name], f"{name} imports {imported - guide[name]}"
    order = [name for name, _ in rows]
    for name, imported in guide.items():
        assert imported <= set(order[: order.index(name)]), f"{name} imports a package that stands below it"
    beside = {path.name for path in LIBRARY.glob("[!_]*.py")}
    assert beside == set(re.findall(r"`(\w+\.py)`", text.split("## Tests")[0])) - {"__init__.py"}


def test_no_package_has_more_than_twelve_files():
    for folder in {path.parent for path in LIBRARY.rglob("__init__.py")} - {LIBRARY}:
        assert len(list(folder.glob("*.py"))) <= 12, folder


def test_the_readme_names_every_package():
    layout = (ROOT / "README.md").read_text().split("## Extending")[1].split("## Limitations")[0]
    assert set(re.findall(r"^  (\w+)/ ", layout, re.MULTILINE)) == packages()
