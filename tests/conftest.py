"""Shared fixtures: a real but tiny Stable Diffusion, drawn at random, an edit with it, a server."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import numpy as np
import pytest
from PIL import Image
from support.shapes import check_shapes_of

check_shapes_of("adaptivedrag")  # before it is imported

from support.s3_server import serve_s3
from support.tiny_models import write_model

from adaptivedrag.config import EditConfig, Runtime
from adaptivedrag.points import Drag, ImagePoint
from artifacts import ArtifactStore, StatCache
from stages.jobs.edit import Edit
from stages.jobs.image_files import inspect_image
from stages.workbench import Workbench

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from flows.prefect_server import PrefectServer

os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# How long an example takes is the machine's affair.
hypothesis.settings.register_profile("any pace", deadline=None)
hypothesis.settings.load_profile("any pace")


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Begin with the tests of the server, together, and with slow ones.

    Each process starts a server of its own for them, and a slow test that comes last keeps the
    other processes waiting.
    """
    items.sort(
        key=lambda item: (
            "server" not in item.fixturenames,
            item.get_closest_marker("slow") is None,
        )
    )


QUICK = EditConfig().merged(
    {
        "train_lora": {"steps": 2, "batch_size": 1},
        "invert_image": {"num_steps": 8, "inverted_steps": 5},
        "extract_superpixels": {"source": "rgb"},
        "optimize_latent": {"steps": 3, "max_steps": 4, "learning_rate": 0.1},
    }
)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Folders of the tests' own: nobody's cache, Prefect database or cluster is touched."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.setenv("XDG_DATA_HOME", str(folder / "data"))
        patch.setenv("PREFECT_PROFILES_PATH", str(folder / "no-profiles.toml"))
        patch.delenv("PREFECT_API_URL", raising=False)
        yield


@pytest.fixture(scope="session")
def server() -> "Iterator[PrefectServer]":
    """A real Prefect server that runs for all tests of the session."""
    from flows.prefect_server import start_server

    running = start_server()
    try:
        running.wait_until_ready()
        yield running
    finally:
        running.stop()


@pytest.fixture
def users_server(server: "PrefectServer", monkeypatch: pytest.MonkeyPatch) -> "PrefectServer":
    """The session's server, named as users name theirs."""
    monkeypatch.setenv("PREFECT_API_URL", server.api_url)
    return server


@pytest.fixture(scope="session")
def tiny_model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model directory; a hundred thousand parameters, milliseconds per pass."""
    return write_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def family_directory(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the tiny model of a family; tests must leave it as they found it."""
    return cache(lambda family: write_model(tmp_path_factory.mktemp(family) / "model", family))


@pytest.fixture(scope="session")
def edit(tiny_model_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Edit:
    """One drag on a 100×128 photograph; a whole edit takes about a second."""
    from skimage.data import astronaut

    path = tmp_path_factory.mktemp("images") / "face.png"
    Image.fromarray(np.ascontiguousarray(astronaut()[60:188, 170:270])).save(path)
    return Edit(
        id="face",
        image_path=path,
        image=inspect_image(path, StatCache(path.with_name("cache.sqlite"))),
        prompt="a face",
        drags=(Drag(ImagePoint(40, 50), ImagePoint(66, 40)),),
        tags=(),
        mask_path=None,
        mask_digest=None,
        config=QUICK,
        lora="train",
        model=str(tiny_model_directory),
        segmenter="pocket",
    )


@pytest.fixture(scope="session")
def s3_port() -> Iterator[int]:
    """A server process for the whole session; each test takes a prefix of its own."""
    with serve_s3() as port:
        yield port


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    """An empty store on the local disk."""
    return ArtifactStore.open(tmp_path / "store")


@pytest.fixture
def bench(store: ArtifactStore) -> Workbench:
    """A bench that keeps its results in `store`."""
    return Workbench(store, Runtime(threads=1))


@pytest.fixture
def changed(edit: Edit):
    """Return the edit with other fields; settings are given as `config={...}` overrides."""

    def change(**fields) -> Edit:
        if "config" in fields:
            fields["config"] = edit.config.merged(fields["config"])
        return replace(edit, **fields)

    return change


@pytest.fixture(scope="session")
def browser() -> "Iterator[Browser]":
    """Chromium without a window; the test is skipped where there is none."""
    from support.browser import chromium

    with chromium() as browser:
        yield browser
