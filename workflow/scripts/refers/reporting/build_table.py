"""The paper's tables: ours first, the printed number beside it, and a reason wherever ours is missing.

`build` joins the spec of a table with auc.json files, t-tests and the paper's numbers; `refers.reporting.table_formats` writes
the result. A row is a method or a group of them. A column is a cell of the study, or one class of it where the column
has a `class`. AUC is in percent (x 100) here, in auc.json it is a fraction.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from refers.errors import UserError
from refers.evaluation.statistics import LEVEL, compare, holm
from refers.reporting.published import Reported, sign, verdict, within_points
from refers.reporting.table import (
    DELONG,
    DIFFERENCE,
    HOLM,
    P_VALUE,
    PAIRED,
    TESTS,
    WELCH,
    Entry,
    Table,
    column_title,
)

# ---- reading


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
        self.rows = [{"note": "", "marks": []} | row for row in spec["rows"]]
        self.absent: dict[str, dict[str, None]] = {}  # reason -> who, in order
        marks = list(dict.fromkeys(mark for row in self.rows for mark in row["marks"]))
        self.table = Table(
            spec["name"], spec["title"], spec.get("label", ""), self.rows, spec["columns"], {}, marks
        )
        for column in spec["columns"]:
            for row in self.rows:
                self.table.entries[row["id"], column["id"]] = entry = self._entry(row, column)
                entry.verdict = self._verdict(entry)
            self._check_test_set(column)
            self._embolden(column)
        for row in self.rows:
            if len(row["methods"]) > 1:
                row["note"] = " ".join(filter(None, [row["note"], self._winners(row)]))
        legend = [spec.get("note", ""), self._legend()]
        if spec.get("reference") and spec.get("baseline"):
            legend.append(self._tests())
        self.table.notes = [text for text in legend if text]
        printed = {row["id"] for row in self.table.printed_rows}
        texts = [row["note"] for row in self.rows]
        texts += [entry.note for entry in self.table.entries.values() if entry.row in printed]
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
        test, classes, name = cell["test"], cell["classes"], column.get("class")
        entry.seeds, undefined = len(cell["seeds"]), test["undefined"]
        found = test if name is None else test["per_class"][name]
        entry.mean, entry.sd = (
            None if value is None else 100 * value for value in (found["mean"], found["sd"])
        )
        if drawn := test.get("bootstrap"):
            of = found | {"resamples": drawn["resamples"]} if name else drawn | {"interval": drawn["mean"]}
            self._interval(entry, of)
        defined = [each for each in classes if each not in undefined]
        counted = [test["per_class"][each] for each in ([name] if name else defined or classes)]
        entry.positives, entry.negatives = (
            sum(each[label] for each in counted) for label in ("positives", "negatives")
        )
        if entry.mean is None and name:
            entry.status = entry.note = "undefined: the test set holds one label only"
        elif entry.mean is None:
            entry.status = "undefined: no class has both labels in the test set"
            entry.note = f"{entry.status} ({', '.join(undefined)})"
        elif undefined and not name:
            entry.note = (
                f"mean over {len(defined)} of {len(classes)} classes; undefined: {', '.join(undefined)}"
            )
            entry.status = f"ok: {entry.note}"
        return entry

    def _interval(self, entry: Entry, drawn: dict[str, Any]) -> str:
        """Fill in an interval over the defined resamples, unless too few are; return what a reader must know of it."""
        entry.resamples, entry.undefined_resamples = drawn["resamples"], drawn["undefined_resamples"]
        lost = f"{entry.undefined_resamples:,} of {entry.resamples:,} resamples"
        if entry.undefined_resamples > self.spec["undefined_resamples"] * entry.resamples:
            share = f"{100 * self.spec['undefined_resamples']:g} %"
            return f"undefined: {lost} leave a class with one label only, more than {share}"
        if drawn["interval"] is not None:
            entry.low, entry.high = (100 * value for value in drawn["interval"])
        return (
            f"without the {lost} that leave a class with one label only" if entry.undefined_resamples else ""
        )

    def _verdict(self, entry: Entry) -> str:
        if entry.mean is None:
            return "undefined" if entry.status.startswith("undefined") else "not run"
        if entry.row in TESTS:
            return ""
        return verdict(entry.mean, entry.sd, entry.reported, self.spec["verdict"])

    def _check_test_set(self, column: dict[str, Any]) -> None:
        """Numbers of one column, and the test between them, need one test set."""
        first = None
        for entry in self._column(column):
            if entry.target:
                parts = self.cells[self._key(entry.method, column)][1]["test"]["per_class"]
                labels = {name: (part["positives"], part["negatives"]) for name, part in parts.items()}
                first = first or (entry.target, labels)
                if labels != first[1]:
                    raise UserError(
                        f"{entry.target}: the labels of its test set are not those of {first[0]}; remake the older one"
                    )

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
        found = [(entry, entry.mean) for entry in self._column(column) if entry.mean is not None]
        for entry, mean in found:
            # Equal as printed is equal: a reader cannot tell them apart.
            entry.best = len(found) > 1 and f"{mean:.1f}" == f"{max(each for _, each in found):.1f}"

    def _column(self, column: dict[str, Any]) -> list[Entry]:
        return [self.table.entries[row["id"], column["id"]] for row in self.rows]

    def _winners(self, row: dict[str, Any]) -> str:
        """Which of a row's methods is printed where."""
        places: dict[str, dict[str, None]] = {}
        for column in self.table.columns:
            entry = self.table.entries[row["id"], column["id"]]
            if entry.target:
                place = column["group"] if "class" in column else column_title(column)
                places.setdefault(entry.method, {})[place] = None
        if not places:
            return ""
        chosen = "; ".join(f"{method} in {', '.join(columns)}" for method, columns in places.items())
        shown = {method for method, _, _ in self.cells}
        left = [
            f"{method} ({self.status[method]})"
            for method in row["methods"]
            if method in self.status.keys() - shown
        ]
        text = f"{row['title']} prints the method with the best validation AUC: {chosen}."
        return text + (f" Not compared: {'; '.join(left)}." if left else "")

    def _legend(self) -> str:
        found = [entry for entry in self.table.entries.values() if entry.mean is not None]
        known = any(entry.reported for entry in self.table.entries.values())
        brackets = "in brackets the paper's number" if known else "the paper's are not known as text"
        if not found:
            return f"None of our cells is there yet; {brackets}."
        seeds = sorted({entry.seeds for entry in found})
        span = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
        spread = f" ± standard deviation over {span} seeds" if seeds[-1] > 1 else " of one seed"
        bold = "; bold: the best of ours" if any(entry.best for entry in found) else ""
        what = "Test AUC of each class" if self.table.by_class else "Mean-class test AUC"
        text = f"{what} × 100{spread}; {brackets}{bold}. {self._test_sets()}"
        if not any(sign(entry.verdict) for entry in found):
            return text
        rule = self.spec["verdict"]
        return (
            f"{text} Signs: = within the seeds' spread ({rule['within_sd']:g} sd) of the paper's number,"
            f" ≈ {within_points(rule)}, ≠ further off."
        )

    def _test_sets(self) -> str:
        if self.table.by_class:
            return "n+ and n-: positive and negative test images."
        sizes = {
            entry.column["group"]: f"{entry.column['group']} {entry.positives} / {entry.negatives}"
            for entry in self.table.entries.values()
            if entry.mean is not None
        }
        return f"Positive / negative test labels: {', '.join(sizes.values())}."

    def _tests(self) -> str:
        """Append the rows below the methods; return the sentences that explain them."""
        reference, baseline = self.spec["reference"], self.spec["baseline"]
        names = {row["id"]: row["title"] for row in self.rows}
        if reference not in names or baseline not in {"best", *names} - {reference}:
            raise UserError(
                f"table {self.spec['name']}: reference {reference!r}, baseline {baseline!r}: two of the rows {', '.join(names)}, or baseline best"
            )
        over_images = [DIFFERENCE, DELONG] if self.table.by_class else [DIFFERENCE, PAIRED]
        rows = [P_VALUE, WELCH, HOLM, *over_images]
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
            entries = {row: Entry(row, TESTS[row], column) for row in rows}
            entries[P_VALUE].reported = self.reported.get((self.spec["name"], P_VALUE, column["id"]), "")
            self.table.entries |= {(row, column["id"]): entry for row, entry in entries.items()}
            self._test(ours, other, entries)
            tested = any(entry.mean is not None for entry in entries.values())
            if other and tested and baseline == "best" and not self.table.by_class:
                against.setdefault(other.title, []).append(column_title(column))
        self._adjust()
        for entry in self.table.entries.values():
            if entry.row in TESTS:
                entry.verdict = self._verdict(entry)
        # A class has its line: what does not fit into it is left to the csv.
        about = {"note": "", "marks": []}
        below = [
            {"id": row, "title": TESTS[row], "printed": not (row == DIFFERENCE and self.table.by_class)}
            | about
            for row in rows
        ]
        self.table.rows = [*self.rows, *below]
        best = f"the best other {'method of the class' if self.table.by_class else 'row of the column'}"
        whom = best if baseline == "best" else names[baseline]
        listed = "; ".join(f"{title} in {', '.join(columns)}" for title, columns in against.items())
        test = f"p-value: two-sided t-test for independent samples of equal variance, {names[reference]} against {whom}"
        family = "classes and label ratios" if self.table.by_class else "columns"
        over_seeds = (
            f"{test}{f' (ours: {listed})' if listed else ''}. Welch: without equal variances."
            f" Holm: the first, adjusted over all {family} of this table."
        )
        return f"{over_seeds} {self._paired_legend()}"

    def _paired_legend(self) -> str:
        if self.table.by_class:
            return "DeLong: the same two on the same test images, their AUCs averaged over seeds."
        return (
            "Paired difference: the same two on the same test images, AUC averaged over seeds, in points, with the"
            f" {100 * LEVEL:g} % interval of a bootstrap of the images, by patient where known. Paired p: two-sided, of the"
            " same resamples."
        )

    def _adjust(self) -> None:
        """Holm's p-values of the table's t-tests, which are one family."""
        entries, columns = self.table.entries, [column["id"] for column in self.table.columns]
        adjusted = holm([entries[P_VALUE, column].mean for column in columns])
        for column, p in zip(columns, adjusted, strict=True):
            changes = {"row": HOLM, "title": TESTS[HOLM], "mean": p, "reported": ""}  # the paper prints none
            entries[HOLM, column] = replace(entries[P_VALUE, column], **changes)

    def _test(self, ours: Entry, other: Entry | None, entries: dict[str, Entry]) -> None:
        """Fill in the tests of one column, by their rows; Holm's waits for the others."""
        if other is None or not (ours.target and other.target):
            lacking = ours if other is None or not ours.target else other
            for entry in entries.values():
                entry.status = lacking.status if not lacking.target else "not run: the table has no other row"
            return
        for entry in entries.values():
            entry.method, entry.seeds = other.method, min(ours.seeds, other.seeds)
        target, test = self._given(ours, other)
        paired = test and test["bootstrap"] | {"difference": test["difference"]}
        if name := ours.column.get("class"):  # one class is tested here, from the two cells
            paired = test and test["per_class"][name] | {"resamples": test["bootstrap"]["resamples"]}
            cells = [self.cells[self._key(each.method, each.column)][1] for each in (ours, other)]
            test = compare(*(cell["test"]["per_class"][name]["auc"] for cell in cells))
        missing = f"not run: no t-test of {ours.method} against {other.method} was given"
        lacking = next((each.note for each in (ours, other) if each.mean is None), "")
        for row, entry in entries.items():
            over_seeds = row in (P_VALUE, WELCH, HOLM)
            entry.target = f"{ours.target} {other.target}" if name and over_seeds else target
            found = test if over_seeds else paired
            if found is None:
                entry.status = missing
                self.absent.setdefault("not run: its t-test was not given", {})[entry.title] = None
            elif over_seeds:
                entry.mean = found["welch" if row == WELCH else "student"]["p"]
                self._say(entry, lacking or f"undefined: {found['undefined']}")
            elif row == DELONG:
                entry.mean = found["delong"]["p"]
                self._say(entry, lacking or "undefined: both rank alike, or a label occurs once")
            else:
                said = self._interval(entry, found)
                if row == DIFFERENCE:
                    entry.mean = None if found["difference"] is None else 100 * found["difference"]
                elif not said.startswith("undefined"):
                    entry.mean, entry.low, entry.high = found["p"], None, None
                self._say(entry, lacking or said)

    def _say(self, entry: Entry, reason: str) -> None:
        """Why a test has no number, or what its number leaves out."""
        if entry.mean is None:
            entry.status = entry.note = reason
        elif entry.resamples and reason:
            entry.status = f"ok: {'interval ' if entry.row == DIFFERENCE else ''}{reason}"
            entry.note = reason

    def _given(self, ours: Entry, other: Entry) -> tuple[str, dict[str, Any] | None]:
        """Target and content of the tests between two cells; nothing where there is no such file."""
        target, test = self.tests.get((ours.method, *self._key(other.method, ours.column)), ("", None))
        for side, each in (("reference", ours), ("baseline", other)):
            cell = self.cells[self._key(each.method, each.column)][1]
            if test and test[f"{side}_auc"] != cell["test"]["mean_auc"]:
                raise UserError(
                    f"{target}: its {side} AUCs are not those of {each.target}; remake the t-test"
                )
        return target, test
