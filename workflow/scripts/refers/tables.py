"""The paper's tables: ours first, the printed number beside it, and a reason wherever ours is missing.

`build` joins the spec of a table with auc.json files, t-tests and the paper's numbers; `to_csv`, `to_markdown` and
`to_latex` write the result. AUC is in percent (x 100) here, in auc.json it is a fraction.
"""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from refers.errors import UserError

FIELDS = [
    "table",
    "row",
    "title",
    "method",
    "column",
    "dataset",
    "ratio",
    "mean",
    "sd",
    "seeds",
    "reported",
    "difference",
    "status",
    "target",
]
REPORTED_FIELDS = ["table", "row", "column", "quantity", "value"]
TERMINAL_WIDTH = 200  # characters; a wider grid goes on in a second panel
PAGE_WIDTH = 180  # the same in LaTeX: what scriptsize puts on a page
P_VALUE = "p_value"
TEX = {letter: f"\\{letter}" for letter in "&%$#_{}"}
TEX |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
TEX |= {"±": r"$\pm$", "×": r"$\times$", "<": "$<$", ">": "$>$", "/": r"/\allowbreak{}"}

Reported = dict[tuple[str, str, str], str]


@dataclass
class Entry:
    """One number of a table, or the reason why it is missing."""

    row: str
    title: str
    column: dict[str, Any]
    reported: str = ""  # as printed in the paper
    method: str = ""
    mean: float | None = None  # percent; a p-value in the row of p-values
    sd: float | None = None
    seeds: int = 0
    status: str = "ok"
    target: str = ""
    note: str = ""  # a footnote's text
    best: bool = False

    @property
    def printed(self) -> str:
        """Our number as printed, or the reason's short form."""
        if self.mean is None:
            return self.status.split(":")[0]
        return format_p(self.mean) if self.row == P_VALUE else format_auc(self.mean, self.sd)


@dataclass
class Table:
    """A table ready to be written."""

    name: str
    title: str
    rows: list[dict[str, Any]]
    columns: list[dict[str, Any]]
    entries: dict[tuple[str, str], Entry]
    marks: list[str] = field(default_factory=list)  # leading columns of check marks
    notes: list[str] = field(default_factory=list)  # sentences under the table
    footnotes: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def marker(self, text: str) -> str:
        """Letter of a footnote; "" without one."""
        return _letter(self.footnotes.index(text)) if text else ""


def format_auc(mean: float, sd: float | None) -> str:
    """`84.1 ± 0.4`, or `84.1` for one seed."""
    return f"{mean:.1f}" if sd is None else f"{mean:.1f} ± {sd:.1f}"


def format_p(p: float) -> str:
    """`0.034` from 0.01 on, below it `8.35e-4` as the paper prints."""
    if p >= 0.01:
        return f"{p:.3f}"
    digits, exponent = f"{p:.2e}".split("e")
    return f"{digits}e{int(exponent)}"


def column_title(column: dict[str, Any]) -> str:
    return f"{column['group']} {column['title']}".strip()


# ---- reading


def read_reported(path: Path) -> Reported:
    """The paper's numbers by (table, row, column), as text.

    Raises:
        UserError: the file or its header is not as expected, a value is no number or occurs twice.
    """
    found: Reported = {}
    try:
        with open(path, newline="", encoding="utf-8") as opened:
            rows = list(csv.reader(opened))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); it comes with the repository") from None
    if not rows or rows[0] != REPORTED_FIELDS:
        raise UserError(f"{path}: row 1: the header must be {','.join(REPORTED_FIELDS)}")
    for number, row in enumerate(rows[1:], 2):
        try:
            table, line, column, _, value = row
            float(value)
        except ValueError:
            raise UserError(
                f"{path}: row {number}: {','.join(row)!r}: five fields ending in a number"
            ) from None
        if (table, line, column) in found:
            raise UserError(f"{path}: row {number}: {table}, {line}, {column} occurs twice; keep one")
        found[table, line, column] = value
    return found


Results = dict[tuple[str, ...], tuple[str, dict[str, Any]]]


def index_results(files: Iterable[tuple[str, Any]], *names: str) -> Results:
    """(path, content) pairs by (names..., dataset, ratio), so that it does not matter where a file lies.

    Raises:
        UserError: a file lacks one of these keys, or two files hold the same cell.
    """
    found: Results = {}
    for path, content in files:
        try:
            key = tuple(str(content[name]) for name in (*names, "dataset", "ratio"))
        except (KeyError, TypeError):
            raise UserError(
                f"{path}: {', '.join(names)}, dataset and ratio are expected; remake it"
            ) from None
        if key in found:
            raise UserError(f"{path}: {'/'.join(key)} is also in {found[key][0]}; give each once")
        found[key] = (path, content)
    return found


# ---- building


def build(spec: dict[str, Any], cells: Results, tests: Results, reported: Reported) -> Table:
    """Join a spec (see table.py) with results.

    Args:
        cells: `index_results(..., "method")` of auc.json files.
        tests: `index_results(..., "reference", "baseline")` of t-tests.

    Raises:
        UserError: the spec lacks a key, a result is malformed, or a t-test is older than its cells.
    """
    try:
        return _Builder(spec, cells, tests, reported).table
    except (KeyError, TypeError, AttributeError, StopIteration) as error:
        raise UserError(
            f"table: {type(error).__name__} {error}: the spec or a result lacks this key; remake it"
        ) from None


class _Builder:
    def __init__(self, spec: dict[str, Any], cells: Results, tests: Results, reported: Reported) -> None:
        self.spec, self.cells, self.tests, self.reported = spec, cells, tests, reported
        self.status = spec.get("status", {})
        self.rows = [{"note": "", "marks": {}} | row for row in spec["rows"]]
        self.absent: dict[str, dict[str, None]] = {}  # reason -> who, in order
        marks = list(dict.fromkeys(mark for row in self.rows for mark in row["marks"]))
        self.table = Table(spec["name"], spec["title"], self.rows, spec["columns"], {}, marks)
        for column in spec["columns"]:
            for row in self.rows:
                self.table.entries[row["id"], column["id"]] = self._entry(row, column)
            self._embolden(column)
        for row in self.rows:
            if len(row["methods"]) > 1:
                row["note"] = " ".join(filter(None, [row["note"], self._winners(row)]))
        legend = [spec.get("note", ""), self._legend()]
        if spec.get("reference") and spec.get("baseline"):
            legend.append(self._p_values())
        self.table.notes = [text for text in legend if text]
        texts = [row["note"] for row in self.rows] + [entry.note for entry in self.table.entries.values()]
        self.table.footnotes = list(dict.fromkeys(filter(None, texts)))
        self.table.missing = [f"{', '.join(who)}: {reason}" for reason, who in self.absent.items()]

    def _entry(self, row: dict[str, Any], column: dict[str, Any]) -> Entry:
        """The cell of a row; of several methods the one with the best validation AUC."""
        reported = self.reported.get((self.spec["name"], row["id"], column["id"]), "")
        entry = Entry(row["id"], row["title"], column, reported)
        given = [method for method in row["methods"] if self._key(method, column) in self.cells]
        if not given:
            entry.method, entry.status = " ".join(row["methods"]), self._why_missing(row, column)
            return entry
        # Test data choose nothing: max() keeps the first where validation cannot tell.
        entry.method = max(given, key=lambda method: self._validation(method, column))
        entry.target, cell = self.cells[self._key(entry.method, column)]
        test, classes = cell["test"], cell["classes"]
        entry.seeds, undefined = len(cell["seeds"]), test["undefined"]
        entry.mean, entry.sd = (
            None if value is None else 100 * value for value in (test["mean"], test["sd"])
        )
        if entry.mean is None:
            entry.status = "undefined: no class has both labels in the test set"
            entry.note = f"undefined: no class has both labels in the test set ({', '.join(undefined)})"
        elif undefined:
            defined = len(classes) - len(undefined)
            entry.note = f"mean over {defined} of {len(classes)} classes; undefined: {', '.join(undefined)}"
            entry.status = f"ok: {entry.note}"
        return entry

    def _key(self, method: str, column: dict[str, Any]) -> tuple[str, str, str]:
        return method, column["dataset"], str(column["ratio"])

    def _validation(self, method: str, column: dict[str, Any]) -> float:
        mean = self.cells[self._key(method, column)][1]["validation"]["mean"]
        return -1.0 if mean is None else mean

    def _why_missing(self, row: dict[str, Any], column: dict[str, Any]) -> str:
        titled = {method: row["title"] if len(row["methods"]) == 1 else method for method in row["methods"]}
        reasons = {who: self.status[method] for method, who in titled.items() if method in self.status}
        if len(reasons) < len(titled):  # a method that could run has no cell, so the data are to blame
            if column["dataset"] in self.status:
                reasons = {column["group"]: self.status[column["dataset"]]}
            else:
                reasons = {row["title"]: "not run: its auc.json was not given"}
        for who, reason in reasons.items():
            self.absent.setdefault(reason, {})[who] = None
        return next(iter(reasons.values()))

    def _embolden(self, column: dict[str, Any]) -> None:
        found = [entry for entry in self._column(column) if entry.mean is not None]
        for entry in found:
            # Equal as printed is equal: a reader cannot tell them apart.
            entry.best = len(found) > 1 and f"{entry.mean:.1f}" == f"{max(each.mean for each in found):.1f}"

    def _column(self, column: dict[str, Any]) -> list[Entry]:
        return [self.table.entries[row["id"], column["id"]] for row in self.rows]

    def _winners(self, row: dict[str, Any]) -> str:
        """Which of a row's methods is printed where."""
        places: dict[str, list[str]] = {}
        for column in self.table.columns:
            entry = self.table.entries[row["id"], column["id"]]
            if entry.target:
                places.setdefault(entry.method, []).append(column_title(column))
        if not places:
            return ""
        chosen = "; ".join(f"{method} in {', '.join(columns)}" for method, columns in places.items())
        left = [f"{method} ({self.status[method]})" for method in row["methods"] if method in self.status]
        text = f"{row['title']} prints the method with the best validation AUC: {chosen}."
        return text + (f" Not compared: {'; '.join(left)}." if left else "")

    def _legend(self) -> str:
        found = [entry for entry in self.table.entries.values() if entry.mean is not None]
        brackets = "in brackets the paper's number"
        if not found:
            return f"None of our cells is there yet; {brackets}."
        seeds = sorted({entry.seeds for entry in found})
        span = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
        spread = f" ± standard deviation over {span} seeds" if seeds[-1] > 1 else " of one seed"
        bold = "; bold: best of ours in the column" if any(entry.best for entry in found) else ""
        return f"Mean-class test AUC × 100{spread}; {brackets}{bold}."

    def _p_values(self) -> str:
        """Append the row of p-values; return the sentence that explains it."""
        reference, baseline = self.spec["reference"], self.spec["baseline"]
        names = {row["id"]: row["title"] for row in self.rows}
        if reference not in names or baseline not in {"best", *names} - {reference}:
            raise UserError(
                f"table {self.spec['name']}: reference {reference!r}, baseline {baseline!r}: two of the rows {', '.join(names)}, or baseline best"
            )
        against: dict[str, list[str]] = {}
        for column in self.table.columns:
            ours = self.table.entries[reference, column["id"]]
            others = [
                entry
                for entry in self._column(column)
                if baseline in ("best", entry.row) and entry.row != reference
            ]
            # Only a row with a number can be the best; a named baseline without one lends its reason.
            numbers = [entry for entry in others if entry.mean is not None] or others
            other = max(numbers, key=lambda entry: -1 if entry.mean is None else entry.mean, default=None)
            self.table.entries[P_VALUE, column["id"]] = entry = self._p_value(ours, other, column)
            if entry.mean is not None and baseline == "best":
                against.setdefault(other.title, []).append(column_title(column))
        self.table.rows = [*self.rows, {"id": P_VALUE, "title": "p-value", "note": "", "marks": {}}]
        whom = "the best other row of the column" if baseline == "best" else names[baseline]
        listed = "; ".join(f"{title} in {', '.join(columns)}" for title, columns in against.items())
        test = f"p-value: two-sided t-test for independent samples of equal variance, {names[reference]} against {whom}"
        return f"{test}{f' (ours: {listed})' if listed else ''}."

    def _p_value(self, ours: Entry, other: Entry | None, column: dict[str, Any]) -> Entry:
        entry = Entry(
            P_VALUE, "p-value", column, self.reported.get((self.spec["name"], P_VALUE, column["id"]), "")
        )
        if other is None or not (ours.target and other.target):
            lacking = ours if other is None or not ours.target else other
            entry.status = lacking.status if not lacking.target else "not run: the table has no other row"
            return entry
        entry.method = other.method
        key = (ours.method, *self._key(other.method, column))
        if key not in self.tests:
            entry.status = f"not run: no t-test of {ours.method} against {other.method} was given"
            self.absent.setdefault("not run: its t-test was not given", {})[entry.title] = None
            return entry
        entry.target, test = self.tests[key]
        for side, each in (("reference", ours), ("baseline", other)):
            cell = self.cells[self._key(each.method, column)][1]
            if test[f"{side}_auc"] != cell["test"]["mean_auc"]:
                raise UserError(
                    f"{entry.target}: its {side} AUCs are not those of {each.target}; remake the t-test"
                )
        entry.mean, entry.seeds = test["student"]["p"], min(ours.seeds, other.seeds)
        if entry.mean is None:
            entry.status = entry.note = f"undefined: {test['undefined']}"
        return entry


# ---- writing


def to_csv(table: Table) -> str:
    """Long form, one line a number, AUC in percent."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    for row in table.rows:
        for column in table.columns:
            entry = table.entries[row["id"], column["id"]]
            is_auc = entry.row != P_VALUE
            known = is_auc and entry.mean is not None and entry.reported
            about = {"table": table.name, "row": entry.row, "title": entry.title, "method": entry.method}
            place = {"column": column["id"], "dataset": column["dataset"], "ratio": column["ratio"]}
            numbers = {"mean": _number(entry.mean), "sd": _number(entry.sd), "seeds": entry.seeds or ""}
            difference = _number(round(entry.mean - float(entry.reported), 4)) if known else ""
            ends = {"reported": entry.reported, "difference": difference, "status": entry.status}
            writer.writerow(about | place | numbers | ends | {"target": entry.target})
    return text.getvalue()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.10g}"


def to_markdown(table: Table) -> str:
    """Pipe tables aligned for a terminal, in panels of at most 200 characters, and everything to know under them."""
    grid = _markdown_grid(table)
    widths = _widths(grid)
    lines = [f"**{_pipes(table.title)}**"]
    for panel in _panels(table, widths, TERMINAL_WIDTH):
        places = [*range(_leading(table)), *(place for _, group in panel for place in group)]
        rows = [" | ".join(line[place].ljust(widths[place]) for place in places) for line in grid]
        rule = "|".join(f":{'-' * (widths[place] + 1)}" for place in places)
        lines += ["", f"| {rows[0]} |", f"|{rule}|", *(f"| {row} |" for row in rows[1:])]
    lines += [text for note in table.notes for text in ("", note)]
    for texts in ([f"[{table.marker(text)}] {text}" for text in table.footnotes], table.missing):
        lines += ["", *(f"- {text}" for text in texts)] if texts else []
    return "\n".join(lines) + "\n"


def _markdown_grid(table: Table) -> list[list[str]]:
    grid = [["Method", *table.marks, *map(column_title, table.columns)]]
    for row in table.rows:
        lead = [_with_marker(row["title"], table.marker(row["note"]))]
        lead += ["✓" if row["marks"].get(mark) else "" for mark in table.marks]
        grid.append(
            lead + [_markdown_cell(table.entries[row["id"], column["id"]], table) for column in table.columns]
        )
    return [[_pipes(text) for text in line] for line in grid]


def _widths(grid: list[list[str]]) -> list[int]:
    return [max(3, *(len(line[place]) for line in grid)) for place in range(len(grid[0]))]


def _pipes(text: str) -> str:
    return text.replace("|", "\\|")


def _with_marker(text: str, marker: str) -> str:
    return f"{text} [{marker}]" if marker else text


def _markdown_cell(entry: Entry, table: Table) -> str:
    text = f"**{entry.printed}**" if entry.best else entry.printed
    text = _with_marker(text, table.marker(entry.note))
    return f"{text} ({entry.reported})" if entry.reported else text


Group = tuple[str, list[int]]  # title, places of its columns in the grid


def _leading(table: Table) -> int:
    """Columns before the first number."""
    return 1 + len(table.marks)


def _panels(table: Table, widths: list[int], limit: int) -> list[list[Group]]:
    """Groups of neighbouring columns, as many to a panel as fit beside the leading columns."""
    lead = _leading(table)
    panels: list[list[Group]] = []
    for title, columns in groupby(enumerate(table.columns, lead), key=lambda each: each[1]["group"]):
        group = (title, [place for place, _ in columns])
        beside = [place for _, places in [*(panels[-1] if panels else []), group] for place in places]
        if panels and sum(widths[place] + 3 for place in [*range(lead), *beside]) + 1 <= limit:
            panels[-1].append(group)
        else:
            panels.append([group])
    return panels


def to_latex(table: Table) -> str:
    """A float for `article` with the booktabs package; panels wider than the text block are centred on the page."""
    panels = _panels(table, _widths(_markdown_grid(table)), PAGE_WIDTH)
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table}[t]",
        "\\centering",
        f"\\caption{{{_tex(table.title)}}}",
        f"\\label{{tab:{table.name}}}",
        "\\smallskip\\scriptsize\\setlength{\\tabcolsep}{3pt}\\renewcommand{\\arraystretch}{1.1}",
        *("\n\\par\\medskip\n".join(_latex_panel(table, panel) for panel in panels)).splitlines(),
        "\\par\\medskip",
        "\\begin{minipage}{\\textwidth}\\raggedright",
    ]
    footnotes = [f"{_superscript(table.marker(text))} {_tex(text)}" for text in table.footnotes]
    lines += [f"{text}\\par" for text in [*map(_tex, table.notes), *footnotes, *map(_tex, table.missing)]]
    return "\n".join([*lines, "\\end{minipage}", "\\end{table}"]) + "\n"


def _latex_panel(table: Table, panel: list[Group]) -> str:
    lead = _leading(table)
    columns = [table.columns[place - lead] for _, places in panel for place in places]
    groups, rules, start = [""] * lead, [], lead + 1
    for title, places in panel:
        groups.append(f"\\multicolumn{{{len(places)}}}{{c}}{{{_tex(title)}}}")
        rules.append(f"\\cmidrule(lr){{{start}-{start + len(places) - 1}}}")
        start += len(places)
    heads = ["Method", *table.marks, *(column["title"] for column in columns)]
    lines = [
        f"\\makebox[\\textwidth][c]{{\\begin{{tabular}}{{l{'c' * (len(heads) - 1)}}}",
        "\\toprule",
        " & ".join(groups).strip() + r" \\",
        " ".join(rules),
        " & ".join(map(_tex, heads)) + r" \\",
        "\\midrule",
    ]
    for row in table.rows:
        cells = [_tex(row["title"]) + _superscript(table.marker(row["note"]))]
        cells += [r"$\surd$" if row["marks"].get(mark) else "" for mark in table.marks]
        cells += [_latex_cell(table.entries[row["id"], column["id"]], table) for column in columns]
        lines += ["\\midrule"] if row["id"] == P_VALUE else []
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}}"])


def _latex_cell(entry: Entry, table: Table) -> str:
    mean, _, sd = entry.printed.partition(" ± ")
    text = f"\\textbf{{{_tex(mean)}}}" if entry.best else _tex(mean)
    text += (f" $\\pm$ {sd}" if sd else "") + _superscript(table.marker(entry.note))
    return f"{text} ({_tex(entry.reported)})" if entry.reported else text


def _superscript(marker: str) -> str:
    return f"\\textsuperscript{{{marker}}}" if marker else ""


def _tex(text: str) -> str:
    return "".join(TEX.get(letter, letter) for letter in text)


def _letter(place: int) -> str:
    return (_letter(place // 26 - 1) if place >= 26 else "") + "abcdefghijklmnopqrstuvwxyz"[place % 26]
