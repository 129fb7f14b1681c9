"""Claims against numbers: each holds, does not hold, or cannot be judged. `refers.reporting.claims` says what a claim is."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from refers.reporting.published import Reported
from refers.reporting.table import P_VALUE, TESTS, format_p

HOLDS, FAILS, UNJUDGED = "holds", "does not hold", "cannot be judged"
BOUNDS = {"more_than": ">", "at_least": "≥", "at_most": "≤", "about": "about", "advantage": "an advantage of"}
STATED = ("about", "advantage")  # numbers that a sentence states, with a tolerance of their own
SHOWN = 3  # comparisons spelled out of a claim that makes many


@dataclass(frozen=True)
class Number:
    """A printed number, or why there is none."""

    value: float  # NaN where there is none
    status: str = ""
    target: str = ""
    against: str = ""  # of a p-value: the row that the reference is tested against, where the table names it


@dataclass(frozen=True)
class Overlap:
    """IoU of every boxed finding of a figure, or why there is none."""

    values: tuple[float, ...] = ()
    status: str = ""
    target: str = ""


@dataclass
class Numbers:
    """What a set of tables prints, by (table, row, column), and the overlaps behind figures, by name."""

    entries: dict[tuple[str, str, str], Number]
    absent: str  # what is said of a number that no table has
    slack: float | None = None  # points by which ours may miss a stated number; the paper's own may not
    overlaps: dict[str, Overlap] = field(default_factory=dict)
    _auc: dict[tuple[str, str], Number] = field(init=False)

    def __post_init__(self) -> None:
        self._auc = {}
        for (_, row, column), number in self.entries.items():
            if (row, column) not in self._auc or math.isnan(self._auc[row, column].value):
                self._auc[row, column] = number

    def auc(self, row: str, column: str) -> Number:
        return self._auc.get((row, column), Number(math.nan, self.absent))

    def printed(self, table: str, row: str, column: str) -> Number:
        return self.entries.get((table, row, column), Number(math.nan, self.absent))

    def overlap(self, figure: str) -> Overlap:
        return self.overlaps.get(figure, Overlap(status=self.absent))


def paper_numbers(reported: Reported) -> Numbers:
    """The paper's own tables."""
    return Numbers({key: Number(float(value)) for key, value in reported.items()}, "not printed as text")


def our_numbers(
    rows: Iterable[dict[str, str]], slack: float = 0.0, overlaps: dict[str, Overlap] | None = None
) -> Numbers:
    """Our tables, from the lines of their csv, and the overlaps behind our figures.

    slack: AUC points by which ours may miss a number that a sentence states.
    """
    rows = list(rows)
    methods = {
        (row["table"], row["column"], row["method"]): row["row"] for row in rows if row["row"] not in TESTS
    }
    entries = {}
    for row in rows:
        against = methods.get((row["table"], row["column"], row["method"]), "") if row["row"] in TESTS else ""
        number = Number(float(row["mean"] or "nan"), row["status"], row["target"], against)
        entries[row["table"], row["row"], row["column"]] = number
    return Numbers(entries, "in none of our tables", slack, overlaps or {})


# ---- judging


@dataclass
class Comparison:
    """One comparison of a claim. `margin` is how far it is from failing; negative where it fails."""

    text: str
    holds: bool | None  # None: a number is missing, and `text` says which
    margin: float = 0.0
    targets: tuple[str, ...] = ()


@dataclass
class Judgement:
    """A claim against one set of numbers."""

    verdict: str
    numbers: str
    targets: list[str]


def judge(tests: list[dict[str, Any]], numbers: Numbers, share: float = 1) -> Judgement:
    """Whether `share` of all comparisons hold. What is missing leaves a claim open unless the others settle it."""
    found = [comparison for test in tests for comparison in COMPARE[test["kind"]](test, numbers)]
    failing = [each for each in found if each.holds is False]
    missing = [each for each in found if each.holds is None]
    wanted = math.ceil(round(share * len(found), 6))
    holding = len(found) - len(failing) - len(missing)
    targets = list(dict.fromkeys(target for each in found for target in each.targets if target))
    fails = len(failing) > len(found) - wanted
    if not fails and holding < wanted:
        reasons = list(dict.fromkeys(each.text for each in missing))
        more = f" and {len(reasons) - 1} more" if len(reasons) > 1 else ""
        return Judgement(
            UNJUDGED, f"{len(missing)} of {len(found)} lack a number: {reasons[0]}{more}", targets
        )
    # Failing ones come first, then those that hold by least.
    judged = [each for each in found if each.holds is not None]
    shown = sorted(failing or judged, key=lambda each: each.margin)[:SHOWN]
    texts = "; ".join(each.text for each in shown)
    asked = f", {wanted} are asked for" if wanted < len(found) else ""
    if failing:
        text = f"{len(failing)} of {len(found)} fail{asked and f', {holding} hold'}{asked}: {texts}"
        return Judgement(FAILS if fails else HOLDS, text, targets)
    count = f"{holding} of {len(found)} hold{asked}, by least: " if len(found) > SHOWN else ""
    return Judgement(HOLDS, count + texts, targets)


def expand(test: dict[str, Any], known: list[str]) -> dict[str, Any]:
    """`nih/1/*` as the classes that our tables print; itself where they print none."""
    expanded = dict(test)
    for key in test.keys() & {"columns", "against", "among"}:
        expanded[key] = [
            column
            for pattern in test[key]
            for column in (
                [each for each in known if pattern.endswith("/*") and each.startswith(pattern[:-1])]
                or [pattern]
            )
        ]
    return expanded


def _differences(test: dict[str, Any], numbers: Numbers) -> Iterator[Comparison]:
    bound = next(key for key in BOUNDS if key in test)
    pairs = list(zip(test["columns"], test.get("against", test["columns"]), strict=True))
    groups = [pairs] if test.get("over") == "mean" else [[pair] for pair in pairs]
    for left in test["left"]:
        for right in test["right"]:
            for group in groups:
                firsts = {(left, column): numbers.auc(left, column) for column, _ in group}
                seconds = {(right, column): numbers.auc(right, column) for _, column in group}
                if gap := _gap(firsts | seconds):
                    yield gap
                    continue
                one, two = (
                    sum(number.value for number in side.values()) / len(side) for side in (firsts, seconds)
                )
                difference = round(one - two, 6)  # 76.7 - 74.2 is 2.5 to a reader
                margin = _margin(bound, difference, test, numbers.slack)
                place = (
                    f"mean of {len(group)} columns"
                    if len(group) > 1
                    else " against ".join(dict.fromkeys(group[0]))
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
            distance = min(distance, 0)  # a larger one is an advantage too; what the paper prints must agree
        return round(max(test["tolerance"], slack or 0) - abs(distance), 6)
    return round(test[bound] - difference if bound == "at_most" else difference - test[bound], 6)


def _largest(test: dict[str, Any], numbers: Numbers) -> Iterator[Comparison]:
    others = [column for column in test["among"] if column not in test["columns"]]
    if not others:
        yield Comparison(f"no other column among {', '.join(test['among'])}", None)
    for column in test["columns"]:
        for other in others:
            used = {
                (row, place): numbers.auc(row, place)
                for place in (column, other)
                for row in (*test["left"], *test["right"])
            }
            if gap := _gap(used):
                yield gap
                continue
            (here, over_here), (there, over_there) = (_gain(test, place, used) for place in (column, other))
            text = (
                f"gain {here:.1f} over {over_here} ({column}) against {there:.1f} over {over_there} ({other})"
            )
            yield Comparison(text, here > there, round(here - there, 6), _targets(used.values()))


def _gain(test: dict[str, Any], column: str, used: dict[tuple[str, str], Number]) -> tuple[float, str]:
    """Best left less best right row, and which that is."""
    rival = max(test["right"], key=lambda row: used[row, column].value)
    best = max(used[row, column].value for row in test["left"])
    return round(best - used[rival, column].value, 6), rival


def _p_values(test: dict[str, Any], numbers: Numbers) -> Iterator[Comparison]:
    (left,) = test["left"]
    for table in test["tables"]:
        for column in test["columns"]:
            number = numbers.printed(table, P_VALUE, column)
            rival = number.against or _best(test["right"], table, column, numbers)
            ours, theirs = (numbers.printed(table, row, column) for row in (left, rival))
            used = {
                (f"{table} p-value", column): number,
                **{(left, column): ours, (rival, column): theirs},
            }
            if gap := _gap(used):
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
    return max(rows, key=lambda row: -1 if math.isnan(values[row]) else values[row])


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
    """What is missing from a comparison."""
    for (row, column), number in used.items():
        if math.isnan(number.value):
            return Comparison(f"{row} in {column}: {number.status}", None)
    return None


def _targets(numbers: Iterable[Number]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(number.target for number in numbers))
