"""Text of a config that a shell would run, reaching real commands: nothing of it is run, and each word arrives as it is."""

import csv
import html
import shlex
from pathlib import Path

import pandas as pd
import pytest
import yaml
from helpers import make_nih
from refers import config
from refers.config.read import read_files
from refers.config.study import StudyConfig
from refers.errors import UserError

ROOT = Path(__file__).parents[1]
# each as one name of a folder
FOLDERS = [
    *("`touch HACKED`", "$(touch HACKED)", "$IFS touch$IFS HACKED", "; touch HACKED;", "& touch HACKED &"),
    *("| touch HACKED", "' ; touch HACKED ; '", '" ; touch HACKED ; "', "\\", "\\' touch HACKED"),
    *("* ? [a-z]", "%s %(a)s 100%", "~ $HOME !!", "# a", "a  b", "\u00fc \u4e2d", "=a", "--out=HACKED"),
]
TITLES = [
    *(folder for folder in FOLDERS),
    *(
        "{input} {wildcards.table} {threads} {",
        "{{x}}",
        "<results>",
        "> HACKED",
        "< HACKED",
        "${IFS}touch${IFS}HACKED",
        "a\ntouch HACKED\nb",
        "a\ttouch HACKED",
    ),
]
# what Snakemake would take for a pattern, or a program for an option
REFUSED = ["{method}", "{", "a}", "<results>", "a\nb", "-rf", " a", "a ", "a\x7f"]
TABLE, INDEX, LISTED = "results/tables/table1", "build/store/nih/index.parquet", "results/tables/cells.csv"


@pytest.fixture(scope="module")
def project(tmp_path_factory, copy_project):
    """A copy of the project whose published config asks for one column, with hostile text wherever text may be."""
    folder = copy_project(tmp_path_factory.mktemp("shell") / "project")
    values = config.merge(read_files([ROOT / "config/config.yaml"]), {"study": {"cells": []}})
    values["study"] |= {"methods": ["refers"], "cells": [{"dataset": "nih", "ratios": [100]}]}
    values["finetune"]["cells"] = {}
    table = values["tables"]["table1"] | {"rows": ["refers"], "reference": None, "baseline": None}
    values |= {"tables": {"table1": table}, "figures": {}, "claims": None}
    (folder / "config/config.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    return folder


def ran(folder):
    """Files that a command of the config would have left, anywhere."""
    return [str(path) for path in folder.parent.rglob("*HACKED*") if path.name == "HACKED"]


def given(folder, values):
    """An overlay of these values, as an option of Snakemake."""
    path = folder / "over lay.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return ["--configfile", path.name]


def test_a_download_in_hostile_folders_is_indexed(snakemake, project):
    root = "data/" + "/".join(FOLDERS[: len(FOLDERS) // 2])
    source = "/".join(FOLDERS[len(FOLDERS) // 2 :])
    make_nih(project / root / source)
    over = {"data_root": root, "sources": {"nih": {"folder": source}}}
    done = snakemake(INDEX, "--cores", 1, *given(project, over), folder=project)
    assert done.code == 0, done.output[-3000:]
    assert len(pd.read_parquet(project / INDEX)) == 3
    assert ran(project) == []


def test_hostile_titles_and_notes_are_printed_as_they_are(snakemake, project):
    everything = " ".join(TITLES)
    over = {"note": everything, "tables": {"table1": {"title": everything, "label": everything}}}
    over |= {"methods": {"refers": {"title": everything, "note": everything}}}
    over |= {"datasets": {"nih": {"title": everything, "classes": [*TITLES, "a"]}}}
    done = snakemake(f"{TABLE}.md", LISTED, "--cores", 1, *given(project, over), folder=project)
    assert done.code == 0, done.output[-3000:]
    assert ran(project) == []
    with open(project / f"{TABLE}.csv", newline="", encoding="utf-8") as opened:
        assert everything in {row["title"] for row in csv.DictReader(opened)}
    assert everything in html.unescape((project / f"{TABLE}.html").read_text(encoding="utf-8"))


def test_a_hostile_path_is_one_word_of_a_command(snakemake, project):
    """The command is printed and read as a shell reads it, not run."""
    checkpoint = "models/" + "/".join([*FOLDERS, "ViT.npz"])
    (project / checkpoint).parent.mkdir(parents=True)
    (project / checkpoint).touch()
    over = {"methods": {"imagenet": {"checkpoint": checkpoint}}}
    encoder = "results/encoders/imagenet/encoder.safetensors"
    done = snakemake("-np", encoder, "--cores", 1, *given(project, over), folder=project)
    assert done.code == 0, done.output[-3000:]
    command = next(line for line in done.output.splitlines() if "import_encoder.py" in line)
    assert f"--checkpoint={checkpoint}" in shlex.split(command)
    assert ran(project) == []


@pytest.mark.parametrize("path", REFUSED)
@pytest.mark.parametrize("key", ["data_root", "checkpoint", "encoder", "results"])
def test_a_path_that_no_command_can_carry_is_one_line(key, path):
    over = {
        "data_root": {"data_root": path},
        "checkpoint": {"methods": {"imagenet": {"checkpoint": path}}},
        "encoder": {"text": {"encoder": path}},
        "results": {"pathvars": {"results": path}},
    }
    values = config.merge(read_files([ROOT / "config/config.yaml"]), over[key])
    with pytest.raises(UserError, match=rf"config\..*{key}: .*; (rename|remove) it") as raised:
        config.load(StudyConfig, values)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(
    "target",
    [
        "results/cells/`touch HACKED`/nih/100pct/auc.json",
        "results/cells/$(touch HACKED)/nih/100pct/auc.json",
        "results/tables/;touch HACKED;.md",
        "results/cells/../nih/100pct/auc.json",
        "results/cells/refers/nih/100pct;touch HACKED/auc.json",
    ],
)
def test_a_hostile_target_is_no_target(snakemake, project, target):
    done = snakemake(target, "--cores", 1, folder=project)
    assert done.code == 1
    assert "no such target" in done.output
    assert ran(project) == []
