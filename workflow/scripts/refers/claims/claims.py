"""The paper's claims, checked against our tables and against the paper's own printed numbers.

A claim is an entry of config/claims.yaml: id, quote, place, one `test` or a list of them, and perhaps a note on how the
quote is read. All comparisons of its tests must hold, or the `share` of them that the entry gives. AUC is in percent, so
a difference is in points. Kinds of test:

difference   every `left` row minus every `right` row in every column, or in the mean over them (`over: mean`), is
             `more_than`, `at_least`, `at_most`, `about` or an `advantage` of a number; `against` names the columns of
             the right rows, one for each of `columns`
largest      the gain, best `left` row minus best `right` row, is larger in each of `columns` than in each of `among`;
             `than` names other rows, {left, right}, whose gain in `among` is meant
p_value      the p-values that `tables` print in `columns` are `below` a number, and `left` is above the row that it is
             tested against: the one that our table names; for the paper's numbers, the best of `right` in that table
overlap      more than half of the boxed findings behind each of `figures`, or of the third of them with the `size` small
             or large boxes, have an IoU `above` a number
fact         each of the `facts`, counts of the study (`refers.claims.facts`), is `more_than`, `at_least`, `at_most` or
             `about` a number
none         no result of this study can check the claim, and `why`

`about` and `advantage` are numbers that a quote states. The paper's own numbers, and counts, must come within `tolerance`,
which is the rounding of the quote. Ours may miss them by as many points as a verdict of the tables takes for no difference
(`verdict` in the config), where that is more, and may exceed an `advantage`.

How ours are judged. The value of a comparison has an interval by test images, seeds and splits
(`refers.evaluation.intervals`), simultaneous over all comparisons of the claim at the level 95 %. A comparison holds where
its whole interval is on the claimed side, does not hold where all of it is on the other, and else is within noise. The
intervals of a claim are all true at once, so whatever is read off them together, that all hold, that nine in ten do or that
one fails, is wrong in at most one claim in twenty. For "all hold" alone less would do (intersection-union test, Berger,
Technometrics 1982); one rule for every claim is simpler, and on the safe side. P-values and facts have no interval.

A column is dataset/ratio, or dataset/ratio/class; `nih/1/*` stands for every class.
"""

import re
from pathlib import Path
from typing import Any

from refers.claims.evaluate import (
    BOUNDS,
    FAILS,
    HOLDS,
    NOISE,
    STATED,
    UNJUDGED,
    Numbers,
    evaluate,
    expand,
)
from refers.claims.facts import QUANTITIES
from refers.config.read import read_file
from refers.errors import UserError
from refers.evaluation.statistics import LEVEL
from refers.files import read_rows
from refers.formatting import csv_text, markdown_table, markdown_text
from refers.reporting.table import TESTS

FIELDS = ["id", "place", "quote", "test", "note", "paper", "paper_numbers", "ours", "our_numbers", "targets"]
LISTS = {"left", "right", "columns", "against", "among", "tables", "figures", "facts"}
COLUMNS = {"columns", "against", "among"}
NUMBERS = {*BOUNDS, "tolerance", "below", "above"}
KINDS = {  # kind -> required and optional keys
    "difference": ({"left", "right", "columns"}, {"against", "over", "tolerance", *BOUNDS}),
    "largest": ({"left", "right", "columns", "among"}, {"than"}),
    "p_value": ({"left", "right", "tables", "columns", "below"}, set()),
    "overlap": ({"figures", "above"}, {"size"}),
    "fact": ({"facts"}, {"tolerance", *BOUNDS} - {"advantage"}),
    "none": ({"why"}, set()),
}


# ---- reading


def read_claims(path: Path) -> list[dict[str, Any]]:
    """The claims, each with its `tests` as a list of maps whose rows, columns and tables are lists.

    Raises:
        UserError: the file is not a list of claims, or a claim is malformed; the message names its id.
    """
    entries = read_file(path)
    if not isinstance(entries, list):
        raise UserError(f"{path}: must be a list of claims, found {type(entries).__name__}")
    seen: set[str] = set()
    claims = []
    for number, entry in enumerate(entries, 1):
        name = entry.get("id", f"number {number}") if isinstance(entry, dict) else f"number {number}"
        try:
            claims.append(_claim(entry))
            if name in seen:
                raise UserError("occurs twice; keep one or rename it")
        except UserError as error:
            raise UserError(f"{path}: claim {name}: {error}") from None
        seen.add(name)
    return claims


def _claim(entry: Any) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise UserError(f"must be a map, found {entry!r}")
    _check_keys(entry, {"id", "quote", "place", "test"}, {"note", "share"})
    share = entry.get("share", 1)
    if not _is_number(share) or not 0 < share <= 1:
        raise UserError(f"share: must be a number above 0 and up to 1, found {share!r}")
    for key in entry.keys() - {"test", "share"}:
        if not isinstance(entry[key], str):
            raise UserError(f"{key}: must be text, found {entry[key]!r}")
    tests = entry["test"] if isinstance(entry["test"], list) else [entry["test"]]
    if not tests:
        raise UserError("test: must not be empty")
    return {"note": "", "share": 1} | entry | {"tests": [_test(test) for test in tests]}


def _test(test: Any) -> dict[str, Any]:
    if not isinstance(test, dict) or str(test.get("kind")) not in KINDS:
        raise UserError(f"test: must be a map whose kind is one of {', '.join(KINDS)}, found {test!r}")
    required, optional = KINDS[test["kind"]]
    _check_keys(test, required | {"kind"}, optional)
    checked = _lists(test)
    if "than" in test:
        if not isinstance(test["than"], dict):
            raise UserError(f"than: must be a map with left and right, found {test['than']!r}")
        _check_keys(test["than"], {"left", "right"}, set())
        checked["than"] = _lists(test["than"])
    for key in test.keys() & NUMBERS:
        if not _is_number(test[key]):
            raise UserError(f"{key}: must be a number, found {test[key]!r}")
    for key in checked.keys() & COLUMNS:
        for column in checked[key]:
            if not re.fullmatch(r"\w+/\d+(/.+)?", column):
                raise UserError(f"{key}: {column!r} is not a column such as nih/1 or nih/1/Mass")
    if test["kind"] in ("difference", "fact"):
        _check_bound(checked)
    if test["kind"] == "difference":
        _check_difference(checked)
    if test.get("size", "small") not in ("small", "large"):
        raise UserError(f"size: must be one of small, large, found {test['size']!r}")
    if not isinstance(test.get("why", ""), str):
        raise UserError(f"why: must be text, found {test['why']!r}")
    for fact in checked.get("facts", []):
        if fact.partition("/")[0] not in QUANTITIES or not fact.partition("/")[2]:
            raise UserError(f"facts: {fact!r} must be one of {', '.join(QUANTITIES)}, a slash and a name")
    if test["kind"] == "p_value" and len(checked["left"]) != 1:
        raise UserError("left: must be one row, the one that is tested against others")
    return checked


def _lists(test: dict[str, Any]) -> dict[str, Any]:
    """The test with a list for each single name."""
    checked = dict(test)
    for key in test.keys() & LISTS:
        checked[key] = test[key] if isinstance(test[key], list) else [test[key]]
        if not checked[key] or not all(isinstance(each, str) for each in checked[key]):
            raise UserError(f"{key}: must be a name or a list of names, found {test[key]!r}")
    return checked


def _check_bound(test: dict[str, Any]) -> None:
    if len(bounds := test.keys() & BOUNDS.keys()) != 1:
        raise UserError(f"must have one of {', '.join(BOUNDS)}, found {', '.join(bounds) or 'none'}")
    if any(bound in test for bound in STATED) != ("tolerance" in test):
        raise UserError(f"tolerance: required by {' and '.join(STATED)}, and by nothing else")


def _check_difference(test: dict[str, Any]) -> None:
    if test.get("over", "each") not in ("each", "mean"):
        raise UserError(f"over: must be one of each, mean, found {test['over']!r}")
    if "against" in test:
        if len(test["against"]) != len(test["columns"]):
            raise UserError("against: must have as many columns as columns has")
        if any("*" in each for each in test["columns"] + test["against"]):
            raise UserError("against: columns are paired one by one, so none may end in *")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_keys(given: dict[str, Any], required: set[str], optional: set[str]) -> None:
    if missing := required - given.keys():
        raise UserError(f"{', '.join(sorted(missing))} is missing")
    if unknown := given.keys() - required - optional:
        name, known = min(map(str, unknown)), ", ".join(sorted(required | optional))
        raise UserError(f"unknown key {name!r}; must be one of {known}")


# ---- checking


def check_claims(claims: list[dict[str, Any]], paper: Numbers, ours: Numbers) -> list[dict[str, str]]:
    """Every claim against both sets of numbers, as rows with FIELDS.

    Raises:
        UserError: a claim names a row or table that neither set has.
    """
    rows = {row for entries in (paper.entries, ours.entries) for _, row, _ in entries} - TESTS.keys()
    tables = {table for entries in (paper.entries, ours.entries) for table, _, _ in entries}
    known = {"left": rows, "right": rows, "tables": tables}
    columns = list(dict.fromkeys(column for _, _, column in ours.entries))
    checked = []
    for claim in claims:
        for test in claim["tests"]:
            for key, names in known.items():
                if unknown := {*test.get(key, []), *test.get("than", {}).get(key, [])} - names:
                    raise UserError(
                        f"claim {claim['id']}: {key}: no {min(unknown)!r} in any table;"
                        f" must be one of {', '.join(sorted(names)) or 'none'}"
                    )
        expanded = [expand(test, columns) for test in claim["tests"]]
        of_paper, of_ours = (evaluate(expanded, numbers, claim["share"]) for numbers in (paper, ours))
        words = "; ".join(describe(test, ours.slack or 0) for test in claim["tests"])
        enough = f"; {100 * claim['share']:g} % of these are enough" if claim["share"] < 1 else ""
        checked.append(
            {key: claim[key] for key in ("id", "place", "quote", "note")}
            | {"test": words + enough, "targets": " ".join(of_ours.targets)}
            | {"paper": of_paper.verdict, "paper_numbers": of_paper.numbers}
            | {"ours": of_ours.verdict, "our_numbers": of_ours.numbers}
        )
    return checked


# ---- writing


def describe(test: dict[str, Any], slack: float = 0.0) -> str:
    """A test in words. slack: points by which ours may miss a stated number."""
    if test["kind"] == "none":
        return "no test"
    if test["kind"] == "overlap":
        findings = f"{test['size']} findings" if "size" in test else "findings"
        return f"IoU > {test['above']:g} of most {findings} in {', '.join(test['figures'])}"
    if test["kind"] == "fact":
        return f"{', '.join(test['facts'])} {_bound(test, test.get('tolerance', 0))}"
    places = ", ".join(test["columns"])
    if test["kind"] == "p_value":
        whom = f"best of {' | '.join(test['right'])}" if len(test["right"]) > 1 else test["right"][0]
        return (
            f"p < {test['below']:g} and {test['left'][0]} > {whom} in {places} of {', '.join(test['tables'])}"
        )
    if test["kind"] == "largest":
        than = f"{_gain(test['than'])} " if "than" in test else ""
        return f"{_gain(test)}: larger in {places} than {than}in {', '.join(test['among'])}"
    rows = " - ".join(" | ".join(test[side]) for side in ("left", "right"))
    over = "the mean over " if test.get("over") == "mean" else ""
    against = f" against {', '.join(test['against'])}" if "against" in test else ""
    return f"{rows} {_bound(test, slack)} in {over}{places}{against}"


def _gain(test: dict[str, Any]) -> str:
    return " - ".join(f"best of {' | '.join(test[side])}" for side in ("left", "right"))


def _bound(test: dict[str, Any], slack: float) -> str:
    bound = next(key for key in BOUNDS if key in test)
    number = f"{BOUNDS[bound]} {test[bound]:g}"
    if bound not in STATED:
        return number
    allowed = max(test["tolerance"], slack)
    number += f" ± {test['tolerance']:g}"
    if bound == "advantage":
        return f"{number} (ours ≥ {test[bound] - allowed:g})"
    return number + (f" (ours ± {allowed:g})" if allowed > test["tolerance"] else "")


def to_csv(claims: list[dict[str, str]]) -> str:
    """One row per claim."""
    return csv_text(FIELDS, claims)


def read_verdicts(path: Path) -> list[dict[str, str]]:
    """The lines that `to_csv` wrote.

    Raises:
        UserError: as `read_rows`.
    """
    return read_rows(path, "claims", FIELDS)


def to_markdown(claims: list[dict[str, str]], note: str = "") -> str:
    """Verdicts first, then the numbers of every claim."""
    counts = {
        side: ", ".join(
            f"{verdict} {sum(claim[side] == verdict for claim in claims)}"
            for verdict in (HOLDS, FAILS, NOISE, UNJUDGED)
            if verdict != NOISE or side == "ours"
        )
        for side in ("paper", "ours")
    }
    escaped = [{key: markdown_text(value) for key, value in claim.items()} for claim in claims]
    texts = [
        "**The paper's claims, checked**",
        *([markdown_text(note)] if note else []),
        f"{len(claims)} claims. On the paper's printed numbers: {counts['paper']}. On ours: {counts['ours']}.",
        markdown_table(
            ["Claim", "Quote", "On the paper's tables", "On ours"],
            [[claim["id"], f'"{claim["quote"]}"', claim["paper"], claim["ours"]] for claim in escaped],
        ),
        "Rows and columns are named as in tables/cells.csv. Differences are AUC points, between means over seeds and splits."
        f" In brackets: {100 * LEVEL:g} % intervals of ours by test images (bootstrap by patient where known, the same patients"
        " for all methods), seeds and splits, simultaneous over all comparisons of a claim (largest standardised deviation"
        " of the joint resamples). A claim holds where enough of them are on its side as a whole, does not hold where too"
        " many are on the other, and is within noise otherwise; p-values and counts are taken as they are. The paper's own"
        " numbers are taken as printed, without noise: rounded, so that a difference of two is known to 0.1 and of two gains"
        " to 0.2.",
    ]
    for claim, raw in zip(escaped, claims, strict=True):
        reading = f" {claim['note']}" if claim["note"] else ""
        texts.append(
            f"**{claim['id']}** ({claim['place']}): `{raw['test']}`.{reading}\n"
            f"- Paper: {claim['paper']}. {claim['paper_numbers']}\n"
            f"- Ours: {claim['ours']}. {claim['our_numbers']}"
        )
    return "\n\n".join(texts) + "\n"
