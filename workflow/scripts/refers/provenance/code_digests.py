"""What code a job depends on: digests of a script and of the library behind it. No torch."""

import ast
import hashlib
from functools import cache
from pathlib import Path

SCRIPTS = Path(__file__).parents[2]


def code_of(script: str, *extra: str) -> dict[str, str]:
    """Digests of a script and of every library module it imports, directly or not, by name.

    They are parameters of the rules: a changed statement reruns the jobs that can notice it, while comments,
    docstrings and formatting rerun nothing. `extra` names modules that are imported by name at run time.
    """
    found: dict[str, str] = {}
    waiting = [SCRIPTS / f"{script}.py", *(SCRIPTS / name for name in extra)]
    while waiting:
        path = waiting.pop()
        name = path.relative_to(SCRIPTS).as_posix()
        if name not in found and path.exists():
            found[name], imports = _digest_and_imports(path)
            waiting += imports
    return dict(sorted(found.items()))


@cache
def _digest_and_imports(path: Path) -> tuple[str, list[Path]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imports = []
    for node in ast.walk(tree):
        modules = []
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        for module in modules:
            if module.split(".")[0] == "refers":
                base = SCRIPTS / module.replace(".", "/")
                imports += [path for path in (base.with_suffix(".py"), base / "__init__.py") if path.exists()]
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            value = body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                node.body = body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:12], imports
