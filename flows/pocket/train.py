"""The flow that trains the pocket models from scratch, resumes them, and exports their weights.

Runs lie in the work directory, one folder per model (`flows.pocket.runs`). A killed run goes on
from its last checkpoint and ends with the same weights.
"""

import time
import tomllib
from pathlib import Path
from typing import Literal, cast, get_args

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from adaptivedrag.model.weights import find_diffusion, find_segmenter
from adaptivedrag.pocket_training.diffusion import DiffusionTraining
from adaptivedrag.pocket_training.linear_code import LatentCode
from adaptivedrag.pocket_training.segmenter import SegmenterTraining
from adaptivedrag.pocket_training.settings import PocketSettings
from adaptivedrag.pocket_training.training import Training
from adaptivedrag.pocket_training.vae import VaeTraining, latent_code
from adaptivedrag.presets import POCKET
from flows.outcomes import InvalidRequest
from flows.pocket.export import (
    export_diffusion,
    export_segmenter,
    read_code,
    start_diffusion,
    start_segmenter,
    start_vae,
)
from flows.pocket.runs import Pace, continue_run, resume
from flows.prefect_server import client_settings, temporary_server

Model = Literal["vae", "diffusion", "segmenter"]
MODELS: tuple[Model, ...] = get_args(Model)
SHARES: dict[Model, float] = {"vae": 0.2, "diffusion": 0.6, "segmenter": 0.2}
SETTINGS = Path(__file__).with_name("pocket.toml")


def train_pocket(
    work_dir: Path,
    minutes: float | None,
    only: str | None,
    *,
    from_shipped: bool = False,
    settings: Path = SETTINGS,
    export_dir: Path | None = None,
) -> None:
    """Train under the user's Prefect server or a temporary one, then export.

    Args:
        work_dir: where runs are kept and resumed from.
        minutes: wall-clock time for all models; None trains to the end of every schedule.
        only: the one model to train.
        from_shipped: start new runs at the shipped weights.
        export_dir: where the weights go; by default ``pocket`` in the work directory. To ship
            them, copy that directory over ``adaptivedrag/pocket``.

    Raises:
        InvalidRequest: `only` names no model.
        PrefectUnavailable: no server answers.
    """
    if only is not None and only not in MODELS:
        raise InvalidRequest(f"There is no pocket model {only!r}; models: {', '.join(MODELS)}.")
    target = export_dir or work_dir / "pocket"
    with temporary_server() as server:
        server.wait_until_ready()
        with client_settings(server):
            train_pocket_flow(
                str(work_dir.resolve()),
                minutes,
                [only] if only else None,
                str(settings),
                str(target.resolve()),
                from_shipped,
            )


@flow(name="train-pocket", persist_result=False)
def train_pocket_flow(
    work_dir: str,
    minutes: float | None = None,
    models: list[str] | None = None,
    settings: str = str(SETTINGS),
    export_dir: str | None = None,
    from_shipped: bool = False,
) -> None:
    """Train models one after the other, each for its share of the minutes, then export."""
    chosen = [name for name in MODELS if models is None or name in models]
    whole = sum(SHARES[name] for name in chosen)
    for name in chosen:
        share = None if minutes is None else minutes * SHARES[name] / whole
        train_model(name, work_dir, settings, share, from_shipped)
    if export_dir is not None:
        export_models(chosen, work_dir, settings, export_dir, from_shipped)


@task(task_run_name="train {name}", retries=0, cache_policy=NO_CACHE, persist_result=False)
def train_model(
    name: Model, work_dir: str, settings: str, minutes: float | None, from_shipped: bool
) -> int:
    """Train one model from where its run stands; return the steps done in all."""
    until = None if minutes is None else time.monotonic() + 60 * minutes
    training = _begun(name, work_dir, settings, from_shipped)
    return continue_run(training, Path(work_dir) / name, Pace(until))


@task(retries=0, cache_policy=NO_CACHE, persist_result=False)
def export_models(
    models: list[Model], work_dir: str, settings: str, export_dir: str, from_shipped: bool
) -> None:
    """Export the named models as they stand; VAE and UNet share a directory and go together."""
    target = Path(export_dir)
    if {"vae", "diffusion"} & set(models):
        vae = cast(VaeTraining, _begun("vae", work_dir, settings, from_shipped))
        diffusion = cast(DiffusionTraining, _begun("diffusion", work_dir, settings, from_shipped))
        export_diffusion(vae, diffusion, target / "diffusion")
    if "segmenter" in models:
        segmenter = cast(SegmenterTraining, _begun("segmenter", work_dir, settings, from_shipped))
        export_segmenter(segmenter, target / "segmenter")


def read_settings(path: str | Path) -> PocketSettings:
    return PocketSettings.model_validate(tomllib.loads(Path(path).read_text("utf-8")))


def build(name: Model, settings: PocketSettings, code: LatentCode | None = None) -> Training:
    """Build a model at step 0; VAE and UNet use a given code or fit one."""
    if name == "vae":
        return VaeTraining(settings.vae, code or latent_code(settings.vae))
    if name == "diffusion":
        return DiffusionTraining(
            settings.diffusion, settings.vae, code or latent_code(settings.vae)
        )
    return SegmenterTraining(settings.segmenter)


def _begun(name: Model, work_dir: str, settings: str, from_shipped: bool) -> Training:
    """Return a model where its run stands, or at step 0 with fresh or shipped weights."""
    wanted = read_settings(settings)
    shipped = find_diffusion(POCKET).parent
    code = read_code(shipped, wanted.vae) if from_shipped and name != "segmenter" else None
    training = build(name, wanted, code)
    if not resume(training, Path(work_dir) / name) and from_shipped:
        if isinstance(training, VaeTraining):
            start_vae(training, find_diffusion(POCKET))
        elif isinstance(training, DiffusionTraining):
            start_diffusion(training, find_diffusion(POCKET))
        elif isinstance(training, SegmenterTraining):
            start_segmenter(training, find_segmenter(POCKET))
    return training
