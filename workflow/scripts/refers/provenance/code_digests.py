"""What code a job depends on: digests of a script and of the library behind it. No torch."""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

SCRIPTS = Path(__file__).parents[2]


def code_of(script: str, **loaded: Iterable[str]) -> dict[str, str]:
    """Digests of a script and of every library module that it imports, directly or not, by module name.

    They are parameters of the rules: a changed statement reruns the jobs that can notice it, while comments,
    docstrings and formatting rerun nothing.

    Args:
        script: name of a file in workflow/scripts, without its suffix.
        loaded: for a package whose modules are imported by name, as `import_module(f"refers.demo.{source}")` does, the
            modules that the job may load: `demo=["nih"]`. Without it, all modules of such a package count.

    Raises:
        ValueError: an import by name from which no package can be told.
    """
    found: dict[str, str] = {}
    waiting = [SCRIPTS / f"{script}.py"]
    while waiting:
        path = waiting.pop()
        if (name := _module_name(path)) not in found:
            found[name], imports, packages = _digest_and_imports(path)
            waiting += imports
            for package in packages:
                modules = loaded.get(package.name, [each.stem for each in package.glob("[!_]*.py")])
                waiting += [each for name in modules if (each := package / f"{name}.py").exists()]
    return dict(sorted(found.items()))


def _module_name(path: Path) -> str:
    """`training.engine` for a module of the library, `methods` for a package, `pretrain.py` for a script."""
    if path.parent == SCRIPTS:
        return path.name
    parts = path.relative_to(SCRIPTS).with_suffix("").parts
    return ".".join(parts[1:-1] if parts[-1] == "__init__" else parts[1:]) or parts[0]


@cache
def _digest_and_imports(path: Path) -> tuple[str, list[Path], list[Path]]:
    """Digest of a file's statements, the library's files that it imports, and the packages that it imports from by name."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imports: list[Path] = []
    packages: list[Path] = []
    for node in ast.walk(tree):
        for module in _imported(node, path):
            imports += _files(module)
        if isinstance(node, ast.Call) and _name(node.func) in ("import_module", "__import__"):
            packages.append(_package(node, path))
        # docstrings change nothing, so they are left out of what is hashed
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if documented and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:12], imports, packages


def _name(function: ast.expr) -> str:
    """The last part of what is called: `b` of `b()` and of `a.b()`."""
    return getattr(function, "attr", getattr(function, "id", ""))


def _imported(node: ast.AST, path: Path) -> Iterator[str]:
    """Names of the modules that a statement may import: of `from a import b` a and a.b, since b may be a module."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        parents = path.relative_to(SCRIPTS).parent.parts
        start = parents[: len(parents) - node.level + 1] if node.level else ()
        module = ".".join((*start, *filter(None, [node.module])))
        yield from (module, *(f"{module}.{alias.name}" for alias in node.names))


def _files(module: str) -> list[Path]:
    """Files that run where a module of the library is imported: its own and its packages' `__init__.py`."""
    parts = module.split(".")
    if parts[0] != "refers":
        return []
    above = [SCRIPTS.joinpath(*parts[:depth], "__init__.py") for depth in range(1, len(parts) + 1)]
    return [path for path in (*above, SCRIPTS.joinpath(*parts).with_suffix(".py")) if path.exists()]


def _package(call: ast.Call, path: Path) -> Path:
    """Folder of the package of `import_module(f"refers.demo.{source}")`."""
    match call.args:
        case [ast.JoinedStr(values=[ast.Constant(value=str(start)), ast.FormattedValue()])]:
            folder = SCRIPTS.joinpath(*start.split("."))
            if start.startswith("refers.") and start.endswith(".") and folder.is_dir():
                return folder
    raise ValueError(
        f'{path}, line {call.lineno}: write import_module(f"refers.PACKAGE.{{name}}"), or no rerun notices a change'
    )
