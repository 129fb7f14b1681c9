"""The demo end to end: the planted signal comes out, and nothing leaks."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

SMALL = [("nih", 10), ("vinbigdata", 10)]


def cell(demo, method, dataset, ratio):
    return json.loads((demo / f"results/cells/{method}/{dataset}/{ratio}pct/auc.json").read_text())["test"]


def test_pretraining_on_images_and_reports_beats_a_random_encoder(demo):
    gain = {
        f"{dataset}/{ratio}": cell(demo, "refers", dataset, ratio)["mean"]
        - cell(demo, "imagenet", dataset, ratio)["mean"]
        for dataset, ratio in [*SMALL, ("nih", 100)]
    }
    assert gain["nih/10"] > 0.05, gain
    assert gain["nih/100"] > 0.05, gain
    assert sum(gain.values()) / len(gain) > 0.05, gain


def test_reports_that_say_more_than_labels_help_in_most_columns(demo):
    cells = [(name, ratio) for name in ("nih", "vinbigdata") for ratio in (1, 10, 100)]
    cells += [(name, 100) for name in ("shenzhen", "covid_t1", "covid_t2")]
    others = ("imagenet", "lsp_transformer", "random", "shuffled_labels")
    lead = {
        where: cell(demo, "refers", *where)["mean"] - max(cell(demo, each, *where)["mean"] for each in others)
        for where in cells
    }
    assert sum(points > 0 for points in lead.values()) >= 5, lead


def test_every_cell_has_three_seeds_and_defined_classes(demo):
    for path in demo.glob("results/cells/*/*/*/auc.json"):
        found = json.loads(path.read_text())
        splits = [0, 1] if found["dataset"] == "covid_t2" else [0]
        assert found["splits"] == [split for split in splits for _ in range(3)]
        assert found["seeds"] == [0, 1, 2] * len(splits)
        assert len(found["test"]["mean_auc"]) == 3 * len(splits)
        assert 0 < found["test"]["mean"] <= 1
        assert found["test"]["undefined"] == []


def test_the_tables_print_every_cell_beside_the_papers_number(demo):
    for name in ("table1", "table2"):
        frame = pd.read_csv(demo / f"results/tables/{name}.csv")
        ours = frame[(frame["row"] == "refers") & frame["mean"].notna()]
        assert len(ours) == 9
        assert ours["reported"].notna().all()
        markdown = (demo / f"results/tables/{name}.md").read_text()
        assert "These numbers say nothing about the paper's" in markdown
        assert (demo / f"results/tables/{name}.tex").read_text().count(r"\toprule") >= 1
    assert "a random checkpoint stands in for ImageNet's" in (demo / "results/tables/table1.md").read_text()
    index = pd.read_csv(demo / "results/tables/cells.csv")
    assert all(Path(target).exists() for targets in index["target"] for target in targets.split())


def test_pretraining_learns_and_says_what_it_was(demo):
    for method in ("refers", "lsp_transformer"):
        folder = demo / "results/encoders" / method
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        losses = [line["validation"]["loss"] for line in lines if "validation" in line]
        assert losses[-1] < losses[0]
        record = json.loads((folder / "run.json").read_text())
        assert record["best_step"] > 0
        assert record["studies"]["train"] > 5 * record["studies"]["val"]
        assert not (folder / "resume.pt").exists()


def test_the_funnel_counts_reports_down_to_studies(demo):
    funnel = json.loads((demo / "store/mimic/reports.json").read_text())
    assert funnel["reports"] > funnel["with_findings_or_impression"] >= funnel["at_least_3_tokens"] > 3000


def test_peak_memory_of_every_job_is_modest(demo):
    for path in demo.glob("benchmarks/**/*.jsonl"):
        for line in path.read_text().splitlines():
            peak = json.loads(line)["max_rss"]
            assert peak in (None, "NA", "-") or float(peak) < 3000, path


def test_no_report_text_reaches_results_or_logs(demo):
    reports = pd.read_parquet(demo / "store/mimic/reports.parquet")["text"]
    sentences = {
        sentence.strip()
        for text in reports.head(300)
        for sentence in re.split(r"[.]", text)
        if len(sentence.split()) > 5
    }
    assert len(sentences) > 100
    written = [
        path for folder in ("results", "logs") for path in (demo / folder).rglob("*") if path.is_file()
    ]
    for path in written:
        content = path.read_bytes().decode("utf-8", "replace")
        assert not any(sentence in content for sentence in sentences), path


@pytest.mark.parametrize("name", ["mimic", "nih", "vinbigdata", "shenzhen", "covid"])
def test_every_source_is_indexed_and_packed(demo, name):
    index = pd.read_parquet(demo / f"store/{name}/index.parquet")
    manifest = json.loads((demo / f"store/{name}/images.json").read_text())
    assert manifest["count"] == len(index) > 100
    assert manifest["size"] == 72
