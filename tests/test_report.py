"""Snakemake's own report of the finished demo."""

import re


def test_the_report_holds_tables_figures_and_claims_with_captions(snakemake, demo, tmp_path):
    path = tmp_path / "report.html"
    done = snakemake("tables", "figures", "--report", path, "--workflow-profile", "profiles/demo")
    assert done.code == 0, done.output[-3000:]
    text = path.read_text(encoding="utf-8")
    categories = re.search(r"var categories = (.*)", text)[1]
    for name in ("Tables", "Figures", "Claims"):
        assert name in categories
    for piece in (
        "cross-supervision between images and free-text radiology reports",  # the report's own head
        "There are no verdicts: the data are not the paper's.",  # a table's caption
        "radiologists&#x27; boxes red",  # Figure 3's
        "checked twice",  # the claims'
        "pipeline.png",
    ):
        assert piece.replace("&#x27;", "'") in text.replace("&#x27;", "'").replace("\\n", " ").replace(
            "\n", " "
        )
    assert str(demo.parents[1]) not in text, "no machine path"
