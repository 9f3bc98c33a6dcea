"""The rooms of the house: who may import whom, and what importing costs."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("adaptivedrag", "artifacts", "stages", "flows")

ALLOWED = {
    "adaptivedrag": {"adaptivedrag"},
    "artifacts": {"artifacts"},
    "stages": {"stages", "adaptivedrag", "artifacts"},
    "flows": {"flows", "stages", "adaptivedrag", "artifacts"},
    "cli": {"cli", *ROOMS},
}
ONLY_IN = {
    "prefect": lambda path: path.parts[0] == "flows",
    "typer": lambda path: path.name == "cli.py",
    "sam2": lambda path: path.as_posix() == "adaptivedrag/segmenter/segmentation.py",
    "pickle": lambda path: path.as_posix() == "stages/jobs/importers/dragbench.py",
}


def sources() -> list[Path]:
    files = [file for room in ROOMS for file in (ROOT / room).rglob("*.py")]
    return [file.relative_to(ROOT) for file in [*files, ROOT / "cli.py"]]


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize("path", sources(), ids=str)
def test_a_file_imports_only_from_its_own_room_and_those_below(path):
    room = path.parts[0].removesuffix(".py")
    assert imports(path) & ALLOWED["cli"] <= ALLOWED[room]
    for package, is_home in ONLY_IN.items():
        assert package not in imports(path) or is_home(path), f"{package} imported in {path}"


def test_every_imported_package_is_a_declared_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    optional = ("dask", "parquet", "webdataset")
    needed = [*project["dependencies"], *(each for name in optional for each in extras[name])]
    declared = {normalized(re.split(r"[<>=~!;\[ ]", each)[0]) for each in needed}
    distributions = packages_distributions()
    undeclared = {
        f"{path} imports {name}"
        for path in sources()
        for name in imports(path) - sys.stdlib_module_names - ALLOWED["cli"]
        if not declared & {normalized(each) for each in distributions.get(name, ())}
    }
    assert undeclared == set()


def normalized(name: str) -> str:
    """Write a distribution's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_artifacts_know_no_torch_and_the_method_writes_no_file_but_a_commit_of_the_hub():
    for path in sources():
        if path.parts[0] == "artifacts":
            assert "torch" not in imports(path)
        if path.parts[0] == "adaptivedrag":
            text = (ROOT / path).read_text("utf-8")
            writes = any(call in text for call in ("write_text(", "write_bytes(", ".save("))
            assert not writes or path.parts[-2:] == ("model", "hub.py"), path


@pytest.mark.parametrize(
    "module",
    [
        "cli",
        "adaptivedrag",
        "artifacts",
        "stages",
        "stages.pipeline",
        "stages.planning.plan",
        "flows.run_job",
    ],
)
def test_importing_costs_neither_torch_nor_prefect(module):
    check = (
        f"import sys, {module}; "
        "print([name for name in ('torch', 'prefect', 'diffusers', 'zarr') if name in sys.modules])"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert loaded.stdout.strip() == "[]"


def test_there_is_no_room_for_odds_and_ends():
    vague = {"utils", "helpers", "common", "base", "misc", "types", "constants"}
    assert not {path.stem for path in sources()} & vague
