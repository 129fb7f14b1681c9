"""The page: well formed, complete, safe to open, and alive in a browser."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from refers.page import facts_of_runs, render

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
TARGET = "results/cells/refers/nih/1pct/auc.json"
TABLE = f"""<figure class="table" id="table1"><figcaption>A &lt;table&gt;</figcaption>
<table><thead><tr><th scope="col">Method</th><th scope="col">NIH 1%</th></tr></thead>
<tbody>
<tr><th scope="row">Ours</th><td data-row="refers" data-column="nih/1" data-mean="60.5" data-printed="60.5" data-target="{TARGET}">60.5</td></tr>
<tr><th scope="row">Other</th><td data-mean="70.25">70.3</td></tr>
<tr><th scope="row">Absent</th><td>not run</td></tr>
</tbody></table></figure>"""
CLAIM = {
    "id": "ninety",
    "quote": "90 % fewer labels </script><script>alert(1)</script>",
    "place": "p. 5",
    "paper": "holds",
    "paper_numbers": "80.9 > 80.0",
    "ours": "cannot be judged",
    "our_numbers": "not run",
}
RECORD = {
    "settings": {"training": {"seed": 0}},
    "settings_sha256": "a" * 64,
    "library_sha256": "b" * 64,
    "commit": "c" * 40,
    "device": "cpu",
    "wall_seconds": 2.0,
    "versions": {"torch": "2.9"},
}


def page(**changes):
    facts = {TARGET: facts_of_runs([RECORD, RECORD | {"wall_seconds": 4.0}])}
    values = {
        "title": "A study",
        "note": "made <by> hand",
        "tables": [TABLE],
        "figures": [("Figure 2a", "figures/figure2a.png")],
        "claims": [CLAIM],
        "cells": facts,
        "command": "snakemake TARGET --cores 8",
    }
    return render(**values | changes)


class Balance(HTMLParser):
    """Checks that every element that is opened is closed in order."""

    EMPTY = ("meta", "img", "br")

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attributes):
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_holds_everything():
    text = page()
    parser = Balance()
    parser.feed(text)
    assert not parser.open
    for piece in ("60.5", "Figure 2a", "figures/figure2a.pdf", "holds", "cannot be judged", "not run"):
        assert piece in text
    assert "made &lt;by&gt; hand" in text
    assert "http" not in re.sub(r"<figure.*?</figure>", "", text, flags=re.DOTALL), (
        "nothing comes from a network"
    )


def test_text_cannot_become_script():
    text = page(cells={TARGET: {"commit": "</script><script>alert(1)</script>"}})
    assert text.count("<script") == 2
    assert text.count("</script>") == 2


def test_facts_name_every_seed_and_average_the_time():
    facts = facts_of_runs(
        [RECORD, RECORD | {"settings": {"training": {"seed": 1}}, "wall_seconds": 4.0, "device": "gpu"}]
    )
    assert facts["seeds"] == "0, 1"
    assert facts["time"] == "3.0 s a seed"
    assert facts["device"] == "cpu, gpu"
    assert facts["commit"] == "c" * 40


@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")
def test_a_browser_sorts_columns_and_shows_where_a_number_comes_from(tmp_path):
    script = """<script>
    document.querySelectorAll("#table1 thead th")[1].click();
    document.querySelector("td[data-target]").click();
    </script></body>"""
    (tmp_path / "page.html").write_text(page().replace("</body>", script))
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    done = subprocess.run(
        [*command, f"file://{tmp_path}/page.html"], capture_output=True, text=True, timeout=120
    )
    body = done.stdout.split("<dialog")[0]
    assert re.findall(r'<th scope="row">(\w+)</th>', body) == ["Other", "Ours", "Absent"]
    assert 'aria-sort="descending"' in body
    dialog = re.search(r"<dialog.*?</dialog>", done.stdout, re.DOTALL)[0]
    assert "open" in dialog[:20]
    for piece in (f"snakemake {TARGET} --cores 8", "c" * 40, "3.0 s a seed", "refers nih/1: 60.5"):
        assert piece in dialog


def test_a_plan_is_shown_where_one_was_made():
    assert 'href="#plan"' not in page()
    text = page(plan='<h2 id="plan">Plan</h2>')
    assert text.count('id="plan"') == 1
    assert 'href="#plan"' in text.split("<h2")[0]


def test_the_demos_page_knows_the_runs_behind_every_number(snakemake, demo):
    done = snakemake("page", "--workflow-profile", "profiles/demo")
    assert done.code == 0, done.output[-2000:]
    text = (demo / "results/index.html").read_text()
    provenance = json.loads(re.search(r'id="provenance">(.*?)</script>', text, re.DOTALL)[1])
    targets = {target for found in re.findall(r'data-target="([^"]+)"', text) for target in found.split()}
    cells = {target for target in targets if target.endswith("auc.json")}
    assert len(cells) == 27
    assert cells <= provenance["cells"].keys()
    assert provenance["command"].endswith("--configfile config/demo.yaml")
    assert str(demo.parents[1]) not in text, "no machine path"
