"""A change of what a stage computes must raise its STAGE_VERSION, or old results would be served.

`stage_sources.json` holds a hash of each stage's sources with all modules of the method they use,
comments and docstrings left out. After a change: raise STAGE_VERSION if the stage's numbers can
change, add a line to the CHANGELOG, and run this file with ADAPTIVEDRAG_RECORD=1 to note the new
hashes.
"""

import ast
import hashlib
import json
import os
from pathlib import Path

import pytest

from stages import evaluate
from stages.pipeline import STAGES

ROOT = Path(__file__).parent.parent.parent
RECORDED = Path(__file__).with_name("stage_sources.json")
VERSIONS = {stage.name: stage.version for stage in STAGES} | {
    evaluate.STAGE: evaluate.STAGE_VERSION
}


def method_modules(path: Path) -> set[Path]:
    """Modules of the method that a file imports, in functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("adaptivedrag"):
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            files = (ROOT / (name.replace(".", "/") + ".py") for name in names)
            found |= {file for file in files if file.is_file()}
    return found


def closure(path: Path) -> list[Path]:
    seen, todo = {path}, [path]
    while todo:
        new = method_modules(todo.pop()) - seen
        seen |= new
        todo += new
    return sorted(seen)


def without_docstrings(path: Path) -> str:
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [
                line
                for line in body
                if not (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))
            ]
    return ast.unparse(tree)


def source_hash(stage: str) -> str:
    text = "".join(without_docstrings(path) for path in closure(ROOT / "stages" / f"{stage}.py"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@pytest.mark.parametrize("stage", VERSIONS)
def test_the_sources_of_a_stage_are_those_noted_for_its_version(stage):
    now = {"version": VERSIONS[stage], "sources": source_hash(stage)}
    noted = json.loads(RECORDED.read_text("utf-8")) if RECORDED.exists() else {}
    if os.environ.get("ADAPTIVEDRAG_RECORD"):
        RECORDED.write_text(json.dumps({**noted, stage: now}, indent=2) + "\n", "utf-8")
        return
    assert noted.get(stage) == now, __doc__
