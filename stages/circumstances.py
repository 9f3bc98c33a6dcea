"""Under what circumstances a result was made: code, libraries, device, time and memory."""

import platform
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path

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

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
"""Tells Linux to count the peak of resident memory from now on."""


@dataclass(frozen=True)
class Stopwatch:
    """When a piece of work began on a device."""

    device: str
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    clock: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        """Count the peak of memory from now on."""
        _reset_peak_memory(self.device)

    def circumstances(
        self, stage: str, memory_saved_by: tuple[str, ...] = (), share: int = 1
    ) -> Circumstances:
        """Return what a record says of work of `stage` that ends now.

        Args:
            share: items that were made together; each counts for an equal part of the time.
        """
        return Circumstances(
            code=code_of(stage),
            libraries=library_versions(),
            device=_device_name(self.device),
            threads=_threads(),
            started=self.started.isoformat(timespec="seconds"),
            seconds=round((time.perf_counter() - self.clock) / share, 3),
            peak_memory=_peak_memory(self.device),
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


def _reset_peak_memory(device: str) -> None:
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):  # no Linux, or a kernel that does not allow it
            _CLEAR.write_text(_RESET_PEAK)


def _peak_memory(device: str) -> int:
    """Return the most memory used since it was reset, in bytes; 0 where nobody counts it.

    Of the GPU if one is used, else the resident memory of this process.
    """
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated(device))
    with suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return 0
