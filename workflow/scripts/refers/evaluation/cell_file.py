"""Read auc.json of a table cell and the JSON of a t-test, which every table, figure and claim is made of; no torch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from refers.errors import UserError
from refers.files import MAKERS, read_object
from refers.measure_names import GAP, MEASURES

CELL = ("method", "dataset", "ratio", "classes", "splits", "seeds", "test", "validation")
MEASURED = ("method", "dataset", "ratio", "classes", "predictions_sha256", "settings", "bootstrap")
TEST = ("reference", "baseline", "dataset", "ratio", "reference_auc", "baseline_auc", "difference", "student")


def read_cell(path: Path) -> dict[str, Any]:
    """Content of auc.json.

    Raises:
        UserError: the file is missing, damaged or something else: a key is absent, or an AUC is not a number in [0, 1] or
            None, one per run.
    """
    cell = read_object(path, "cell", CELL)
    _expect(path, "cell", lambda: _fault_of_cell(cell))
    return cell


def read_test(path: Path) -> dict[str, Any]:
    """Content of the JSON of ttest.py.

    Raises:
        UserError: the file is missing, damaged or something else.
    """
    test = read_object(path, "t-test", TEST)
    _expect(path, "t-test", lambda: _fault_of_test(test))
    return test


def read_measured(path: Path, shows: str) -> dict[str, Any]:
    """Content of measures.json, subgroups.json or on_{other}.json, by what a table `shows`.

    Raises:
        UserError: the file is missing, damaged or something else.
    """
    kind, keys, fault_of = {
        "measures": ("measurement", ("measures",), _fault_of_measures),
        "subgroups": ("comparison of groups", ("characteristics", "absent"), _fault_of_groups),
        "external": ("external test", ("other", "findings", "tests"), _fault_of_external),
    }[shows]
    found = read_object(path, kind, (*MEASURED, *keys))
    _expect(path, kind, lambda: fault_of(found))
    return found


def format_auc(mean: float, sd: float | None, sd_splits: float | None = None) -> str:
    """`84.1 ± 0.4`, `84.1` for one seed, and `84.1 ± 0.4 ± 1.2` with the spread over several splits."""
    spreads = [] if sd is None and sd_splits is None else [sd] if sd_splits is None else [sd, sd_splits]
    return " ± ".join([f"{mean:.1f}", *("–" if each is None else f"{each:.1f}" for each in spreads)])


def inputs_of(cell: dict[str, Any]) -> dict[tuple[str, int], str]:
    """SHA-256 of what the runs of a cell share with those of every other method, by (split or subset, number of the split)."""
    made = cell.get("made_from", {})
    return {
        (name, split): digest
        for name in ("split", "subset")
        for split, digest in zip(cell["splits"], made.get(name, []), strict=False)
        if digest is not None
    }


def odd_input(first: dict[str, Any], other: dict[str, Any]) -> str:
    """What two cells of a dataset and ratio must share and do not, by their records; empty where nothing is known to differ."""
    one, two = inputs_of(first), inputs_of(other)
    return next(
        (
            f"{name} {split}"
            for name, split in one.keys() & two.keys()
            if one[name, split] != two[name, split]
        ),
        "",
    )


def _expect(path: Path, kind: str, fault_of: Callable[[], str]) -> None:
    try:
        fault = fault_of()
    except (KeyError, TypeError, AttributeError) as error:
        fault = f"{type(error).__name__} {error}"
    if fault:
        raise UserError(f"{path}: not the result of a {kind} ({fault}); delete it and rerun {MAKERS[kind]}")


def _fault_of_cell(cell: dict[str, Any]) -> str:
    if not isinstance(cell["method"], str) or not isinstance(cell["dataset"], str):
        return "method and dataset are not names"
    runs, test = len(cell["seeds"]), cell["test"]
    if (
        not runs
        or len(cell["splits"]) != runs
        or not all(type(run) is int for run in cell["splits"] + cell["seeds"])
    ):
        return f"{len(cell['splits'])} splits for {runs} seeds"
    if len(test["mean_auc"]) != runs or not all(map(_is_auc, test["mean_auc"])):
        return f"mean_auc is not one AUC per run: {test['mean_auc']!r:.60}"
    if not _is_auc(test["mean"]) or not _is_auc(cell["validation"]["mean"]):
        return "mean is not an AUC"
    if not cell["classes"] or not all(isinstance(name, str) for name in cell["classes"]):
        return "there is no class"
    for part in (test, cell["validation"]):
        counts = part.get("images_per_split", [0])
        if not isinstance(counts, list) or not counts or not all(type(count) is int for count in counts):
            return "images_per_split are not counts"
    if absent := [name for name in cell["classes"] if name not in test["per_class"]]:
        return f"per_class lacks {absent[0]}"
    for name, part in test["per_class"].items():
        if not all(type(part[kind]) is int and part[kind] >= 0 for kind in ("positives", "negatives")):
            return f"{name} has no counts of its labels"
    if not isinstance(test["undefined"], list) or "sd" not in test:
        return "undefined classes or sd are not stated"
    return next(filter(None, map(_fault_of_summary, (test, *test["per_class"].values()))), "")


def _fault_of_measures(found: dict[str, Any]) -> str:
    odd = (_fault_of_numbers(found["measures"][name]) for name in MEASURES)
    return next(filter(None, odd), "") or _fault_of_settings(found, "bins", "specificity")


def _fault_of_groups(found: dict[str, Any]) -> str:
    for name, about in found["characteristics"].items():
        if type(about["unknown"]) is not int or not all(isinstance(each, str) for each in about["classes"]):
            return f"{name} does not state its classes and how many images have none"
        gap = about[GAP] | {"mean": about[GAP].get("difference")}
        for group in (*about["groups"].values(), gap):
            if group is not gap and not all(type(group[each]) is int for each in ("images", "patients")):
                return f"a group of {name} has no counts"
            if not isinstance(group["undefined"], str | None):
                return f"{group['undefined']!r:.60} is no reason"
            if group["undefined"] is None and (fault := _fault_of_numbers(group)):
                return fault
    return _fault_of_settings(found, "patients")


def _fault_of_external(found: dict[str, Any]) -> str:
    if not all(isinstance(each, str) for each in (found["other"], *found["findings"])):
        return "the other dataset or the findings are not names"
    for name, test in found["tests"].items():
        for part in (test["mean"], *test["per_finding"].values()):
            if not all(type(part[count]) is int for count in ("positives", "negatives")):
                return f"{name} has no counts of its labels"
            if fault := _fault_of_numbers(part):
                return fault
    return _fault_of_settings(found)


def _fault_of_settings(found: dict[str, Any], *names: str) -> str:
    """What is wrong with the settings and the resamples behind some numbers."""
    numbers = [found["settings"][name] for name in names]
    numbers += [found["bootstrap"][name] for name in ("resamples", "units")]
    return next((f"{each!r:.60} is not a number" for each in numbers if type(each) not in (int, float)), "")


def _fault_of_numbers(part: dict[str, Any]) -> str:
    """What is wrong with the mean, spread, interval and standard error of a measure or of the AUC of a group."""
    ends = part["interval"]
    known = [*([] if part["mean"] is None else [part["mean"]]), *([] if ends is None else ends)]
    pair = ends is None or len(ends) == 2
    # ends of the interval of a gap may be below zero
    if not pair or not all(type(each) in (int, float) and -1 <= each <= 1 for each in known):
        return f"{known!r:.60} is not a number in [0, 1] with its interval"
    if type(part["undefined_resamples"]) is not int:
        return "undefined_resamples is not a count"
    return _fault_of_summary(part)


def _fault_of_summary(part: dict[str, Any]) -> str:
    """What is wrong with the mean, spread and standard error of some AUCs."""
    error = part.get("se") or {}
    kinds = [error.get(name) or {} for name in ("seeds", "splits", "images")]
    numbers = [part.get(name) for name in ("mean", "sd", "sd_splits")]
    numbers += [error.get(name) for name in ("total", "df")] + [
        value for kind in kinds for value in kind.values()
    ]
    if odd := [value for value in numbers if value is not None and type(value) not in (int, float)]:
        return f"{odd[0]!r:.60} is not a number"
    return ""


def _fault_of_test(test: dict[str, Any]) -> str:
    for name in ("reference_auc", "baseline_auc"):
        if not all(map(_is_auc, test[name])):
            return f"{name} is not one AUC per run: {test[name]!r:.60}"
    test["student"]["p"]
    return ""


def _is_auc(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and 0 <= value <= 1)
