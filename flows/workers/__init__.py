"""Many workers: shards of a job as flow runs of a work pool, and what brings lost ones back."""

import platform

POOL = "adaptivedrag"
"""The work pool that is meant where no other is named."""


def worker_name(pid: int) -> str:
    """Return by which name Prefect knows the worker that is a process of this machine."""
    return f"{platform.node()}-{pid}"
