"""Judge a picture: how near an edit came to its true result, and what the literature measures.

Evaluation is a stage that only `eval` asks for. Its action is named by the picture that is judged,
by what the picture was to show, and by everything that it is measured with, so that a second
evaluation reads what the first one found.
"""

from collections.abc import Callable, Container, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

import numpy as np

from adaptivedrag.config import EditConfig
from adaptivedrag.errors import InvalidEdit, MetricUnavailable
from adaptivedrag.pictures.masks import Mask
from adaptivedrag.points import Drag, ImagePoint
from adaptivedrag.presets import POCKET, preset
from artifacts import (
    Action,
    ArtifactCorrupt,
    ArtifactStore,
    Digest,
    Document,
    Produced,
    Record,
    digest_bytes,
    digest_json,
    digest_pixels,
)
from stages.circumstances import Stopwatch
from stages.images import Pixels, digest_mask, read_image, read_mask
from stages.jobs.edit import Edit, SceneEdit
from stages.planning.models import DiffusionFiles, diffusion_files
from stages.stage import Made, as_planned

if TYPE_CHECKING:
    import numpy.typing as npt

    from adaptivedrag.metrics import ClipImages, DiftProtocol, ImageFidelity, TrueResult
    from adaptivedrag.model.diffusion import DiffusionModel
    from adaptivedrag.scenes import SceneDrag

STAGE = "evaluate"
RESULT = "sample_image"
"""The name of the result among its inputs."""
STAGE_VERSION = 2
SEED = 0
"""Of the draws of DIFT, the same for a source and its edits: equal pictures match exactly."""
DAI_RADII = (1, 20)
SOURCES = 32
"""Images whose features are kept: 2 MB each of the pocket model at 512 px, 5 of SD 2.1."""
POINT_DIGITS = 0.01
"""Points of scenes are written with two digits."""

DO_NOTHING, RECONSTRUCT, PASTE, ERASE, FLAT, BLUR = CONTROLS = (
    "do nothing",
    "reconstruct only",
    "paste",
    "erase",
    "flat",
    "blur",
)

Measures: TypeAlias = dict[str, list[float | None]]
"""By name: one value for the edit, or one for each of its pairs; None where it is undefined. What
was not measured is left out."""
Metric = TypeVar("Metric")


class OtherSize(InvalidEdit):
    """A result is not of the size of its image."""


class NotTheScene(InvalidEdit):
    """An edit's image or drags are not those of the scene that it names."""


class NoRegion(InvalidEdit):
    """A control needs to know what is dragged, and the edit has neither a scene nor a mask."""


@dataclass(frozen=True)
class Candidate:
    """A picture that is to be judged: the result of a stage, or a control.

    Attributes:
        result: digest of what the stage made; None for a control.
        control: the control's name.
        read: returns the picture, uint8 RGB; called only if it was not judged before.
        witnessed: distances from where the witness found the handles to their targets, in pixels;
            None where it was not asked yet.
    """

    result: Digest | None
    control: str | None
    read: Callable[[], Pixels]
    witnessed: tuple[float, ...] | None = None

    @classmethod
    def of_record(
        cls, store: ArtifactStore, record: Record, witness: Record | None = None
    ) -> "Candidate":
        """Take the image that a record of `sample_image` names, and what its witness said."""
        points: Any = witness.summary["points"] if witness else ()
        witnessed = tuple(point["distance"] for point in points) if witness else None
        return cls(record.logical, None, lambda: store.read(record)["image"], witnessed)

    @classmethod
    def of_control(cls, name: str, edit: Edit) -> "Candidate":
        """Take a control that needs no model; see `control_picture`."""
        return cls(None, name, lambda: control_picture(name, edit))


@dataclass(frozen=True)
class Judgment:
    """What was found of one picture.

    Attributes:
        kind: of the drag of a scene; "" for other pictures.
    """

    measures: Measures
    kind: str


@dataclass(frozen=True)
class Instruments:
    """What pictures are measured with.

    Attributes:
        dift: the model whose features MD compares; None: the pocket model for scenes, which it
            knows, and none for other pictures.
        unavailable: one line for each metric whose weights are not here, with how to get them.
    """

    dift: str | None
    device: str
    fidelity: "ImageFidelity | None"
    clip: "ClipImages | None"
    unavailable: tuple[str, ...]

    @classmethod
    def find(cls, dift: str | None = None, device: str = "cpu") -> "Instruments":
        """Look for the weights of all metrics.

        Raises:
            ModelUnavailable: if the model that is named for DIFT is not here.
        """
        from adaptivedrag.metrics import ClipImages, ImageFidelity

        if dift is not None:
            diffusion_files(dift)
        lacking: list[str] = []
        fidelity = _found(lambda: ImageFidelity.load(device), lacking)
        clip = _found(lambda: ClipImages.load(device=device), lacking)
        return cls(dift, device, fidelity, clip, tuple(lacking))

    @property
    def protocol(self) -> "DiftProtocol":
        """Where DIFT's features are read."""
        from adaptivedrag.metrics import DRAGBENCH_PROTOCOL, POCKET_PROTOCOL

        return POCKET_PROTOCOL if self.dift in (None, POCKET) else DRAGBENCH_PROTOCOL

    @property
    def in_words(self) -> str:
        """Return which features MD compares."""
        protocol = self.protocol
        model = self.dift or "the pocket UNet (scenes only)"
        return (
            f"DIFT features of {model}, timestep {protocol.timestep}, up block "
            f"{protocol.up_block}, ensemble {protocol.ensemble}, one seed for source and edit"
        )

    def dift_files(self, edit: Edit) -> DiffusionFiles | None:
        """Return the model whose features are compared for this edit."""
        name = self.dift or (POCKET if edit.scene else None)
        return diffusion_files(name) if name else None


@dataclass(frozen=True)
class Judged:
    """What evaluations have kept of results; reading it measures nothing and loads no weights."""

    _newest: Mapping[frozenset[tuple[str, Digest]], Record]

    @classmethod
    def of_results(cls, store: ArtifactStore, results: Container[Digest]) -> "Judged":
        """Read the newest judgment of each of these results, whatever it was measured with.

        Raises:
            StoreUnavailable: if the store cannot be read.
        """
        newest: dict[frozenset[tuple[str, Digest]], Record] = {}
        for record in store.records_of(STAGE):
            judged = frozenset(record.inputs.items())
            before = newest.get(judged)
            is_newer = not before or record.circumstances.started > before.circumstances.started
            is_wanted = record.version == STAGE_VERSION and record.inputs.get(RESULT) in results
            if is_wanted and is_newer:
                newest[judged] = record
        return cls(newest)

    def of(self, edit: Edit, result: Digest) -> Measures:
        """Return what was measured of the result of an edit; nothing if it was not judged."""
        record = self._newest.get(frozenset(_inputs(edit, result).items()))
        measures: Any = record.summary["measures"] if record else {}
        return cast(Measures, measures)


def _inputs(edit: Edit, result: Digest | None) -> dict[str, Digest]:
    """Return what names the judgment of an edit's result; of a control, without a result."""
    inputs = {
        "image": edit.image.digest,
        "prompt": digest_bytes("prompt", edit.prompt.encode()),
        "drags": digest_json("drags", edit.points),
        "user_mask": edit.mask_digest,
        RESULT: result,
    }
    return {name: digest for name, digest in inputs.items() if digest is not None}


def _found(load: Callable[[], Metric], lacking: list[str]) -> Metric | None:
    try:
        return load()
    except MetricUnavailable as error:
        lacking.append(str(error))
        return None


class Judge:
    """Judges pictures, and keeps what it finds in the store."""

    def __init__(self, store: ArtifactStore, instruments: Instruments) -> None:
        """Measure with `instruments`; models are loaded when they are needed."""
        self.store = store
        self.instruments = instruments
        self._load = lru_cache(maxsize=2)(self._loaded)  # for DIFT and for the witness
        self._sources: dict[tuple[str, ...], npt.NDArray[np.float32]] = {}
        self._last: tuple[tuple[str, ...], npt.NDArray[np.float32]] | None = None
        self._witnessed: tuple[tuple[Any, ...], npt.NDArray[np.float32]] | None = None

    def judge(self, edit: Edit, candidate: Candidate) -> Judgment:
        """Return what the store knows of a picture, or measure it.

        Raises:
            OtherSize, NotTheScene, NoRegion: if it cannot be judged.
            InvalidEdit: if the edit's files have changed since they were checked.
            ArtifactError: if the picture cannot be read, or the store fails.
        """
        action = self._action(edit, candidate)

        def measure() -> Produced:
            watch = Stopwatch(self.instruments.device)
            made = self._measured(edit, candidate)
            return Produced(made.payload, watch.circumstances(STAGE), made.summary)

        record = self.store.ensure(action, measure)
        try:
            found = self.store.read(record)
        except ArtifactCorrupt:  # the store knows it now, so the judgment is made again
            found = self.store.read(self.store.ensure(action, measure))
        measures: Measures = found["judgement"]["measures"]
        if candidate.witnessed is not None:
            measures = {**measures, "witness_distance": [*candidate.witnessed]}
        return Judgment(measures, found["judgement"]["kind"])

    def _action(self, edit: Edit, candidate: Candidate) -> Action:
        instruments, dift = self.instruments, self.instruments.dift_files(edit)
        config: dict[str, Any] = {
            "control": candidate.control,
            "scene": asdict(edit.scene) if edit.scene else None,
            "dift": asdict(instruments.protocol) if dift else None,
            "seed": SEED,
            "dai_radii": list(DAI_RADII),
            "fidelity": instruments.fidelity is not None,
            "clip": instruments.clip is not None,
        }
        models = {"dift": dift.digest} if dift else {}
        if candidate.witnessed is None:
            config["witness"] = _witness_settings(edit)
            models["witness"] = diffusion_files(edit.model, edit.vae).digest
        return Action(
            STAGE,
            STAGE_VERSION,
            config,
            _inputs(edit, candidate.result),
            models,
        )

    def _measured(self, edit: Edit, candidate: Candidate) -> Made:
        picture, image = candidate.read(), source_image(edit)
        if picture.shape != image.shape:
            raise OtherSize(
                f"edit {edit.id}: the result is {picture.shape[1]}x{picture.shape[0]} and the "
                f"image {edit.image.width}x{edit.image.height}: run the job again"
            )
        drag = true_drag(edit) if edit.scene else None
        measures = (
            self._against_truth(edit, drag, picture) if drag else _outside_mask(edit, picture)
        )
        measures |= self._by_features(edit, picture) | self._by_pixels(edit, picture)
        if candidate.witnessed is None:
            measures |= self._by_witness(edit, picture)
        summary = {"kind": drag.kind if drag else "", "measures": measures}
        return Made({"judgement": Document(summary)}, summary)

    def _against_truth(self, edit: Edit, drag: "SceneDrag", picture: Pixels) -> Measures:
        from adaptivedrag.metrics import find_true_end, preservation, recovery

        assert edit.scene is not None
        result = true_result(edit.scene, len(picture))
        end = find_true_end(drag, picture)
        regions = {"arrival": result.arrival, "departure": result.departure}
        found = Measures()
        for name, region in regions.items():
            each = recovery(result.before, result.truth, picture, region)
            found[f"{name}_recovery"] = [each.share]
            found[f"{name}_error"] = [each.error]
            found[f"{name}_at_stake"] = [each.at_stake]
        return {
            **found,
            "preservation": [preservation(result.before, picture, result.outside)],
            "true_distance": list(end.distances),
            "true_share": [end.share],
            "content_found": [float(end.found)],
        }

    def _by_features(self, edit: Edit, picture: Pixels) -> Measures:
        from adaptivedrag.metrics import distances, find_handles

        files = self.instruments.dift_files(edit)
        if files is None:
            return {}
        source = self._source_features(files, edit)
        same = np.array_equal(picture, source_image(edit))
        edited = source if same else self._features(files, picture, edit.prompt)
        handles, targets = zip(*edit.drags, strict=True)
        size = picture.shape[:2]
        ends = find_handles(source, edited, handles, size)
        found = {"matched_distance": distances(ends, targets)}
        mask = user_mask(edit)
        if mask is not None and mask.any():
            ends = find_handles(source, edited, handles, size, mask)
            found["masked_distance"] = distances(ends, targets)
        return cast(Measures, found)

    def _by_witness(self, edit: Edit, picture: Pixels) -> Measures:
        """Ask the witness as the stage `locate_handles` does, in float32."""
        from adaptivedrag.model.diffusion import working_image
        from adaptivedrag.witness import compare, seen_by_witness

        files, settings = diffusion_files(edit.model, edit.vae), edit.config.locate_handles
        model = self._load(files)
        height, width = picture.shape[:2]
        frame = model.frame(height, width, edit.config.working_size)

        def seen(pixels: Pixels) -> "npt.NDArray[np.float32]":
            return seen_by_witness(model, working_image(pixels, frame), edit.prompt, settings)

        key = (files, edit.image.digest, edit.prompt, settings, edit.config.working_size)
        if self._witnessed is None or self._witnessed[0] != key:
            self._witnessed = key, seen(source_image(edit))
        source = self._witnessed[1]
        same = np.array_equal(picture, source_image(edit))
        found = compare(source, source if same else seen(picture), edit.drags, frame)
        return {"witness_distance": [point.distance for point in found.points]}

    def _by_pixels(self, edit: Edit, picture: Pixels) -> Measures:
        from adaptivedrag.metrics import drag_accuracy_index, legacy_drag_accuracy_index

        image, found = source_image(edit), Measures()
        for radius in DAI_RADII:
            found[f"dai_{radius}"] = [drag_accuracy_index(image, picture, edit.drags, radius)]
            found[f"dai_{radius}_legacy"] = [
                legacy_drag_accuracy_index(image, picture, edit.drags, radius)
            ]
        if self.instruments.fidelity:
            found["fidelity"] = [self.instruments.fidelity(image, picture)]
        if self.instruments.clip:
            found["clip"] = [self.instruments.clip(image, picture)]
        return found

    def _source_features(self, files: DiffusionFiles, edit: Edit) -> "npt.NDArray[np.float32]":
        """Return the features of the edit's image; every row asks for the same images in turn."""
        key = (files.digest, edit.image.digest, edit.prompt)
        if key not in self._sources:
            if len(self._sources) == SOURCES:  # not the oldest: the next row begins with it
                self._sources.popitem()
            self._sources[key] = self._features(files, source_image(edit), edit.prompt)
        return self._sources[key]

    def _features(
        self, files: DiffusionFiles, picture: Pixels, prompt: str
    ) -> "npt.NDArray[np.float32]":
        """Return the features of a picture; those of the last one are kept.

        Edits of one image, one after another, may have the same result: without a drag they do.
        """
        from adaptivedrag.metrics import dift_features

        key = (files.digest, digest_pixels(picture), prompt)
        if self._last is None or self._last[0] != key:
            model = self._load(files)
            found = dift_features(model, picture, prompt, self.instruments.protocol, SEED)
            self._last = key, found
        return self._last[1]

    def _loaded(self, files: DiffusionFiles) -> "DiffusionModel":
        from adaptivedrag.model.diffusion import DiffusionModel

        return DiffusionModel.load(files.source, "float32", self.instruments.device)


def _witness_settings(edit: Edit) -> dict[str, Any]:
    size = edit.config.working_size
    return {**edit.config.locate_handles.model_dump(mode="json"), "working_size": size}


def _outside_mask(edit: Edit, picture: Pixels) -> Measures:
    """Measure what there is without a truth: that nothing changed outside the dataset's mask."""
    from adaptivedrag.metrics import preservation

    mask = user_mask(edit)
    if mask is None or not mask.any():
        return {}
    return {"preservation": [preservation(source_image(edit), picture, ~mask)]}


def reconstruction(edit: Edit) -> Edit:
    """Return the edit that drags nothing: LoRA, inversion and sampling with this edit's settings.

    All edits of an image have the same one, with every preset of the same LoRA. A drag without
    length leaves the inverted latents as they are, and an edit that is its own reference needs no
    control; nor is anything kept of the image that the model has not made.
    """
    center = ImagePoint(edit.image.width // 2, edit.image.height // 2)
    plain = EditConfig()
    config = edit.config.merged(
        {
            "extract_superpixels": {**plain.extract_superpixels.model_dump(), "source": "rgb"},
            "build_mask": plain.build_mask.model_dump(),
            "optimize_latent": plain.optimize_latent.model_dump(),
            "sample_image": {
                **plain.sample_image.model_dump(),
                "reference_control": False,
                "correspondence": "off",
            },
        }
    )
    lora = "off" if edit.no_lora else edit.lora
    return replace(edit, drags=(Drag(center, center),), config=config, lora=lora, scene=None)


def pasted(edit: Edit) -> Edit:
    """Return the edit by preset `paste`: its content laid on at its place, without a model.

    The segmenter, the size that it sees, and whether the user's mask is heeded stay.
    """
    own = edit.config
    kept: dict[str, Any] = {name: getattr(own, name) for name in ("dtype", "seed", "working_size")}
    if own.build_mask.mode == "user":
        kept["build_mask"] = {"mode": "user"}
    return replace(edit, config=preset("paste", edit.model).merged(kept), lora="auto")


def control_picture(name: str, edit: Edit) -> Pixels:
    """Return what a control makes of an edit's image, uint8 RGB; no model is needed.

    Erasing paints a scene without the dragged part, and fills the mask of other pictures from its
    border. The region that is made flat or blurred is the part before and after the drag.

    Raises:
        NoRegion: if the edit has neither a scene nor a mask.
    """
    from adaptivedrag.metrics import blurred, erased, flattened, render_without

    image = source_image(edit)
    if name == DO_NOTHING:
        return image
    if name == ERASE and edit.scene:
        drag = true_drag(edit)
        return render_without(drag.before, drag.part, len(image))
    return {ERASE: erased, FLAT: flattened, BLUR: blurred}[name](image, _dragged_region(edit))


def _dragged_region(edit: Edit) -> Mask:
    if edit.scene:
        result = true_result(edit.scene, edit.image.width)
        return cast(Mask, result.arrival | result.departure)
    mask = user_mask(edit)
    if mask is None or not mask.any():
        raise NoRegion(f"edit {edit.id}: it has no mask, so nothing says what is dragged")
    return mask


def true_drag(edit: Edit) -> "SceneDrag":
    """Return the drag of a scene, after comparing the edit's points and image with it.

    Raises:
        NotTheScene: if the edit is not that drag of that scene.
    """
    assert edit.scene is not None
    number, index, size = edit.scene.number, edit.scene.drag, edit.image.width
    seen = scene_drags(number)
    where = f"edit {edit.id}: scene {number}"
    if index >= len(seen):
        raise NotTheScene(f"{where} has {len(seen)} drags, and none is {index}: import it again")
    drag = seen[index]
    true = np.array(drag.pixels(size))
    given = np.array(edit.drags, float)
    if true.shape != given.shape or np.abs(true - given).max() > POINT_DIGITS:
        raise NotTheScene(f"{where}: the points are not those of its drag {index}: import it again")
    if digest_pixels(true_result(edit.scene, size).before) != edit.image.digest:
        raise NotTheScene(f"{where} is rendered otherwise than {edit.image_path}: import it again")
    return drag


@cache
def scene_drags(number: int) -> "tuple[SceneDrag, ...]":
    """Return the drags of a benchmark scene; which of them are seen is found by painting it."""
    from adaptivedrag.scenes import benchmark_scene, drags

    return drags(benchmark_scene(number))


@lru_cache(maxsize=128)
def true_result(scene: SceneEdit, size: int) -> "TrueResult":
    """Render the true result of a drag of a scene."""
    from adaptivedrag.metrics import TrueResult

    return TrueResult.of(scene_drags(scene.number)[scene.drag], size)


@lru_cache(maxsize=8)
def source_image(edit: Edit) -> Pixels:
    """Read an edit's image.

    Raises:
        InputChanged: if its pixels are not those that the edit was checked with.
    """
    with as_planned(edit, edit.image_path) as check:
        # Torch wants arrays that can be written.
        pixels = np.array(read_image(edit.image_path, edit.image.pixels))
        check(digest_pixels(pixels) == edit.image.digest)
    return pixels


def user_mask(edit: Edit) -> Mask | None:
    """Read an edit's mask, True where the image may change; None if it has none.

    Raises:
        InputChanged: if it is not the mask that the edit was checked with.
    """
    if edit.mask_path is None:
        return None
    with as_planned(edit, edit.mask_path) as check:
        mask = read_mask(edit.mask_path, edit.image.pixels)
        check(digest_mask(mask) == edit.mask_digest)
    return mask
