"""Claims against numbers: each holds, does not hold, or cannot be judged. `refers.claims` says what a claim is."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from refers.reported import Reported
from refers.tables import P_VALUE, format_p

HOLDS, FAILS, UNJUDGED = "holds", "does not hold", "cannot be judged"
BOUNDS = {"more_than": ">", "at_least": "≥", "at_most": "≤", "about": "about"}
SHOWN = 3  # comparisons spelled out of a claim that makes many


@dataclass(frozen=True)
class Number:
    """A printed number, or why there is none."""

    value: float | None
    status: str = ""
    target: str = ""


@dataclass
class Numbers:
    """What a set of tables prints, by (table, row, column)."""

    entries: dict[tuple[str, str, str], Number]
    absent: str  # what is said of a number that no table has
    _auc: dict[tuple[str, str], Number] = field(init=False)

    def __post_init__(self) -> None:
        self._auc = {}
        for (_, row, column), number in self.entries.items():
            if (row, column) not in self._auc or self._auc[row, column].value is None:
                self._auc[row, column] = number

    def auc(self, row: str, column: str) -> Number:
        return self._auc.get((row, column), Number(None, self.absent))

    def p_value(self, table: str, column: str) -> Number:
        return self.entries.get((table, P_VALUE, column), Number(None, self.absent))


def paper_numbers(reported: Reported) -> Numbers:
    """The paper's own tables."""
    return Numbers({key: Number(float(value)) for key, value in reported.items()}, "not printed as text")


def our_numbers(rows: Iterable[dict[str, str]]) -> Numbers:
    """Our tables, from the lines of their csv."""
    entries = {}
    for row in rows:
        mean = float(row["mean"]) if row["mean"] else None
        entries[row["table"], row["row"], row["column"]] = Number(mean, row["status"], row["target"])
    return Numbers(entries, "in none of our tables")


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


def judge(tests: list[dict[str, Any]], numbers: Numbers) -> Judgement:
    """One failing comparison settles a claim; otherwise a missing number leaves it open."""
    found = [comparison for test in tests for comparison in COMPARE[test["kind"]](test, numbers)]
    failing = [each for each in found if each.holds is False]
    missing = [each for each in found if each.holds is None]
    targets = list(dict.fromkeys(target for each in found for target in each.targets if target))
    if missing and not failing:
        reasons = list(dict.fromkeys(each.text for each in missing))
        more = f" and {len(reasons) - 1} more" if len(reasons) > 1 else ""
        return Judgement(
            UNJUDGED, f"{len(missing)} of {len(found)} lack a number: {reasons[0]}{more}", targets
        )
    # Failing ones come first, then those that hold by least.
    shown = sorted(failing or found, key=lambda each: each.margin)[:SHOWN]
    texts = "; ".join(each.text for each in shown)
    if failing:
        return Judgement(FAILS, f"{len(failing)} of {len(found)} fail: {texts}", targets)
    count = f"{len(found)} of {len(found)} hold, by least: " if len(found) > SHOWN else ""
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
                margin = _margin(bound, difference, test)
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


def _margin(bound: str, difference: float, test: dict[str, Any]) -> float:
    if bound == "about":
        return round(test["tolerance"] - abs(difference - test["about"]), 6)
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
    for table in test["tables"]:
        for column in test["columns"]:
            number = numbers.p_value(table, column)
            if gap := _gap({(f"{table} p-value", column): number}):
                yield gap
                continue
            text = f"p {format_p(number.value)} ({table}, {column})"
            yield Comparison(
                text, number.value < test["below"], test["below"] - number.value, (number.target,)
            )


COMPARE = {"difference": _differences, "largest": _largest, "p_value": _p_values}


def _gap(used: dict[tuple[str, str], Number]) -> Comparison | None:
    """What is missing from a comparison."""
    for (row, column), number in used.items():
        if number.value is None:
            return Comparison(f"{row} in {column}: {number.status}", None)
    return None


def _targets(numbers: Iterable[Number]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(number.target for number in numbers))
