"""Under what circumstances a result was made: code, libraries, device, time and memory."""

import platform
import resource
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib import metadata

from artifacts import Circumstances
from stages.planning.sources import code_of

LIBRARIES = (
    "torch",
    "diffusers",
    "transformers",
    "peft",
    "sam2",
    "scikit-image",
    "numpy",
    "zarr",
    "pillow",
)


@dataclass(frozen=True)
class Stopwatch:
    """When a piece of work began."""

    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    clock: float = field(default_factory=time.perf_counter)

    def circumstances(
        self, stage: str, device: str, memory_saved_by: tuple[str, ...] = ()
    ) -> Circumstances:
        """Return what a record says of work of `stage` that ends now."""
        return Circumstances(
            code=code_of(stage),
            libraries=library_versions(),
            device=_device_name(device),
            threads=_threads(),
            started=self.started.isoformat(timespec="seconds"),
            seconds=round(time.perf_counter() - self.clock, 3),
            peak_memory=_peak_memory(device),
            memory_saved_by=memory_saved_by,
        )


@cache
def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that results may depend on."""
    versions = {name: metadata.version(name) for name in LIBRARIES}
    return {"python": platform.python_version(), **versions}


def _threads() -> int:
    import torch

    return int(torch.get_num_threads())


def _device_name(device: str) -> str:
    if device.startswith("cuda"):
        import torch

        return str(torch.cuda.get_device_name(device))
    return device


def _peak_memory(device: str) -> int:
    """Return the most memory used so far in bytes, of the GPU if one is used."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
