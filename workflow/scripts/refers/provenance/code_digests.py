"""What code a job depends on: digests of a script and of the library behind it. No torch."""

import ast
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from refers.errors import UserError
from refers.files import write_json

SCRIPTS = Path(__file__).parents[2]
# What was parsed before, in the folder that Snakemake keeps beside a study: to parse the library takes half a second.
MEMORY = Path(".snakemake/code_digests.json")


class _Facts(NamedTuple):
    """What a file's statements say: their digest, the modules that they import, and the packages from which they import by
    name. `content`: digest of the file, and of the Python that parsed it."""

    content: str
    digest: str
    modules: list[str]
    packages: list[str]


def code_of(script: str, **loaded: Iterable[str]) -> dict[str, str]:
    """Digests of a script and of every library module that it imports, directly or not, by module name.

    They are parameters of the rules: a changed statement reruns the jobs that can notice it, while comments,
    docstrings and formatting rerun nothing.

    Args:
        script: name of a file in workflow/scripts, without its suffix.
        loaded: for a package whose modules are imported by name, as `import_module` does for the adapter of a source, the
            modules that the job may load: `demo=["nih"]`. Without it, all modules of such a package count.

    Raises:
        ValueError: an import by name from which no package can be told.
    """
    found: dict[str, str] = {}
    waiting = [SCRIPTS / f"{script}.py"]
    while waiting:
        path = waiting.pop()
        if (name := _module_name(path)) not in found:
            facts = _facts(path)
            found[name] = facts.digest
            waiting += [each for module in facts.modules for each in _files(module)]
            for package in (SCRIPTS.joinpath(*each.split(".")) for each in facts.packages):
                modules = loaded.get(package.name, [each.stem for each in package.glob("[!_]*.py")])
                waiting += [each for name in modules if (each := package / f"{name}.py").exists()]
    _remember()
    return dict(sorted(found.items()))


@cache
def _module_name(path: Path) -> str:
    """`training.engine` for a module of the library, `methods` for a package, `pretrain.py` for a script."""
    if path.parent == SCRIPTS:
        return path.name
    parts = path.relative_to(SCRIPTS).with_suffix("").parts
    return ".".join(parts[1:-1] if parts[-1] == "__init__" else parts[1:]) or parts[0]


@cache
def _facts(path: Path) -> _Facts:
    """What a file says: as it is remembered of the same bytes, or parsed anew."""
    source = path.read_bytes()
    # The text that is hashed is Python's own, which differs between versions; and this module may find more tomorrow.
    content = hashlib.sha256(b"\0".join([sys.version.encode(), _reader(), source])).hexdigest()
    name = path.relative_to(SCRIPTS).as_posix()
    known = _memory().get(name)
    if known is None or known.content != content:
        known = _memory()[name] = _parsed(source, path, content)
        _changed.append(name)
    return known


@cache
def _reader() -> bytes:
    return Path(__file__).read_bytes()


_changed: list[str] = []  # names that the memory on disk lacks


@cache
def _memory() -> dict[str, _Facts]:
    """Facts by name of a file, relative to SCRIPTS, as they were when it was parsed."""
    with suppress(OSError, ValueError, TypeError, AttributeError):
        found = json.loads(MEMORY.read_text(encoding="utf-8"))
        return {name: _remembered(*facts) for name, facts in found.items()}
    return {}


def _remembered(content: str, digest: str, modules: list[str], packages: list[str]) -> _Facts:
    """Facts out of a file that another program may have changed; a ValueError where they are none."""
    if not all(isinstance(text, str) for text in (content, digest, *modules, *packages)):
        raise ValueError("not texts")
    return _Facts(content, digest, [*modules], [*packages])


def _remember() -> None:
    # A folder that cannot be written costs the next command half a second.
    with suppress(UserError):
        if _changed and MEMORY.parent.is_dir():
            write_json(MEMORY, _memory())
            _changed.clear()


def _parsed(source: bytes, path: Path, content: str) -> _Facts:
    tree = ast.parse(source)
    modules: list[str] = []
    packages: list[str] = []
    for node in ast.walk(tree):
        modules += [module for module in _imported(node, path) if module.split(".")[0] == "refers"]
        if isinstance(node, ast.Call) and _name(node.func) in ("import_module", "__import__"):
            packages.append(_package(node, path))
        # docstrings change nothing, so they are left out of what is hashed
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if documented and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    digest = hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:12]
    return _Facts(content, digest, [*dict.fromkeys(modules)], [*dict.fromkeys(packages)])


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


@cache
def _files(module: str) -> list[Path]:
    """Files that run where a module of the library is imported: its own and its packages' `__init__.py`."""
    parts = module.split(".")
    above = [SCRIPTS.joinpath(*parts[:depth], "__init__.py") for depth in range(1, len(parts) + 1)]
    return [path for path in (*above, SCRIPTS.joinpath(*parts).with_suffix(".py")) if path.exists()]


def _package(call: ast.Call, path: Path) -> str:
    """The package of an import by name: demo, where the name is "refers.demo." and that of a source."""
    match call.args:
        case [ast.JoinedStr(values=[ast.Constant(value=str(start)), ast.FormattedValue()])]:
            folder = SCRIPTS.joinpath(*start.split("."))
            if start.startswith("refers.") and start.endswith(".") and folder.is_dir():
                return start[:-1]
    raise ValueError(
        f'{path}, line {call.lineno}: write import_module(f"refers.PACKAGE.{{name}}"), or no rerun notices a change'
    )
