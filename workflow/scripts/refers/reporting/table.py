"""A table ready to be written: its entries, how each number is printed, and the rows of tests below the methods.

`refers.reporting.build_table` fills one in, `refers.reporting.table_formats` writes it.
"""

from dataclasses import dataclass, field
from typing import Any

from refers.evaluation.cell_file import format_auc
from refers.evaluation.verdict import sign

# Tests over seeds, then tests over test images.
P_VALUE, WELCH, HOLM = "p_value", "p_value_welch", "p_value_holm"
DIFFERENCE, PAIRED, DELONG = "paired_difference", "p_value_paired", "p_value_delong"
# Row -> title of the rows below the methods
TESTS = {
    **{P_VALUE: "p-value", WELCH: "Welch", HOLM: "Holm"},
    **{DIFFERENCE: "Paired difference", PAIRED: "Paired p", DELONG: "DeLong"},
}


# Between a row and the source of a number that others report for it: the row `refers@benchx`
AT = "@"


@dataclass
class Entry:
    """One number of a table, or the reason why it is missing.

    mean, sd, sd_splits, low, high: percent; in a row of TESTS a p-value, or a difference and its interval in points.
    error: `standard_error` of the mean, of fractions.
    reported: as printed in the paper, "" where it prints none.
    difference_low, difference_high: interval of ours minus the printed number, in points; None where there is no verdict.
    low, high: bootstrap interval over test images; `resamples` were drawn for it or for a paired p-value, of which
        `undefined_resamples` are left out, since a class lost a label in them.
    positives, negatives: test labels, summed over the classes behind the number.
    note: text of its footnote.
    source: of a number that others report, their short name; it is not ours.
    gap: ours minus a number that others report for the same test images, in points.
    against: of a difference to another row, that row.
    images, patients: of a group of test images, how many it has.
    """

    row: str
    title: str
    column: dict[str, Any]
    reported: str = ""
    method: str = ""
    mean: float | None = None
    sd: float | None = None
    sd_splits: float | None = None
    error: dict[str, Any] | None = None
    low: float | None = None
    high: float | None = None
    resamples: int | None = None
    undefined_resamples: int | None = None
    splits: int = 0
    seeds: int = 0
    positives: int | None = None
    negatives: int | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    verdict: str = ""
    status: str = "ok"
    target: str = ""
    note: str = ""
    best: bool = False
    source: str = ""
    gap: float | None = None
    against: str = ""
    images: int | None = None
    patients: int | None = None

    @property
    def printed(self) -> str:
        """The number as printed, or the reason's short form; nothing where others report none."""
        if self.source and self.mean is None:
            return ""
        if self.mean is None:
            return self.status.split(":")[0]
        if self.source and self.low is not None and self.high is not None:
            return f"{self.mean:.1f} [{self.low:.1f}, {self.high:.1f}]"
        if self.gap is not None:
            apart = format_difference(self.gap, self.difference_low, self.difference_high)
            return f"{self.mean:.1f} (ours {apart} {sign(self.verdict)})".replace(" )", ")")
        if {"measure", "group_of", "test"} & self.column.keys():
            return format_interval(self.mean, self.low, self.high)
        if self.row == DIFFERENCE or self.against:
            return format_difference(self.mean, self.low, self.high)
        if self.row in TESTS:
            return f"≤ {format_p(self.mean)}" if self.at_floor else format_p(self.mean)
        return format_auc(self.mean, self.sd, self.sd_splits)

    @property
    def at_floor(self) -> bool:
        """Whether a p-value of resamples is the smallest that they can show: the true one may be below it."""
        if self.row != PAIRED or self.mean is None or self.resamples is None:
            return False
        return self.mean <= 2 / (self.resamples - (self.undefined_resamples or 0) + 1)

    @property
    def se(self) -> float | None:
        """Standard error of the mean over seeds, splits and test images, in points; None where undefined."""
        if self.error is None or self.error["total"] is None or (self.resamples and self.low is None):
            return None
        return 100 * self.error["total"]

    @property
    def difference(self) -> float | None:
        """Ours minus the printed AUC, in points; None unless both exist and are comparable."""
        if self.gap is not None:
            return round(self.gap, 4)
        if self.mean is None or not self.reported or self.row in TESTS or not self.column["comparable"]:
            return None
        return round(self.mean - float(self.reported), 4)


@dataclass
class Table:
    """Rows, columns and an entry for each pair of them.

    label: `Table 1`, for formats that do not number tables themselves; "" for none.
    marks: headings of the leading columns of check marks.
    notes: sentences under the table; footnotes: texts with a letter; missing: what has no number, and why.
    """

    name: str
    title: str
    label: str
    rows: list[dict[str, Any]]
    columns: list[dict[str, Any]]
    entries: dict[tuple[str, str], Entry]
    marks: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    footnotes: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @property
    def heading(self) -> str:
        """`Table 1. Its title`."""
        return f"{self.label}. {self.title}" if self.label else self.title

    @property
    def printed_rows(self) -> list[dict[str, Any]]:
        """Rows of every format but csv, which has them all."""
        return [row for row in self.rows if row.get("printed", True)]

    @property
    def by_class(self) -> bool:
        """Whether a column is one class of a cell."""
        return any("class" in column for column in self.columns)

    @property
    def by_line(self) -> bool:
        """Whether a cell of the study has a grid of its own, whose lines are its classes, measures, groups of images or tests."""
        kinds = {"class", "measure", "group_of", "test"}
        return any(kinds & column.keys() for column in self.columns)

    def marker(self, text: str) -> str:
        """Letter of a footnote; "" without one."""
        return _letter(self.footnotes.index(text)) if text else ""


def format_interval(mean: float, low: float | None, high: float | None) -> str:
    """`84.1 [82.0, 86.0]`; without an interval `84.1 [undefined]`."""
    texts = [f"{value:z.1f}".replace("-", "−") for value in (mean, low, high) if value is not None]
    return f"{texts[0]} [{', '.join(texts[1:]) or 'undefined'}]"


def format_p(p: float) -> str:
    """`0.034` from 0.01 on, below it `8.35e-4` as the paper prints; a value too small to compute is below 1e-300."""
    if p < 1e-300:
        return "< 1e-300"
    if p >= 0.01:
        return f"{p:.3f}"
    digits, exponent = f"{p:.2e}".split("e")
    return f"{digits}e{int(exponent)}"


def format_difference(points: float, low: float | None, high: float | None) -> str:
    """`+1.3 [−0.2, +2.9]`; without an interval `+1.3 [undefined]`."""
    texts = [f"{value:+z.1f}".replace("-", "−") for value in (points, low, high) if value is not None]
    return f"{texts[0]} [{', '.join(texts[1:]) or 'undefined'}]"


def _letter(place: int) -> str:
    """a to z, then aa, ab, ..."""
    return (_letter(place // 26 - 1) if place >= 26 else "") + "abcdefghijklmnopqrstuvwxyz"[place % 26]
