import multiprocessing
import uuid
from itertools import count

import numpy as np
import pytest
from obstore.store import MemoryStore
from support.s3_server import s3_location

from artifacts import Action, ArtifactStore, Circumstances, Document, Picture, TensorFile
from artifacts import digest_bytes as digest


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def make_location(tmp_path, request):
    """Places for new stores: a folder, memory, or a prefix in object storage."""
    numbers = count()

    def make(kind):
        name = f"store-{next(numbers)}"
        match kind:
            case "folder":
                return tmp_path / name
            case "memory":
                return MemoryStore()
        return s3_location(request.getfixturevalue("s3_port"), f"{uuid.uuid4()}/{name}")

    return make


@pytest.fixture(params=["folder", "memory", "s3"])
def store(request, make_location):
    return ArtifactStore.open(make_location(request.param))


@pytest.fixture
def folder_store(tmp_path):
    return ArtifactStore.open(tmp_path / "store")


@pytest.fixture
def make_action():
    def make(number=0, stage="invert_image", **changes):
        fields = {
            "stage": stage,
            "version": 1,
            "config": {"steps": 50, "strength": 0.7},
            "inputs": {"image": digest("test", str(number).encode())},
            "models": {"unet": digest("test", b"unet")},
        }
        return Action(**{**fields, **changes})

    return make


@pytest.fixture
def circumstances():
    return Circumstances(code="0.1.0", started="2026-01-01T00:00:00Z", seconds=1.5)


@pytest.fixture
def make_payload():
    """Payloads with a part of each kind; another number, other values."""

    def make(number=0):
        random = np.random.default_rng(number)
        return {
            "latents": random.random((3, 4, 8, 8)).astype("float16"),
            "lora": TensorFile({"up": random.random((4, 2)), "down": np.zeros(3)}, {"rank": "2"}),
            "preview": Picture(random.integers(0, 256, (5, 7, 3), dtype="uint8")),
            "verdict": Document({"number": number, "moved": [1, 2.5, True, None, "é"]}),
        }

    return make


@pytest.fixture
def check_payload():
    """Compare what was read with the payload that was published."""

    def check(parts, payload):
        assert parts.keys() == payload.keys()
        np.testing.assert_array_equal(parts["latents"], payload["latents"], strict=True)
        for name, tensor in payload["lora"].tensors.items():
            np.testing.assert_array_equal(parts["lora"][name], tensor, strict=True)
        np.testing.assert_array_equal(parts["preview"], payload["preview"].pixels, strict=True)
        assert parts["verdict"] == payload["verdict"].value

    return check


@pytest.fixture(scope="session")
def start():
    """Start a function in a process of its own, forked from one that has the libraries loaded.

    The function's last argument is a channel on which it sends "ready" first.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["zarr", "safetensors.numpy", "artifacts"])
    processes = []

    def start(function, *arguments):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=function, args=(*arguments, sender), daemon=True)
        process.start()
        processes.append(process)
        sender.close()
        assert receiver.recv() == "ready"
        return process, receiver

    yield start
    for process in processes:
        process.kill()
