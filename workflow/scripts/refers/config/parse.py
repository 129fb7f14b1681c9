"""From plain values to checked settings; every mistake in one line that starts with the path of its key."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from refers.config.settings import Model, Section
from refers.errors import UserError, did_you_mean

Kind = TypeVar("Kind", bound=Section)

# Words for pydantic's kinds of errors. In braces: the value that was found, and bounds that pydantic names.
WORDS = {
    "int_type": "expected a whole number, found {found}",
    "float_type": "expected a number, found {found}",
    "bool_type": "expected true or false, found {found}",
    "string_type": "expected text, found {found}; put it in quotes",
    "list_type": "expected a list, found {found}",
    "tuple_type": "expected a list, found {found}",
    "dict_type": "expected a map of settings, found {found}",
    "missing": "too few numbers in {found}",
    "finite_number": "expected a finite number, found {found}",
    "greater_than_equal": "must be at least {ge}, found {found}",
    "greater_than": "must be above {gt}, found {found}",
    "less_than_equal": "must be at most {le}, found {found}",
    "less_than": "must be below {lt}, found {found}",
    "too_short": "expected at least {min_length} entry, found {found}",
    "string_too_short": "must not be empty",
    "string_pattern_mismatch": "{found} does not match {pattern}",
}
LONGEST = 160  # characters of a value that a message repeats
CLASSES = ("transformer", "resnet", "timm")  # of encoders; pydantic names the one that it tried


def load(kind: type[Kind], values: Any, where: str = "config") -> Kind:
    """Check plain values and build the settings `kind` of them.

    Args:
        where: path of `values` in the config, with which every message starts.

    Raises:
        UserError: unknown or missing keys, a wrong type, a number out of range, or settings that exclude each other; all
            of them in one line.
    """
    try:
        return kind.model_validate(canonical(values))
    except ValidationError as error:
        raise UserError(one_line(error, where)) from None


def load_model(values: Any, where: str = "model") -> Model:
    """Build the settings of an encoder; `architecture` (default transformer) decides of which class."""
    try:
        return _MODEL.validate_python(values)
    except ValidationError as error:
        raise UserError(one_line(error, where)) from None


_MODEL: TypeAdapter[Any] = TypeAdapter(Model)


def fragment_problems(kind: type[Section], values: Any, where: str) -> str:
    """What is wrong with a part of a map of settings, whatever it is merged with; empty where nothing is.

    Rules about several keys at once are left to the merged map, since the other keys may come from elsewhere.
    """
    try:
        kind.model_validate(canonical(values))
    except ValidationError as error:
        return one_line(error, where, leave_out=("value_error",))
    return ""


def one_line(error: ValidationError, where: str, leave_out: Iterable[str] = ()) -> str:
    """All problems that pydantic found, each behind the path of its key."""
    found = error.errors(include_url=False)
    return "; ".join(_problem(item, where) for item in found if item["type"] not in leave_out)


def _problem(item: Mapping[str, Any], where: str) -> str:
    loc = item["loc"]
    parts = [part for i, part in enumerate(loc) if part not in CLASSES or (i and loc[i - 1] != "model")]
    parts = [part for part in parts if part != "[key]"]
    path = ".".join([where, *map(str, parts)])
    context = item.get("ctx", {})
    if item["type"] == "literal_error":
        known = re.findall(r"'([^']*)'", context["expected"])
        return (
            f"{path}: {item['input']!r} must be one of {', '.join(known)}{did_you_mean(item['input'], known)}"
        )
    if item["type"] in WORDS:
        return f"{path}: {WORDS[item['type']].format(found=_shown(item['input']), **context)}"
    return f"{path}: {item['msg'].removeprefix('Value error, ')}"


def _shown(value: Any) -> str:
    """A value as a message repeats it, not longer than a line."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        # Python writes out no number of more than 4,300 digits
        return f"a {type(value).__name__} too long to show"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def parse_json(text: str, where: str) -> dict:
    """The JSON map that a rule passes on the command line."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not JSON ({error})") from None


def load_json(kind: type[Kind], text: str, where: str) -> Kind:
    """Like `load`, from JSON text."""
    return load(kind, parse_json(text, where), where)


def merge(base: dict, *overlays: dict) -> dict:
    """Deep merge: maps are merged key by key, anything else is replaced. Inputs are left as they were."""
    merged = dict(base)
    for overlay in overlays:
        for key, value in overlay.items():
            both_maps = isinstance(value, dict) and isinstance(merged.get(key), dict)
            merged[key] = merge(merged[key], value) if both_maps else value
    return merged


def canonical(values: Any) -> Any:
    """The same values with `optimizer`, as many write it, under the key `optimiser`.

    Raises:
        UserError: a map has both.
    """
    if isinstance(values, list):
        return [canonical(item) for item in values]
    if not isinstance(values, dict):
        return values
    if isinstance(values.get("training"), dict) and "optimizer" in values["training"]:
        training = dict(values["training"])
        if "optimiser" in training:
            raise UserError("training: optimiser and optimizer are the same key; leave one out")
        values = values | {"training": training | {"optimiser": training.pop("optimizer")}}
    return {key: canonical(value) for key, value in values.items()}


def to_dict(settings: Section) -> dict:
    """Resolved settings as plain values, every default filled in."""
    return settings.model_dump()
