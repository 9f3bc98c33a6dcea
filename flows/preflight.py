"""What a machine must have before the first edit is begun.

A machine's fault is found at once, ends a command with exit code 2, and is never recorded against
an edit. Models are checked where a job is planned, and the Prefect server where it is reached.
"""

from collections.abc import Collection, Mapping

from rich.filesize import decimal

from adaptivedrag.devices import compiler_fault, device_fault
from artifacts import ArtifactStore
from stages.pipeline import BY_NAME, STAGE_NAMES
from stages.planning.forecast import Forecast, forecast
from stages.planning.memory import Peak
from stages.planning.models import SegmenterFiles, check_segmenter
from stages.planning.plan import EditPlan, JobPlan


class NotReady(Exception):
    """This machine cannot do the work; the message says what it lacks and what to do."""


def check_ready(
    plan: JobPlan,
    store: ArtifactStore,
    device: str,
    wanted: Mapping[str, Collection[str]] | None = None,
) -> Forecast:
    """Check that a device can be used, segmenters are whole, and the store has room.

    Args:
        wanted: ids of the edits that each stage is to run for; by default what is missing.

    Returns:
        What there is to make, and how long that takes.

    Raises:
        NotReady: if the machine cannot do what is missing.
        UnsupportedModel: if a segmenter that is needed cannot be loaded.
    """
    check_device(device)
    stages = STAGE_NAMES if wanted is None else tuple(wanted)
    for segmenter in {found for each in plan.edits if (found := _segmenter_of(each, stages))}:
        check_segmenter(segmenter)
    expected = forecast(plan, store, device, wanted)
    check_room(expected, store)
    return expected


def _segmenter_of(plan: EditPlan, stages: Collection[str]) -> SegmenterFiles | None:
    needed = any("segmenter" in BY_NAME[name].models for name in plan.to_make if name in stages)
    return plan.resolved.setting.segmenter if needed else None


def check_device(device: str) -> None:
    """Check that torch can compute on a device.

    Raises:
        NotReady: naming the devices that there are.
    """
    if fault := device_fault(device):
        raise NotReady(f"--device {device:.40} cannot be used: {fault}")


def check_compiler(device: str) -> None:
    """Check that a model can be compiled for a device.

    Raises:
        NotReady: if not.
    """
    if fault := compiler_fault(device):
        raise NotReady(f"--compile cannot be done: {fault}; install it, or go without --compile")


def check_room(expected: Forecast, store: ArtifactStore) -> None:
    """Check that what there is to make, by what the store's records took, fits onto its disk.

    Raises:
        NotReady: if it does not.
    """
    size = expected.total.size
    if expected.free is not None and size > expected.free:
        raise NotReady(
            f"the store {store.location} needs {decimal(size)} more and its disk has "
            f"{decimal(expected.free)} free: make room (`adaptivedrag store gc` frees what no job "
            "needs), select fewer edits, or name another --store"
        )


def check_memory(peak: Peak, free: int | None, device: str) -> str:
    """Say what edits take of a device's memory by calculation, and what that means.

    Raises:
        NotReady: if it is not enough even where stages save memory.
    """
    needs = f"edits take about {_gib(peak.usual)} by calculation"
    if free is None or free >= peak.usual:
        return needs if free is None else f"{needs}, and {device} has {_gib(free)} free"
    if free >= peak.least:
        return (
            f"{needs}, and {device} has {_gib(free)} free: stages will save memory, "
            f"which takes longer ({_gib(peak.least)} do)"
        )
    raise NotReady(
        f"{needs}, {_gib(peak.least)} where they save memory, and {device} has {_gib(free)} free: "
        'end what else runs on it, or set dtype = "bfloat16" or a smaller working_size'
    )


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
