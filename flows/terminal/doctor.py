"""Whether what is here is enough for what is asked for."""

import os
import platform
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib.metadata import version
from itertools import product
from operator import attrgetter
from pathlib import Path

from rich.filesize import decimal

from adaptivedrag.config import EditConfig
from adaptivedrag.devices import free_memory
from adaptivedrag.errors import AdaptiveDragError
from adaptivedrag.model.lora_files import LoraFile
from adaptivedrag.presets import POCKET
from artifacts import ArtifactError, ArtifactStore
from flows.outcomes import ALL_DONE, NOT_STARTED
from flows.prefect_server import PrefectServer
from flows.prefect_settings import PrefectUnavailable, configured_api_url
from flows.preflight import NotReady, check_device, check_memory, check_room
from flows.terminal.console import say
from flows.terminal.jobs import load
from stages.jobs.edit import Edit, Job
from stages.planning.forecast import forecast
from stages.planning.memory import Peak, peak_of
from stages.planning.models import check_segmenter, diffusion_files, segmenter_files
from stages.planning.plan import JobPlan, plan_job
from stages.planning.resolved import Setting

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
Check = Callable[[], str]
"""Says what is here; raises an error that says what is not."""


def check_installation(
    path: Path | None,
    model: str | None,
    vae: str | None,
    segmenter: str | None,
    store: str,
    device: str,
) -> int:
    """Print one line for each thing that a run needs.

    Args:
        path: a job, whose models are judged too.
        model: as in a job; None for the job's, or the pocket model.
        vae: for that model, in place of its own.
        segmenter: as the model.

    Raises:
        InvalidEdit: if the job cannot be read.
    """
    job = load(path) if path else None
    models, segmenters = _named(job, model, vae, segmenter)
    checks: list[tuple[str, Check]] = [
        ("versions", _versions),
        ("devices", _devices),
        ("device", partial(_device, device)),
        *(("model", partial(_model, *named)) for named in models),
        *(("segmenter", partial(_segmenter, named)) for named in segmenters),
        ("store", lambda: f"{ArtifactStore.open(store).location}, writable"),
        ("prefect", _prefect),
    ]
    missing = [name for name, check in checks if not _is_there(name, check)]
    if not {"device", "model", "segmenter", "store"} & {*missing}:
        needs = _needs_of_job(job, store, device) if job else _needs(models, segmenters, device)
        missing += [name for name, check in needs if not _is_there(name, check)]
    if missing:
        say(f"Missing: {', '.join(dict.fromkeys(missing))}")
    return NOT_STARTED if missing else ALL_DONE


def _named(
    job: Job | None, model: str | None, vae: str | None, segmenter: str | None
) -> tuple[list[tuple[str, str | None]], list[str]]:
    """Return the models, each with the VAE that replaces its own, and the segmenters."""
    edits = job.edits if job else ()
    models = dict.fromkeys((edit.model, edit.vae) for edit in edits)
    segmenters = dict.fromkeys(edit.segmenter for edit in edits if edit.config.needs_segmenter)
    if model or vae or not job:
        models[model or POCKET, vae] = None
    if segmenter or not job:
        segmenters[segmenter or POCKET] = None
    return [*models], [*segmenters]


def _is_there(name: str, check: Check) -> bool:
    expected = (AdaptiveDragError, ArtifactError, NotReady, PrefectUnavailable, ImportError)
    try:
        say(f"{name + ':':<11}{check()}")
    except expected as error:
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


def _device(name: str) -> str:
    check_device(name)
    return f"{name} can be used"


def _model(name: str, vae: str | None) -> str:
    files = diffusion_files(name, vae)
    with_vae = f" with the VAE of {vae}" if vae else ""
    notes = "".join(f"; {note}" for note in files.source.notes)
    return f"{name} at {files.source.path}{with_vae}, {files.architecture.name}{notes}"


def _segmenter(name: str) -> str:
    found = segmenter_files(name)
    check_segmenter(found)
    return f"{name} at {found.path}"


def _needs(
    models: Iterable[tuple[str, str | None]], segmenters: Iterable[str], device: str
) -> list[tuple[str, Check]]:
    """Judge an edit of 512×512 pixels with the settings of `paper`, which trains a LoRA."""
    settings = [
        Setting.of(EditConfig(), *model, segmenter, 512, 512)
        for model, segmenter in product(models, segmenters)
    ]
    peaks = [peak_of(setting, trains=True) for setting in settings]
    return [("memory", lambda: _memory(peaks, device))]


def _needs_of_job(job: Job, store: str, device: str) -> list[tuple[str, Check]]:
    opened = ArtifactStore.open_to_read(store)
    plan = plan_job(job, opened)
    peaks = [peak_of(each.resolved.setting, trains=_trains(each.edit)) for each in plan.edits]
    return [
        ("memory", lambda: _memory(peaks, device)),
        ("room", lambda: _room(plan, opened, device)),
    ]


def _trains(edit: Edit) -> bool:
    return not (edit.no_lora or isinstance(edit.lora, LoraFile))


def _memory(peaks: Sequence[Peak], device: str) -> str:
    if not peaks:
        return "there is no edit to do"
    most = max(peaks, key=attrgetter("usual"))
    return check_memory(most, free_memory(device), device)


def _room(plan: JobPlan, store: ArtifactStore, device: str) -> str:
    expected = forecast(plan, store, device)
    check_room(expected, store)
    total = expected.total
    unknown = f" and {total.unknown} artifacts of unknown size" if total.unknown else ""
    free = "" if expected.free is None else f"; {decimal(expected.free)} are free"
    return f"{plan.job.name} needs {decimal(total.size)}{unknown}{free}"


def _prefect() -> str:
    url = configured_api_url()
    if not url:
        return "no server configured; each run starts a temporary one"
    server = PrefectServer(url)
    server.wait_until_ready()
    return f"server at {server.shown} answers"
