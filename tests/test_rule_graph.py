"""The graph of the rules: the rules as Snakemake reports them, drawn so that arrows point down and boxes and lines keep apart."""

import csv
from itertools import combinations, pairwise
from pathlib import Path

import pytest
from refers.errors import UserError
from refers.reporting import figures, rule_graph

ROOT = Path(__file__).parents[1]
DOT = """digraph snakemake_dag {
    graph[bgcolor=white, margin=0];
    node[shape=box, style=rounded, fontname=sans, fontsize=10, penwidth=2];
	0[label = "page", color = "0.60 0.6 0.85", style="rounded"];
	1[label = "table", color = "0.58 0.6 0.85", style="rounded"];
	2[label = "cell", color = "0.11 0.6 0.85", style="rounded"];
	3[label = "tables", color = "0.11 0.6 0.85", style="rounded"];
	1 -> 0
	2 -> 1
	2 -> 0
	1 -> 3
}"""


def test_the_printed_graph_is_read_and_rules_that_gather_targets_are_left_out(tmp_path):
    graph = rule_graph.read_dot(DOT)
    assert graph == {"page": {"table", "cell"}, "table": {"cell"}, "cell": set(), "tables": {"table"}}
    (tmp_path / "tables.smk").write_text("rule table:\n    input: 1\n\nuse rule table as page with:\n")
    (tmp_path / "cells.smk").write_text("rule cell:\n")
    stages = rule_graph.stages([tmp_path / "tables.smk", tmp_path / "cells.smk"])
    (tmp_path / "rules.csv").write_text(rule_graph.to_csv(graph, stages))
    found = rule_graph.read_csv(tmp_path / "rules.csv")
    assert found == (
        {"page": {"table", "cell"}, "table": {"cell"}, "cell": set()},
        {"page": "tables", "table": "tables", "cell": "cells"},
    )
    with pytest.raises(UserError, match="printed no rule"):
        rule_graph.read_dot("digraph {}")


def test_arrows_that_a_longer_path_implies_are_left_out():
    graph = {"a": set(), "b": {"a"}, "c": {"a", "b"}, "d": {"a", "c"}, "e": {"a"}}
    assert rule_graph.reduced(graph) == {"a": set(), "b": {"a"}, "c": {"b"}, "d": {"c"}, "e": {"a"}}


GRAPH = {
    **{"index": set(), "clean": {"index"}, "pack": {"index"}, "import": set(), "pretrain": {"pack", "clean"}},
    **{"split": {"pack"}, "finetune": {"import", "pretrain", "split"}, "cell": {"finetune"}, "page": {"cell", "pack"}},
}  # fmt: skip


def test_boxes_keep_apart_and_lines_go_down_beside_them():
    places, ways = rule_graph.layout(GRAPH)
    assert places.keys() == GRAPH.keys()
    for (x0, y0), (x1, y1) in combinations(places.values(), 2):
        assert y0 != y1 or abs(x0 - x1) >= rule_graph.GAP - 1e-9
    assert len(ways) == sum(map(len, GRAPH.values()))
    for way in ways:
        assert all(below[1] == above[1] + 1 for above, below in pairwise(way))
        for x, y in way[1:-1]:
            assert all(
                abs(x - across) > 0.43 * rule_graph.GAP for across, down in places.values() if down == y
            )
    assert places["import"][1] == places["finetune"][1] - 1, (
        "a rule that reads no other is right above its reader"
    )


def test_the_order_of_the_rules_does_not_matter():
    turned = dict(reversed(GRAPH.items()))
    assert rule_graph.layout(turned) == rule_graph.layout(GRAPH)


def test_every_rule_and_its_stage_are_written():
    stages = {rule: "data" if rule in ("index", "pack") else "later" for rule in GRAPH}
    drawn = figures.rules_figure({"title": "Rules"}, GRAPH, stages)
    texts = [text.get_text() for text in drawn.axes[0].texts]
    assert sorted(texts) == sorted([*GRAPH, *stages.values()])


def test_the_published_studys_graph_holds_every_stage(snakemake, downloads, tmp_path):
    paths = ", ".join(f"{name}: {tmp_path}/{name}" for name in ("results", "logs", "benchmarks"))
    options = ["--cores", 1, *downloads, f"pathvars={{{paths}}}"]
    done = snakemake(f"{tmp_path}/results/figures/pipeline.png", *options)
    assert done.code == 0, done.output
    with open(tmp_path / "results/rules.csv", newline="") as opened:
        rows = {row["rule"]: row for row in csv.DictReader(opened)}
    beside = {
        "common",
        "preflight",
        "plan",
        "explain",
        "demo",
        "audit",
        "crate",
        "export",
        "external",
    }  # no table or figure of the published study needs them
    stages = {path.stem for path in (ROOT / "rules").glob("*.smk")} - beside
    assert {row["stage"] for row in rows.values()} == stages
    assert "pretrain" in rows["finetune"]["needs"].split()
    assert "finetune" in rows["cell"]["needs"].split()
    assert not {"tables", "figures"} & rows.keys()
    assert (tmp_path / "results/figures/pipeline.png").read_bytes().startswith(b"\x89PNG")
