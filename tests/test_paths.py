"""The path grammar: a file is found by its wildcards, and its wildcards by the file."""

import re
from pathlib import Path

import pytest
from refers.study import paths

PATTERNS = sorted(
    value
    for name, value in vars(paths).items()
    if name.isupper() and isinstance(value, str) and value.startswith("<")
)
FOLDERS = {"results": "a folder (ü)/results+", "store": "/data/store"}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_wildcards_give_a_file_and_the_file_gives_its_wildcards(pattern):
    wildcards = {name: f"{name}1" for name in re.findall(r"\{(\w+)\}", pattern)}
    path = paths.locate(pattern, FOLDERS, **wildcards)
    assert not re.search("[{}<>]", str(path))
    assert paths.parse(pattern, FOLDERS, path) == wildcards
    assert paths.parse(pattern, FOLDERS, path / "below") is None
    assert paths.parse(pattern, dict.fromkeys(paths.FOLDERS, "other"), path) is None
    filled = paths.fill(pattern, **wildcards)
    assert paths.locate(filled, FOLDERS) == path


def test_folders_are_the_configs_or_the_usual_ones():
    assert paths.locate(paths.INDEX, {}, source="nih") == Path("build/store/nih/index.parquet")
    assert paths.locate(paths.INDEX, FOLDERS, source="nih") == Path("/data/store/nih/index.parquet")
    odd = paths.locate(paths.CHECK, {"interim": "{odd}"}, dataset="nih", split=2)
    assert odd == Path("{odd}/nih/split2/check.json")
    with pytest.raises(KeyError, match="dataset"):
        paths.locate(paths.CHECK, {})


def test_every_split_has_files_of_its_own_and_a_cell_one_for_all():
    wildcards = {"method": "refers", "dataset": "nih", "ratio": 1, "split": 2, "seed": 0}
    run = paths.locate(paths.PREDICTIONS, {}, **wildcards)
    assert run == Path("results/runs/refers/nih/1pct/split2/seed0/predictions.parquet")
    for pattern in (paths.SPLIT, paths.SPLIT_REPORT, paths.CHECK, paths.SUBSET, paths.SUBSET_REPORT):
        assert paths.locate(pattern, {}, **wildcards).parent == Path("build/interim/nih/split2")
    assert paths.locate(paths.CELL, {}, **wildcards) == Path("results/cells/refers/nih/1pct/auc.json")


def test_jobs_of_a_rule_have_logs_and_benchmark_files_of_their_own():
    assert paths.log("cell") == "<logs>/cell/{method}.{dataset}.{ratio}pct.log"
    assert paths.log("finetune") == "<logs>/finetune/{method}.{dataset}.{ratio}pct.split{split}.log"
    assert paths.benchmark("claims") == "<benchmarks>/claims.jsonl"
