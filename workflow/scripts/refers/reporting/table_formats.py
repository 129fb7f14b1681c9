"""A table of `refers.reporting.table` as csv, Markdown, LaTeX and HTML.

All but csv print the same grids: methods by cells, or, in a table by class, one grid of classes by methods for every
cell.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from itertools import accumulate, groupby
from pathlib import Path
from textwrap import wrap
from typing import Any

from refers.evaluation.verdict import sign
from refers.files import read_rows
from refers.formatting import column_widths, csv_text, markdown_table, markdown_text
from refers.reporting.table import TESTS, Entry, Table

FIELDS = [
    *(
        "table",
        "row",
        "title",
        "method",
        "column",
        "dataset",
        "ratio",
        "class",
        "mean",
        "sd",
        "sd_splits",
        "se",
    ),
    *(
        "low",
        "high",
        "resamples",
        "undefined_resamples",
        "printed",
        "splits",
        "seeds",
        "positives",
        "negatives",
    ),
    *("reported", "difference", "difference_low", "difference_high", "verdict", "status", "target"),
]
# Characters across; a wider grid continues in a second panel. LaTeX: what scriptsize puts on a page.
TERMINAL_WIDTH, PAGE_WIDTH = 200, 180
# Letters of a LaTeX column's head: about as wide as a mean and its deviation.
HEAD_WIDTH = 13
# Lines of a LaTeX float without its notes, and those that a panel's head takes.
FLOAT_LINES, HEAD_LINES = 30, 3
TEX = {letter: f"\\{letter}" for letter in "&%$#_{}"}
TEX |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
TEX |= {
    "|": r"\textbar{}",
    '"': r"{\ttfamily\char34}",
    "`": r"\textasciigrave{}",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
}
TEX |= {"±": r"$\pm$", "×": r"$\times$", "<": "$<$", ">": "$>$", "/": r"/\allowbreak{}"}
TEX |= {"−": "$-$", "=": "$=$", "–": "--", "≠": r"$\neq$", "✓": r"$\surd$"}


def to_csv(table: Table) -> str:
    """Long form: one row per number, AUC in percent."""
    entries = [table.entries[row["id"], column["id"]] for row in table.rows for column in table.columns]
    return csv_text(FIELDS, [{"table": table.name} | _record(entry) for entry in entries])


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows that `to_csv` wrote.

    Raises:
        UserError: as `read_rows`.
    """
    return read_rows(path, "table", FIELDS)


def _record(entry: Entry) -> dict[str, Any]:
    """FIELDS of one number, but for the table's name."""
    column = entry.column
    known = {"column": column["id"], "dataset": column["dataset"], "ratio": column["ratio"]}
    known |= {"class": column.get("class"), "splits": entry.splits or None, "seeds": entry.seeds or None}
    values = {name: known[name] if name in known else getattr(entry, name) for name in FIELDS[1:]}
    return {
        name: "" if value is None else f"{value:.10g}" if isinstance(value, float) else value
        for name, value in values.items()
    }


# ---- grids


@dataclass
class Label:
    """Text in a grid, with the letter of its footnote."""

    text: str
    marker: str = ""


@dataclass
class Grid:
    """What one panel prints.

    lead: how many leading cells of a line describe it; the others are numbers.
    groups: headings above the numbers and how many columns each spans; empty in a table by class.
    methods: how many lines are of methods; those below are of tests.
    """

    lead: int
    groups: list[tuple[str, int]]
    heads: list[Label]
    lines: list[list[Label | Entry]]
    methods: int

    def part(self, groups: list[tuple[str, int]], places: list[int]) -> "Grid":
        """The leading cells with the groups at `places`."""
        kept = [*range(self.lead), *places]
        lines = [[line[place] for place in kept] for line in self.lines]
        return Grid(self.lead, groups, [self.heads[place] for place in kept], lines, self.methods)


def _grids(table: Table) -> list[Grid]:
    groups = [(title, list(each)) for title, each in groupby(table.columns, key=lambda each: each["group"])]
    titles = [Label(row["title"], table.marker(row["note"])) for row in table.printed_rows]
    if table.by_line:
        of_images = any("group_of" in column for column in table.columns)
        counts = ("Images", "Patients") if of_images else ("n+", "n-")
        heads = [*map(Label, counts), *titles]
        lines = [_class_lines(table, columns) for _, columns in groups]
        return [
            Grid(3, [], [Label(title), *heads], panel, len(panel))
            for (title, _), panel in zip(groups, lines, strict=True)
        ]
    heads = [Label(text) for text in ("Method", *table.marks, *(column["title"] for column in table.columns))]
    lines = [
        [
            title,
            *(Label("✓" if mark in row["marks"] else "") for mark in table.marks),
            *(table.entries[row["id"], column["id"]] for column in table.columns),
        ]
        for title, row in zip(titles, table.printed_rows, strict=True)
    ]
    spans = [(title, len(columns)) for title, columns in groups]
    methods = sum(row["id"] not in TESTS and "source" not in row for row in table.printed_rows)
    return [Grid(1 + len(table.marks), spans, heads, lines, methods)]


def _class_lines(table: Table, columns: list[dict[str, Any]]) -> list[list[Label | Entry]]:
    lines = []
    for column in columns:
        entries = [table.entries[row["id"], column["id"]] for row in table.printed_rows]
        names = ("images", "patients") if "group_of" in column else ("positives", "negatives")
        found = ([getattr(entry, name) for name in names] for entry in entries)
        counts = next((each for each in found if None not in each), ("", ""))
        lines.append([Label(column["title"]), *(Label(str(count)) for count in counts), *entries])
    return lines


def _panels(table: Table, limit: int, texts: Callable[[Grid, Table], list[list[str]]]) -> list[Grid]:
    """The grids, each cut between groups into panels of at most `limit` characters, of cells as wide as `texts`."""
    return [panel for grid in _grids(table) for panel in _cut(grid, column_widths(texts(grid, table)), limit)]


def _cut(grid: Grid, widths: list[int], limit: int) -> list[Grid]:
    if not grid.groups:
        return [grid]
    ends = accumulate((span for _, span in grid.groups), initial=grid.lead)
    chosen: list[tuple[list[tuple[str, int]], list[int]]] = []
    for group, start in zip(grid.groups, ends, strict=False):
        places = [*range(start, start + group[1])]
        if chosen:
            beside = [*range(grid.lead), *chosen[-1][1], *places]
            if sum(widths[place] + 3 for place in beside) + 1 <= limit:
                chosen[-1][0].append(group)
                chosen[-1][1].extend(places)
                continue
        chosen.append(([group], places))
    return [grid.part(groups, places) for groups, places in chosen]


# ---- Markdown


def to_markdown(table: Table) -> str:
    """Aligned tables in panels of at most TERMINAL_WIDTH characters, and the notes."""
    lines = [f"**{markdown_text(table.heading)}**"]
    panels = [_texts(panel, table) for panel in _panels(table, TERMINAL_WIDTH, _texts)]
    # Panels below each other line up.
    widest: dict[int, int] = {}
    for texts in panels:
        for place, width in enumerate(column_widths(texts)):
            widest[place] = max(width, widest.get(place, 0))
    for heads, *rows in panels:
        lines += ["", markdown_table(heads, rows, [widest[place] for place in range(len(heads))])]
    lines += [text for note in table.notes for text in ("", markdown_text(note))]
    footnotes = [f"[{table.marker(text)}] {markdown_text(text)}" for text in table.footnotes]
    for texts in (footnotes, list(map(markdown_text, table.missing))):
        lines += ["", *(f"- {text}" for text in texts)] if texts else []
    return "\n".join(lines) + "\n"


def _texts(grid: Grid, table: Table) -> list[list[str]]:
    groups = [""] * grid.lead + [markdown_text(title) for title, span in grid.groups for _ in range(span)]
    groups += [""] * (len(grid.heads) - len(groups))
    heads = [
        f"{group} {_markdown_cell(head, table)}".strip()
        for group, head in zip(groups, grid.heads, strict=True)
    ]
    return [heads, *([_markdown_cell(cell, table) for cell in line] for line in grid.lines)]


def _markdown_cell(cell: Label | Entry, table: Table) -> str:
    if isinstance(cell, Label):
        return markdown_text(cell.text) + (f" [{cell.marker}]" if cell.marker else "")
    marker = table.marker(cell.note)
    text = markdown_text(cell.printed)
    text = (f"**{text}**" if cell.best else text) + (f" [{marker}]" if marker else "")
    return " ".join(filter(None, [text, _reported(cell)]))


def _reported(entry: Entry) -> str:
    """`= (84.7)`: the verdict's sign and the paper's number; "" where it has none."""
    return f"{sign(entry.verdict)} ({entry.reported})".strip() if entry.reported else ""


# ---- LaTeX


def to_latex(table: Table) -> str:
    """A float for `article` with the booktabs package, several where the grids of single measures or groups fill more than a
    page; panels wider than the text block are centred on the page."""
    floats = _floats(_panels(table, PAGE_WIDTH, _stacked), table)
    # Three ratios of 14 classes just fit on a page, six methods and four p-values across it.
    gap, stretch = ("2pt", "0.95") if table.by_line else ("3pt", "1.1")
    lines = ["% needs \\usepackage{booktabs}"]
    for place, panels in enumerate(floats):
        lines += [
            "\\begin{table}[t]",
            "\\centering",
            f"\\caption{{{_tex(table.title)}{' (continued)' if place else ''}}}",
            *([] if place else [f"\\label{{tab:{table.name}}}"]),
            f"\\smallskip\\scriptsize\\setlength{{\\tabcolsep}}{{{gap}}}\\renewcommand{{\\arraystretch}}{{{stretch}}}",
            *("\n\\par\\medskip\n".join(_latex_panel(panel, table) for panel in panels)).splitlines(),
            *(["\\end{table}"] if place + 1 < len(floats) else []),
        ]
    lines += ["\\par\\medskip", "\\begin{minipage}{\\textwidth}\\raggedright"]
    footnotes = [f"{_superscript(table.marker(text))} {_tex(text)}" for text in table.footnotes]
    lines += [f"{text}\\par" for text in [*map(_tex, table.notes), *footnotes, *map(_tex, table.missing)]]
    text = "\n".join([*lines, "\\end{minipage}", "\\end{table}"]) + "\n"
    # pdfLaTeX has letters of European languages only, and some of them in its T1 encoding alone.
    foreign = "".join(sorted({letter for letter in text if not letter.isascii()}))
    hint = f"% for {foreign}: \\usepackage[T1]{{fontenc}}, or LuaLaTeX with a font that has them\n"
    return (hint if foreign else "") + text


def _floats(panels: list[Grid], table: Table) -> list[list[Grid]]:
    """Panels by float: all in one, but of a table of measures or groups as many as leave room for the notes on a page."""
    found: list[list[Grid]] = [[]]
    for panel in panels:
        filled = sum(len(each.lines) + HEAD_LINES for each in [*found[-1], panel])
        if table.by_line and not table.by_class and found[-1] and filled > FLOAT_LINES:
            found.append([])
        found[-1].append(panel)
    return found


def _stacked(grid: Grid, table: Table) -> list[list[str]]:
    """The longest line of every cell in LaTeX."""
    return [
        [cell.text if isinstance(cell, Label) else max(_pieces(cell, table), key=len) for cell in line]
        for line in [grid.heads, *grid.lines]
    ]


def _pieces(entry: Entry, table: Table) -> list[str]:
    """Our number, and what stands beside it: its interval and the paper's number."""
    number, *interval = [entry.printed] if table.by_line else entry.printed.split(" [")
    return [number, *filter(None, [*(f"[{text}" for text in interval), _reported(entry)])]


def _latex_panel(grid: Grid, table: Table) -> str:
    lines = [
        f"\\makebox[\\textwidth][c]{{\\begin{{tabular}}{{l{'c' * (len(grid.heads) - 1)}}}",
        "\\toprule",
    ]
    if grid.groups:
        starts = accumulate((span for _, span in grid.groups), initial=grid.lead + 1)
        spans = [(start, start + span - 1) for (_, span), start in zip(grid.groups, starts, strict=False)]
        titles = [f"\\multicolumn{{{span}}}{{c}}{{{_tex(title)}}}" for title, span in grid.groups]
        lines.append(" & ".join([""] * grid.lead + titles).strip() + r" \\")
        lines.append(" ".join(f"\\cmidrule(lr){{{first}-{last}}}" for first, last in spans))
    lines += [" & ".join(map(_latex_head, grid.heads)) + r" \\", "\\midrule"]
    for place, line in enumerate(grid.lines):
        lines += ["\\midrule"] if place == grid.methods else []
        lines.append(" & ".join(_latex_cell(cell, table) for cell in line) + r" \\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}}"])


def _latex_head(label: Label) -> str:
    """A name that is longer than a number takes two lines."""
    lines = [_tex(line) for line in wrap(label.text, HEAD_WIDTH, break_on_hyphens=False)] or [""]
    lines[-1] += _superscript(label.marker)
    stacked = "\\\\".join(lines)
    return f"\\shortstack{{{stacked}}}" if len(lines) > 1 else stacked


def _latex_cell(cell: Label | Entry, table: Table) -> str:
    if isinstance(cell, Label):
        return _tex(cell.text) + _superscript(cell.marker)
    number, *beside = _pieces(cell, table)
    mean, *spreads = number.split(" ± ")
    text = f"\\textbf{{{_tex(mean)}}}" if cell.best else _tex(mean)
    text += "".join(f" $\\pm$ {_tex(each)}" for each in spreads) + _superscript(table.marker(cell.note))
    lines = [text, *map(_tex, beside)]
    if table.by_line:
        return " ".join(lines)
    # Nine columns fit on a page where our number stands above its interval and the paper's.
    stacked = "\\\\".join(lines)
    return f"\\shortstack{{{stacked}}}" if beside else text


def _superscript(marker: str) -> str:
    return f"\\textsuperscript{{{marker}}}" if marker else ""


def _tex(text: str) -> str:
    """Any text as itself, on one line."""
    escaped = "".join(TEX.get(letter, letter) for letter in " ".join(text.split()))
    # TeX sets two hyphens as a dash, two apostrophes as a quotation mark.
    escaped = re.sub(r"([-'])(?=\1)", r"\1{}", escaped)
    # It takes what follows the end of a row for an option of that row.
    return f"{{{escaped[0]}}}{escaped[1:]}" if escaped.startswith(("[", "*")) else escaped


# ---- HTML


def to_html(table: Table) -> str:
    """One well-formed `figure`, a long one folded. The cell of a number has its csv fields as data attributes."""
    lines = [f'<figure class="table" id="{escape(table.name)}">', _tag("figcaption", escape(table.heading))]
    grids = _grids(table)
    if table.by_line:
        several = f"{len(grids)} columns of the study, one below the other"
        lines += ["<details>", _tag("summary", several if len(grids) > 1 else "One column of the study")]
    for grid in grids:
        lines += ["<table>", "<thead>"]
        if grid.groups:
            empty = f'<td colspan="{grid.lead}"></td>'
            titles = (
                f'<th scope="colgroup" colspan="{span}">{escape(title)}</th>' for title, span in grid.groups
            )
            lines.append(_tag("tr", empty + "".join(titles)))
        heads = (f'<th scope="col">{_html_label(head, table)}</th>' for head in grid.heads)
        lines.append(_tag("tr", "".join(heads)))
        lines += ["</thead>", "<tbody>"]
        for place, line in enumerate(grid.lines):
            if place == grid.methods:
                # Rows of a footer stay below when the page sorts the methods.
                lines += ["</tbody>", "<tfoot>"]
            head = f'<th scope="row">{_html_label(line[0], table)}</th>'
            lines.append(_tag("tr", head + "".join(_html_cell(cell, table) for cell in line[1:])))
        lines += ["</tfoot>" if grid.methods < len(grid.lines) else "</tbody>", "</table>"]
    lines += ["</details>"] if table.by_line else []
    lines += [_tag("p", escape(note)) for note in table.notes]
    footnotes = [f"<sup>{table.marker(text)}</sup> {escape(text)}" for text in table.footnotes]
    if texts := [*footnotes, *map(escape, table.missing)]:
        lines += ["<ul>", *(_tag("li", text) for text in texts), "</ul>"]
    return "\n".join([*lines, "</figure>"]) + "\n"


def _tag(name: str, content: str) -> str:
    return f"<{name}>{content}</{name}>"


def _html_label(cell: Label | Entry, table: Table) -> str:
    known = isinstance(cell, Label)
    text, marker = (cell.text, cell.marker) if known else (cell.printed, table.marker(cell.note))
    return escape(text) + (f"<sup>{marker}</sup>" if marker else "")


def _html_cell(cell: Label | Entry, table: Table) -> str:
    if isinstance(cell, Label):
        return _tag("td", _html_label(cell, table))
    known = {name: str(value) for name, value in _record(cell).items() if value != "" and name != "title"}
    data = "".join(f' data-{name}="{escape(value)}"' for name, value in known.items())
    text = _html_label(cell, table)
    text = _tag("strong", text) if cell.best else text
    if beside := _reported(cell):
        text += f' <span class="paper">{escape(beside)}</span>'
    return f"<td{data}>{text}</td>"
