"""The paper's checkable sentences, judged on our tables and on the paper's own printed numbers.

A claim is an entry of config/claims.yaml: id, quote, place, one `test` or a list of them, and perhaps a note on how the
sentence is read. All comparisons of its tests must hold, or the `share` of them that the entry gives. AUC is in percent,
so a difference is in points. Kinds of test:

difference   every `left` row less every `right` row in every column, or in the mean over them (`over: mean`), is
             `more_than`, `at_least`, `at_most`, `about` or an `advantage` of a number; `against` gives the right rows
             columns of their own, one for each of `columns`
largest      the gain, best `left` row less best `right` row, is larger in each of `columns` than in each of `among`
p_value      the p-values that `tables` print in `columns` are `below` a number, and `left` is above the row that it is
             tested against: the one that our table names, on the paper's numbers the best of `right` in that table
overlap      more than half of the boxed findings behind each of `figures` have an IoU `above` a number

`about` and `advantage` are numbers that a sentence states. The paper's own must come within `tolerance`, which is its
rounding. Ours may miss them by as much as the config lets a verdict call near (`verdict.within_points`), where that is
more; and more than the `advantage` that a sentence speaks of is one too.

A column is dataset/ratio, or dataset/ratio/class; `nih/1/*` stands for every class.
"""

import csv
import io
import re
from pathlib import Path
from typing import Any

from refers.errors import UserError
from refers.formatting import markdown_table, markdown_text
from refers.reporting.evaluate_claims import BOUNDS, FAILS, HOLDS, STATED, UNJUDGED, Numbers, expand, judge
from refers.reporting.table import TESTS

FIELDS = ["id", "place", "quote", "test", "note", "paper", "paper_numbers", "ours", "our_numbers", "targets"]
LISTS = {"left", "right", "columns", "against", "among", "tables", "figures"}
NUMBERS = {*BOUNDS, "tolerance", "below", "above"}
KINDS = {  # kind -> required and optional keys
    "difference": ({"left", "right", "columns"}, {"against", "over", "tolerance", *BOUNDS}),
    "largest": ({"left", "right", "columns", "among"}, set()),
    "p_value": ({"left", "right", "tables", "columns", "below"}, set()),
    "overlap": ({"figures", "above"}, set()),
}


# ---- reading


def read_claims(path: Path) -> list[dict[str, Any]]:
    """The claims, each with its `tests` as a list of maps whose rows, columns and tables are lists.

    Raises:
        UserError: the file is no list of claims, or a claim is malformed; the message names its id.
    """
    import yaml

    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read as YAML ({error}); it comes with the repository") from None
    if not isinstance(entries, list):
        raise UserError(f"{path}: a list of claims is expected, found {type(entries).__name__}")
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
        raise UserError(f"a map is expected, found {entry!r}")
    _check_keys(entry, {"id", "quote", "place", "test"}, {"note", "share"})
    share = entry.get("share", 1)
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        raise UserError(f"share: a number above 0 and up to 1 is expected, found {share!r}")
    for key in entry.keys() - {"test", "share"}:
        if not isinstance(entry[key], str):
            raise UserError(f"{key}: text is expected, found {entry[key]!r}")
    tests = entry["test"] if isinstance(entry["test"], list) else [entry["test"]]
    if not tests:
        raise UserError("test: there is none")
    return {"note": "", "share": 1} | entry | {"tests": [_test(test) for test in tests]}


def _test(test: Any) -> dict[str, Any]:
    if not isinstance(test, dict) or str(test.get("kind")) not in KINDS:
        raise UserError(f"test: a map whose kind is {', '.join(KINDS)} is expected, found {test!r}")
    required, optional = KINDS[test["kind"]]
    _check_keys(test, required | {"kind"}, optional)
    checked = dict(test)
    for key in test.keys() & LISTS:
        checked[key] = test[key] if isinstance(test[key], list) else [test[key]]
        if not checked[key] or not all(isinstance(each, str) for each in checked[key]):
            raise UserError(f"{key}: a name or a list of names is expected, found {test[key]!r}")
    for key in test.keys() & NUMBERS:
        if isinstance(test[key], bool) or not isinstance(test[key], int | float):
            raise UserError(f"{key}: a number is expected, found {test[key]!r}")
    for key in checked.keys() & {"columns", "against", "among"}:
        for column in checked[key]:
            if not re.fullmatch(r"\w+/\d+(/.+)?", column):
                raise UserError(f"{key}: {column!r} is no column such as nih/1 or nih/1/Mass")
    if test["kind"] == "difference":
        if len(bounds := test.keys() & BOUNDS.keys()) != 1:
            raise UserError(f"one of {', '.join(BOUNDS)} is expected, found {', '.join(bounds) or 'none'}")
        if any(bound in test for bound in STATED) != ("tolerance" in test):
            raise UserError(f"{' or '.join(STATED)}, and tolerance go together")
        if test.get("over", "each") not in ("each", "mean"):
            raise UserError(f"over: {test['over']!r} is neither each nor mean")
        if len(checked.get("against", checked["columns"])) != len(checked["columns"]):
            raise UserError("against: as many columns as in columns are expected")
        if "against" in checked and any("*" in each for each in checked["columns"] + checked["against"]):
            raise UserError("against: columns are paired one by one, so none may end in *")
    if test["kind"] == "p_value" and len(checked["left"]) != 1:
        raise UserError("left: one row is expected, the one that is tested against others")
    return checked


def _check_keys(given: dict[str, Any], required: set[str], optional: set[str]) -> None:
    if missing := required - given.keys():
        raise UserError(f"{', '.join(sorted(missing))} is missing")
    if unknown := given.keys() - required - optional:
        raise UserError(
            f"unknown key {sorted(map(str, unknown))[0]!r}; known keys are {', '.join(sorted(required | optional))}"
        )


# ---- judging


def judge_all(claims: list[dict[str, Any]], paper: Numbers, ours: Numbers) -> list[dict[str, str]]:
    """Every claim on both sets of numbers, as lines with FIELDS.

    Raises:
        UserError: a claim names a row or table that neither has, or a figure that we do not make.
    """
    rows = {row for entries in (paper.entries, ours.entries) for _, row, _ in entries} - TESTS.keys()
    tables = {table for entries in (paper.entries, ours.entries) for table, _, _ in entries}
    columns = list(dict.fromkeys(column for _, _, column in ours.entries))
    lines = []
    for claim in claims:
        for test in claim["tests"]:
            places = {"left": rows, "right": rows, "tables": tables, "figures": ours.overlaps.keys()}
            for key, known in places.items():
                if unknown := set(test.get(key, [])) - known:
                    where = "with boxes" if key == "figures" else "in any table"
                    raise UserError(
                        f"claim {claim['id']}: {key}: no {min(unknown)!r} {where}; there are {', '.join(sorted(known)) or 'none'}"
                    )
        expanded = [expand(test, columns) for test in claim["tests"]]
        of_paper, of_ours = (judge(expanded, numbers, claim["share"]) for numbers in (paper, ours))
        words = "; ".join(describe(test, ours.slack or 0) for test in claim["tests"])
        asked = f"; {100 * claim['share']:g} % of these are enough" if claim["share"] < 1 else ""
        lines.append(
            {
                **{key: claim[key] for key in ("id", "place", "quote", "note")},
                "test": words + asked,
                **{"paper": of_paper.verdict, "paper_numbers": of_paper.numbers},
                **{"ours": of_ours.verdict, "our_numbers": of_ours.numbers},
                "targets": " ".join(of_ours.targets),
            }
        )
    return lines


# ---- writing


def describe(test: dict[str, Any], slack: float = 0.0) -> str:
    """A test in words; with what ours may miss a stated number by."""
    if test["kind"] == "overlap":
        return f"IoU > {test['above']:g} of most findings in {', '.join(test['figures'])}"
    places = ", ".join(test["columns"])
    if test["kind"] == "p_value":
        whom = f"best of {' | '.join(test['right'])}" if len(test["right"]) > 1 else test["right"][0]
        return (
            f"p < {test['below']:g} and {test['left'][0]} > {whom} in {places} of {', '.join(test['tables'])}"
        )
    rows = " - ".join(" | ".join(test[side]) for side in ("left", "right"))
    if test["kind"] == "largest":
        rows = " - ".join(f"best of {' | '.join(test[side])}" for side in ("left", "right"))
        return f"{rows}: larger in {places} than in {', '.join(test['among'])}"
    bound = next(key for key in BOUNDS if key in test)
    number = f"{test[bound]:g}"
    if bound in STATED:
        allowed = max(test["tolerance"], slack)
        ours = f"≥ {test[bound] - allowed:g}" if bound == "advantage" else f"± {allowed:g}"
        number += f" ± {test['tolerance']:g} (ours {ours})"
    over = "the mean over " if test.get("over") == "mean" else ""
    against = f" against {', '.join(test['against'])}" if "against" in test else ""
    return f"{rows} {BOUNDS[bound]} {number} in {over}{places}{against}"


def to_csv(lines: list[dict[str, str]]) -> str:
    """One line a claim."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def to_markdown(lines: list[dict[str, str]], note: str = "") -> str:
    """Verdicts first, then the numbers of every claim."""
    counts = {
        side: ", ".join(
            f"{verdict} {sum(line[side] == verdict for line in lines)}"
            for verdict in (HOLDS, FAILS, UNJUDGED)
        )
        for side in ("paper", "ours")
    }
    head = ["Claim", "Sentence", "On the paper's tables", "On ours"]
    rows = [
        [markdown_text(line["id"]), markdown_text(f'"{line["quote"]}"'), line["paper"], line["ours"]]
        for line in lines
    ]
    texts = [
        "**The paper's sentences against its tables and ours**",
        *([markdown_text(note)] if note else []),
        f"{len(lines)} sentences. On the paper's printed numbers: {counts['paper']}. On ours: {counts['ours']}.",
        markdown_table(head, rows),
        "Rows and columns are named as in tables/cells.csv. Differences are AUC points, between means over seeds."
        " Printed numbers are rounded, so a difference of two is known to 0.1 and of two gains to 0.2.",
    ]
    for line in lines:
        name, place, reading, paper, ours = (
            markdown_text(line[key]) for key in ("id", "place", "note", "paper_numbers", "our_numbers")
        )
        texts.append(
            f"**{name}** ({place}): `{line['test']}`.{f' {reading}' if reading else ''}\n"
            f"- Paper: {line['paper']}. {paper}\n"
            f"- Ours: {line['ours']}. {ours}"
        )
    return "\n\n".join(texts) + "\n"
