"""The keys of a job file and of its edits, as users write them."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    create_model,
)

from adaptivedrag.config import Dtype, EditConfig, overlaid
from adaptivedrag.errors import InvalidEdit
from adaptivedrag.methods import settings_of_others
from adaptivedrag.model.prompts import LONGEST_PROMPT, is_plain
from adaptivedrag.pictures.limit import LARGEST_LIMIT, PIXEL_LIMIT
from adaptivedrag.points import Drag, ImagePoint
from adaptivedrag.presets import DEFAULT_PRESET, POCKET, preset
from stages.jobs.complaints import first_complaint, printable
from stages.jobs.edit import BASELINE
from stages.pipeline import STAGES, JobConfig

EDITS_FILE = "edits.jsonl"
LONGEST_NAME = 1000
MOST_DRAGS = 100
LARGEST_COUNT = 10**9
LONGEST_VARIANT = 40
_VARIANT_NAME = re.compile(rf"[A-Za-z0-9_-]{{1,{LONGEST_VARIANT}}}")
LARGEST_SETTING = 1e30
"""Settings are scaled to the size of the latents, and have to stay numbers. The settings themselves
have no such bounds, since scaled ones may lie beyond."""
_LIMITS = (
    f"give a whole number up to {LARGEST_COUNT}, 0, or a fraction from {1 / LARGEST_SETTING:g} "
    f"to {LARGEST_SETTING:g}"
)

Settings: TypeAlias = dict[str, Any]
Whole = Annotated[int, Field(strict=True)]
Coordinate = Annotated[float, Field(strict=True, allow_inf_nan=False)]


def _plain(text: str) -> str:
    if not is_plain(text):
        raise ValueError("it holds a control character: remove it")
    return text


Text = Annotated[
    str, StringConstraints(strict=True, max_length=LONGEST_PROMPT), AfterValidator(_plain)
]
Name = Annotated[
    str,
    StringConstraints(strict=True, min_length=1, max_length=LONGEST_NAME),
    AfterValidator(_plain),
]


def _variant_name(name: str) -> str:
    if not _VARIANT_NAME.fullmatch(name):
        raise ValueError(
            f"a name is a part of ids, so it has 1 to {LONGEST_VARIANT} letters, digits, '_' or '-'"
        )
    if name.lower() == BASELINE:
        raise ValueError("that is what the job as it is is called: choose another")
    return name


VariantName = Annotated[str, Field(strict=True), AfterValidator(_variant_name)]


def _listed(variants: Any) -> Any:
    if not isinstance(variants, list | tuple) or not all(isinstance(v, Mapping) for v in variants):
        raise ValueError("write a table [[variants]], in two brackets, for each")
    return variants


def _told_apart(variants: "tuple[VariantSpec, ...]") -> "tuple[VariantSpec, ...]":
    names = [variant.name.lower() for variant in variants]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise ValueError(f"{variants[place].name!r} is there twice: rename one")
    return variants


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Making(_Spec):
    """The keys that say how edits are made."""

    model: Name = POCKET
    vae: Name | None = None
    """In the place of the model's own."""
    segmenter: Name = POCKET
    preset: Name = DEFAULT_PRESET
    use_mask: Annotated[bool, Field(strict=True)] = True
    """Whether a mask that an edit names is where it may change, in every preset. If not, its masks
    are left aside, unless `build_mask.mode = "user"` asks for them."""
    lora: Name = "auto"
    """"auto", "train" or "off", or the file of one."""
    dtype: Dtype | None = None
    seed: Whole | None = None
    working_size: Whole | None = None

    @property
    def settings(self) -> Settings:
        """What is set on top of the preset."""
        given = {name: getattr(self, name, None) for name in JobConfig.model_fields}
        return {name: value for name, value in given.items() if value not in (None, {})}


class VariantSpec(_Making):
    """One of `[[variants]]`: a name, and the keys that are others than in the job as it is.

    `parse_spec` adds a table of settings for each stage, as for a job.
    """

    name: VariantName


class JobSpec(_Making):
    """The keys of a job file; `parse_spec` adds a table of settings for each stage."""

    edits: Name = EDITS_FILE
    image_root: Name = "."
    """Folder of the images, relative to the job file; nothing outside it is read."""
    mask_root: Name | None = None
    """Folder of the masks, relative to the job file; by default that of the images."""
    follow_links: Annotated[bool, Field(strict=True)] = False
    """Whether images and masks may be links out of their folders, as DVC and the hub make them."""
    pixel_limit: Annotated[int, Field(strict=True, ge=1, le=LARGEST_LIMIT)] = PIXEL_LIMIT
    """Images and masks with more pixels are refused by their headers."""
    variants: Annotated[tuple[VariantSpec, ...], AfterValidator(_told_apart)] = ()
    """Every edit is made as the job is, and once more for each of them."""

    def varied(self, variant: VariantSpec) -> "JobSpec":
        """Return the job with the keys of a variant on top, and without variants."""
        own = self.model_dump(exclude_unset=True, exclude={"variants"})
        changes = variant.model_dump(exclude_unset=True, exclude={"name"})
        return type(self).model_validate(overlaid(own, changes))

    def config(self) -> tuple[EditConfig, tuple[str, ...]]:
        """Return the preset with the settings on top, and lines about those that are not used.

        Raises:
            InvalidEdit: in one line: the key, its value and what to do.
        """
        try:
            of_preset = preset(self.preset, self.model).model_dump()
            config, unused = overlay(JobConfig.model_validate(of_preset), self.settings)
        except ValidationError as error:
            raise InvalidEdit(first_complaint(error, JobConfig)[1]) from None
        if extreme := extreme_setting(self.settings):
            raise InvalidEdit(extreme[1])
        return config, unused


def overlay(config: EditConfig, settings: Settings) -> tuple[EditConfig, tuple[str, ...]]:
    """Return a configuration with settings on top, and lines about those of another drag method.

    They are left out: a job for several presets may have settings of the optimization, which the
    warp does not read.

    Raises:
        pydantic.ValidationError: for an unknown key or a value out of range.
    """
    drag = settings.get("optimize_latent")
    if not isinstance(drag, Mapping):
        return config.merged(settings), ()
    unused = settings_of_others(drag, config.optimize_latent.method)
    own = {name: value for name, value in drag.items() if name not in unused}
    found = config.merged({**settings, "optimize_latent": own})
    why = f'the method is "{found.optimize_latent.method}"'
    return found, tuple(not_used(f"optimize_latent.{name}", why) for name in unused)


def not_used(name: str, why: str) -> str:
    """Say that a setting does nothing."""
    return f"{name} is not used, because {why}"


_TABLES: dict[str, Any] = {stage.name: (Settings, {}) for stage in STAGES}
_VariantWithTables = create_model("VariantSpec", __base__=VariantSpec, **_TABLES)
_VARIANTS: Any = tuple[_VariantWithTables, ...]  # type: ignore[valid-type]
_TABLES["variants"] = (
    Annotated[_VARIANTS, BeforeValidator(_listed), AfterValidator(_told_apart)],
    (),
)
_WithTables = create_model("JobSpec", __base__=JobSpec, **_TABLES)


class DragSpec(_Spec):
    """One drag, in pixels (x, y) of the image as it is seen after EXIF orientation."""

    handle: tuple[Coordinate, Coordinate]
    target: tuple[Coordinate, Coordinate]

    @property
    def drag(self) -> Drag:
        """The drag as the method takes it."""
        return Drag(ImagePoint(*self.handle), ImagePoint(*self.target))


class SceneSpec(_Spec):
    """Which drag of which rendered scene an edit is."""

    number: Annotated[int, Field(strict=True, ge=0, lt=2**32)]
    drag: Annotated[int, Field(strict=True, ge=0)]


class EditSpec(_Spec):
    """The keys of one line of the edits file."""

    id: Annotated[str, StringConstraints(strict=True)]
    image: Name
    prompt: Text = ""
    drags: Annotated[tuple[DragSpec, ...], Field(min_length=1, max_length=MOST_DRAGS)]
    mask: Name | None = None
    tags: tuple[Name, ...] = ()
    settings: Settings = {}
    scene: SceneSpec | None = None


def parse_spec(raw: Mapping[str, Any]) -> JobSpec:
    """Check the keys and values of a job file, and that its settings can be used.

    Raises:
        InvalidEdit: in one line: the key, its value and what to do.
    """
    try:
        spec = _WithTables.model_validate(raw)
    except ValidationError as error:
        raise InvalidEdit(first_complaint(error, _WithTables)[1]) from None
    spec.config()
    for variant in spec.variants:
        _check_variant(spec, variant, f"variant {variant.name!r}")
    return spec


def with_settings(spec: JobSpec, settings: Settings) -> JobSpec:
    """Return a job with one variant more, which has these keys, and a name made of them or given.

    Raises:
        InvalidEdit: in one line, for keys that cannot be used.
    """
    try:
        given = {"name": _name_of(settings), **settings}
        variant = _VariantWithTables.model_validate(given)
        variants = _told_apart((*spec.variants, variant))
    except ValidationError as error:
        raise InvalidEdit(f"--set: {first_complaint(error, _VariantWithTables)[1]}") from None
    except ValueError as error:
        raise InvalidEdit(f"--set: the variant {error}") from None
    _check_variant(spec, variant, "--set")
    return spec.model_copy(update={"variants": variants})


def _check_variant(spec: JobSpec, variant: VariantSpec, said: str) -> None:
    try:
        spec.varied(variant).config()
    except InvalidEdit as error:
        raise InvalidEdit(f"{said}: {error}") from None


def _name_of(settings: Settings) -> str:
    """Return a name of a variant that says what it sets, such as "hole_rounds-1"."""
    words = (f"{name.rpartition('.')[2]}-{value}" for name, value in leaves(settings))
    text = re.sub(r"[^A-Za-z0-9_-]+", "-", "-".join(words)).strip("-")
    if len(text) <= LONGEST_VARIANT:
        return text
    digest = hashlib.sha256(repr(settings).encode()).hexdigest()[:8]
    return f"{text[: LONGEST_VARIANT - 9]}-{digest}"


def leaves(settings: Settings, above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every setting by its full name, such as "sample_image.hole_rounds"."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from leaves(dict(value), f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def extreme_setting(settings: Settings, above: str = "") -> tuple[str, str] | None:
    """Find a number that could not be scaled to the latents; return its path and a complaint."""
    for name, value in settings.items():
        path = f"{above}{name}"
        values = value if isinstance(value, list | tuple) else [value]
        if isinstance(value, dict):
            if extreme := extreme_setting(value, f"{path}."):
                return extreme
        elif name != "seed" and any(_is_extreme(each) for each in values):
            return path, f"{path} = {printable(value)} cannot be used: {_LIMITS}"
    return None


def _is_extreme(value: object) -> bool:
    if isinstance(value, int):
        return abs(value) > LARGEST_COUNT
    if not isinstance(value, float) or value == 0:
        return False
    return not 1 / LARGEST_SETTING <= abs(value) <= LARGEST_SETTING
