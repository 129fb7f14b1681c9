"""The page: well formed, complete, safe to open, and alive in a browser."""

import base64
import json
import re
import shlex
import shutil
from html.parser import HTMLParser

import pytest
from browser import BROWSERS, browser
from PIL import Image
from refers.claims.claims import to_csv
from refers.evaluation.verdict import CONSISTENT, DIFFERENT, TOO_NOISY
from refers.reporting import table_formats
from refers.reporting.page import Picture, facts_of_runs, render, run_row, summary_of

TARGET = "results/cells/refers/nih/1pct/auc.json"
OTHER = "results/cells/c2l/nih/1pct/auc.json"
TEST = "results/ttests/nih/1pct/refers_vs_c2l.json"
TABLE = f"""<figure class="table" id="table1"><figcaption>A &lt;table&gt;</figcaption>
<table><thead><tr><th scope="col">Method</th><th scope="col">NIH 1%</th></tr></thead>
<tbody>
<tr><th scope="row">Ours</th><td data-row="refers" data-column="nih/1" data-mean="60.5" data-printed="60.5" data-target="{TARGET}">60.5</td></tr>
<tr><th scope="row">Other</th><td data-mean="70.25"><strong>70.3</strong></td></tr>
<tr><th scope="row">Absent</th><td>not run</td></tr>
</tbody><tfoot>
<tr><th scope="row">p-value</th><td data-row="p_value" data-column="nih/1" data-printed="0.040" data-target="{TEST}">0.040</td></tr>
<tr><th scope="row">Paired difference</th><td data-row="paired_difference" data-column="nih/1" data-mean="1.5" data-low="-0.25" data-high="3" data-resamples="1000" data-undefined_resamples="37" data-target="{TEST}">+1.5</td></tr>
<tr><th scope="row">Paired difference</th><td data-row="paired_difference" data-column="nih/1" data-mean="1.5" data-resamples="1000" data-undefined_resamples="151" data-target="{TEST}">+1.5</td></tr>
</tfoot></table></figure>"""
BELOW = ["p-value", "Paired difference", "Paired difference"]
CLAIM = {
    "id": "ninety",
    "quote": "90 % fewer labels </script><script>alert(1)</script>",
    "place": "p. 5",
    "note": "Read as <that>.",
    "paper": "holds",
    "paper_numbers": "80.9 > 80.0",
    "ours": "cannot be judged",
    "our_numbers": "not run",
}
RECORD = {
    "seed": 0,
    "settings_sha256": "a" * 64,
    "library_sha256": "b" * 64,
    "commit": "c" * 40,
    "device": "cpu",
    "wall_seconds": 2.0,
    "threads": 4,
    "versions": {"torch": "2.9"},
}


PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)


def page(**changes):
    facts = {TARGET: facts_of_runs([RECORD, RECORD | {"wall_seconds": 4.0}])}
    facts[OTHER] = facts_of_runs([RECORD | {"device": "a GPU"}])
    values = {
        "title": "A study",
        "note": "made <by> hand",
        "tables": [TABLE],
        "figures": [Picture("Figure 2a", PNG, "figures/figure2a.pdf")],
        "claims": [CLAIM],
        "cells": facts,
        "tests": {TEST: [TARGET, OTHER]},
        "command": "snakemake TARGET --cores 8",
    }
    return render(**values | changes)


class Balance(HTMLParser):
    """Checks that every element that is opened is closed in order."""

    EMPTY = ("meta", "img", "br", "input")

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attributes):
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_a_study_without_claims_has_no_section_of_them_and_names_its_images_owner():
    text = page(claims=[], credits=["Images: A <Author>; CC BY 4.0"])
    parser = Balance()
    parser.feed(text)
    assert not parser.open
    assert "#claims" not in text
    assert 'id="claims"' not in text
    assert "Images: A &lt;Author&gt;; CC BY 4.0" in text


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
    other = RECORD | {"seed": 1, "wall_seconds": 4.0, "device": "gpu", "threads": 2}
    other["history"] = [other | {"library_sha256": "d" * 64}, other]  # it was stopped once
    facts = facts_of_runs([RECORD, other])
    assert facts["seeds"] == "0, 1"
    assert facts["time"] == "3.0 s per seed"
    assert facts["device"] == "cpu, gpu"
    assert facts["threads"] == "4, 2"
    assert facts["commit"] == "c" * 40
    assert facts["library"] == f"{'b' * 12}, {'d' * 12}"
    assert facts["run in"] == "3 processes"
    assert "run in" not in facts_of_runs([RECORD])


# Of every element with text of its own, its name and the contrast of this with its ground (WCAG 2.2, 1.4.3).
CONTRASTS = """(() => {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const seen = new Map();
    const luminance = (colours) => {
        if (seen.has(colours.join())) return seen.get(colours.join());
        for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
        const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((value) =>
            value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
        seen.set(colours.join(), 0.2126 * r + 0.7152 * g + 0.0722 * b);
        return seen.get(colours.join());
    };
    const grounds = (element) => element ? [...grounds(element.parentElement), getComputedStyle(element).backgroundColor] : [];
    const shown = (element) => element.checkVisibility()
        && [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
    return [...document.querySelectorAll("body *")].filter(shown).map((element) => {
        const ground = grounds(element);
        const [low, high] = [luminance(ground), luminance([...ground, getComputedStyle(element).color])].sort((a, b) => a - b);
        return [element.localName, (high + 0.05) / (low + 0.05)];
    });
})()"""


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    """A browser that is started once."""
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


def heads(tab):
    return tab.run(
        "[...document.querySelectorAll('#table1 tr > th[scope=row]')].map(each => each.textContent)"
    )


@pytest.mark.tool(*BROWSERS)
def test_a_column_sorts_by_number_both_ways_and_p_values_stay_below(tab, tmp_path):
    (tmp_path / "page.html").write_text(page())
    tab.open(tmp_path / "page.html", 1280, 900)
    assert heads(tab) == ["Ours", "Other", "Absent", *BELOW]
    tab.click("#table1 thead th", 1)
    assert heads(tab) == ["Other", "Ours", "Absent", *BELOW]
    tab.click("#table1 thead th", 1)
    assert heads(tab) == ["Absent", "Ours", "Other", *BELOW]
    assert tab.run("document.querySelector('#table1 [aria-sort]').ariaSort") == "ascending"


@pytest.mark.tool(*BROWSERS)
def test_a_click_on_a_number_says_where_it_comes_from(tab, tmp_path):
    (tmp_path / "page.html").write_text(page())
    tab.open(tmp_path / "page.html", 1280, 900)
    text = "document.querySelector('dialog[open]')?.innerText ?? ''"
    assert tab.run(text) == ""
    tab.click("td[data-target]", 0)
    shown = tab.run(text)
    for piece in (
        TARGET,
        f"snakemake {TARGET} --cores 8",
        "c" * 40,
        "3.0 s per seed",
        "Ours, NIH 1%: 60.5",
        "-R finetune finetune_kept --set-threads finetune=4",
        "a" * 12,
    ):
        assert piece in shown
    tab.click("dialog button")
    assert tab.run(text) == ""
    tab.click("td[data-target]", 1)
    shown = tab.run(text)
    for piece in (f"snakemake {TEST} --cores 8", TARGET, OTHER, "a GPU", "cpu"):
        assert piece in shown, "a p-value names both cells that it compares"


def test_the_head_says_what_was_run():
    row = dict.fromkeys(table_formats.FIELDS, "")
    numbers = [
        row | {"row": "refers", "method": "refers", "column": "nih/1", "target": TARGET, "mean": "60", "verdict": CONSISTENT},
        row | {"row": "c2l", "method": "c2l", "column": "nih/1", "target": OTHER, "mean": "50", "verdict": DIFFERENT},
        row | {"row": "lsp", "method": "lsp", "column": "nih/1", "status": "not run"},
        row | {"row": "p_value", "column": "nih/1", "target": TEST, "mean": "0.04"},
    ]  # fmt: skip
    records = [RECORD | {"finished": f"2026-01-0{day}T10:00:00Z", "wall_seconds": 1800.0} for day in (2, 1)]
    facts = summary_of(numbers, records, [CLAIM])
    assert facts["cells"] == "2 with an AUC"
    assert facts["without a number"] == "1: not run"
    assert facts["numbers beside the paper's"] == f"1 {CONSISTENT}, 1 {DIFFERENT}, 0 {TOO_NOISY}"
    assert facts["claims on our numbers"] == "1 cannot be judged"
    assert facts["training jobs"] == "2, 1.0 h in all, on cpu"
    assert facts["finished"] == "2026-01-01 to 2026-01-02"
    assert summary_of([], [RECORD | {"commit": None}], [])["commit"] == "unknown", "no checkout"
    shown = page(summary=facts, runs=[run_row({"method": "c2l", "dataset": "nih", "ratio": 1}, RECORD)])
    assert "<dd>2 with an AUC</dd>" in shown
    assert 'href="#runs"' in shown


def choose(tab, name, value, event):
    tab.run(f"""(each => {{ each.value = each.checked = {json.dumps(value)}; each.dispatchEvent(new Event({event!r})); }})
        (document.getElementById({name!r}))""")


# How strong the colour of each number is.
SHARES = "[...document.querySelectorAll('td.hot')].map(each => each.style.getPropertyValue('--share'))"


@pytest.mark.tool(*BROWSERS)
def test_rows_and_numbers_are_shown_as_asked(tab, tmp_path):
    (tmp_path / "page.html").write_text(page())
    tab.open(tmp_path / "page.html", 1280, 900)
    texts = "[...document.querySelectorAll('#table1 tbody td')].filter(each => !each.parentNode.hidden).map(each => each.innerText)"
    assert tab.run(texts) == ["60.5", "70.3", "not run"]
    choose(tab, "shown", "best", "change")
    assert tab.run(texts) == ["\u22129.8", "0.0", "not run"]
    choose(tab, "shown", "", "change")
    choose(tab, "rows", "oth", "input")
    assert tab.run(texts) == ["70.3"]
    choose(tab, "rows", "", "input")
    choose(tab, "columns", "vbd", "input")
    assert tab.run("document.querySelector('#table1 thead th:nth-child(2)').hidden")
    choose(tab, "columns", "", "input")
    choose(tab, "heat", True, "change")
    assert tab.run(SHARES) == ["0%", "45%"]


@pytest.mark.tool(*BROWSERS)
def test_a_table_by_class_is_filtered_by_its_columns_and_keeps_its_counts(tab, tmp_path):
    by_class = """<figure class="table" id="extended1"><figcaption>By class</figcaption><details open><table>
<thead><tr><th scope="col">NIH 1%</th><th scope="col">n+</th><th scope="col">Ours</th><th scope="col">Other</th></tr></thead>
<tbody><tr><th scope="row">Mass</th><td>5</td><td data-column="nih/1" data-mean="60">60</td><td data-column="nih/1" data-mean="70">70</td></tr></tbody>
</table></details></figure>"""
    (tmp_path / "page.html").write_text(page(tables=[by_class]))
    tab.open(tmp_path / "page.html", 1280, 900)
    heads = "[...document.querySelectorAll('#extended1 th[scope=col]')].filter(each => !each.hidden).map(each => each.innerText)"
    for text, shown in (("oth", ["Other"]), ("", ["Ours", "Other"])):
        choose(tab, "rows", text, "input")
        assert tab.run(heads) == ["NIH 1%", "n+", *shown]


@pytest.mark.tool(*BROWSERS)
def test_of_errors_the_lowest_is_the_best(tab, tmp_path):
    errors = """<figure class="table" id="measures"><figcaption>Measures</figcaption><details open><table>
<thead><tr><th scope="col">NIH 1%</th><th scope="col">Ours</th><th scope="col">Other</th><th scope="col">Third</th></tr></thead>
<tbody><tr><th scope="row">Brier</th><td data-mean="8"><strong>8.0</strong></td><td data-mean="10">10.0</td><td data-mean="12">12.0</td></tr>
<tr><th scope="row">Gap</th><td data-mean="1">1.0</td><td data-mean="3">3.0</td></tr></tbody>
</table></details></figure>"""
    (tmp_path / "page.html").write_text(page(tables=[errors]))
    tab.open(tmp_path / "page.html", 1280, 900)
    choose(tab, "heat", True, "change")
    assert tab.run(SHARES)[:3] == ["45%", "23%", "0%"]
    choose(tab, "shown", "best", "change")
    texts = tab.run("[...document.querySelectorAll('#measures td')].map(each => each.innerText)")
    assert texts == ["0.0", "+2.0", "+4.0", "", ""], "no gap is called the best"


@pytest.mark.tool(*BROWSERS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(tab, tmp_path, scheme):
    claims = [
        CLAIM | {"ours": kind, "targets": TARGET} for kind in ("holds", "does not hold", "within noise")
    ]
    runs = [run_row({"method": "refers"}, RECORD)]
    table = TABLE.replace("70.3</strong>", '70.3</strong> <span class="paper">(76.7)</span>')
    text = page(claims=claims, runs=runs, summary={"cells": "2"}, tables=[table])
    (tmp_path / "page.html").write_text(text)
    tab.open(tmp_path / "page.html", 1280, 900, scheme=scheme)
    choose(tab, "heat", True, "change")
    tab.run("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    tab.click("td[data-target]", 0)
    found = tab.run(CONTRASTS)
    assert {"td", "th", "span", "strong", "dt", "dd", "a", "button", "pre"} <= {name for name, _ in found}
    assert not [each for each in found if each[1] < 4.5]


@pytest.mark.tool(*BROWSERS)
def test_a_claim_and_its_cells_lead_to_each_other(tab, tmp_path):
    (tmp_path / "page.html").write_text(page(claims=[CLAIM | {"targets": TARGET}]))
    tab.open(tmp_path / "page.html", 1280, 900)
    tab.click("#ninety button")
    assert tab.run("document.querySelector('td.marked').dataset.target") == TARGET
    tab.click("td[data-target]", 0)
    assert tab.run("document.querySelector('dialog[open] dd a').hash") == "#ninety"


@pytest.mark.tool(*BROWSERS)
def test_an_interval_says_over_how_many_resamples(tab, tmp_path):
    (tmp_path / "page.html").write_text(page())
    tab.open(tmp_path / "page.html", 1280, 900)
    for number, interval, used in ((2, "-0.25 to 3", 963), (3, "undefined", 849)):
        tab.click("td[data-target]", number)
        shown = tab.run("document.querySelector('dialog[open]').innerText")
        assert f"95 % interval over images\n{interval}\n" in shown
        assert f"resamples\n{used} of 1000; the others leave a class with one label only" in shown
        tab.click("dialog button")


@pytest.mark.tool(*BROWSERS)
def test_a_phone_scrolls_tables_and_nothing_else_sideways(tab, tmp_path):
    columns = "".join(f'<th scope="col">NIH {ratio}%</th>' for ratio in range(20))
    wide = TABLE.replace('<th scope="col">NIH 1%</th>', columns)
    (tmp_path / "page.html").write_text(page(tables=[wide], note="a_long_word_" * 20))
    tab.open(tmp_path / "page.html", 390, 844, phone=True)
    assert tab.run("document.documentElement.scrollWidth <= innerWidth && innerWidth === 390")
    assert tab.run("(box => box.scrollWidth > box.clientWidth)(document.querySelector('#table1 .scroll'))")
    small = """[...document.querySelectorAll('body *')].filter(each => each.innerText)
        .map(each => parseFloat(getComputedStyle(each).fontSize))"""
    assert min(tab.run(small)) >= 11
    tab.click("td[data-target]", 0)
    box = tab.run("JSON.stringify(document.querySelector('dialog[open]').getBoundingClientRect())")
    edges = json.loads(box)
    assert edges["left"] >= 0
    assert edges["right"] <= 390
    assert edges["bottom"] <= 844
    tab.screenshot(tmp_path / "phone.png")
    assert Image.open(tmp_path / "phone.png").size == (780, 1688)


@pytest.fixture
def study(tmp_path):
    """Arguments of page.py for a study of two cells and their t-test."""
    results = tmp_path / "results"
    files = {"claims.csv": to_csv([]), "tables/table1.html": TABLE}
    for method in ("refers", "c2l"):
        files[f"runs/{method}/nih/1pct/split0/seed0/run.json"] = json.dumps(RECORD)
    test = {"reference": "refers", "baseline": "c2l", "dataset": "nih", "ratio": 1, "student": {"p": None}}
    test |= {"reference_auc": [0.8], "baseline_auc": [0.7], "difference": 0.1}
    files["ttests/nih/1pct/refers_vs_c2l.json"] = json.dumps(test)
    for name, text in files.items():
        (results / name).parent.mkdir(parents=True, exist_ok=True)
        (results / name).write_text(text)
    records, tests = sorted(results.rglob("run.json")), results.glob("ttests/*/*/*.json")
    given = ["--title", "x", "--command", "snakemake TARGET", "--tables", results / "tables/table1.html"]
    given += ["--claims", results / "claims.csv", "--records", *records, "--ttests", *tests]
    return [*given, "--out", results / "index.html"]


def test_the_script_finds_the_cells_of_runs_and_t_tests(study, call):
    done = call("page", *study)
    assert done.returncode == 0, done.stderr
    text = study[-1].read_text()
    found = json.loads(re.search(r'id="provenance">(.*?)</script>', text, re.DOTALL)[1])
    cells = [f"{study[-1].parent}/cells/{method}/nih/1pct/auc.json" for method in ("c2l", "refers")]
    assert list(found["cells"]) == cells
    assert found["tests"] == {f"{study[-1].parent}/ttests/nih/1pct/refers_vs_c2l.json": cells[::-1]}


def test_a_record_of_no_fine_tune_is_one_line(study, call, tmp_path):
    elsewhere = tmp_path / "runs/refers/nih/1pct/split0/seed0/run.json"
    elsewhere.parent.mkdir(parents=True)
    elsewhere.write_text(json.dumps(RECORD))
    place = study.index("--records") + 1
    done = call("page", *study[:place], elsewhere, *study[place:])
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert str(elsewhere) in line


def test_a_plan_is_shown_where_one_was_made():
    assert 'href="#plan"' not in page()
    text = page(plan='<h2 id="plan">Plan</h2>')
    assert text.count('id="plan"') == 1
    assert 'href="#plan"' in text.split("<h2")[0]


def test_the_demos_page_knows_the_runs_behind_every_number(demo):
    text = (demo / "results/index.html").read_text()
    provenance = json.loads(re.search(r'id="provenance">(.*?)</script>', text, re.DOTALL)[1])
    targets = {target for found in re.findall(r'data-target="([^"]+)"', text) for target in found.split()}
    cells = {target for target in targets if target.endswith("auc.json")}
    tuned = {target for target in cells if "/cells/" in target}
    assert (len(tuned), len(cells - tuned)) == (5 * 9, 4 * 9), "fine-tuned and probed"
    assert cells <= provenance["cells"].keys()
    assert provenance["command"].endswith("--configfile config/demo.yaml")
    assert str(demo.parents[1]) not in text, "no machine path"
    assert len(text) < 10e6
    assert not re.findall(r'(?:src|href)="(?!#|data:)', text), "one file"


@pytest.mark.tool(*BROWSERS)
def test_the_command_of_a_number_makes_it_again(demo, tab, snakemake, copy_project, tmp_path):
    """In a copy, which shares with the demo what a fine-tune reads."""
    tab.open(demo / "results/index.html", 1280, 900)
    cell = "build/demo/results/cells/refers/nih/1pct/auc.json"
    tab.run(f"document.querySelector('td[data-target={json.dumps(cell)}]').click()")
    command = tab.run("document.querySelector('dialog[open] pre').innerText")
    folder = copy_project(tmp_path / "copy")
    shutil.copytree(demo / "results", folder / "build/demo/results")
    for name in ("data", "interim", "store"):
        (folder / "build/demo" / name).symlink_to(demo / name)
    predictions = "runs/refers/nih/1pct/split0/seed{}/predictions.parquet"
    files = [folder / "build/demo/results" / predictions.format(seed) for seed in (0, 1, 2)]
    before = [path.stat().st_mtime_ns for path in files]
    program, *arguments = shlex.split(command)
    assert program == "snakemake"
    done = snakemake(*arguments, folder=folder)
    assert done.code == 0, done.output
    assert done.jobs == {"finetune": 1, "cell": 1, "total": 2}
    for path, old in zip(files, before, strict=True):
        assert path.stat().st_mtime_ns > old
        first = demo / path.relative_to(folder / "build/demo")
        assert path.read_bytes() == first.read_bytes()
    assert "predictions identical to the previous run" in done.output
    mean = json.loads((demo / "results/cells/refers/nih/1pct/auc.json").read_text())["test"]["mean"]
    assert f"refers nih 1 %: AUC {100 * mean:.1f}" in done.output


@pytest.mark.tool(*BROWSERS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "phone"), [(1400, False), (1280, False), (390, True)])
def test_the_demos_page_shows_every_figure_and_fits(demo, tab, width, phone, scheme):
    tab.open(demo / "results/index.html", width, 900, phone, scheme)
    assert tab.run("document.documentElement.scrollWidth <= innerWidth")
    columns = "[...document.querySelectorAll('#table1 thead tr:last-child th')].map(each => each.getBoundingClientRect().right)"
    edges = tab.run(columns)
    assert len(edges) == 1 + 9
    assert phone or max(edges) <= width
    choose(tab, "heat", True, "change")
    assert min(contrast for _, contrast in tab.run(CONTRASTS)) >= 4.5
    loaded = """Promise.all([...document.images].map(each => {
        each.loading = "eager";
        return each.decode().then(() => each.naturalWidth > 100);
    }))"""
    shown = tab.run(loaded)
    assert len(shown) == len(list((demo / "results/figures").glob("*.png"))) + 1, "and that of the pilots"
    assert all(shown)
