"""Config files, read so that a value means what a person means by it, or is refused with its file and line."""

import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar, NoReturn, TypeGuard

import yaml

from refers.config.parse import canonical, merge
from refers.config.study import Dataset
from refers.errors import UserError, first_line
from refers.files import expect_regular

DEEPEST = 100  # lists and maps inside each other
MOST_VALUES = 1_000_000  # of a file, with its aliases written out
MOST_DIGITS = 18
KINDS = ("null", "bool", "int", "float", "str", "seq", "map", "merge", "ambiguous")  # of values


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """YAML without its surprises: no octal 0750, no sixty-based 1:30, no dates, no key twice; 1e-3 is a number."""

    yaml_implicit_resolvers: ClassVar[dict] = {}  # YAML 1.1's; ours follow below

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        """A map whose keys differ."""
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                self.refuse(key_node, f"key {key!r} is not text; put it in quotes")
            if key in seen:
                self.refuse(key_node, f"key {key!r} is there twice; leave one out")
            seen.add(key)
        return super().construct_mapping(node, deep)

    def refuse(self, place: Any, problem: str) -> NoReturn:
        """Raise a UserError about a node or an event of the file."""
        raise UserError(f"{self.name}, line {place.start_mark.line + 1}: {problem}")


def _number(loader: _Loader, node: yaml.ScalarNode) -> int | float:
    value = float(node.value.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))
    # 3e5 is meant as the whole number that it is, while 1.0 stays a float
    return int(value) if "." not in node.value and math.isfinite(value) and value.is_integer() else value


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    return int(node.value.replace("_", ""))


def _ambiguous(loader: _Loader, node: yaml.ScalarNode) -> None:
    plain = node.value.lstrip("0")
    loader.refuse(
        node, f"{node.value} may mean two numbers; write {plain}, or '{node.value}' where it is text"
    )


for _tag, _pattern, _first, _construct in (
    ("bool", r"(?i:yes|no|true|false|on|off)", "yYnNtTfFoO", None),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""], None),
    ("merge", r"<<", "<", None),
    ("ambiguous", r"[-+]?0[0-9_]+", "-+0", _ambiguous),
    ("int", r"[-+]?(0|[1-9][0-9_]*)", "-+0123456789", _integer),
    (
        "float",
        r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?\.(?i:inf)|\.(?i:nan)",
        "-+0123456789.",
        _number,
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))
    if _construct:
        _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _construct)


def read_text(text: str | bytes, name: str) -> Any:
    """The content of YAML or JSON text; `name` says in messages where it comes from.

    Raises:
        UserError: it is no YAML, a key is no text or there twice in a map, a number may be read in two ways, or aliases have
            no end or stand for too much.
    """
    loader = _Loader(text)
    loader.name = name
    try:
        _check_depth(text, name)
        if (root := loader.get_single_node()) is None:
            return None
        _check_nodes(loader, root, set(), {})
        return loader.construct_document(root)
    finally:
        loader.dispose()


def _check_depth(text: str | bytes, name: str) -> None:
    """Refuse lists and maps so deep inside each other that reading them would exhaust the stack."""
    depth, events = 0, _Loader(text)
    events.name = name
    try:
        while events.check_event():
            event = events.get_event()
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                events.refuse(event, f"more than {DEEPEST} lists and maps inside each other; write fewer")
    finally:
        events.dispose()


def _check_nodes(loader: _Loader, node: yaml.Node, above: set[int], sizes: dict[int, int]) -> int:
    """Values that a node stands for, aliases written out; tags and numbers that are no settings are refused."""
    if id(node) in above:
        loader.refuse(node, "an alias inside what it stands for has no end; write the values out")
    if id(node) in sizes:
        return sizes[id(node)]
    kind = node.tag.removeprefix("tag:yaml.org,2002:")
    if kind not in KINDS:
        loader.refuse(node, f"tag {node.tag} is no setting; leave it out")
    sizes[id(node)] = 1
    if isinstance(node, yaml.ScalarNode):
        _check_scalar(loader, node, kind)
    else:
        parts = sum(node.value, ()) if isinstance(node, yaml.MappingNode) else node.value
        sizes[id(node)] += sum(_check_nodes(loader, part, above | {id(node)}, sizes) for part in parts)
    if sizes[id(node)] > MOST_VALUES:
        loader.refuse(node, f"aliases stand for more than {MOST_VALUES:,} values; write fewer")
    return sizes[id(node)]


def _check_scalar(loader: _Loader, node: yaml.ScalarNode, kind: str) -> None:
    meant = loader.resolve(yaml.ScalarNode, node.value, (True, False)).removeprefix("tag:yaml.org,2002:")
    if kind not in ("str", meant) and (kind, meant) != ("float", "int"):
        loader.refuse(node, f"{node.value!r} is no {kind}; write it without a tag")
    if kind == "int" and len(node.value) > MOST_DIGITS:
        loader.refuse(node, f"a number of {len(node.value)} digits; write a smaller one")


def read_file(path: Path) -> Any:
    """The content of a YAML or JSON file.

    Raises:
        UserError: as `read_text`; or the file cannot be read.
    """
    try:
        expect_regular(path)
        return read_text(path.read_bytes(), str(path))
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{path}{line}: not YAML ({error.problem or error.context}); correct it") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(
            f"{path}: cannot be read as YAML ({first_line(error)}); correct or replace it"
        ) from None


def read_files(paths: Iterable[Path]) -> dict:
    """The config of several files, each over those before it.

    Raises:
        UserError: as `read_settings`.
    """
    return merge_layers(map(read_settings, paths))


def read_settings(path: Path) -> dict:
    """The settings of one config file.

    Raises:
        UserError: as `read_file`; or the file is not a map.
    """
    values = read_file(path)
    if not isinstance(values, dict):
        raise UserError(f"{path}: not a map of settings; give a config file")
    return values


def merge_layers(layers: Iterable[dict]) -> dict:
    """The config of several layers, each over those before it.

    A layer may take columns away. What the others say of these alone is left out with them: settings of the cell, the
    column of a table, numbers reported for it.

    Raises:
        UserError: both spellings of a key in one map, as `canonical`.
    """
    found: dict = {}
    listed: set[str] = set()
    for values in layers:
        found = merge(found, canonical(values))
        listed |= _columns(found)
    return _without(found, listed - _columns(found))


def _columns(values: dict) -> set[str]:
    """Columns of a config whose values are not checked yet, such as nih/1."""
    study, datasets = values.get("study"), values.get("datasets")
    entries = study.get("cells") if isinstance(study, dict) else None
    columns = list(filter(_is_map, entries)) if isinstance(entries, list) else []
    named = [entry.get("dataset") for entry in columns]
    own = {"ratios": Dataset.model_fields["ratios"].default}
    for name, entry in datasets.items() if isinstance(datasets, dict) else ():
        if _is_map(entry) and entry.get("own") is True and name not in named:
            columns.append(own | entry | {"dataset": name})
    ratios = [(entry.get("dataset"), entry.get("ratios")) for entry in columns]
    return {f"{name}/{ratio}" for name, found in ratios if isinstance(found, list) for ratio in found}


def _is_map(value: Any) -> TypeGuard[dict]:
    return isinstance(value, dict)


def _without(values: dict, cells: set[str]) -> dict:
    """The config without what it says of these cells alone; what is no map or list is left to the check."""
    kept = dict(values)
    tuning, tables, reported = (values.get(kind) for kind in ("finetune", "tables", "reported"))
    if _is_map(tuning) and _is_map(settings := tuning.get("cells")):
        rest = {name: entry for name, entry in settings.items() if name not in cells}
        kept["finetune"] = tuning | {"cells": rest}
    if _is_map(tables):
        found = {
            name: _left(entry, "columns", lambda cell: str(cell) not in cells)
            for name, entry in tables.items()
        }
        # a table that had columns and has none any more
        kept["tables"] = {
            name: entry for name, entry in found.items() if entry == tables[name] or entry["columns"]
        }
    if _is_map(reported):
        kept["reported"] = {
            name: _left(entry, "numbers", lambda each: not _is_map(each) or each.get("column") not in cells)
            for name, entry in reported.items()
        }
    return kept


def _left(entry: Any, key: str, stays: Callable[[Any], bool]) -> Any:
    """An entry with what stays of a list in it."""
    if not _is_map(entry) or not isinstance(entry.get(key), list):
        return entry
    return entry | {key: list(filter(stays, entry[key]))}


def read_arguments(values: Any) -> Any:
    """Values of `--config`, of which Snakemake leaves all inside a map as text: numbers and the like become what they are."""
    if isinstance(values, dict):
        return {key: read_arguments(value) for key, value in values.items()}
    if isinstance(values, list):
        return [read_arguments(value) for value in values]
    if isinstance(values, str):
        resolved = _Loader("").resolve(yaml.ScalarNode, values, (True, False))
        return read_text(values, "--config") if not resolved.endswith(":str") else values
    return values
