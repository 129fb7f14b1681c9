"""Entries that stand for others, written out: methods `like` another one, a row for each pre-training seed, columns and figures
of the user's own datasets; and tables and figures without a column in the study, left out."""

from typing import Any

from refers.config.parse import load, merge, to_dict
from refers.config.study import StudyConfig
from refers.errors import UserError, did_you_mean


def expand(config: StudyConfig) -> StudyConfig:
    """The config with every `like`, every list of `pretrain.seeds` and every dataset's `own` written out, and without the tables
    and figures of datasets that have no column. Nothing is left for a second pass.

    Raises:
        UserError: `like` names no method, or one that is like another; seeds beside training.seed; or the name of a
            seed's row is taken.
    """
    values = to_dict(config)
    entries = values["methods"]
    entries |= {name: _alike(name, entries) for name, entry in entries.items() if entry["like"]}
    shared = values["pretrain"].pop("seeds", None)
    rows = {name: _by_seed(name, entry, shared, values["pretrain"]) for name, entry in entries.items()}
    for name, found in rows.items():
        if taken := [row for row in found if row != name and (row in entries or row in values["groups"])]:
            raise UserError(
                f"config.methods.{name}.pretrain.seeds: the row {taken[0]} is there already; rename that entry"
            )
    values["methods"] = {row: entry for found in rows.values() for row, entry in found.items()}
    values["study"]["methods"] = _replaced(values["study"]["methods"], rows)
    several = [name for name, found in rows.items() if len(found) > 1]
    for table in values["tables"].values():
        if table["pretrain_seeds"]:
            missing = [name for name in several if name not in table["rows"]]
            table["rows"] = _replaced([*table["rows"], *missing], rows)
    _add_own_datasets(values)
    _leave_out_absent(values)
    return load(StudyConfig, values)


def _columns(values: dict[str, Any]) -> set[str]:
    """Datasets that have a column."""
    return {cell["dataset"] for cell in values["study"]["cells"]}


def _add_own_datasets(values: dict[str, Any]) -> None:
    """Columns, figures and a table by class for each dataset that is marked `own`; entries of such names stay as they are.

    Its figures show the methods of the first table.
    """
    cells, rows = values["study"]["cells"], next((table["rows"] for table in values["tables"].values()), [])
    methods = [name for name in values["study"]["methods"] if name in rows] or values["study"]["methods"]
    methods = [*methods, *(name for name, entry in values["methods"].items() if entry["own"])]
    for name, entry in values["datasets"].items():
        if not entry["own"]:
            continue
        if name not in _columns(values):
            cells.append({"dataset": name, "ratios": entry["ratios"], "splits": entry["splits"]})
        ratios, title = next(cell["ratios"] for cell in cells if cell["dataset"] == name), entry["title"]
        lines = {"dataset": name, "methods": list(dict.fromkeys(methods))}
        most = max(ratios)
        for kind, word in (("roc", "ROC"), ("reliability", "Calibration")):
            panels = {"title": f"{word}, {title}, {most} % of the labels", "kind": kind, "ratio": most}
            values["figures"].setdefault(f"{kind}_{name}", panels | lines)
        if len(ratios) > 1:
            against = {"title": f"{title}: AUC against label ratio", "kind": "ratios"}
            values["figures"].setdefault(f"ratios_{name}", against | lines)
        if len(entry["classes"]) > 1:
            by_class = {"title": f"{title}, by class", "per_class": name, "rows": values["study"]["methods"]}
            values["tables"].setdefault(f"classes_{name}", by_class)


def _leave_out_absent(values: dict[str, Any]) -> None:
    """Leave out tables and figures of datasets that the config describes and the study has no column of, and tables of subgroups
    where no column has any."""
    absent = set(values["datasets"]) - _columns(values)

    def shown(entry: dict[str, Any]) -> bool:
        if entry.get("shows") == "subgroups" and not grouped:
            return False
        named = {cell.partition("/")[0] for cell in entry.get("columns") or []}
        named |= {entry[key] for key in ("per_class", "dataset") if entry.get(key)}
        return not (named and named <= absent)

    read = {values["datasets"][name]["source"] for name in _columns(values) & set(values["datasets"])}
    grouped = any(values["sources"][name]["characteristics"] for name in read & set(values["sources"]))
    for kind in ("tables", "figures"):
        values[kind] = {name: entry for name, entry in values[kind].items() if shown(entry)}


def _alike(name: str, entries: dict[str, Any]) -> dict[str, Any]:
    """The entry of a method over that of the method that it is like."""
    entry, where = entries[name], f"config.methods.{name}.like"
    other = entry["like"]
    if other not in entries:
        known = ", ".join(entries)
        raise UserError(f"{where}: no method {other!r}{did_you_mean(other, entries)}; known are {known}")
    start = entries[other]
    if start["like"] or start["encoder_of"]:
        raise UserError(f"{where}: {other} has no settings of its own; name the method that has them")
    # `input` describes the weights of a checkpoint, which is not inherited.
    model = {key: value for key, value in start["model"].items() if key != "input"}
    inherited = {"model": model, "finetune": start["finetune"]}
    if entry["checkpoint"] is None:
        inherited["pretrain"] = dict(start["pretrain"])
        # Further seeds of another method are no rows of a control; its first one is the control's, if it has none.
        seeds = inherited["pretrain"].pop("seeds", [])
        if seeds and "seed" not in entry["pretrain"].get("training", {}):
            inherited["pretrain"]["seeds"] = seeds[:1]
    elif entry["checkpoint"] == "random" and "init" in start["pretrain"]:
        # The start decides the activation, which an untrained encoder shares.
        inherited["pretrain"] = {"init": start["pretrain"]["init"]}
    return merge(inherited, entry) | {"like": None}


def _by_seed(
    name: str, entry: dict[str, Any], shared: list[int] | None, common: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """The rows of a method: itself with its first pre-training seed, and one for every other seed."""
    pretrained = entry["checkpoint"] is None and entry["encoder_of"] is None
    own = dict(entry["pretrain"])
    seeds, where = own.pop("seeds", None), f"config.methods.{name}.pretrain.seeds"
    if not (seeds := seeds or shared) or not pretrained:
        return {name: entry | {"pretrain": own}}
    if len(set(seeds)) < len(seeds):
        raise UserError(f"{where}: {seeds} lists a seed twice; keep one of the two")
    if "seed" in merge(common.get("training", {}), own.get("training", {})):
        raise UserError(f"{where}: training.seed is set too; leave one of the two out")
    rows = {}
    for place, seed in enumerate(seeds):
        title = f" (pre-training seed {seed})" if place else ""
        pretrain = merge(own, {"training": {"seed": seed}})
        row = entry | {"title": f"{entry['title']}{title}", "pretrain": pretrain}
        rows[f"{name}_seed{seed}" if place else name] = row
    return rows


def _replaced(names: list[str], rows: dict[str, dict]) -> list[str]:
    """A list of names with each method followed by the rows of its other seeds."""
    return list(dict.fromkeys(row for name in names for row in rows.get(name, [name])))
