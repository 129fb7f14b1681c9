"""The paper's tables from results: our numbers, the printed numbers beside them, and the reason wherever ours is missing.

`build` joins the spec of a table (see table.py) with auc.json files, t-tests and the paper's numbers;
`refers.reporting.table_formats` writes the result. A row is a method or a group of methods. A column is a cell of the
study, or one class of a cell where the column has a `class`. AUC is a fraction in auc.json and in percent in a table.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from refers.errors import UserError
from refers.evaluation.cell_file import odd_input
from refers.evaluation.statistics import LEVEL, compare, holm, implied_sd, over_splits
from refers.evaluation.verdict import (
    INCOMPARABLE,
    PAPER_RUNS,
    UNDEFINED,
    UNREPORTED,
    difference_interval,
    judge,
    sign,
)
from refers.reporting.independent import add_independent
from refers.reporting.published import Independent, Reported
from refers.reporting.table import DELONG, DIFFERENCE, HOLM, P_VALUE, PAIRED, TESTS, WELCH, Entry, Table

# (names..., dataset, ratio) -> path and content of a file
Results = dict[tuple[str, ...], tuple[str, dict[str, Any]]]


def index_results(files: Iterable[tuple[str, Any]], *names: str) -> Results:
    """(path, content) pairs by (names..., dataset, ratio): a file is identified by its content, not by its path.

    Raises:
        UserError: a file lacks one of these keys, or two files hold the same cell.
    """
    found: Results = {}
    for path, content in files:
        try:
            key = tuple(str(content[name]) for name in (*names, "dataset", "ratio"))
        except (KeyError, TypeError):
            wanted = ", ".join((*names, "dataset, ratio"))
            raise UserError(f"{path}: must have the keys {wanted}; delete it and rerun") from None
        if key in found:
            raise UserError(f"{path}: {'/'.join(key)} is also in {found[key][0]}; pass each once")
        found[key] = (path, content)
    return found


def build(
    spec: dict[str, Any],
    cells: Results,
    tests: Results,
    reported: Reported,
    independent: dict[str, dict[tuple[str, str], Independent]] | None = None,
) -> Table:
    """Join a spec with results.

    Args:
        cells: `index_results(..., "method")` of auc.json files.
        tests: `index_results(..., "reference", "baseline")` of t-tests.
        independent: what others report by source and (row, column); the spec's `independent` describes the sources.

    Raises:
        UserError: the spec lacks a key, a result is malformed, or a t-test is older than its cells.
    """

    def made() -> Table:
        table = Builder(spec, cells, tests, reported).build()
        add_independent(table, spec, independent or {})
        return table

    return in_one_line(made)


def in_one_line(make: Callable[[], Table]) -> Table:
    """The table that `make` builds; what a spec or a result lacks is a UserError."""
    try:
        return make()
    except (KeyError, TypeError, AttributeError, StopIteration) as error:
        raise UserError(
            f"table: {type(error).__name__} {error}: missing in the spec or in a result; delete the result and rerun"
        ) from None


class Builder:
    """Joins a table of AUCs; `refers.reporting.measured` fills in other numbers."""

    def __init__(self, spec: dict[str, Any], cells: Results, tests: Results, reported: Reported) -> None:
        self.spec, self.cells, self.tests, self.reported = spec, cells, tests, reported
        self.status = spec.get("status", {})
        self.rows = [{"note": "", "marks": []} | row for row in spec["rows"]]
        self.reasons: dict[str, dict[str, None]] = {}  # why a number is missing -> titles, in order
        marks = list(dict.fromkeys(mark for row in self.rows for mark in row["marks"]))
        # A table that the paper does not have is compared with nothing, whatever its columns are.
        own = spec.get("comparable", True)
        columns = [column | {"comparable": column["comparable"] and own} for column in spec["columns"]]
        self.table = Table(spec["name"], spec["title"], spec.get("label", ""), self.rows, columns, {}, marks)

    def build(self) -> Table:
        table = self.table
        for column in table.columns:
            for row in self.rows:
                table.entries[row["id"], column["id"]] = entry = self._entry(row, column)
                entry.verdict = self._verdict(entry)
            self._check_test_labels(column)
            self._mark_best(column)
        for row in self.rows:
            if len(row["methods"]) > 1:
                row["note"] = " ".join(filter(None, [row["note"], self._selection(row)]))
        table.notes = list(filter(None, [self.spec.get("note", ""), *self._notes()]))
        printed = {row["id"] for row in table.printed_rows}
        footnotes = [row["note"] for row in self.rows]
        footnotes += [entry.note for entry in table.entries.values() if entry.row in printed]
        table.footnotes = list(dict.fromkeys(filter(None, footnotes)))
        table.missing = [f"{', '.join(titles)}: {reason}" for reason, titles in self.reasons.items()]
        return table

    def _notes(self) -> list[str]:
        """The sentences under the table; on the way the tests, or the differences to one row, are filled in."""
        if self.spec.get("against"):
            return self._subtract()
        legend = self._legend()
        tested = self.spec.get("reference") and self.spec.get("baseline")
        tests = self._add_tests() if tested else ""
        return [legend, " ".join([*self._verdict_notes(), *self._run_notes()]), tests]

    # ---- rows of methods

    def _entry(self, row: dict[str, Any], column: dict[str, Any]) -> Entry:
        """The number of a row; of a row with several methods, that of the one with the best validation AUC."""
        reported = self.reported.get((self.spec["name"], row["id"], column["id"]), "")
        entry = Entry(row["id"], row["title"], column, reported)
        available = [method for method in row["methods"] if self._key(method, column) in self.cells]
        if not available:
            entry.method, entry.status = " ".join(row["methods"]), self._why_missing(row, column)
            return entry
        # Validation selects, never the test set. max() keeps the first of equals.
        entry.method = max(available, key=lambda method: self._validation_auc(method, column))
        entry.target, cell = self.cells[self._key(entry.method, column)]
        entry.splits, entry.seeds = len(set(cell["splits"])), len(set(cell["seeds"]))
        self._fill(entry, cell)
        return entry

    def _fill(self, entry: Entry, cell: dict[str, Any]) -> None:
        """Fill in the number of a cell, or why it is undefined."""
        test, name = cell["test"], entry.column.get("class")
        summary = test["per_class"][name] if name else test
        entry.mean, entry.sd, entry.sd_splits = (
            None if summary[key] is None else 100 * summary[key] for key in ("mean", "sd", "sd_splits")
        )
        entry.error = summary["se"]
        if bootstrap := test.get("bootstrap"):
            of_mean = bootstrap | {"interval": bootstrap["mean"]}
            of_class = (
                summary | {each: bootstrap[each] for each in ("resamples", "units") if each in bootstrap}
                if name
                else {}
            )
            self._set_interval(entry, of_class or of_mean)
        undefined = test["undefined"]
        defined = [each for each in cell["classes"] if each not in undefined]
        counted = [test["per_class"][each] for each in ([name] if name else defined or cell["classes"])]
        entry.positives = sum(each["positives"] for each in counted)
        entry.negatives = sum(each["negatives"] for each in counted)
        if entry.mean is None and name:
            entry.status = entry.note = "undefined: the test set holds one label only"
        elif entry.mean is None:
            entry.status = "undefined: no class has both labels in the test set"
            entry.note = f"{entry.status} ({', '.join(undefined)})"
        elif undefined and not name:
            of = f"{len(defined)} of {len(cell['classes'])} classes"
            entry.note = f"mean over {of}; undefined: {', '.join(undefined)}"
            entry.status = f"ok: {entry.note}"

    def _set_interval(self, entry: Entry, bootstrap: dict[str, Any]) -> str:
        """Fill in the interval over the defined resamples, unless too many are undefined; return the note on that."""
        entry.resamples, entry.undefined_resamples = bootstrap["resamples"], bootstrap["undefined_resamples"]
        if bootstrap.get("units", 2) < 2:
            return "undefined: the test set has one patient only"
        lost = f"{entry.undefined_resamples:,} of {entry.resamples:,} resamples"
        if entry.undefined_resamples > self.spec["undefined_resamples"] * entry.resamples:
            limit = f"{100 * self.spec['undefined_resamples']:g} %"
            return f"undefined: {lost} leave a class with one label only, more than {limit}"
        if bootstrap["interval"] is not None:
            entry.low, entry.high = (100 * value for value in bootstrap["interval"])
        return (
            f"without the {lost} that leave a class with one label only" if entry.undefined_resamples else ""
        )

    def _verdict(self, entry: Entry) -> str:
        if entry.mean is None:
            return "undefined" if entry.status.startswith("undefined") else "not run"
        if entry.row in TESTS:
            return ""
        if not entry.reported:
            return UNREPORTED
        if not entry.column["comparable"]:
            return INCOMPARABLE
        rule, same_images = self.spec["verdict"], entry.column["same_images"]
        lost = entry.resamples and entry.low is None
        found = None
        if entry.error and not lost:
            found = difference_interval(entry.mean, entry.error, entry.reported, rule["level"], same_images)
        if found is None:
            return UNDEFINED
        entry.difference_low, entry.difference_high = found
        return judge(*found, rule["margin"])

    def _check_test_labels(self, column: dict[str, Any]) -> None:
        """The numbers of a column, and the tests between them, need one test set, one split and one list of images."""
        first = None
        for entry in self._column(column):
            if entry.target:
                cell = self.cells[self._key(entry.method, column)][1]
                per_class = cell["test"]["per_class"]
                labels = {name: (part["positives"], part["negatives"]) for name, part in per_class.items()}
                first = first or (entry.target, labels, cell)
                if labels != first[1]:
                    raise UserError(
                        f"{entry.target}: its test labels differ from those of {first[0]}; delete the older one and rerun"
                    )
                if odd := odd_input(first[2], cell):
                    raise UserError(
                        f"{entry.target}: of another {odd} than {first[0]}; delete the older one and rerun"
                    )

    def _key(self, method: str, column: dict[str, Any]) -> tuple[str, str, str]:
        return method, column["dataset"], str(column["ratio"])

    def _column(self, column: dict[str, Any]) -> list[Entry]:
        return [self.table.entries[row["id"], column["id"]] for row in self.rows]

    def _validation_auc(self, method: str, column: dict[str, Any]) -> float:
        mean = self.cells[self._key(method, column)][1]["validation"]["mean"]
        return -1.0 if mean is None else mean

    def _why_missing(self, row: dict[str, Any], column: dict[str, Any]) -> str:
        titles = {method: row["title"] if len(row["methods"]) == 1 else method for method in row["methods"]}
        reasons = {title: self.status[method] for method, title in titles.items() if method in self.status}
        if len(reasons) < len(titles):
            # A method that can run has no cell, so the dataset is the reason.
            if column["dataset"] in self.status:
                reasons = {column["group"]: self.status[column["dataset"]]}
            else:
                reasons = {row["title"]: "not run: its auc.json was not given"}
        for title, reason in reasons.items():
            self.reasons.setdefault(reason, {})[title] = None
        return next(iter(reasons.values()))

    def _mark_best(self, column: dict[str, Any]) -> None:
        found = [(entry, entry.mean) for entry in self._column(column) if entry.mean is not None]
        for entry, mean in found:
            # Numbers that are printed alike are all the best: a reader cannot tell them apart.
            entry.best = len(found) > 1 and f"{mean:.1f}" == f"{max(each for _, each in found):.1f}"

    # ---- notes

    def _selection(self, row: dict[str, Any]) -> str:
        """Which of a row's methods is printed in which columns."""
        places: dict[str, dict[str, None]] = {}
        for column in self.table.columns:
            entry = self.table.entries[row["id"], column["id"]]
            if entry.target:
                place = column["group"] if "class" in column else _column_title(column)
                places.setdefault(entry.method, {})[place] = None
        if not places:
            return ""
        chosen = "; ".join(f"{method} in {', '.join(columns)}" for method, columns in places.items())
        absent = self.status.keys() - {method for method, _, _ in self.cells}
        left = [f"{method} ({self.status[method]})" for method in row["methods"] if method in absent]
        text = f"{row['title']} prints the method with the best validation AUC: {chosen}."
        return text + (f" Not compared: {'; '.join(left)}." if left else "")

    def _legend(self) -> str:
        found = [entry for entry in self.table.entries.values() if entry.mean is not None]
        known = any(entry.reported for entry in self.table.entries.values())
        foreign = all(column.get("own") for column in self.table.columns)
        unknown = "not printed as text" if self.spec.get("comparable", True) else "of no such table"
        brackets = "in brackets the paper's number" if known else f"the paper's numbers are {unknown}"
        brackets = "" if foreign else f"; {brackets}"
        if not found:
            return f"None of our cells is available yet{brackets}."
        seeds, splits = ({getattr(entry, name) for entry in found} for name in ("seeds", "splits"))
        measure = "standard deviation" if max(seeds) == 1 else "that"
        if self.spec.get("protocol") == "probe":
            spread = " of a linear probe, deterministic" + " ± – (it has no seeds)" * (max(splits) > 1)
        else:
            spread = f" ± standard deviation over {_range(seeds)} seeds" if max(seeds) > 1 else " of one seed"
        if max(splits) > 1:
            spread += f" ± {measure} over {_range(splits - {1})} splits" + (
                ", where there are several" * (1 in splits)
            )
        bold = "; bold: the best of ours" if any(entry.best for entry in found) else ""
        what = "Test AUC of each class" if self.table.by_class else "Mean-class test AUC"
        return f"{what} × 100{spread}{brackets}{bold}. {self._test_sets()}"

    def _verdict_notes(self) -> list[str]:
        """What the signs mean, where there are none and why, and the spread behind the paper's own tests."""
        entries = self.table.entries.values()
        found = [
            each for each in entries if each.mean is not None and each.reported and each.row not in TESTS
        ]
        notes, rule = [], self.spec["verdict"]
        if any(sign(entry.verdict) for entry in found):
            margin = f"{rule['margin']:g} point{'' if rule['margin'] == 1 else 's'}"
            notes.append(
                f"Signs, by the {100 * rule['level']:g} % interval of ours minus the paper's number (seeds, splits, test"
                f" images): = consistent, within ±{margin}; ≠ different, without 0; ? too noisy to tell."
            )
        single = _titles(
            entry
            for entry in found
            if sign(entry.verdict) and entry.splits == 1 and not entry.column["same_images"]
        )
        if single:
            notes.append(
                f"What another random split would change is not in the interval, with one split of {single}."
            )
        if any(entry.verdict == UNDEFINED for entry in found):
            notes.append(
                "No sign: one run, or too few resamples with both labels, leave the interval undefined."
            )
        if apart := _titles(entry for entry in found if entry.verdict == INCOMPARABLE):
            where = f" on {apart}" if any(column["comparable"] for column in self.table.columns) else ""
            why = "the test images are not the paper's"
            why = why if self.spec.get("comparable", True) else "the paper has no such table"
            notes.append(f"No verdicts{where}: {why}.")
        if (implied := self._implied_spread()) and (
            ours := [entry.sd for entry in found if entry.sd is not None and entry.column["comparable"]]
        ):
            notes.append(
                f"The paper's p-values imply a standard deviation of {_range(implied, '.2f')} points over {PAPER_RUNS} seeds;"
                f" ours: {_range(ours, '.2f')}."
            )
        return notes

    def _implied_spread(self) -> list[float]:
        """Standard deviations over seeds behind the p-values that the paper prints, where ours may be compared."""
        reference, baseline, found = self.spec.get("reference"), self.spec.get("baseline"), []
        for column in self.table.columns:
            printed = {
                row["id"]: self.reported.get((self.spec["name"], row["id"], column["id"]))
                for row in self.rows
            }
            p = self.reported.get((self.spec["name"], P_VALUE, column["id"]))
            ours = printed.pop(reference, None)
            rivals = [float(each) for row, each in printed.items() if each and baseline in ("best", row)]
            if column["comparable"] and p and ours and rivals:
                found.append(implied_sd(float(ours) - max(rivals), float(p), PAPER_RUNS))
        return found

    def _run_notes(self) -> list[str]:
        """What the runs behind the numbers share, and what their selection and resampling rest on."""
        found = [entry for entry in self.table.entries.values() if entry.mean is not None and entry.splits]
        part = [entry for entry in found if entry.column["ratio"] < 100]
        notes = []
        if any(entry.seeds > 1 for entry in found):
            subset = " and one label subset" if part and not self.spec["per_seed"] else ""
            notes.append(
                f"Seeds share one encoder{subset}: their spread is that of fine-tuning"
                f"{'' if subset else ' and of the subset' * bool(part)} alone."
            )
        sizes = {}
        for entry in part:
            images = self.cells[self._key(entry.method, entry.column)][1]["validation"]["images_per_split"]
            sizes[entry.column["dataset_title"]] = f"{sum(images) / len(images):,.0f}"
        if sizes:
            listed = ", ".join(f"{title} {images}" for title, images in sizes.items())
            chosen = "the penalty" if self.spec.get("protocol") == "probe" else "the weights"
            notes.append(
                f"At every label ratio the whole labelled validation set selects {chosen} (images: {listed})."
            )
        if any(entry.at_floor for entry in self.table.entries.values()):
            notes.append("≤: the smallest p that the resamples can show.")
        return notes

    def _test_sets(self) -> str:
        if self.table.by_class:
            return "n+ and n-: positive and negative test images."
        sizes = {
            entry.column["group"]: f"{entry.column['group']} {entry.positives} / {entry.negatives}"
            for entry in self.table.entries.values()
            if entry.mean is not None
        }
        return f"Positive / negative test labels: {', '.join(sizes.values())}."

    # ---- differences to one row

    def _subtract(self) -> list[str]:
        """Put in the place of each AUC its difference to the method that the spec names; the sentences on it."""
        table, other = self.table, self.spec["against"]
        above: dict[str, list[str]] = {}
        for column in table.columns:
            above[_column_title(column)] = found = []
            for entry in self._column(column):
                table.entries[entry.row, column["id"]] = apart = self._difference(entry, other)
                if apart.low is not None and apart.low > 0:
                    apart.best = True
                    found.append(entry.title)
        listed = "; ".join(f"{column}: {', '.join(titles) or 'none'}" for column, titles in above.items())
        return [
            f"AUC minus that of {other['title']}, in points, averaged over runs, with the {100 * LEVEL:g} % interval of a"
            " bootstrap of the test images that both share, by patient where known; each on its own, not adjusted for their"
            " number. Bold: the interval is above zero.",
            f"Above zero, by column: {listed}." if any(above.values()) else "No interval is above zero.",
        ]

    def _difference(self, entry: Entry, other: dict[str, str]) -> Entry:
        """A method's AUC minus the other's, from their t-test."""
        apart = Entry(entry.row, entry.title, entry.column, method=entry.method, against=other["id"])
        if entry.mean is None:
            return replace(apart, status=entry.status, note=entry.note)
        key = entry.method, other["id"], entry.column["dataset"], str(entry.column["ratio"])
        apart.target, test = self.tests.get(key, ("", None))
        if not test:
            reason = (
                other["status"] or f"not run: no t-test of {entry.method} against {other['id']} was given"
            )
            self.reasons.setdefault(reason, {})[other["title"]] = None
            return replace(apart, status=reason)
        apart.splits, apart.seeds = entry.splits, entry.seeds
        apart.note = self._set_interval(apart, test["bootstrap"])
        apart.mean = None if test["difference"] is None else 100 * test["difference"]
        if apart.mean is None:
            apart.status = apart.note = "undefined: one of the two has no AUC"
        return apart

    # ---- rows of tests

    def _add_tests(self) -> str:
        """Append the rows of tests below the methods; return the sentences that explain them."""
        reference, baseline = self.spec["reference"], self.spec["baseline"]
        titles = {row["id"]: row["title"] for row in self.rows}
        if reference not in titles or baseline not in {"best", *titles} - {reference}:
            raise UserError(
                f"table {self.spec['name']}: reference {reference!r}, baseline {baseline!r}: must be two of the rows"
                f" {', '.join(titles)}; the baseline may be best"
            )
        by_class, entries = self.table.by_class, self.table.entries
        rows = [P_VALUE, WELCH, HOLM, DIFFERENCE, DELONG if by_class else PAIRED]
        rivals: dict[str, list[str]] = {}
        for column in self.table.columns:
            ours = entries[reference, column["id"]]
            rival = self._rival(column)
            added = {row: Entry(row, TESTS[row], column) for row in rows}
            added[P_VALUE].reported = self.reported.get((self.spec["name"], P_VALUE, column["id"]), "")
            entries |= {(row, column["id"]): entry for row, entry in added.items()}
            self._test(ours, rival, added)
            tested = any(entry.mean is not None for entry in added.values())
            if rival and tested and baseline == "best" and not by_class:
                rivals.setdefault(rival.title, []).append(_column_title(column))
        self._adjust()
        for entry in entries.values():
            if entry.row in TESTS:
                entry.verdict = self._verdict(entry)
        # By class a line has no room for the difference and its interval: only the csv has them.
        unprinted = {DIFFERENCE} if by_class else set()
        about = {"note": "", "marks": []}
        self.table.rows = self.rows + [
            {"id": row, "title": TESTS[row], "printed": row not in unprinted} | about for row in rows
        ]
        best = f"the best other {'method of the class' if by_class else 'row of the column'}"
        whom = f"{titles[reference]} against {best if baseline == 'best' else titles[baseline]}"
        listed = "; ".join(f"{title} in {', '.join(columns)}" for title, columns in rivals.items())
        text = self._tests_legend(whom + (f" (ours: {listed})" if listed else ""))
        if baseline == "best" and any(
            entry.mean is not None and entry.row in TESTS for entry in entries.values()
        ):
            text += " The best is chosen by its test AUC, as in the paper."
        return text

    def _rival(self, column: dict[str, Any]) -> Entry | None:
        """What the reference is tested against: the best other row, or the baseline that the spec names."""
        reference, baseline = self.spec["reference"], self.spec["baseline"]
        others = [
            entry
            for entry in self._column(column)
            if baseline in ("best", entry.row) and entry.row != reference
        ]
        # Only a row with a number can be the best; a named baseline without one lends its reason.
        numbers = [entry for entry in others if entry.mean is not None] or others
        return max(numbers, key=lambda entry: -1 if entry.mean is None else entry.mean, default=None)

    def _tests_legend(self, compared: str) -> str:
        by_class = self.table.by_class
        family = "classes and label ratios" if by_class else "columns"
        over_images = (
            "DeLong: the same two on the same test images, by patient where known, their AUCs averaged over runs."
            if by_class
            else "Paired difference: the same two on the same test images, AUC averaged over runs, in points, with the"
            f" {100 * LEVEL:g} % interval of a bootstrap of the images, by patient where known. Paired p: two-sided, of"
            " the same resamples."
        )
        return (
            f"p-value: two-sided t-test for independent samples of equal variance, {compared}."
            f" Welch: without equal variances. Holm: the first, adjusted over all {family} of this table. {over_images}"
        )

    def _adjust(self) -> None:
        """Holm's p-values: the t-tests of a table are one family."""
        entries, columns = self.table.entries, [column["id"] for column in self.table.columns]
        adjusted = holm([entries[P_VALUE, column].mean for column in columns])
        for column, p in zip(columns, adjusted, strict=True):
            # The paper prints no adjusted p-values.
            changes = {"row": HOLM, "title": TESTS[HOLM], "mean": p, "reported": ""}
            entries[HOLM, column] = replace(entries[P_VALUE, column], **changes)

    def _test(self, ours: Entry, rival: Entry | None, entries: dict[str, Entry]) -> None:
        """Fill in the tests of one column, by row; Holm's p-values need all columns and follow in `_adjust`."""
        if rival is None or not (ours.target and rival.target):
            lacking = ours if rival is None or not ours.target else rival
            for entry in entries.values():
                entry.status = lacking.status if not lacking.target else "not run: the table has no other row"
            return
        for entry in entries.values():
            entry.method, entry.seeds = rival.method, min(ours.seeds, rival.seeds)
        target, found = self._ttest(ours, rival)
        over_seeds: dict[str, Any] = found or {}
        over_images = found["bootstrap"] | {"difference": found["difference"]} if found else {}
        name = ours.column.get("class")
        if name:
            # The file's t-test is of the mean over classes, so that of one class is computed from the two cells.
            resamples = over_images.get("resamples")
            over_images = found["per_class"][name] | {"resamples": resamples} if found else {}
            cells = [self.cells[self._key(each.method, each.column)][1] for each in (ours, rival)]
            over_seeds = compare(
                *(over_splits(cell["test"]["per_class"][name]["auc"], cell["seeds"]) for cell in cells)
            )
        lacking = next((each.note for each in (ours, rival) if each.mean is None), "")
        for row, entry in entries.items():
            of_seeds = row in (P_VALUE, WELCH, HOLM)
            entry.target = f"{ours.target} {rival.target}" if name and of_seeds else target
            if not (over_seeds if of_seeds else over_images):
                entry.status = f"not run: no t-test of {ours.method} against {rival.method} was given"
                self.reasons.setdefault("not run: its t-test was not given", {})[entry.title] = None
            elif of_seeds:
                entry.mean = over_seeds["welch" if row == WELCH else "student"]["p"]
                self._explain(entry, lacking or f"undefined: {over_seeds['undefined']}")
            elif row == DELONG:
                entry.mean = over_images["delong"]["p"]
                self._explain(entry, lacking or "undefined: both rank alike, or a label occurs once")
            else:
                note = self._set_interval(entry, over_images)
                if row == DIFFERENCE:
                    difference = over_images["difference"]
                    entry.mean = None if difference is None else 100 * difference
                elif not note.startswith("undefined"):
                    entry.mean, entry.low, entry.high = over_images["p"], None, None
                self._explain(entry, lacking or note)

    def _explain(self, entry: Entry, reason: str) -> None:
        """Note why a test has no number, or which resamples its number leaves out."""
        if entry.mean is None:
            entry.status = entry.note = reason
        elif entry.resamples and reason:
            entry.status = f"ok: {'interval ' if entry.row == DIFFERENCE else ''}{reason}"
            entry.note = reason

    def _ttest(self, ours: Entry, rival: Entry) -> tuple[str, dict[str, Any] | None]:
        """Path and content of the t-test between two cells; ("", None) where there is no such file."""
        target, test = self.tests.get((ours.method, *self._key(rival.method, ours.column)), ("", None))
        for side, each in (("reference", ours), ("baseline", rival)):
            cell = self.cells[self._key(each.method, each.column)][1]
            if test and test[f"{side}_auc"] != cell["test"]["mean_auc"]:
                raise UserError(
                    f"{target}: its {side} AUCs differ from those of {each.target}; delete it and rerun"
                )
        return target, test


def _column_title(column: dict[str, Any]) -> str:
    return f"{column['group']} {column['title']}".strip()


def _titles(entries: Iterable[Entry]) -> str:
    """Datasets of entries, each once."""
    return ", ".join(dict.fromkeys(entry.column["dataset_title"] for entry in entries))


def _range(values: Iterable[float], form: str = "") -> str:
    """`1 to 3`, or `1` where all are printed alike."""
    ends = [format(each, form) for each in sorted(values)]
    return " to ".join(dict.fromkeys([ends[0], ends[-1]]))
