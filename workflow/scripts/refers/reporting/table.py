"""A table ready to be written: its entries, how each number is printed, and the rows of tests below the methods.

`refers.reporting.build_table` fills one in, `refers.reporting.table_formats` writes it.
"""

from dataclasses import dataclass, field
from typing import Any

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

    mean, sd, low, high: percent; in a row of TESTS a p-value, or a difference and its interval in points.
    reported: as printed in the paper, "" where it prints none.
    low, high: bootstrap interval over test images; `resamples` were drawn for it or for a paired p-value, of which
        `undefined_resamples` are left out, since a class lost a label in them.
    positives, negatives: test labels, summed over the classes behind the number.
    note: text of its footnote.
    source: of a number that others report, their short name; it is neither ours nor judged.
    """

    row: str
    title: str
    column: dict[str, Any]
    reported: str = ""
    method: str = ""
    mean: float | None = None
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    resamples: int | None = None
    undefined_resamples: int | None = None
    seeds: int = 0
    positives: int | None = None
    negatives: int | None = None
    verdict: str = ""
    status: str = "ok"
    target: str = ""
    note: str = ""
    best: bool = False
    source: str = ""

    @property
    def printed(self) -> str:
        """The number as printed, or the reason's short form; nothing where others report none."""
        if self.source and self.mean is None:
            return ""
        if self.mean is None:
            return self.status.split(":")[0]
        if self.source and self.low is not None and self.high is not None:
            return f"{self.mean:.1f} [{self.low:.1f}, {self.high:.1f}]"
        if self.row == DIFFERENCE:
            return format_difference(self.mean, self.low, self.high)
        return format_p(self.mean) if self.row in TESTS else format_auc(self.mean, self.sd)

    @property
    def difference(self) -> float | None:
        """Ours minus the printed AUC, in points; None unless both exist."""
        if self.mean is None or not self.reported or self.row in TESTS:
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


def format_difference(points: float, low: float | None, high: float | None) -> str:
    """`+1.3 [−0.2, +2.9]`; without an interval `+1.3 [undefined]`."""
    texts = [f"{value:+z.1f}".replace("-", "−") for value in (points, low, high) if value is not None]
    return f"{texts[0]} [{', '.join(texts[1:]) or 'undefined'}]"


def _letter(place: int) -> str:
    """a to z, then aa, ab, ..."""
    return (_letter(place // 26 - 1) if place >= 26 else "") + "abcdefghijklmnopqrstuvwxyz"[place % 26]
