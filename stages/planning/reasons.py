"""Why a piece of work has to be done: what differs from the nearest work that was done before."""

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from artifacts import Action, ArtifactStore, Digest, Record
from artifacts.upkeep.survey import actions
from stages.planning.resolved import Resolved

GIVEN = ("image", "prompt", "drags")
"""The inputs that are the edit's own rather than made by a stage."""

METHOD = "optimize_latent.method"

COMPARED = 32
"""The most records to compare with: the latest of those that have something in common."""

_SHORT = 8


@dataclass(frozen=True)
class Difference:
    """One thing in which two actions of a stage differ.

    Attributes:
        name: of a setting as a job names it, of an input, or of a model.
        old: a setting's value, a version, or a digest; None where there was none.
        said: what the job says of a setting that was fitted to the size of the latents.
        used: whether a setting is in the old key, and in the new one: it is left out where it does
            nothing.
        cause: of an input that a stage made: what that stage did otherwise.
    """

    kind: Literal["version", "setting", "input", "model"]
    name: str
    old: Any
    new: Any
    said: Any = None
    used: tuple[bool, bool] = (True, True)
    cause: str = ""

    @property
    def is_of_another_image(self) -> bool:
        """Whether the images differ; a stage may also begin or cease to read the same one."""
        return (self.kind, self.name) == ("input", "image") and bool(self.old and self.new)

    def __str__(self) -> str:
        match self.kind:
            case "version":
                return f"stage version {self.old} → {self.new}"
            case "setting":
                said = (
                    "" if self.said is None else f" (fitted to the latents, {self.said} in the job)"
                )
                values = zip((self.old, self.new), self.used, strict=True)
                old, new = (value if used else "not used" for value, used in values)
                return f"{self.name} {old} → {new}{said}"
            case "model" if self.old and self.new:
                weights = f"{self.old[:_SHORT]} → {self.new[:_SHORT]}"
                return f"model {self.name} changed (weights {weights})"
        if self.old and self.new:
            return f"{self.kind} {self.name} changed" + (f" ({self.cause})" if self.cause else "")
        return f"{self.kind} {self.name} {'is used now' if self.new else 'is not used any more'}"


@dataclass(frozen=True)
class Explanation:
    """What an action that is not done has to do with those that were.

    Attributes:
        differences: from `nearest`, the record that is most like it.
        made_otherwise: whether some record is of the same image, prompt and drags.
    """

    nearest: Record | None = None
    differences: tuple[Difference, ...] = ()
    made_otherwise: bool = False

    def __str__(self) -> str:
        if self.nearest is None:
            return "never made"
        differences = "; ".join(map(str, self.differences))
        if any(each.is_of_another_image for each in self.differences):
            return f"never made; the nearest of other images differs by: {differences}"
        return differences


class History:
    """The earlier records of a stage; they are read when something has to be explained."""

    def __init__(self, store: ArtifactStore, stage: str) -> None:
        """Look at a stage of a store."""
        self._store = store
        self._stage = stage

    @cached_property
    def _index(self) -> dict[Hashable, list[Record]]:
        """The latest records by what is given, all of it and each input alone."""
        found: dict[Hashable, list[Record]] = {}
        for record in sorted(self._store.records_of(self._stage), key=_started, reverse=True):
            for name in (_given(record.inputs), *record.inputs.items()):
                of_name = found.setdefault(name, [])
                if len(of_name) < COMPARED:
                    of_name.append(record)
        return found

    def explain(
        self, action: Action, resolved: Resolved, unknown: Collection[str] = ()
    ) -> Explanation:
        """Compare an action with the nearest earlier record, one of the same edit if there is one.

        Args:
            unknown: inputs that are not made yet, and so are missing from the action.
        """
        given = _given(action.inputs)
        same = self._index.get(given, []) if any(given) else []
        sharing = (r for item in action.inputs.items() for r in self._index.get(item, ()))
        related = same or sorted(sharing, key=_started, reverse=True)
        compared = [(r, tuple(differences(r.action, action, resolved, unknown))) for r in related]
        if not compared:
            return Explanation()
        nearest, found = min(compared, key=lambda each: len(each[1]))
        return Explanation(nearest, found, bool(same))


def with_causes(
    found: Iterable[Difference], records: Mapping[str, Record], store: ArtifactStore
) -> Iterator[Difference]:
    """Say of each input that a stage made what that stage did otherwise, down to the roots.

    Args:
        records: what the stages made of the edit by now, by stage.
    """
    for each in found:
        new = records.get(each.name)
        if each.kind == "input" and new and each.old and each.new:
            yield replace(each, cause=_cause(each.name, each.old, new, records, store))
        else:
            yield each


def _cause(
    stage: str, digest: Digest, new: Record, records: Mapping[str, Record], store: ArtifactStore
) -> str:
    old = _maker(store, stage, digest)
    if old is None:
        return "the record of the earlier one is gone"
    if old.key == new.key:
        return f"made again with other values, record {old.number} → {new.number}"
    found = with_causes(differences(old.action, new.action), records, store)
    return "; ".join(map(str, found))


def _maker(store: ArtifactStore, stage: str, digest: Digest) -> Record | None:
    """Find a record that made these values; it need not be the newest of its key."""
    files = (file for action in actions(store.backend, stage) for file in action.records)
    return next((f.record for f in files if f.record and f.record.logical == digest), None)


def differences(
    old: Action, new: Action, resolved: Resolved | None = None, unknown: Collection[str] = ()
) -> Iterator[Difference]:
    """Name everything in which two actions of a stage differ.

    Args:
        resolved: the edit of the new one, to say which settings were fitted to its latents.
        unknown: inputs that are not compared.
    """
    if old.version != new.version:
        yield Difference("version", new.stage, old.version, new.version)
    if ("lora_file" in old.inputs) != ("lora_file" in new.inputs):
        # One was trained, the other taken from a file: they have nothing else in common.
        from_file = "lora_file" in new.inputs
        yield Difference(
            "setting", "lora", *(("train", "file") if from_file else ("file", "train"))
        )
        return
    before, after = (dict(_settings(action)) for action in (old, new))
    names = before.keys() | after.keys()
    if before.get(METHOD) != after.get(METHOD):  # settings that only one method has are left out
        names = (before.keys() & after.keys()) | {METHOD}
    for name in sorted(names):
        one, two = before.get(name), after.get(name)
        if one != two:
            used = (name in before, name in after)
            yield Difference("setting", name, one, two, _said(name, two, resolved), used)
    for name in sorted((old.inputs.keys() | new.inputs.keys()) - set(unknown)):
        if old.inputs.get(name) != new.inputs.get(name):
            yield Difference("input", name, old.inputs.get(name), new.inputs.get(name))
    for name in sorted(old.models.keys() | new.models.keys()):
        if old.models.get(name) != new.models.get(name):
            yield Difference("model", name, old.models.get(name), new.models.get(name))


def _given(inputs: Mapping[str, Digest]) -> tuple[Digest | None, ...]:
    return tuple(inputs.get(name) for name in GIVEN)


def _started(record: Record) -> str:
    return record.circumstances.started


def _settings(action: Action) -> Iterator[tuple[str, Any]]:
    """Yield what is in an action's config under the names that a job has for it."""
    for name, value in action.config.items():
        match name:
            case "frame":
                yield "image size", f"{value.get('image_width')}x{value.get('image_height')}"
                yield "working image", f"{value.get('width')}x{value.get('height')}"
                yield "pixels per latent", value.get("factor")
            case "inversion":
                for field, number in value.items():
                    yield f"invert_image.{field}", number
            case "segments":
                yield "automatic segments", value
            case "content":
                yield "version of content", value
            case "dtype" | "seed":
                yield name, value
            case "relocation":  # names the method in keys of the optimization, and in older ones
                yield METHOD, "relocation" if value else "optimization"
            case _:
                # A record's settings come back from JSON, where tuples are lists.
                listed = list(value) if isinstance(value, tuple) else value
                yield f"{action.stage}.{name}", listed


def _said(name: str, fitted: Any, resolved: Resolved | None) -> Any:
    """Return what the job says of a setting that is used, if it was fitted to something else."""
    section, _, field = name.partition(".")
    settings = getattr(resolved.edit.config, section, None) if resolved and field else None
    said = getattr(settings, field, None)
    said = list(said) if isinstance(said, tuple) else said
    return None if fitted in (None, said) else said
