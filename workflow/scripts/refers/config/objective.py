"""Settings that an objective declares, read from its file without importing torch, so that a config is checked before any work."""

import ast
from functools import cache
from pathlib import Path
from typing import Any

from refers.config.settings import Section
from refers.errors import UserError, did_you_mean

METHODS = Path(__file__).parents[1] / "methods"


def objectives() -> list[str]:
    """Names of the objectives: the files of refers/methods/."""
    return sorted(path.stem for path in METHODS.glob("[a-z]*.py"))


@cache
def declared_settings(name: str) -> type[Section]:
    """The `Settings` of refers/methods/{name}.py.

    Only the statements that `Settings` needs are run: importing the whole file would import torch, which takes seconds.

    Raises:
        UserError: there is no such file, or it declares no `Settings` of the right kind.
    """
    where = f"objective {name!r}"
    if name not in objectives():
        raise UserError(
            f"{where}: no file workflow/scripts/refers/methods/{name}.py{did_you_mean(name, objectives())};"
            f" objectives are {', '.join(objectives())}"
        )
    path = METHODS / f"{name}.py"
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError) as error:
        raise UserError(f"{path}: not Python ({error})") from None
    namespace: dict[str, Any] = {"__name__": f"refers.methods.{name}"}
    exec(compile(ast.Module(_needed_by("Settings", tree), []), str(path), "exec"), namespace)
    settings = namespace.get("Settings")
    if not (isinstance(settings, type) and issubclass(settings, Section)):
        raise UserError(f"{where}: {name}.py defines no Settings that extend refers.config.Section; add them")
    return settings


def reads_reports(name: str) -> bool:
    """Whether an objective's unit is the study, which it pairs with its report: its `Settings` extend StudySettings."""
    return any(kind.__name__ == "StudySettings" for kind in declared_settings(name).__mro__)


def _needed_by(wanted: str, tree: ast.Module) -> list[ast.stmt]:
    """Top-level statements that bind a name, and those that bind what these use, in their order."""
    binds = [(statement, _bound_names(statement)) for statement in tree.body]
    needed, waiting = set[int](), {wanted}
    while waiting:
        name = waiting.pop()
        for number, (statement, names) in enumerate(binds):
            if name in names and number not in needed:
                needed.add(number)
                waiting |= {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
    return [tree.body[number] for number in sorted(needed)]


def _bound_names(statement: ast.stmt) -> set[str]:
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).partition(".")[0] for alias in statement.names}
    if isinstance(statement, ast.ClassDef | ast.FunctionDef):
        return {statement.name}
    stored = (node for node in ast.walk(statement) if isinstance(node, ast.Name))
    return {node.id for node in stored if isinstance(node.ctx, ast.Store)}
