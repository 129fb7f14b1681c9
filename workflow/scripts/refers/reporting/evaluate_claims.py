"""Claims against a set of numbers: each holds, does not hold, or cannot be judged.

`refers.reporting.claims` defines what a claim is.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Any

from refers.reporting.published import Reported
from refers.reporting.table import P_VALUE, TESTS, format_p

HOLDS, FAILS, UNJUDGED = "holds", "does not hold", "cannot be judged"
BOUNDS = {"more_than": ">", "at_least": "≥", "at_most": "≤", "about": "about", "advantage": "an advantage of"}
# Bounds that a claim states as a number; they have a tolerance.
STATED = ("about", "advantage")
# Comparisons that the text names of a claim with many.
SHOWN = 3


@dataclass(frozen=True)
class Number:
    """A printed number, or why there is none.

    against: of a p-value, the row that the reference is tested against, where the table names it.
    """

    value: float | None
    status: str = ""
    target: str = ""
    against: str = ""


@dataclass(frozen=True)
class Overlap:
    """IoU of every boxed finding of a figure, or why there is none."""

    values: tuple[float, ...] = ()
    status: str = ""
    target: str = ""


@dataclass
class Numbers:
    """What a set of tables prints, by (table, row, column), and the overlaps behind figures, by figure.

    absent: the status of a number that no table has.
    slack: points by which a number may miss what a claim states; None for the paper's own numbers, which may not.
    """

    entries: dict[tuple[str, str, str], Number]
    absent: str
    slack: float | None = None
    overlaps: dict[str, Overlap] = field(default_factory=dict)

    @cached_property
    def _auc(self) -> dict[tuple[str, str], Number]:
        found: dict[tuple[str, str], Number] = {}
        for (_, row, column), number in self.entries.items():
            if (row, column) not in found or found[row, column].value is None:
                found[row, column] = number
        return found

    def auc(self, row: str, column: str) -> Number:
        """From the first table that has a value."""
        return self._auc.get((row, column), Number(None, self.absent))

    def printed(self, table: str, row: str, column: str) -> Number:
        return self.entries.get((table, row, column), Number(None, self.absent))

    def overlap(self, figure: str) -> Overlap:
        return self.overlaps.get(figure, Overlap(status=self.absent))


def paper_numbers(reported: Reported) -> Numbers:
    """The paper's own tables."""
    return Numbers({key: Number(float(value)) for key, value in reported.items()}, "not printed as text")


def our_numbers(
    rows: Iterable[dict[str, str]], slack: float = 0.0, overlaps: dict[str, Overlap] | None = None
) -> Numbers:
    """Our tables, from the rows of their csv, and the overlaps behind our figures."""
    rows = list(rows)
    methods = {
        (row["table"], row["column"], row["method"]): row["row"] for row in rows if row["row"] not in TESTS
    }
    entries = {}
    for row in rows:
        mean = float(row["mean"]) if row["mean"] else None
        against = methods.get((row["table"], row["column"], row["method"]), "") if row["row"] in TESTS else ""
        number = Number(mean, row["status"], row["target"], against)
        entries[row["table"], row["row"], row["column"]] = number
    return Numbers(entries, "in none of our tables", slack, overlaps or {})


# ---- evaluation


@dataclass
class Comparison:
    """One comparison of a claim.

    holds: None where a number is missing; `text` names it.
    margin: distance from failing, negative where it fails.
    """

    text: str
    holds: bool | None
    margin: float = 0.0
    targets: tuple[str, ...] = ()


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
    failing = [each for each in found if each.holds is False]
    missing = [each for each in found if each.holds is None]
    # Rounded, since 0.9 x 10 must not become 10 by its last bits.
    required = math.ceil(round(share * len(found), 6))
    holding = len(found) - len(failing) - len(missing)
    targets = list(dict.fromkeys(target for each in found for target in each.targets if target))
    fails = len(failing) > len(found) - required
    if not fails and holding < required:
        reasons = list(dict.fromkeys(each.text for each in missing))
        more = f" and {len(reasons) - 1} more" if len(reasons) > 1 else ""
        text = f"{len(missing)} of {len(found)} lack a number: {reasons[0]}{more}"
        return Outcome(UNJUDGED, text, targets)
    # The failing ones, the worst first; where none fails, those that hold by the smallest margin.
    known = [each for each in found if each.holds is not None]
    shown = sorted(failing or known, key=lambda each: each.margin)[:SHOWN]
    texts = "; ".join(each.text for each in shown)
    asked = f", {required} are asked for" if required < len(found) else ""
    if failing:
        text = f"{len(failing)} of {len(found)} fail{asked and f', {holding} hold'}{asked}: {texts}"
        return Outcome(FAILS if fails else HOLDS, text, targets)
    count = f"{holding} of {len(found)} hold{asked}, by least: " if len(found) > SHOWN else ""
    return Outcome(HOLDS, count + texts, targets)


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
    bound = next(key for key in BOUNDS if key in test)
    pairs = list(zip(test["columns"], test.get("against", test["columns"]), strict=True))
    groups = [pairs] if test.get("over") == "mean" else [[pair] for pair in pairs]
    for left, right, group in product(test["left"], test["right"], groups):
        firsts = {(left, column): numbers.auc(left, column) for column, _ in group}
        seconds = {(right, column): numbers.auc(right, column) for _, column in group}
        if gap := _gap(firsts | seconds):
            yield gap
            continue
        one, two = (sum(number.value for number in side.values()) / len(side) for side in (firsts, seconds))
        # Rounded, since 76.7 - 74.2 is 2.5 to a reader.
        difference = round(one - two, 6)
        margin = _margin(bound, difference, test, numbers.slack)
        place = (
            f"mean of {len(group)} columns" if len(group) > 1 else " against ".join(dict.fromkeys(group[0]))
        )
        yield Comparison(
            f"{left} {one:.1f} - {right} {two:.1f} = {difference:z.1f} ({place})",
            margin > 0 if bound == "more_than" else margin >= 0,
            margin,
            _targets([*firsts.values(), *seconds.values()]),
        )


def _margin(bound: str, difference: float, test: dict[str, Any], slack: float | None) -> float:
    if bound in STATED:
        distance = difference - test[bound]
        if slack is not None and bound == "advantage":
            # Ours may exceed a stated advantage; the paper's own numbers must agree with it.
            distance = min(distance, 0)
        return round(max(test["tolerance"], slack or 0) - abs(distance), 6)
    return round(test[bound] - difference if bound == "at_most" else difference - test[bound], 6)


def _largest(test: dict[str, Any], numbers: Numbers) -> Iterator[Comparison]:
    others = [column for column in test["among"] if column not in test["columns"]]
    if not others:
        yield Comparison(f"no other column among {', '.join(test['among'])}", None)
    rows = (*test["left"], *test["right"])
    for column, other in product(test["columns"], others):
        used = {(row, place): numbers.auc(row, place) for place in (column, other) for row in rows}
        if gap := _gap(used):
            yield gap
            continue
        (gain, rival), (other_gain, other_rival) = (_gain(test, place, used) for place in (column, other))
        yield Comparison(
            f"gain {gain:.1f} over {rival} ({column}) against {other_gain:.1f} over {other_rival} ({other})",
            gain > other_gain,
            round(gain - other_gain, 6),
            _targets(used.values()),
        )


def _gain(test: dict[str, Any], column: str, used: dict[tuple[str, str], Number]) -> tuple[float, str]:
    """The best left row minus the best right row, and the name of the latter."""
    rival = max(test["right"], key=lambda row: used[row, column].value)
    best = max(used[row, column].value for row in test["left"])
    return round(best - used[rival, column].value, 6), rival


def _p_values(test: dict[str, Any], numbers: Numbers) -> Iterator[Comparison]:
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
            f"p {format_p(number.value)}, {places} ({table}, {column})",
            number.value < test["below"] and difference > 0,
            test["below"] - number.value if difference > 0 else difference,
            _targets([number, ours, theirs]),
        )


def _best(rows: list[str], table: str, column: str, numbers: Numbers) -> str:
    """The best of `rows` in a column of a table; the first where it prints none."""
    values = {row: numbers.printed(table, row, column).value for row in rows}
    return max(rows, key=lambda row: -1 if values[row] is None else values[row])


def _overlaps(test: dict[str, Any], numbers: Numbers) -> Iterator[Comparison]:
    for figure in test["figures"]:
        found = numbers.overlap(figure)
        if not found.values:
            yield Comparison(f"IoU of {figure}: {found.status}", None)
            continue
        share = sum(value > test["above"] for value in found.values) / len(found.values)
        text = f"{100 * share:.0f} % of {len(found.values)} findings above {test['above']:g} ({figure})"
        yield Comparison(text, share > 0.5, round(share - 0.5, 6), (found.target,))


COMPARE = {"difference": _differences, "largest": _largest, "p_value": _p_values, "overlap": _overlaps}


def _gap(used: dict[tuple[str, str], Number]) -> Comparison | None:
    """The first number of a comparison that is missing."""
    for (row, column), number in used.items():
        if number.value is None:
            return Comparison(f"{row} in {column}: {number.status}", None)
    return None


def _targets(numbers: Iterable[Number]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(number.target for number in numbers))
