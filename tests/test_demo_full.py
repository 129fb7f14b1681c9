"""The demo of every method: each objective learns, each self-supervised encoder beats a random one, every row is printed."""

import json

import pandas as pd
import pytest

pytestmark = pytest.mark.full

SELF_SUPERVISED = ["refers", "model_genesis", "c2l", "context_restoration", "transvw"]
LEARNT = {  # validation loss at the end against the untrained objective's, at most; residual networks train for 20 steps
    "refers": 0.5,
    "model_genesis": 0.5,
    "context_restoration": 0.4,
    "transvw": 0.6,
    "c2l": 0.65,
    "lsp_transformer": 0.6,
    "refers_no_fusion": 0.7,
    "refers_no_contrast": 0.5,
    "refers_no_generation": 0.9,
    "refers_plain_vit": 0.7,
    "refers_resnet101": 0.9,
    "lsp_resnet18": 0.7,
    "lsp_resnet50": 0.9,
    "lsp_resnet101": 0.9,
}


@pytest.fixture(scope="module")
def full(snakemake, demo):
    done = snakemake("tables", "figures", "page", "--workflow-profile", "profiles/demo-full")
    assert done.code == 0, done.output[-3000:]
    return demo


@pytest.mark.parametrize("method", LEARNT)
def test_the_validation_loss_falls_well_below_its_start(full, method):
    lines = (full / f"results/encoders/{method}/metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    losses = {entry["step"]: entry["validation"]["loss"] for entry in records if "validation" in entry}
    assert losses[max(losses)] < LEARNT[method] * losses[min(losses)]


def gain(demo, method, cell):
    means = [
        json.loads((demo / f"results/cells/{name}/{cell}pct/auc.json").read_text())["test"]["mean"]
        for name in (method, "imagenet")
    ]
    return means[0] - means[1]


@pytest.mark.parametrize("method", SELF_SUPERVISED)
def test_a_self_supervised_encoder_beats_a_random_one_on_a_small_cell(full, method):
    gains = {cell: gain(full, method, cell) for cell in ("nih/1", "nih/10", "vinbigdata/1", "vinbigdata/10")}
    assert max(gains.values()) > 0.02, gains


def test_no_row_of_the_tables_is_not_run(full):
    for table, columns in (("table1", 9), ("table2", 9), ("table3", 1)):
        frame = pd.read_csv(full / f"results/tables/{table}.csv")
        assert frame["mean"].notna().all(), table
        assert (frame.groupby("row").size() == columns).all(), table
        assert "not run" not in (full / f"results/tables/{table}.md").read_text()


def test_the_best_residual_network_is_named(full):
    frame = pd.read_csv(full / "results/tables/table2.csv")
    winners = frame[frame["row"] == "lsp_convnet"]["method"]
    assert set(winners) <= {"lsp_resnet18", "lsp_resnet50", "lsp_resnet101"}
