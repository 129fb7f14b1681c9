"""Config files, read so that a value means what a person means by it, or is refused with its file and line."""

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import yaml

from refers.config.parse import canonical, merge
from refers.errors import UserError, first_line


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

    def refuse(self, node: yaml.Node, problem: str) -> None:
        """Raise a UserError about a node of the file."""
        raise UserError(f"{self.name}, line {node.start_mark.line + 1}: {problem}")


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
        UserError: it is no YAML, a key is there twice in a map, or a number may be read in two ways.
    """
    loader = _Loader(text)
    loader.name = name
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def read_file(path: Path) -> Any:
    """The content of a YAML or JSON file.

    Raises:
        UserError: as `read_text`; or the file cannot be read.
    """
    try:
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
        UserError: as `read_file`; or a file is not a map of settings.
    """
    found: dict = {}
    for path in paths:
        values = read_file(path)
        if not isinstance(values, dict):
            raise UserError(f"{path}: not a map of settings; give a config file")
        found = merge(found, canonical(values))
    return found


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
