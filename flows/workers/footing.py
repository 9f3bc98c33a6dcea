"""What a plan was made with, so that a worker that has other code, libraries or models says so."""

from collections.abc import Iterable, Iterator
from importlib import metadata

from pydantic import BaseModel, ConfigDict

from adaptivedrag.model.lora_files import LoraFile
from artifacts import digest_json
from stages.circumstances import library_versions
from stages.pipeline import BY_NAME
from stages.planning.plan import EditPlan
from stages.planning.sources import source_digest

SHORT = 16
"""Digits of a digest that are compared."""


class Footing(BaseModel):
    """What a plan was made with.

    Attributes:
        version: of this package.
        stages: version and digest of the sources of each stage that is asked for.
        libraries: versions of those that results may depend on, without the build.
        models: digests of the files of each model that the edits name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    stages: dict[str, str]
    libraries: dict[str, str]
    models: dict[str, str]

    def differences(self, here: "Footing") -> Iterator[str]:
        """Yield in words what differs here from what the plan was made with."""
        mine = {"adaptivedrag": self.version, **self.libraries, **self.stages, **self.models}
        theirs = {"adaptivedrag": here.version, **here.libraries, **here.stages, **here.models}
        for name in mine | theirs:
            planned, found = mine.get(name, "none"), theirs.get(name, "none")
            if planned != found:
                yield f"{name} is {found} here, and the plan was made with {planned}"

    @classmethod
    def of(cls, plans: Iterable[EditPlan], stages: Iterable[str]) -> "Footing":
        """Return what these plans are made with here.

        Raises:
            ModelUnavailable: if the files of a model are not there.
        """
        libraries = {
            name: version.partition("+")[0]  # a worker has the build for its GPU
            for name, version in library_versions().items()
            if name != "python"
        }
        settings = {id(plan.resolved.setting): plan for plan in plans}.values()
        return cls(
            version=metadata.version("adaptivedrag"),
            stages={name: f"{BY_NAME[name].version}+{source_digest(name)}" for name in stages},
            libraries=libraries,
            models={name: found for plan in settings for name, found in _models(plan)},
        )


def _models(plan: EditPlan) -> Iterator[tuple[str, str]]:
    edit, setting = plan.edit, plan.resolved.setting
    name = f"model {edit.model}" + (f" with VAE {edit.vae}" if edit.vae else "")
    yield name, setting.diffusion.digest[:SHORT]
    if setting.segmenter:
        yield f"segmenter {edit.segmenter}", setting.segmenter.digest[:SHORT]


def edit_digests(plans: Iterable[EditPlan]) -> dict[str, str]:
    """Return a digest of what each edit asks for, by its id: settings, points, words, pixels."""
    settings: dict[int, str] = {}
    found = {}
    for plan in plans:
        resolved = plan.resolved
        name = id(resolved.setting)
        if name not in settings:
            keys = {stage: dict(config) for stage, (config, _) in resolved.setting.keys.items()}
            settings[name] = digest_json("settings", keys)
        lora = "file" if isinstance(plan.edit.lora, LoraFile) else str(plan.edit.lora)
        asked = {
            "settings": settings[name],
            "inputs": dict(resolved.inputs),
            "files": {stage: dict(files) for stage, files in resolved.files.items()},
            "lora": lora,
        }
        found[plan.edit.id] = digest_json("edit", asked)[:SHORT]
    return found
