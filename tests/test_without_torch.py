"""What follows the predictions is made again on a machine without torch."""

import os
import subprocess
import sys

TABLES = ("table1", "table2", "table3")
FIGURES = ("figure1", "figure2a", "roc_covid_t2", "training", "figure3_nih")


def test_tables_figures_claims_and_page_are_made_again_without_torch(snakemake, demo, tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('there is no torch here')\n")
    environment = {"PYTHONPATH": str(tmp_path)}
    tried = subprocess.run(
        [sys.executable, "-c", "import torch"], env=os.environ | environment, capture_output=True
    )
    assert b"there is no torch here" in tried.stderr

    results = demo / "results"
    made = [results / "tables/cells.csv", results / "claims.md", results / "index.html"]
    made += [results / f"tables/{name}.{form}" for name in TABLES for form in ("csv", "md", "tex", "html")]
    made += [results / f"figures/{name}.{form}" for name in FIGURES for form in ("pdf", "png")]
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in made}

    again = ["cells/refers/covid_t2/100pct/auc.json", *(f"figures/{name}.pdf" for name in FIGURES)]
    again = [f"build/demo/results/{path}" for path in again]
    targets = ["page", "tables", "--workflow-profile", "profiles/demo", "-R", *again]
    done = snakemake(*targets, environment=environment)
    assert done.code == 0, done.output[-3000:]
    assert {rule: done.jobs.get(rule) for rule in ("cell", "ttest", "table", "figure", "page")} == {
        **{"cell": 1, "ttest": 2, "table": len(TABLES), "figure": len(FIGURES), "page": 1}
    }
    assert not {"pretrain", "finetune", "finetune_kept", "attend"} & done.jobs.keys()
    for path, (content, written) in before.items():
        assert path.read_bytes() == content, f"{path}: other bytes than with torch"
        assert path.stat().st_mtime_ns > written, f"{path} was not made again"
