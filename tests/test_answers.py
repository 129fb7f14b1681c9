"""What a command says when it has ended: numbers and paths of its targets, and what a repeated training changed."""

import json
import re

import pytest
from made_tables import auc_of
from refers import config
from refers.answers.answer import Answers, remember
from refers.config.read import read_files
from refers.demo.generate import generate
from refers.errors import UserError
from refers.study import paths
from refers.study.availability import Availability
from refers.study.check import check
from refers.study.specs import Specs
from test_names import ROOT


@pytest.fixture
def study(tmp_path):
    """The demo's study without data, its results in a folder of their own."""
    folders = {name: f"{tmp_path}/{name}" for name in ("results", "store", "interim", "logs", "benchmarks")}
    values = read_files([ROOT / "config/config.yaml", ROOT / "config/demo.yaml"])
    return check(config.merge(values, {"pathvars": folders, "data_root": f"{tmp_path}/nothing"}))


def say(study, *targets, before=None):
    return Answers(Specs(Availability(study)), before or {}).of(targets)


def write(study, pattern, content, **wildcards):
    path = study.resolve(pattern, **wildcards)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def cell_of(study, method="refers", column="nih/1", means=(0.8, 0.82), digests=("a", "b")):
    content = auc_of(method, column, list(means)) | {"predictions_sha256": list(digests)}
    dataset, _, ratio = column.partition("/")
    return write(study, paths.CELL, content, method=method, dataset=dataset, ratio=ratio)


def test_a_cell_is_its_auc_with_its_spread_and_its_file(study):
    path = cell_of(study)
    (line,) = say(study, path)
    assert line.startswith("refers nih 1 %: AUC 81.0 ± 1.4 (2 runs)")
    assert line.endswith(path)


def test_repeated_predictions_are_compared_with_the_previous_ones(study):
    path = cell_of(study)
    before = remember(study, [path, "tables"])
    assert say(study, path, before=before)[1:] == ["predictions identical to the previous run"]
    cell_of(study, means=(0.8, 0.84), digests=("a", "c"))
    (line,) = say(study, path, before=before)[1:]
    assert re.search("^1 of 2 predictions differ.* 81.00 before, 82.00 now$", line)
    assert remember(study, ["results/none/auc.json", "tables"]) == {}


def test_tables_count_the_cells_that_ran_and_the_reasons_of_the_others(study):
    for column, means in (("nih/1", (0.8,)), ("shenzhen/100", (0.9,))):
        cell_of(study, column=column, means=means, digests=("a",))
    write(study, paths.CLAIMS, "id,ours\na,holds\nb,not judged\nc,holds\n", form="csv")
    lines = say(study, "tables")
    (count,) = [line for line in lines if "cells ran" in line]
    ran, of, cannot, reasons = re.fullmatch(r"(\d+) of (\d+) cells ran; (\d+) cannot: (.*)", count).groups()
    assert (int(ran), int(of)) == (2, len(study.methods) * len(study.cells))
    found = {reason: int(number) for reason, number in re.findall(r"([^,(]+) \((\d+)\)", reasons)}
    assert sum(found.values()) == int(cannot) == int(of) - int(ran)
    assert {name.strip() for name in found} >= {"mimic absent", "nih absent"}
    assert any("2 holds, 1 not judged" in line for line in lines)
    (row,) = [line for line in lines if line.startswith("Our REFERS")]
    assert row.split()[2:] == ["80.0", "90.0"]
    assert max(map(len, lines[: lines.index("")])) < 100


def test_cells_that_no_table_asked_for_are_counted(study, monkeypatch):
    monkeypatch.setattr(Answers, "why_not", lambda *_: "")
    cell_of(study)
    write(study, paths.CLAIMS, "id,ours\n", form="csv")
    total = len(study.methods) * len(study.cells)
    assert f"1 of {total} cells ran; {total - 1} can, and were not asked for" in say(study, "tables")


def test_no_table_is_printed_where_nothing_ran(study):
    write(study, paths.CLAIMS, "id,ours\n", form="csv")
    assert say(study, "tables")[0].startswith("0 of ")


def test_a_file_is_answered_as_the_rule_that_makes_it(study):
    tiers = [{"title": "everything", "jobs": 1200, "training_hours": 80.0, "on": "GPU"}]
    path = write(study, paths.PLAN, {"tiers": tiers}, form="json")
    assert say(study, "plan") == say(study, path)
    assert say(study, path)[0] == "everything: 1,200 jobs, training 3.3 d GPU"
    found = {"lines": [{"name": "nih", "state": "absent", "next": "get it"}], "study": {"cells": 3, "of": 9}}
    write(study, paths.PREFLIGHT, found)
    first, last = say(study, "preflight")
    assert first == "nih: absent; next: get it"
    assert last.startswith("3 of 9 cells can run")
    write(
        study,
        paths.PILOTS,
        "method,optimiser,lr,chosen,note\nc2l,sgd,0.1,0,\nc2l,adam,0.01,1,edge\n",
        form="csv",
    )
    assert say(study, "pilots")[0] == "c2l: adam 0.01 (edge)"
    write(study, paths.GPU_CHECK, {"device": "a GPU", "rows": [1, 2]}, form="json")
    assert say(study, "gpu_check")[0].startswith("2 checks on a GPU, none failed")
    write(study, paths.AUDIT, "auc\n1\n2\n", file="auc.csv")
    assert say(study, "audit")[0].startswith("2 AUCs")
    account = write(
        study,
        paths.EXPLANATION,
        "# A\n\n9 digests are as recorded. Nothing differs.\n",
        method="refers",
        dataset="nih",
        ratio=1,
    )
    assert say(study, account)[0] == "9 digests are as recorded. Nothing differs."
    assert say(study, "page") == [f"page: {study.resolve(paths.PAGE)}"]
    assert say(study, "README.md") == []


def test_datasets_are_their_sizes_or_why_they_are_not_there(study):
    lines = say(study, "datasets")
    assert len(lines) == 1 + len(study.datasets)
    assert all("data absent" in line for line in lines)


def test_a_damaged_file_is_one_line(study):
    path = write(study, paths.CELL, {"method": 1}, method="refers", dataset="nih", ratio=1)
    with pytest.raises(UserError, match=re.escape(path)):
        say(study, path)


@pytest.fixture(scope="module")
def project(tmp_path_factory, copy_project):
    """The demo in a copy of the project, on a thirtieth of its data."""
    folder = copy_project(tmp_path_factory.mktemp("answers"))
    generate(folder / "build/demo/data", 0, 0.03)
    return folder


def test_a_repeated_fine_tune_says_that_its_predictions_are_the_same(snakemake, project):
    cell = "build/demo/results/cells/imagenet/shenzhen/100pct/auc.json"
    options = [cell, "--workflow-profile", "profiles/demo"]
    first = snakemake(*options, folder=project)
    assert first.code == 0, first.output
    assert re.search(r"^imagenet shenzhen 100 %: AUC ", first.output, re.MULTILINE)
    assert "previous run" not in first.output
    again = snakemake(*options, "-R", "finetune", folder=project)
    assert again.code == 0, again.output
    assert "predictions identical to the previous run" in again.output
    nothing = snakemake(*options, folder=project)
    assert "Nothing to be done" in nothing.output
    assert "imagenet shenzhen 100 %: AUC " in nothing.output
