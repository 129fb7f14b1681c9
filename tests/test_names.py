"""A whole small study in folders and with titles that a shell or Snakemake could take for something else."""

import csv
import html
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml
from build_text_encoder import write_vocabulary
from refers import config
from refers.config.read import read_files
from refers.config.study import StudyConfig
from refers.demo.generate import generate
from refers.errors import UserError
from refers.study import paths

ROOT = Path(__file__).parents[1]
PROJECT = "a b'c (ü)"
DATA = "my data $(touch HACKED) +; `touch HACKED` & 'x"
TITLE = """"ours" $(touch HACKED) `touch HACKED` {dataset} <i>&</i> 50 % \\ _x_ 'é'"""
FOLDERS = {
    "results": 're sults "$(touch HACKED)"',
    "store": "st+ore's `touch HACKED`",
    "interim": "in (terim); touch HACKED",
    "logs": "lo gs [*] ?",
    "benchmarks": "bench ~ marks #1",
}
BERT = "models/b'ert $(touch HACKED) ü"
LISTS = "authors' lists (2021)/Data & more"
RELEASED = "NIH; touch HACKED"
RESULTS = "Results of 'ours'"
STEPS = {"steps": 2, "warmup_steps": 1, "batch_size": 4, "precision": "fp32", "validate_every": 2}
OVERLAY = {
    "data_root": DATA,
    "released_lists": LISTS,
    "note": TITLE,
    "pathvars": FOLDERS,
    "images": {"size": 40},
    "text": {"encoder": BERT, "max_length": 12},
    "datasets": {
        "nih": {
            "title": TITLE,
            "split": {"kind": "released"},
            "released": RELEASED,
            "accept": ["patients", "duplicates"],
        }
    },
    "methods": {
        "refers": {
            "title": TITLE,
            "pretrain": {
                "init": "imagenet",
                "settings": {"fusion_hidden": 8, "decoder": {"width": 16, "mlp_width": 16}},
            },
        },
        "transvw": {"pretrain": {"words": {"count": 2, "instances": 4, "held_out": 2, "features": 4}}},
    },
    "pretrain": {
        "model": {"image_size": 32, "patch_size": 8, "width": 16, "depth": 1, "heads": 2, "mlp_width": 16},
        "training": STEPS,
    },
    "finetune": {"defaults": {"training": STEPS}, "datasets": {"nih": {"training": STEPS}}},
    "study": {
        "methods": ["refers", "imagenet"],
        "cells": [{"dataset": "nih", "ratios": [100]}],
        "seeds": [0, 1],
        "bootstrap": {"resamples": 100},
    },
    "plan": {"tiers": []},
    "audit": {"results": RESULTS},
    "tables": {"table1": {"title": TITLE, "label": TITLE, "rows": ["refers", "imagenet"]}},
    "figures": {"figure3_nih": {"title": TITLE, "images": 2}, "roc_nih": {"methods": ["refers", "imagenet"]}},
}
KEPT = {"tables": ["table1"], "figures": ["pipeline", "figure3_nih", "figure3_vinbigdata", "roc_nih"]}
AUDITED = {"Shenzhen $(touch HACKED)/a b": "shenzhen/100"}


def small_config():
    """The published study cut down to one cell, with the demo's sources and the overlay above."""
    shipped = [yaml.safe_load((ROOT / f"config/{name}.yaml").read_text()) for name in ("config", "demo")]
    for kind, names in KEPT.items():
        shipped[0][kind] = {name: shipped[0][kind][name] for name in names}
    values = config.merge(*shipped, OVERLAY)
    values["finetune"].pop("cells")
    values["audit"]["cells"] = AUDITED
    return values


@pytest.fixture(scope="module")
def project(tmp_path_factory, copy_project, small_bert):
    """A copy of the project with generated data, a BERT, the authors' lists and one of their prediction files."""
    folder = copy_project(tmp_path_factory.mktemp("names") / PROJECT)
    values = small_config()
    (folder / "config/config.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    shutil.copytree(small_bert, folder / BERT)
    # As many pieces as the BERT has rows, of letters that most words of the reports are made of.
    write_vocabulary(["no pneumothorax", "the heart is large.", "clear of left and right"], 50, folder / BERT)
    data = folder / DATA
    generate(data, 0, 0.03)
    lists = data / LISTS / RELEASED
    lists.mkdir(parents=True)
    with open(data / "nih/Data_Entry_2017_v2020.csv", newline="") as opened:
        rows = list(csv.reader(opened))[1:]
    classes = values["datasets"]["nih"]["classes"]
    lines = [f"{name} {' '.join(str(int(each in found)) for each in classes)}" for name, found, *_ in rows]
    for start, part in enumerate(("train", "val", "test")):
        (lists / f"{part}.txt").write_text("\n".join(lines[start::3]))
    released = (data / LISTS).with_name(RESULTS) / next(iter(AUDITED)) / "REFERS"
    released.mkdir(parents=True)
    (released / "tuberculosis.txt").write_text("1 0.9\n0 0.2\n1 0.6\n0 0.7\n")
    return folder


def test_a_study_runs_in_folders_and_with_titles_of_any_kind(snakemake, project):
    def run(*targets):
        return snakemake(*targets, "--cores", 1, folder=project)

    def at(pattern, **wildcards):
        return project / paths.locate(pattern, FOLDERS, **wildcards)

    words = paths.locate(paths.WORDS, FOLDERS, method="transvw")
    targets = ["tables", "figures", "page"]
    done = run(*targets, "preflight", "audit", words)
    assert done.code == 0, done.output[-5000:]
    assert done.jobs["finetune_kept"] == done.jobs["finetune"] == done.jobs["pretrain"] == 1
    here = {"dataset": "nih", "ratio": 100}
    cell = paths.locate(paths.CELL, FOLDERS, method="refers", **here)
    explanation = paths.locate(paths.EXPLANATION, FOLDERS, method="refers", **here)
    done = run(explanation, *targets)
    assert done.code == 0, done.output[-5000:]
    assert done.jobs == {"explain": 1, "total": 1}, "a finished study runs nothing again"
    assert not list(project.parent.rglob("HACKED*")), "a name was run as a command"

    assert json.loads((project / cell).read_text())["seeds"] == [0, 1]
    text = (project / explanation).read_text()
    command = next(line for line in text.splitlines() if line.startswith("snakemake "))
    assert shlex.split(command, comments=True)[1] == str(cell)
    with open(at(paths.CELL_INDEX), newline="", encoding="utf-8") as opened:
        assert str(cell) in {row["target"] for row in csv.DictReader(opened)}
    assert TITLE in html.unescape(at(paths.TABLE, table="table1", form="html").read_text())
    page = at(paths.PAGE).read_text()
    assert page.count(html.escape(TITLE)) >= 3
    assert json.dumps(str(cell)) in page
    for form in ("pdf", "png"):
        assert at(paths.FIGURE, figure="figure3_nih", form=form).stat().st_size > 1000


def test_every_value_in_a_command_is_quoted():
    text = "".join(path.read_text() for path in sorted((ROOT / "rules").glob("*.smk")))
    commands = re.findall(r"^    shell:\n((?: {8}.*\n)+)", text, re.MULTILINE)
    assert len(commands) == len(re.findall(r"^rule ", text, re.MULTILINE))
    values = re.findall(r"\{[^}]*\}", "".join(commands))
    assert [value for value in values if not value.endswith(":q}")] == []
    assert "$(" not in "".join(commands)


@pytest.mark.parametrize("path", ["a{b", "{method}", "a<b>", "a\nb", "-rf", " a", "a ", "a\t"])
def test_a_path_that_snakemake_cannot_use_is_refused(path):
    values = read_files([ROOT / "config/config.yaml"])
    for fine in (*FOLDERS.values(), BERT, DATA, "/a b/c"):
        assert config.load(StudyConfig, values | {"data_root": fine}).data_root == fine
    with pytest.raises(UserError, match=re.escape(f"config.data_root: {path!r}")):
        config.load(StudyConfig, values | {"data_root": path})


@pytest.mark.parametrize(
    ("path", "plain"), [("out/", "out"), ("./out", "out"), ("a//b", "a/b"), ("a/../b", "b")]
)
def test_a_folder_of_results_is_spelt_in_one_way(path, plain):
    values = read_files([ROOT / "config/config.yaml"])
    with pytest.raises(
        UserError, match=rf"config\.pathvars\.results: {re.escape(repr(path))}.* write '{plain}'"
    ):
        config.load(StudyConfig, values | {"pathvars": {"results": path}})


@pytest.mark.parametrize(
    "setting",
    [
        {"methods": {"$(touch HACKED)": {"title": "x", "checkpoint": "random"}}},
        {"figures": {"`touch HACKED`": {"title": "x", "kind": "rules"}}},
        {"pathvars": {"results": "out/{method}"}},
        {"text": {"encoder": "-bert"}},
    ],
)
def test_what_cannot_be_used_is_one_line_before_any_job(snakemake, project, setting):
    done = snakemake("figures", "--cores", 1, "--config", *overlaid(setting), folder=project)
    assert done.code == 1
    key = next(iter(setting))
    assert re.search(rf"config\.{key}\..*(is not a name|contains|starts with)", done.output), done.output
    assert "Traceback (most recent" not in done.output
    assert not list(project.parent.rglob("HACKED*"))


def overlaid(settings):
    """Settings as `--config` takes them."""
    return [f"{key}={json.dumps(value)}" for key, value in settings.items()]


def test_a_project_folder_that_breaks_commands_is_one_line(snakemake, project):
    folder = project.with_name("a $(touch HACKED) b")
    folder.mkdir()
    for path in project.iterdir():
        (folder / path.name).symlink_to(path)
    done = snakemake("-n", "tables", "--cores", 1, folder=folder)
    assert done.code == 1
    assert "project folder" in done.output
    assert "contains '$'" in done.output
