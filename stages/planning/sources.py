"""A digest of the code that determines a stage's numbers."""

import ast
import hashlib
from functools import cache
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[2]
UNFOLLOWED = (ROOT / "adaptivedrag" / "__init__.py", ROOT / "adaptivedrag" / "config.py")
"""Modules that name every part of the method and use none."""


def sources_of(stage: str) -> list[Path]:
    """Return a stage's file and all modules of the method that it uses, directly or not."""
    path = ROOT / "stages" / f"{stage}.py"
    seen, todo = {path}, [path]
    while todo:
        new = _method_modules(todo.pop()) - seen
        seen |= new
        todo += new
    return sorted(seen)


@cache
def source_digest(stage: str) -> str:
    """Digest the sources of a stage.

    Comments, docstrings and layout do not count. Sixteen hexadecimal digits.
    """
    text = "".join(_code(path) for path in sources_of(stage))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def code_of(stage: str) -> str:
    """Name the code that makes a stage's artifacts: our version and the digest of its sources."""
    return f"{metadata.version('adaptivedrag')}+{source_digest(stage)}"


@cache
def _method_modules(path: Path) -> frozenset[Path]:
    """Return the modules of the method that a file imports, in functions too."""
    found = set[Path]()
    if path in UNFOLLOWED:
        return frozenset()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("adaptivedrag"):
            names = [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
            places = [ROOT / name.replace(".", "/") for name in names]
            found |= {place.with_suffix(".py") for place in places}
            found |= {place / "__init__.py" for place in places}
    return frozenset(file for file in found if file.is_file())


@cache
def _code(path: Path) -> str:
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [line for line in node.body if not _is_docstring(line)]
    return ast.unparse(tree)


def _is_docstring(line: ast.stmt) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)
