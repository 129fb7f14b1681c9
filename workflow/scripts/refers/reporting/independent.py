"""Rows of a table for what others report: of other test images, shown; of the same ones, with the verdict on ours beside them."""

from typing import Any

from refers.evaluation.verdict import UNDEFINED, difference_interval, judge
from refers.reporting.published import Independent
from refers.reporting.table import AT, TESTS, Entry, Table


def add_independent(
    table: Table, spec: dict[str, Any], found: dict[str, dict[tuple[str, str], Independent]]
) -> None:
    """A row for each source and method with numbers in this table, between the methods and the tests, and a note on it."""
    columns, rows, notes = {column["id"]: column for column in table.columns}, [], []
    judged = _add_same_images(table, spec)
    for source, numbers in found.items():
        about = spec["independent"][source]
        of = [row for row in spec["rows"] if any((row["id"], column) in numbers for column in columns)]
        for row in of:
            name, title = f"{row['id']}{AT}{source}", f"{row['title']} ({about['title']})"
            rows.append({"id": name, "title": title, "note": "", "marks": [], "source": source})
            for column, where in columns.items():
                each = numbers.get((row["id"], column))
                entry = Entry(name, title, where, status="not reported", source=about["title"])
                if each:
                    entry.mean, entry.low, entry.high, entry.status = (
                        each.auc,
                        each.low,
                        each.high,
                        "independent",
                    )
                table.entries[name, column] = entry
        if of:
            notes.append(f"{about['title']} ({about['citation']}): {about['differs']}.")
    methods = sum(row["id"] not in TESTS for row in table.rows)
    table.rows[methods:methods] = rows
    table.notes += judged
    if notes:
        table.notes.append(f"Reported by others, not judged. {' '.join(notes)}")


def _add_same_images(table: Table, spec: dict[str, Any]) -> list[str]:
    """A row for each number that others report for the test images of a column, judged against a row of ours; and the notes."""
    columns, titles = (
        {column["id"]: column for column in table.columns},
        {row["id"]: row["title"] for row in table.rows},
    )
    rows, notes, rule = [], [], spec["verdict"]
    for source, about in spec.get("independent", {}).items():
        numbers = [
            each for each in about.get("numbers", []) if each["column"] in columns and each["row"] in titles
        ]
        lines = dict.fromkeys((each["title"] or titles[each["row"]], each["row"]) for each in numbers)
        for place, (title, ours) in enumerate(lines):
            name, head = f"{ours}{AT}{source}{place}", f"{title} ({about['title']})"
            rows.append({"id": name, "title": head, "note": "", "marks": [], "source": source})
            for column, where in columns.items():
                entry = Entry(name, head, where, status="not reported", source=about["title"])
                for each in numbers:
                    if (each["title"] or titles[each["row"]], each["row"], each["column"]) == (
                        title,
                        ours,
                        column,
                    ):
                        _judge_same_images(entry, each, table.entries[ours, column], rule)
                table.entries[name, column] = entry
        if lines:
            against = ", ".join(dict.fromkeys(titles[row] for _, row in lines))
            notes.append(f"{about['title']} ({about['citation']}): {about['differs']}; beside {against}.")
    methods = sum(row["id"] not in TESTS for row in table.rows)
    table.rows[methods:methods] = rows
    if not notes:
        return []
    return [
        "Reported by others for the same test images; in brackets ours minus theirs with the"
        f" {100 * rule['level']:g} % interval (seeds, test images): = consistent, within ±{rule['margin']:g}; ≠ different,"
        f" without 0; ? too noisy to tell. {' '.join(notes)}"
    ]


def _judge_same_images(entry: Entry, number: dict[str, Any], ours: Entry, rule: dict[str, Any]) -> None:
    """Fill in a number that others report, and the difference of ours to it."""
    entry.mean, entry.status = number["auc"], "independent"
    if ours.mean is None:
        return
    entry.gap, entry.verdict = ours.mean - number["auc"], UNDEFINED
    lost = ours.resamples and ours.low is None
    level = rule["level"]
    if ours.error and not lost:
        found = difference_interval(ours.mean, ours.error, str(number["auc"]), level, True, number["runs"])
        if found:
            entry.difference_low, entry.difference_high = found
            entry.verdict = judge(*found, rule["margin"])
