"""What is installed, and what is missing."""

import os
import platform
from collections.abc import Callable
from importlib.metadata import version

from adaptivedrag.errors import AdaptiveDragError
from adaptivedrag.model.weights import find_diffusion, find_segmenter
from artifacts import ArtifactError, ArtifactStore
from flows.outcomes import ALL_DONE, SOME_FAILED
from flows.prefect_server import PrefectServer, PrefectUnavailable, configured_api_url
from flows.terminal.console import say

PACKAGES = (
    "adaptivedrag",
    "torch",
    "diffusers",
    "transformers",
    "peft",
    "sam2",
    "prefect",
    "zarr",
)


def check_installation(model: str, segmenter: str, store: str) -> int:
    """Print one line for each thing that a run needs."""
    checks: dict[str, Callable[[], str]] = {
        "versions": _versions,
        "devices": _devices,
        "model": lambda: f"{model} at {find_diffusion(model)}",
        "segmenter": lambda: f"{segmenter} at {find_segmenter(segmenter)}",
        "store": lambda: f"{ArtifactStore.open(store).location}, writable",
        "prefect": _prefect,
    }
    missing = [name for name, check in checks.items() if not _is_there(name, check)]
    if missing:
        say(f"Missing: {', '.join(missing)}")
    return SOME_FAILED if missing else ALL_DONE


def _is_there(name: str, check: Callable[[], str]) -> bool:
    try:
        say(f"{name + ':':<11}{check()}")
    except (AdaptiveDragError, ArtifactError, PrefectUnavailable, ImportError) as error:
        say(f"{name + ':':<11}missing: {' '.join(str(error).split())}")
        return False
    return True


def _versions() -> str:
    packages = (f"{name} {version(name)}" for name in PACKAGES)
    return ", ".join([f"python {platform.python_version()}", *packages])


def _devices() -> str:
    import torch

    found = [f"cpu ({os.cpu_count()} cores)"]
    for number in range(torch.cuda.device_count()):
        memory = torch.cuda.get_device_properties(number).total_memory / 2**30
        found.append(f"cuda:{number} ({torch.cuda.get_device_name(number)}, {memory:.0f} GiB)")
    return ", ".join(found)


def _prefect() -> str:
    url = configured_api_url()
    if not url:
        return "no server configured; each run starts a temporary one"
    PrefectServer(url).wait_until_ready()
    return f"server at {url} answers"
