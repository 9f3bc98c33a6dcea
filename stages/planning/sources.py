"""A digest of the code that a stage's numbers come from."""

import ast
import hashlib
from functools import cache
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[2]


@cache
def source_digest(stage: str) -> str:
    """Digest a stage's file with all modules of the method that it uses, directly or not.

    Comments, docstrings and layout do not count. Sixteen hexadecimal digits.
    """
    text = "".join(_code(path) for path in _closure(ROOT / "stages" / f"{stage}.py"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def code_of(stage: str) -> str:
    """Name the code that makes a stage's artifacts: our version and the digest of its sources."""
    return f"{metadata.version('adaptivedrag')}+{source_digest(stage)}"


def _closure(path: Path) -> list[Path]:
    seen, todo = {path}, [path]
    while todo:
        new = _method_modules(todo.pop()) - seen
        seen |= new
        todo += new
    return sorted(seen)


@cache
def _method_modules(path: Path) -> frozenset[Path]:
    """Return the modules of the method that a file imports, in functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("adaptivedrag"):
            names = [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
            files = (ROOT / (name.replace(".", "/") + ".py") for name in names)
            found |= {file for file in files if file.is_file()}
    return frozenset(found)


@cache
def _code(path: Path) -> str:
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [line for line in node.body if not _is_docstring(line)]
    return ast.unparse(tree)


def _is_docstring(line: ast.stmt) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)
