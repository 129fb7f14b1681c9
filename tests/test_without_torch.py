"""What follows the predictions is made again on a machine without torch, and without any download."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TABLES = ("table1", "table2", "table3", "controls", "initialisation", "measures", "subgroups")
FIGURES = ("pipeline", "figure2a", "roc_covid_t2", "training", "figure3_nih")


@pytest.fixture(scope="module")
def without_torch(tmp_path_factory):
    """Environment of a process in which torch cannot be imported."""
    folder = tmp_path_factory.mktemp("shadow")
    (folder / "torch.py").write_text("raise ImportError('there is no torch here')\n")
    environment = {"PYTHONPATH": str(folder)}
    tried = subprocess.run(
        [sys.executable, "-c", "import torch"], env=os.environ | environment, capture_output=True
    )
    assert b"there is no torch here" in tried.stderr
    return environment


def test_tables_figures_claims_and_page_are_made_again(snakemake, demo, without_torch):
    results = demo / "results"
    made = [results / "tables/cells.csv", results / "claims.md", results / "index.html"]
    made += [results / f"tables/{name}.{form}" for name in TABLES for form in ("csv", "md", "tex", "html")]
    made += [results / f"figures/{name}.{form}" for name in FIGURES for form in ("pdf", "png")]
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in made}

    again = ["cells/refers/covid_t2/100pct/auc.json", *(f"figures/{name}.pdf" for name in FIGURES)]
    again = [f"build/demo/results/{path}" for path in again]
    targets = ["page", "tables", "--workflow-profile", "profiles/demo", "-R", *again]
    done = snakemake(*targets, environment=without_torch)
    assert done.code == 0, done.output[-3000:]
    assert {rule: done.jobs.get(rule) for rule in ("cell", "ttest", "table", "figure", "page")} == {
        **{"cell": 1, "ttest": 2, "table": len(TABLES), "figure": len(FIGURES), "page": 1}
    }
    assert not {"pretrain", "finetune", "finetune_kept", "attend"} & done.jobs.keys()
    for path, (content, written) in before.items():
        assert path.read_bytes() == content, f"{path}: other bytes than with torch"
        assert path.stat().st_mtime_ns > written, f"{path} was not made again"


def test_predictions_alone_give_the_same_numbers(snakemake, demo, copy_project, without_torch, tmp_path):
    copy_project(tmp_path)
    results = tmp_path / "build/demo/results"
    tuned, probed = (
        list(demo.glob(f"results/{pattern}/predictions.parquet"))
        for pattern in ("runs/*/*/*/*/*", "probes/*/*/*/*")
    )
    assert (len(tuned), len(probed)) == (5 * 10 * 3, 4 * 10)
    characteristics = list(demo.glob("results/characteristics/*.parquet"))
    assert len(characteristics) == 3
    for path in [*tuned, *probed, *characteristics]:
        place = results / path.relative_to(demo / "results")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    given = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    targets = ["page", "tables", "--workflow-profile", "profiles/demo", "--quiet", "rules"]
    done = snakemake(*targets, environment=without_torch, folder=tmp_path)
    assert done.code == 0, done.output[-3000:]
    assert all(path.read_bytes() == content for path, content in given.items())
    made = [f"{name}.{form}" for name in TABLES for form in ("csv", "md", "tex", "html")]
    for name in [*made, "probe.csv", "cells.csv", "../figures/figure2a.pdf", "../figures/roc_nih.png"]:
        assert (results / "tables" / name).read_bytes() == (demo / "results/tables" / name).read_bytes(), name
    lines = []
    for folder in (results, demo / "results"):
        with open(folder / "claims.csv", encoding="utf-8", newline="") as opened:
            lines.append({line["id"]: line for line in csv.DictReader(opened)})
    assert lines[0] == lines[1]
    assert {line["ours"] for line in lines[0].values()} == {"cannot be judged"}, (
        "the data are not the paper's"
    )
    cell = "build/demo/results/cells/model_genesis/nih/1pct/auc.json"
    refused = snakemake(cell, "--workflow-profile", "profiles/demo", folder=tmp_path)
    assert refused.code == 1
    assert "no such cell: model_genesis/nih/1" in refused.output
