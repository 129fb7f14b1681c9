"""Claims against a set of numbers: each holds, does not hold, is within noise, or cannot be judged.

`refers.claims.claims` defines what a claim is. The paper's printed numbers are taken as they are; ours have intervals
(`refers.evaluation.intervals`), simultaneous over all comparisons of a claim.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np

from refers.evaluation.intervals import Estimate, Sample, estimate, hit_rate, simultaneous
from refers.reporting.published import Reported
from refers.reporting.table import AT, P_VALUE, TESTS, format_p

HOLDS, FAILS, NOISE, UNJUDGED = "holds", "does not hold", "within noise", "cannot be judged"
BOUNDS = {"more_than": ">", "at_least": "≥", "at_most": "≤", "about": "about", "advantage": "an advantage of"}
# Bounds that a claim states as a number; they have a tolerance.
STATED = ("about", "advantage")
# Comparisons that the text names of a claim with many.
SHOWN = 3


@dataclass(frozen=True)
class Number:
    """A number, or why there is none.

    against: of a p-value, the row that the reference is tested against, where the table names it.
    sample: of an AUC of ours, how it would vary, or why that is not known.
    """

    value: float  # NaN where there is none
    status: str = ""
    target: str = ""
    against: str = ""
    sample: Sample | str = ""


@dataclass(frozen=True)
class Overlap:
    """Every boxed finding of a figure, or why there is none: IoU, area of its boxes and image, (N,) each."""

    values: tuple[float, ...] = ()
    areas: tuple[float, ...] = ()
    images: tuple[str, ...] = ()
    status: str = ""
    target: str = ""


@dataclass
class Numbers:
    """What a set of tables prints, by (table, row, column), the overlaps behind figures and the counts of a study.

    absent: the status of a number that no table has.
    slack: points by which an AUC may miss what a claim states; None for the paper's own numbers, which may not, and which
        are compared as printed. An AUC of ours without a sample cannot be judged.
    facts: by name, see `refers.claims.facts`; `uncounted` is the status of one that is not there.
    """

    entries: dict[tuple[str, str, str], Number]
    absent: str
    slack: float | None = None
    overlaps: dict[str, Overlap] = field(default_factory=dict)
    facts: dict[str, Number] = field(default_factory=dict)
    uncounted: str = "no table prints it"

    @property
    def exact(self) -> bool:
        return self.slack is None

    @cached_property
    def _auc(self) -> dict[tuple[str, str], Number]:
        found: dict[tuple[str, str], Number] = {}
        for (_, row, column), number in self.entries.items():
            if (row, column) not in found or math.isnan(found[row, column].value):
                found[row, column] = number
        return found

    def auc(self, row: str, column: str) -> Number:
        """From the first table that has a value."""
        found = self._auc.get((row, column), Number(math.nan, self.absent))
        if self.exact or isinstance(found.sample, Sample) or math.isnan(found.value):
            return found
        return Number(math.nan, found.sample or "its resamples were not given", found.target)

    def printed(self, table: str, row: str, column: str) -> Number:
        return self.entries.get((table, row, column), Number(math.nan, self.absent))

    def overlap(self, figure: str) -> Overlap:
        absent = self.absent if self.exact else f"this study has no figure {figure!r} with boxes"
        return self.overlaps.get(figure, Overlap(status=absent))

    def fact(self, name: str) -> Number:
        return self.facts.get(name, Number(math.nan, self.uncounted))


def paper_numbers(reported: Reported) -> Numbers:
    """The paper's own tables."""
    return Numbers({key: Number(float(value)) for key, value in reported.items()}, "not printed as text")


def our_numbers(
    rows: Iterable[dict[str, str]],
    sample_of: Callable[[str, str, str, str], Sample | str],
    slack: float = 0.0,
    incomparable: dict[str, str] | None = None,
    overlaps: dict[str, Overlap] | None = None,
    facts: dict[str, Number] | None = None,
) -> Numbers:
    """Our tables, from the rows of their csv, the overlaps behind our figures and the counts of our study.

    Args:
        sample_of: (method, dataset, ratio, class or "mean") -> its sample, or why there is none.
        incomparable: dataset -> why nothing is judged on it; "" stands for all of them.
    """
    # What others report is neither the paper's nor ours.
    rows, reasons = [row for row in rows if AT not in row["row"]], incomparable or {}
    methods = {
        (row["table"], row["column"], row["method"]): row["row"] for row in rows if row["row"] not in TESTS
    }
    entries = {}
    for row in rows:
        is_test = row["row"] in TESTS
        against = methods.get((row["table"], row["column"], row["method"]), "") if is_test else ""
        value, status, sample = float(row["mean"] or "nan"), row["status"], ""
        if reason := reasons.get("") or reasons.get(row["dataset"]):
            value, status = math.nan, reason
        elif not is_test and not math.isnan(value):
            sample = sample_of(row["method"], row["dataset"], row["ratio"], row["class"] or "mean")
        number = Number(value, status, row["target"], against, sample)
        entries[row["table"], row["row"], row["column"]] = number
    uncounted = reasons.get("", "not run: no report with this count was given")
    return Numbers(entries, "in none of our tables", slack, overlaps or {}, facts or {}, uncounted)


# ---- evaluation


@dataclass
class Comparison:
    """One comparison of a claim.

    text, place: what is compared and where; `interval` stands between them once it is known.
    state: one of the four judgements.
    reason: why it cannot be judged.
    margin: distance from failing, negative where it fails.
    region: the values that the claim allows, from low to high; `open` excludes low itself.
    """

    text: str
    place: str = ""
    state: str = UNJUDGED
    reason: str = ""
    margin: float = 0.0
    targets: tuple[str, ...] = ()
    region: tuple[float, float] = (-math.inf, math.inf)
    open: bool = False
    estimate: Estimate | None = None
    interval: str = ""

    def judge(self, low: float, high: float) -> None:
        """Set the state by an interval of the compared value, a point for a number without noise."""
        first, last = self.region
        if (low > first if self.open else low >= first) and high <= last:
            self.state = HOLDS
        elif (high <= first if self.open else high < first) or low > last:
            self.state = FAILS
        else:
            self.state = NOISE

    def __str__(self) -> str:
        return self.text + self.interval + (f" ({self.place})" if self.place else "")


@dataclass
class Outcome:
    """A claim against one set of numbers: the verdict, the numbers that decide it, and the targets behind them."""

    verdict: str
    numbers: str
    targets: list[str]


def evaluate(tests: list[dict[str, Any]], numbers: Numbers, share: float = 1) -> Outcome:
    """Whether at least `share` of all comparisons hold.

    A missing number leaves the claim open, unless the other comparisons decide it whatever that number is.
    """
    found = [comparison for test in tests for comparison in COMPARE[test["kind"]](test, numbers)]
    noisy = [(each, each.estimate) for each in found if each.estimate]
    for (each, _), (low, high) in zip(noisy, simultaneous([made for _, made in noisy]), strict=True):
        each.interval = f" [{low:z.1f}, {high:z.1f}]"
        # Rounded, since 76.7 - 71.0 is 5.7 and no more.
        each.judge(round(low, 6), round(high, 6))
    # Rounded, since 0.9 x 10 must not become 10 by its last bits.
    required = math.ceil(round(share * len(found), 6))
    targets = list(dict.fromkeys(target for each in found for target in each.targets if target))
    count = Counter(each.state for each in found)
    asked = f", {required} are asked for" if required < len(found) else ""
    if count[FAILS] > len(found) - required:
        verdict = FAILS
    elif count[HOLDS] >= required:
        verdict = HOLDS
    elif count[UNJUDGED]:
        return Outcome(
            UNJUDGED, _lacking([each for each in found if each.state == UNJUDGED], len(found)), targets
        )
    else:
        verdict = NOISE
    # The failing ones, the worst first; where none fails, those within noise, then those that hold by the smallest margin.
    order = {FAILS: 0, NOISE: 1, HOLDS: 2}
    known = sorted(
        (each for each in found if each.state in order), key=lambda each: (order[each.state], each.margin)
    )
    decisive = known[0].state if verdict != NOISE else NOISE
    shown = [each for each in known if each.state == decisive][:SHOWN]
    texts = "; ".join(map(str, shown))
    if decisive == HOLDS:
        head = f"{count[HOLDS]} of {len(found)} hold{asked}, by least: " if len(found) > SHOWN else ""
        return Outcome(verdict, head + texts, targets)
    words = {FAILS: "fail", NOISE: "within noise", HOLDS: "hold"}
    counts = [f"{count[state]} {word}" for state, word in words.items() if count[state] and state != decisive]
    others = f", {', '.join(counts)}" if counts and (asked or decisive == NOISE) else ""
    head = f"{count[decisive]} of {len(found)} {words[decisive]}{others}{asked}: "
    return Outcome(verdict, head + texts, targets)


def _lacking(missing: list[Comparison], total: int) -> str:
    """What cannot be judged of a claim, and why."""
    if len(missing) == total and len({each.reason for each in missing}) == 1 and total > 1:
        return missing[0].reason
    texts = list(dict.fromkeys(map(str, missing)))
    more = f" and {len(texts) - 1} more" if len(texts) > 1 else ""
    head = f"{len(missing)} of {total} lack a number: " if total > 1 else ""
    return f"{head}{texts[0]}{more}"


def expand(test: dict[str, Any], known: list[str]) -> dict[str, Any]:
    """The test with `nih/1/*` replaced by the class columns of our tables, or left as it is where there are none."""
    expanded = dict(test)
    for key in test.keys() & {"columns", "against", "among"}:
        expanded[key] = []
        for pattern in test[key]:
            classes = [each for each in known if pattern.endswith("/*") and each.startswith(pattern[:-1])]
            expanded[key] += classes or [pattern]
    return expanded


def _differences(test: dict[str, Any], numbers: Numbers) -> Iterator[Comparison]:
    pairs = list(zip(test["columns"], test.get("against", test["columns"]), strict=True))
    groups = [pairs] if test.get("over") == "mean" else [[pair] for pair in pairs]
    for left, right, group in product(test["left"], test["right"], groups):
        places = [(left, column) for column, _ in group] + [(right, column) for _, column in group]
        used = [numbers.auc(*place) for place in places]
        if gap := _gap(dict(zip(places, used, strict=True))):
            yield gap
            continue
        size = len(group)
        one, two = (sum(number.value for number in side) / size for side in (used[:size], used[size:]))
        place = f"mean of {size} columns" if size > 1 else " against ".join(dict.fromkeys(group[0]))
        # Rounded, since 76.7 - 74.2 is 2.5 to a reader.
        difference = round(one - two, 6)
        text = f"{left} {one:.1f} - {right} {two:.1f} = {difference:z.1f}"
        found = _bounded(test, difference, numbers, Comparison(text, place, targets=_targets(used)))
        _add_noise(
            found, numbers, used, lambda each, size=size: each[:size].mean(0) - each[size:].mean(0), 2 * size
        )
        yield found


def _bounded(test: dict[str, Any], value: float, numbers: Numbers, found: Comparison) -> Comparison:
    """The comparison with the region of the test's bound, its margin, and its state if the value has no noise."""
    bound = next(key for key in BOUNDS if key in test)
    stated, allowed = test[bound], test.get("tolerance", 0)
    if bound in STATED and test["kind"] == "difference":
        allowed = max(allowed, numbers.slack or 0)
    first, last = stated - allowed, stated + allowed
    # Ours may exceed a stated advantage; the paper's own numbers must agree with it.
    above = bound in ("more_than", "at_least") or (bound == "advantage" and not numbers.exact)
    found.region = (
        -math.inf if bound == "at_most" else round(first, 6),
        math.inf if above else round(last, 6),
    )
    found.open = bound == "more_than"
    found.margin = round(min(value - found.region[0], found.region[1] - value), 6)
    found.judge(value, value)
    return found


def _add_noise(
    found: Comparison,
    numbers: Numbers,
    used: list[Number],
    compute: Callable[[np.ndarray], Any],
    terms: int,
) -> None:
    samples = [number.sample for number in used if isinstance(number.sample, Sample)]
    if not numbers.exact:
        found.estimate = estimate(compute, [number.value for number in used], samples, terms)


def _largest(test: dict[str, Any], numbers: Numbers) -> Iterator[Comparison]:
    than = test.get("than", test)
    # The same rows are compared between columns, other rows also within one.
    others = [column for column in test["among"] if "than" in test or column not in test["columns"]]
    if not others:
        reason = f"no other column among {', '.join(test['among'])}"
        yield Comparison(reason, reason=reason)
    for column, other in product(test["columns"], others):
        sides = [
            (each, place, key) for each, place in ((test, column), (than, other)) for key in ("left", "right")
        ]
        places = [(row, place) for each, place, key in sides for row in each[key]]
        used = [numbers.auc(*each) for each in places]
        if gap := _gap(dict(zip(places, used, strict=True))):
            yield gap
            continue
        ends = np.cumsum([len(each[key]) for each, _, key in sides])[:-1]

        def gains(values: np.ndarray, ends: np.ndarray = ends) -> tuple[Any, Any]:
            best = [part.max(axis=0) for part in np.split(values, ends)]
            return best[0] - best[1], best[2] - best[3]

        gain, other_gain = gains(np.array([number.value for number in used]))
        rivals = [
            max(each["right"], key=lambda row: numbers.auc(row, place).value) for each, place, _ in sides[::2]
        ]
        difference = round(float(gain - other_gain), 6)
        text = (
            f"gain {gain:.1f} over {rivals[0]} ({column}) against {other_gain:.1f} over {rivals[1]} ({other})"
        )
        text += "" if numbers.exact else f", by {difference:z.1f}"
        found = Comparison(text, margin=difference, targets=_targets(used), region=(0, math.inf), open=True)
        found.judge(difference, difference)
        _add_noise(found, numbers, used, lambda values, gains=gains: np.subtract(*gains(values)), 4)
        yield found


def _p_values(test: dict[str, Any], numbers: Numbers) -> Iterator[Comparison]:
    """A p-value is a judgement of noise already, so that it has no interval."""
    (left,) = test["left"]
    for table, column in product(test["tables"], test["columns"]):
        number = numbers.printed(table, P_VALUE, column)
        rival = number.against or _best(test["right"], table, column, numbers)
        ours, theirs = (numbers.printed(table, row, column) for row in (left, rival))
        if gap := _gap({(f"{table} p-value", column): number, (left, column): ours, (rival, column): theirs}):
            yield gap
            continue
        difference = round(ours.value - theirs.value, 6)
        places = f"{left} {ours.value:.1f} - {rival} {theirs.value:.1f} = {difference:z.1f}"
        yield Comparison(
            f"p {format_p(number.value)}, {places}",
            f"{table}, {column}",
            HOLDS if number.value < test["below"] and difference > 0 else FAILS,
            margin=test["below"] - number.value if difference > 0 else difference,
            targets=_targets([number, ours, theirs]),
        )


def _best(rows: list[str], table: str, column: str, numbers: Numbers) -> str:
    """The best of `rows` in a column of a table; the first where it prints none."""
    values = {row: numbers.printed(table, row, column).value for row in rows}
    return max(rows, key=lambda row: -1 if math.isnan(values[row]) else values[row])


def _overlaps(test: dict[str, Any], numbers: Numbers) -> Iterator[Comparison]:
    for figure in test["figures"]:
        found = numbers.overlap(figure)
        if not found.values:
            yield Comparison(f"IoU of {figure}: {found.status}", reason=found.status)
            continue
        chosen = _by_size(found, test.get("size"))
        made = hit_rate(
            np.array(found.values)[chosen] > test["above"], np.array(found.images)[chosen], RESAMPLES
        )
        size = f"{test['size']} " if "size" in test else ""
        text = f"{made.value:.0f} % of {len(chosen)} {size}findings above {test['above']:g}"
        yield Comparison(
            text,
            figure,
            margin=round((made.value - 50) / 100, 6),
            targets=(found.target,),
            region=(50, math.inf),
            open=True,
            estimate=made,
        )


def _by_size(found: Overlap, size: str | None) -> np.ndarray:
    """Places of all findings, or of the third with the smallest or the largest boxes."""
    order = np.argsort(found.areas, kind="stable") if size else np.arange(len(found.values))
    third = math.ceil(len(order) / 3)
    return order[:third] if size == "small" else order[-third:] if size == "large" else order


def _facts(test: dict[str, Any], numbers: Numbers) -> Iterator[Comparison]:
    for name in test["facts"]:
        number = numbers.fact(name)
        if math.isnan(number.value):
            yield Comparison(f"{name}: {number.status}", reason=number.status)
        else:
            found = Comparison(f"{name} {number.value:,.6g}", targets=(number.target,))
            yield _bounded(test, round(number.value, 6), numbers, found)


def _uncheckable(test: dict[str, Any], numbers: Numbers) -> Iterator[Comparison]:
    yield Comparison(test["why"], reason=test["why"])


RESAMPLES = 1000  # of the images behind an overlap
COMPARE = {
    **{"difference": _differences, "largest": _largest, "p_value": _p_values},
    **{"overlap": _overlaps, "fact": _facts, "none": _uncheckable},
}


def _gap(used: dict[tuple[str, str], Number]) -> Comparison | None:
    """The first number of a comparison that is missing."""
    for (row, column), number in used.items():
        if math.isnan(number.value):
            return Comparison(f"{row} in {column}: {number.status}", reason=number.status)
    return None


def _targets(numbers: Iterable[Number]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(number.target for number in numbers))
