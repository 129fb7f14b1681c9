"""run.json: complete, by its schema; and the account of a cell, which holds every file against it."""

import json
import re
import sys
from pathlib import Path

import pytest
from made_study import OUTCOME, SECRET, make_study
from refers.config import merge
from refers.errors import UserError
from refers.provenance import run_record
from refers.reporting.explain_cell import explain
from refers.study.check import check

ROOT = Path(__file__).parents[1]
EARLIER = {
    "library_sha256": "1" * 64,
    "commit": None,
    "device": "an older GPU",
    "steps": 299_990,
    "processes": 4,
    "seconds": 1000.0,
    "peak_memory_mib": 90_000,
    "peak_gpu_memory_mib": 70_000,
}


@pytest.fixture
def tree(tmp_path, monkeypatch):
    return make_study(tmp_path, monkeypatch)


def account(tree, **changes):
    values, _ = tree
    return explain(check(merge(values, changes)), "refers", "shenzhen", 100, "snakemake TARGET --cores 8")


def verdict(text):
    """What an account says first."""
    return text.split("\n## Files")[0]


# ---- records


def test_a_record_is_whole(tree):
    _, folder = tree
    for path in (folder / "results").rglob("run.json"):
        record = json.loads(path.read_text())
        assert run_record.problem_of(record) == ""
        assert record["settings_sha256"] == run_record.digest(record["settings"])
        assert record["command"][0] == f"workflow/scripts/{record['script']}"


SCHEMA = json.loads((ROOT / "workflow/schemas/run.schema.json").read_text())


@pytest.mark.parametrize("key", SCHEMA["required"])
def test_a_record_that_lacks_a_fact_is_none(tree, key):
    _, folder = tree
    record = json.loads((folder / "results/encoders/refers/run.json").read_text())
    del record[key]
    assert key in run_record.problem_of(record)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"settings_sha256": "abc"}, "settings_sha256"),
        ({"seed": -1}, "seed"),
        ({"commit": "main"}, "commit"),
        ({"inputs": {"index": "x"}}, "inputs"),
        ({"inputs": {"index": "0" * 64}}, "'manifest' is a required property"),
        ({"outputs": {}}, "outputs"),
        ({"finished": "yesterday"}, "finished"),
        ({"script": "train.py"}, "script"),
        ({"version": 1}, "version"),
    ],
)
def test_a_record_that_says_a_wrong_thing_is_none(tree, change, place):
    _, folder = tree
    record = json.loads((folder / "results/encoders/refers/run.json").read_text())
    assert place in run_record.problem_of(record | change)


def test_a_job_that_would_write_half_a_record_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["finetune.py"])
    (tmp_path / "predictions.parquet").touch()
    outputs = {"predictions": tmp_path / "predictions.parquet"}
    with pytest.raises(UserError, match=r"^run\.json: .*required"):
        run_record.run_record({"a": 1}, 0, {"encoder": "0" * 64}, outputs, "cpu")


def stopped_once(tree):
    """Let another process, with another library, have trained most of the encoder."""
    _, folder = tree
    path = folder / "results/encoders/refers/run.json"
    record, (encoder,) = json.loads(path.read_text()), path.parent.glob("*.safetensors")
    keys = [*OUTCOME, "parameters", "encoder_parameters", "studies", "method"]
    facts = {key: record[key] for key in keys} | {"history": [EARLIER, {"steps": 10, "processes": 1}]}
    given = [record[key] for key in ("settings", "seed", "inputs")]
    sys.argv = record["command"]
    found = run_record.run_record(*given, {"encoder": encoder}, "cpu", **facts)
    path.write_text(json.dumps(found))
    return record, found


def test_a_record_is_of_all_processes_that_worked_on_it(tree):
    alone, found = stopped_once(tree)
    assert [part["steps"] for part in found["history"]] == [299_990, 10]
    assert found["history"][0] == EARLIER
    assert found["wall_seconds"] == pytest.approx(1000 + found["history"][1]["seconds"])
    assert found["peak_memory_mib"] == 90_000
    assert found["peak_gpu_memory_mib"] == 70_000
    for key in ("library_sha256", "commit", "device"):
        assert found[key] == found["history"][1][key] == alone[key]
    assert "peak_gpu_memory_mib" not in alone


# ---- the account of a cell


def test_an_untouched_cell_is_as_recorded(tree):
    text = account(tree)
    assert "Nothing differs." in verdict(text)
    runs = re.findall(
        r"\| (\d) +\| (\d) +\| [0-9a-f]{12} +\| 5 train, 1 val, 2 test +\| 2 +\| 0.5000 +\|", text
    )
    assert runs == [("0", "0"), ("0", "1"), ("1", "0"), ("1", "1")]
    assert re.search(r"\| split 1, random +\| 1 +\| config", text), "drawn with a seed of its own"
    for name in ("tokens.npz", "bert/model.safetensors", "subset_100pct.csv", "split.parquet", "images.npy"):
        assert name in text
    assert '"lr": 0.003' in text
    commands = text.split("## Commands")[1]
    target = "results/cells/refers/shenzhen/100pct/auc.json"
    assert f"{target} --cores 8 -R finetune --set-threads finetune=1 " in commands
    assert f"{target} --cores 8 -R pretrain --set-threads pretrain=1 finetune=1 " in commands
    assert commands.index("workflow/scripts/pretrain.py") < commands.index("workflow/scripts/finetune.py")


@pytest.mark.parametrize(
    "path",
    [
        "results/encoders/refers/encoder.safetensors",
        "results/runs/refers/shenzhen/100pct/split0/seed1/predictions.parquet",
        "results/runs/refers/shenzhen/100pct/split1/seed0/predictions.parquet",
        "interim/shenzhen/split1/split.parquet",
        "interim/shenzhen/split0/subset_100pct.csv",
        "interim/mimic/tokens.npz",
        "store/mimic/index.parquet",
        "store/shenzhen/images.npy",
        "store/shenzhen/images.json",
        "bert/model.safetensors",
    ],
)
def test_a_file_that_changed_since_is_named(tree, path):
    _, folder = tree
    (folder / path).write_text('{"sha256": null}')
    lines = [line for line in verdict(account(tree)).splitlines() if "CHANGED SINCE" in line]
    assert lines
    assert all(str(folder / path) in line for line in lines)
    (folder / path).unlink()
    assert f"{folder / path}: not found" in verdict(account(tree))


def test_settings_that_changed_since_are_named(tree):
    text = verdict(account(tree, pretrain={"training": {"steps": 299_999}}))
    assert "no longer those of the pre-training of refers" in text
    text = verdict(account(tree, finetune={"datasets": {"shenzhen": {"training": {"steps": 999}}}}))
    assert "no longer those of split 0, seed 0" in text
    assert "pre-training" not in text


def test_a_library_that_changed_while_a_run_was_stopped_is_named(tree):
    stopped_once(tree)
    text = account(tree)
    ours = run_record.library_digest()[:12]
    assert f"the library changed during the run ({'1' * 12}, then {ours})" in verdict(text)
    assert re.search(r"\| its process 1, 299,990 steps +\|.*1,000 s +\| 90,000 MiB +\| an older GPU", text)
    assert "its process 2, 10 steps" in text
    assert text.count("its process") == 2


def test_a_cell_of_fewer_splits_is_named(tree):
    values, _ = tree
    nih, *others = values["study"]["cells"]
    cells = [nih, *(columns | {"splits": 3} for columns in others)]
    text = verdict(account(tree, study={"cells": cells}))
    assert "split 1, seed 1; the config has split 0, seed 0, " in text
    assert "split2/seed0/run.json not found" in text


def test_a_record_that_was_edited_is_named(tree):
    _, folder = tree
    path = folder / "results/encoders/refers/run.json"
    record = json.loads(path.read_text())
    record["settings"]["training"]["steps"] = 7
    path.write_text(json.dumps(record))
    assert "it was edited" in verdict(account(tree))
    path.write_text("{}")
    assert "is not a valid record" in verdict(account(tree))


def test_a_cell_that_never_ran_says_what_is_missing_and_how_it_is_made(tree, tmp_path):
    values, _ = tree
    text = explain(check(values), "c2l", "nih", 1, "snakemake TARGET --cores 8")
    assert "results/cells/c2l/nih/1pct/auc.json: not found" in verdict(text)
    assert "snakemake" in text.split("## Commands")[1]


def test_no_text_of_a_report_is_told(tree):
    assert SECRET not in account(tree)


def test_a_cell_outside_the_study_is_one_line(tree):
    values, _ = tree
    with pytest.raises(UserError, match=r"^no such cell: refers/nih/50"):
        explain(check(values), "refers", "nih", 50, "")


def test_large_files_are_hashed_when_asked(tree, monkeypatch):
    values, _ = tree
    monkeypatch.setattr("refers.reporting.explain_cell.HASHED", 3)
    text = account(tree)
    assert "not hashed" in text
    assert "too large to hash" in verdict(text)
    full = explain(check(values), "refers", "shenzhen", 100, "x", full=True)
    assert "not hashed" not in full


def test_the_target_explains_a_cell_of_the_demo(snakemake, demo):
    done = snakemake(
        "build/demo/results/explain/refers/shenzhen/100pct.md", "--workflow-profile", "profiles/demo"
    )
    assert done.code == 0, done.output
    text = (demo / "results/explain/refers/shenzhen/100pct.md").read_text()
    assert "Nothing differs." in text or "the library changed since" in text
    assert "CHANGED SINCE" not in text
    assert "--configfile config/demo.yaml" in text


def test_every_record_of_the_demo_is_whole(demo):
    records = sorted((demo / "results").rglob("run.json"))
    assert len(records) >= 3 + 90
    for path in records:
        assert run_record.problem_of(json.loads(path.read_text())) == "", path
