"""Titles are text: whatever they hold, tables, claims, figures and captions show it as it is written."""

import csv
import io
import json
import re
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import jinja2
import numpy as np
import pytest
from docutils.core import publish_parts
from field.artefacts import AUC
from made_tables import C2L, COLUMNS, REFERS, ROWS, auc_of, compiled, table_of
from markdown_it import MarkdownIt
from refers.claims import claims
from refers.formatting import markdown_text
from refers.reporting import figures
from refers.reporting.table_formats import to_csv, to_html, to_latex, to_markdown

ROOT = Path(__file__).parents[1]
TITLES = [
    *("a | b", "*a* and **b**", "_ours", "ours_", "__a__ a_b", "~~a~~ ~ ^", "``a`` `b`", "$$", "US$5 and $6"),
    *(
        "<b>a</b>",
        "<!-- a",
        "A & B &amp; C",
        "100% #1 {a",
        "a}",
        r"\alpha \\[2pt]",
        "ends with \\",
        "'' --- --",
    ),
    *("[a] b", "[a](b)", "[^a]", "[x] a", "* a", "- a", "+ a", "> a", "# a", "1. a", "2) a", "---", "==="),
    *(
        "a\nb\n\nc",
        "\"a\" and 'b'",
        "=SUM(A1)",
        "Zürich – naïve",
        "a_",
        "`_`",
        "|a|",
        "a::",
        "..",
        ".. a:: b",
    ),
]
UNICODE = "β 中"  # what pdfLaTeX has no letter for


def one_line(text):
    return " ".join(text.split())


def titled(title):
    """A table with this title on everything that has one."""
    rows = [row | {"title": title} for row in ROWS[:2]]
    columns = [column | {"group": title} for column in COLUMNS[:2]]
    return table_of([REFERS, C2L], rows=rows, columns=columns, title=title, note=title, status={"nih": title})


def elements(markdown):
    """Markdown as a browser has it, by an independent reader."""
    reader = MarkdownIt("commonmark", {"xhtmlOut": True}).enable(["table", "strikethrough"])
    return ElementTree.fromstring(f"<body>{reader.render(markdown)}</body>")


def text_of(element):
    return one_line("".join(element.itertext()))


@pytest.mark.parametrize("title", [*TITLES, UNICODE])
def test_csv_markdown_and_html_of_a_table_show_a_title_as_it_is(title):
    table = titled(title)
    rows = list(csv.DictReader(io.StringIO(to_csv(table), newline="")))
    assert {row["title"] for row in rows if row["row"] in ("refers", "c2l")} == {title}
    page = ElementTree.fromstring(to_html(table))
    assert page.findtext("figcaption") == title
    assert [head.text for head in page.findall(".//tbody/tr/th")] == [title] * 2
    assert {head.text for head in page.findall(".//th[@scope='colgroup']")} == {title}
    body, line = elements(to_markdown(table)), one_line(title)
    assert text_of(body.find("p")) == line
    assert body.find("p/strong") is not None
    heads = [text_of(cell) for cell in body.findall(".//thead/tr/th")]
    assert heads == ["Method", f"{line} 1%", f"{line} 100%"]
    assert [text_of(row[0]) for row in body.findall(".//tbody/tr")][:2] == [line] * 2
    assert {len(row) for row in body.iter("tr")} == {3}
    assert line in [text_of(each) for each in body.findall("p")][1:], "the note"
    assert f"{line}: {line}" in [text_of(each) for each in body.iter("li")], "why a number is missing"


@pytest.mark.parametrize("title", [*TITLES, UNICODE])
def test_claims_show_their_words_as_they_are(title):
    numbers = {"test": "a - b > 1", "paper_numbers": title, "our_numbers": title}
    line = dict.fromkeys(claims.FIELDS, title) | numbers | {"paper": "holds", "ours": "holds"}
    body, shown = elements(claims.to_markdown([line], title)), one_line(title)
    assert [text_of(cell) for cell in body.findall(".//tbody/tr/td")] == [
        shown,
        f'"{shown}"',
        "holds",
        "holds",
    ]
    paragraphs = [text_of(each) for each in body.findall("p")]
    assert paragraphs[1] == shown
    assert paragraphs[-1] == f"{shown} ({shown}): a - b > 1. {shown}"
    assert [text_of(each) for each in body.iter("li")] == [f"Paper: holds. {shown}", f"Ours: holds. {shown}"]
    assert next(csv.DictReader(io.StringIO(claims.to_csv([line]), newline="")))["quote"] == title


@pytest.mark.parametrize("title", TITLES)
def test_latex_escapes_every_title(title):
    text = to_latex(titled(title))
    rows = [row for row in text.splitlines() if row.endswith(r" \\") and "multicolumn" not in row]
    assert {row.replace(r"\&", "").count("&") for row in rows} == {2}
    for after_row in re.findall(r"(?:\\\\|rule)\n(.)", text):
        assert after_row not in "[*"


@pytest.mark.tool("pdflatex")
def test_latex_of_every_title_compiles(tmp_path):
    rows = [ROWS[0] | {"id": f"{n}", "title": title, "methods": [f"{n}"]} for n, title in enumerate(TITLES)]
    cells = [REFERS | {"method": f"{n}"} for n in range(len(TITLES))]
    columns = [
        COLUMNS[0] | {"id": f"{n}", "group": "g", "title": title} for n, title in enumerate(TITLES[:3])
    ]
    every = table_of(cells, [], rows=rows, columns=columns, reference=None, title=" ".join(TITLES))
    compiled(tmp_path, to_latex(every).replace("\\begin{tabular}", "\\tiny\\begin{tabular}"))
    ours = auc_of("refers", "nih/1", [0.7, 0.8], per_class={"Mass": [0.7, 0.8]})
    cells = [ours | {"method": f"{n}"} for n in range(len(TITLES))]
    classes = [column | {"class": "Mass"} for column in columns]
    by_class = table_of(cells, [], rows=rows, columns=classes, reference=None)
    compiled(tmp_path, to_latex(by_class))


def test_latex_says_which_letters_need_more_than_its_defaults():
    assert "LuaLaTeX" not in to_latex(titled("plain"))
    assert "% for β中: \\usepackage[T1]{fontenc}, or LuaLaTeX" in to_latex(titled(UNICODE))


def test_figures_show_titles_as_they_are(tmp_path):
    """One figure of each kind that names methods, a method by title that matplotlib might read as more than text."""
    titles = [title for title in TITLES if re.search(r"[_$\\^{}\n]", title)]
    methods = [{"id": f"{n}", "title": title, "status": title} for n, title in enumerate(titles)]
    names, everything = [method["id"] for method in methods], " ".join(titles)
    spec = {"title": everything, "note": everything, "methods": methods}
    cells = [{"method": name, "ratio": 100, "test": {"mean": 0.7, "sd": 0.01}} for name in names]
    curves, losses = dict.fromkeys(names, figures.POINTS[None]), [{"step": 0, "train": {"loss": 1.0}}]
    aucs = dict.fromkeys(names, np.array([0.5]))
    with figures.plt.rc_context(figures.STYLE):
        ratios, roc = figures.ratio_figure(spec, cells), figures.roc_figure(spec, ["Mass"], curves, aucs)
        trained = figures.curves_figure(spec, dict.fromkeys(names, losses))
        absent = figures.absent_figure({"title": "$$", "methods": [{"status": "US$5 and $6"}]})
        for legend in (*ratios.legends, *roc.legends):
            assert [text.get_text() for text in legend.get_texts()] == titles
        panels = [one_line(panel.get_title(loc="left")) for panel in trained.axes]
        assert panels[: len(titles)] == list(map(one_line, titles))
        assert absent.axes[0].texts[0].get_text() == "\\$\\$\nUS\\$5 and \\$6"
        for figure in (ratios, roc, trained):
            figure.draw_without_rendering()
            texts = figure.findobj(figures.plt.Text)
            assert everything in {text.get_text() for text in texts}
            assert not any(text.get_parse_math() for text in texts)
        # Its text and the note wrap, with escaped dollars.
        figures.save(absent, tmp_path / "absent.pdf", everything)
    figures.plt.close("all")


def test_the_script_draws_such_titles(tmp_path, call):
    cell = AUC | {"method": "a", "ratio": 100}
    (tmp_path / "auc.json").write_text(json.dumps(cell))
    spec = {"kind": "ratios", "title": "$$", "note": "$x", "sources": ["a"]}
    spec["methods"] = [{"id": "a", "title": "_ours", "status": ""}]
    options = ["--inputs", tmp_path / "auc.json", "--out", tmp_path / "f.pdf"]
    done = call("figure", "--spec", json.dumps(spec), *options)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("title", [*TITLES, UNICODE])
@pytest.mark.parametrize("name", ["table", "figure", "claims", "workflow"])
def test_captions_of_snakemakes_report_show_a_title_as_it_is(title, name):
    entry = {"label": title, "title": title, "kind": "roc"}
    config = {"note": title, "tables": {"one": entry}, "figures": {"one": entry}}
    config |= {
        "study": {"seeds": [0], "methods": ["a"]},
        "comparable": True,
        "verdict": {"level": 0.95, "margin": 1},
    }
    wildcards = SimpleNamespace(table="one", figure="one")
    source = (ROOT / f"workflow/report/{name}.rst").read_text(encoding="utf-8")
    template = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(source)
    text = template.render(snakemake=SimpleNamespace(config=config, wildcards=wildcards))
    body = publish_parts(text, writer="html")["body"]
    assert "system-message" not in body
    paragraphs = [one_line(unescape(re.sub(r"<[^>]*>", "", each))) for each in body.split("</p>")]
    line = one_line(title)
    assert line in paragraphs, "the note"
    if name in ("table", "figure"):
        assert paragraphs[0].startswith(f"{line}. {line}." if name == "table" else f"{line}. ROC curves")


def test_words_without_markup_are_not_escaped():
    for text in (
        "model_genesis 76.7 - c2l 71.0 = 5.7 (nih/1)",
        "[see] 1 of 2, > 5 & < 6 #1 -1 +1",
        "f(x) [0.1]",
    ):
        assert markdown_text(text).lstrip("\\") == text
