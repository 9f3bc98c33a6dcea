"""Names of the files of weights, as diffusers and transformers write them.

Weights are one file, or shards with an index; either may be of a variant, such as fp16, whose name
is part of theirs. A pickle is never one of them.
"""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Self

VARIANTS = ("", ".fp16", ".bf16")
"""In order: of several variants the first that is there is loaded. The plain one has no name."""

TRANSFORMERS = "model"
"""The stem of the weights that transformers writes; others are of diffusers."""

_PICKLE = re.compile(r".+\.(bin|pt|pth|ckpt)")


@dataclass(frozen=True)
class WeightNames:
    """The names of weights in one variant."""

    stem: str
    """Such as "diffusion_pytorch_model"."""
    variant: str = VARIANTS[0]

    @classmethod
    def present(cls, stem: str, is_there: Callable[[str], bool]) -> Self | None:
        """Return the names of the variant that is loaded where some files are there."""
        known = (cls(stem, variant) for variant in VARIANTS)
        return next((each for each in known if is_there(each.index) or is_there(each.whole)), None)

    @property
    def whole(self) -> str:
        """Weights in one file."""
        return f"{self.stem}{self.variant}.safetensors"

    @property
    def index(self) -> str:
        """The index of weights in shards."""
        return f"{self.stem}.safetensors.index{self.variant}.json"

    def has_shards(self, is_there: Callable[[str], bool]) -> bool:
        """Tell whether shards are loaded; beside a whole file only diffusers prefers them."""
        return is_there(self.index) and not (self.stem == TRANSFORMERS and is_there(self.whole))

    def shards(self, names: Collection[str]) -> set[str]:
        """Return those of some names that are shards.

        Raises:
            ValueError: if some are lacking.
        """
        # Newer libraries write the variant before the number, older ones after it.
        plain = {name: name.replace(self.variant, "", 1) for name in names if self.variant in name}
        shard = re.compile(rf"{self.stem}-\d{{5}}-of-(\d{{5}})\.safetensors")
        counts = {name: int(found[1]) for name in plain if (found := shard.fullmatch(plain[name]))}
        count = max(counts.values(), default=1)
        if len(counts) < count:
            raise ValueError(f"only {len(counts)} of the {count} shards of {self.index}")
        return {*counts}


def chosen_among(stem: str, names: Collection[str]) -> set[str]:
    """Choose the weights of a part among the names of the files that it has.

    Raises:
        ValueError: if there are none, or shards are lacking.
    """
    found = WeightNames.present(stem, names.__contains__)
    if found is not None:
        sharded = found.has_shards(names.__contains__)
        return {found.index, *found.shards(names)} if sharded else {found.whole}
    pickles = pickles_alone(stem, names)
    only = f", only {pickles}, which can run code when it is read" if pickles else ""
    raise ValueError(f"no {WeightNames(stem).whole}{only}")


def pickles_alone(stem: str, names: Collection[str]) -> str:
    """Return the first pickle among names without weights as safetensors; "" if there is none."""
    pickles = sorted(name for name in names if _PICKLE.fullmatch(name))
    has_weights = WeightNames.present(stem, names.__contains__) is not None
    return pickles[0] if pickles and not has_weights else ""
