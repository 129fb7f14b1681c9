"""The references between entries of the config: every name has an entry, and every job would accept its settings."""

import re
from collections.abc import Iterator

from refers.errors import UserError, did_you_mean
from refers.study.study import Study

METHOD, ROW = "method", "method or group"


def check(values: dict) -> Study:
    """A study whose every reference and every setting is checked.

    Raises:
        UserError: a name without an entry, or a setting that no job would accept; one line with the key's path and the
            nearest known name.
    """
    study = Study(values)
    known = {kind: list(values[f"{kind}s"]) for kind in (METHOD, "dataset", "source", "table")}
    known[ROW] = [*known[METHOD], *values.get("groups", {})]
    for key, kind, name in _references(study):
        if name not in known[kind]:
            hint = did_you_mean(name, known[kind])
            raise UserError(f"{key}: no {kind} {name!r}{hint}; known are {', '.join(known[kind])}")
    cells = list(map(str, study.cells))
    for name in values["finetune"].get("cells", {}):
        if name not in cells:
            hint = did_you_mean(name, cells)
            raise UserError(f"finetune.cells: no cell {name!r}{hint}; known are {', '.join(cells)}")
    for name, entry in values.get("figures", {}).items():
        if entry["kind"] not in ("curves", "rules") and not {"dataset", "methods"} <= entry.keys():
            raise UserError(f"figures.{name}: kind {entry['kind']} needs a dataset and methods")
        if entry["kind"] == "attention" and not {"ratio", "images", "threshold"} <= entry.keys():
            raise UserError(f"figures.{name}: kind attention needs ratio, images and threshold")
    for name, pattern in values["audit"]["patients"].items():
        if "released" not in study.dataset(name):
            raise UserError(f"audit.patients: the authors released no lists of {name}; remove it")
        try:
            re.compile(pattern)
        except re.error as error:
            raise UserError(
                f"audit.patients.{name}: {pattern!r} is not a regular expression ({error})"
            ) from None
    for method in known[METHOD]:
        study.model_settings(method) if study.is_imported(method) else study.pretrain_settings(method)
        for cell in study.cells:
            study.finetune_settings(method, *cell)
    return study


def _references(study: Study) -> Iterator[tuple[str, str, str]]:
    """(key, kind of entry, name) of every name in the config that stands for another entry."""
    values = study.values
    yield from (("study.methods", METHOD, name) for name in study.methods)
    yield from (("study.cells", "dataset", cell.dataset) for cell in study.cells)
    for name, entry in values["datasets"].items():
        yield f"datasets.{name}.source", "source", entry["source"]
    for group, entry in values.get("groups", {}).items():
        yield from ((f"groups.{group}", METHOD, name) for name in entry["best_of"])
    for table, entry in values["tables"].items():
        yield from ((f"tables.{table}.rows", ROW, name) for name in entry["rows"])
        yield from ((f"tables.{table}.marks", ROW, name) for name in entry.get("marks", {}))
        if "reference" in entry:
            yield f"tables.{table}.reference", METHOD, entry["reference"]
        if entry.get("baseline", "best") != "best":
            yield f"tables.{table}.baseline", ROW, entry["baseline"]
        if "per_class" in entry:
            yield f"tables.{table}.per_class", "dataset", entry["per_class"]
    for figure, entry in values.get("figures", {}).items():
        yield from ((f"figures.{figure}.methods", METHOD, name) for name in entry.get("methods", []))
        if "dataset" in entry:
            yield f"figures.{figure}.dataset", "dataset", entry["dataset"]
    yield from (("finetune.datasets", "dataset", name) for name in values["finetune"].get("datasets", {}))
    for tier in values["plan"]["tiers"]:
        for name in [*tier.get("methods", []), *tier.get("checkpoints", {})]:
            yield "plan.tiers", METHOD, name
    audit = values["audit"]
    yield "audit.table", "table", audit["table"]
    yield from (("audit.methods", METHOD, name) for name in audit["methods"].values())
    yield from (("audit.cells", "dataset", name.partition("/")[0]) for name in audit["cells"].values())
    yield from (("audit.patients", "dataset", name) for name in audit["patients"])
