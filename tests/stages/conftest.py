"""The edit of all tests, made once: tests that begin with what is there copy it."""

import shutil
from pathlib import Path

import pytest

from adaptivedrag.config import Runtime
from artifacts import ArtifactStore, Record
from stages.jobs.edit import Edit
from stages.pipeline import STAGE_NAMES
from stages.workbench import Workbench


@pytest.fixture(scope="session")
def made_once(edit: Edit, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """The folder of a store in which every stage of `edit` was made, and their records."""
    folder = tmp_path_factory.mktemp("made") / "store"
    bench = Workbench(ArtifactStore.open(folder), Runtime(threads=1))
    return folder, {name: bench.perform(name, edit) for name in STAGE_NAMES}


@pytest.fixture
def made(made_once: tuple[Path, dict], store: ArtifactStore, tmp_path: Path) -> dict[str, Record]:
    """The records of every stage of `edit`, in `store`."""
    folder, records = made_once
    shutil.copytree(folder, tmp_path / "store", dirs_exist_ok=True)
    return records
