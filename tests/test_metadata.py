"""What archives and catalogues read about the software agrees with pyproject.toml, the README and the rules."""

import json
import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())
CODEMETA = json.loads((ROOT / "codemeta.json").read_text())
CONTRIBUTORS = "REFERS reproduction contributors"


def bibtex():
    text = (ROOT / "README.md").read_text().split("```bibtex")[1].split("```")[0]
    return dict(re.findall(r"^\s+(\w+)\s+= \{(.*)\},?$", text, re.MULTILINE))


def test_version_and_licence_are_the_projects():
    assert CITATION["version"] == CODEMETA["version"] == PROJECT["version"]
    assert CITATION["license"] == PROJECT["license"]
    assert CODEMETA["license"] == f"https://spdx.org/licenses/{PROJECT['license']}"
    assert (ROOT / "LICENSE").read_text().startswith(f"{PROJECT['license']} License")
    assert CITATION["abstract"] == CODEMETA["description"] == PROJECT["description"]
    assert CODEMETA["name"] == PROJECT["name"]


def test_the_software_is_of_its_contributors_and_the_citation_is_the_paper():
    assert CITATION["authors"] == [{"name": CONTRIBUTORS}]
    assert CODEMETA["author"]["name"] == CONTRIBUTORS
    paper, printed = CITATION["preferred-citation"], bibtex()
    names = [f"{each['family-names']}, {each['given-names']}" for each in paper["authors"]]
    assert " and ".join(names) == printed["author"]
    assert (paper["title"], paper["journal"]) == (printed["title"], printed["journal"])
    assert f"{paper['start']}--{paper['end']}" == printed["pages"]
    assert [str(paper[key]) for key in ("volume", "year", "doi")] == [
        printed[key] for key in ("volume", "year", "doi")
    ]
    assert CODEMETA["referencePublication"]["@id"] == f"https://doi.org/{paper['doi']}"
    assert CODEMETA["referencePublication"]["name"] == paper["title"]


def test_the_files_and_pythons_that_they_name_are_there():
    assert (ROOT / CODEMETA["readme"]).exists()
    low, high = map(int, re.findall(r"3\.(\d+)", PROJECT["requires-python"]))
    assert CODEMETA["runtimePlatform"] == f"Python 3.{low} to 3.{high - 1}"


def test_the_catalogue_says_how_the_rules_are_deployed():
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert usage["mandatory-flags"].keys() == {"desc", "flags"}
    rules = "".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
    deployment = usage["software-stack-deployment"]
    assert deployment["conda"] == bool(re.search(r"^    conda:", rules, re.MULTILINE))
    assert deployment["apptainer"] == bool(re.search(r"^ *container:", rules, re.MULTILINE))
    assert deployment["report"] == ("report(" in rules)
